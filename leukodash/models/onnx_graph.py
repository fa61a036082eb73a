"""Write a Keras network as an ONNX file. Imports Keras nowhere: it only reads the layers that it is given.

Every layer type of the backbones and of the head is one function below. Feature maps are (n, channels, h, w) inside the
file, as ONNX has it; images come in as (n, h, w, 3), and maps are given back as (n, h, w, channels). The size of the
images is free.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from leukodash.models.pooling import BLACK_LEVEL, TINY, averaging

if TYPE_CHECKING:
    import keras

OPSET, IR_VERSION = 17, 8  # what ONNX Runtime 1.12 and OpenCV 4.7 can read
HALF, REST, STEP = ".half", ".rest", ".step"  # suffixes: a float16, a byte for the remainder, and what one of it means
SHORTENED = 10_000  # values from which a kernel is stored in three bytes a value

Attributes = dict[str, Any]


def write_onnx(
    path: Path,
    image: keras.KerasTensor,
    outputs: Mapping[str, keras.KerasTensor],
    averages: Mapping[str, keras.KerasTensor] | None = None,
    *,
    short: bool = False,
    metadata: Mapping[str, str] | None = None,
    description: str = "",
) -> None:
    """Write everything that lies between an image tensor and some outputs.

    Args:
        path: the file to write.
        image: (n, h, w, 3); the input of the file, called like its layer.
        outputs: tensors of the same graph by their names in the file.
        averages: feature maps by the names under which their averages over all positions are given back.
        short: whether large kernels are stored in three bytes a value, half precision and a byte for the remainder:
            within 2⁻¹⁹ of a channel's largest value. They are computed with in float32 in any case.
        metadata: texts to keep in the file.
        description: the file's documentation.

    Raises:
        ValueError: the network has a layer that this module does not know.
    """
    graph = _Graph(short)
    name = image._keras_history.operation.name
    dims = ("n", "h", "w")
    given = helper.make_tensor_value_info(name, TensorProto.FLOAT, [dims[0], *_sides(image, dims[1:]), 3])
    graph.names[id(image)] = graph.add("Transpose", [name], perm=[0, 3, 1, 2])
    made = []

    def give(title: str, node: onnx.NodeProto, *shape: str | int) -> None:
        graph.nodes.append(node)
        made.append(helper.make_tensor_value_info(title, TensorProto.FLOAT, [dims[0], *shape]))

    for title, tensor in outputs.items():
        value, *sides, channels = graph.value(tensor), *_sides(tensor, (f"{title}_h", f"{title}_w")), tensor.shape[-1]
        kind = {"op_type": "Transpose", "perm": [0, 2, 3, 1]} if sides else {"op_type": "Identity"}
        give(title, helper.make_node(inputs=[value], outputs=[title], **kind), *sides, channels)
    for title, tensor in (averages or {}).items():
        mean = helper.make_node("ReduceMean", [graph.value(tensor)], [title], axes=[2, 3], keepdims=0)
        give(title, mean, tensor.shape[-1])
    content = helper.make_graph(graph.nodes, "network", [given], made, graph.weights, doc_string=description)
    model = helper.make_model(
        content, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="leukodash"
    )
    model.doc_string = description
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, path)


def read_weights(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return the weights that a file holds as Keras has them: float32 arrays by layer and variable."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, values in stored.items():
        whole = name.removesuffix(HALF)
        layer, _, variable = whole.partition("/")
        if variable in (*_KERNELS, *_VECTORS):
            if name.endswith(HALF):
                values = _lengthened(values, stored[whole + REST], stored[whole + STEP])
            turned = values.transpose(_KERNELS[variable][1]) if variable in _KERNELS else values
            layers.setdefault(layer, {})[variable] = np.ascontiguousarray(turned)
    return layers


def _shortened(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return values in half precision, the remainder in steps (int8), and the size of a step by output channel."""
    half = values.astype(np.float16)
    rest = values - half.astype(np.float32)
    step = np.maximum(np.abs(rest).reshape(len(rest), -1).max(axis=1) / 127, np.finfo(np.float32).tiny)
    steps = np.rint(rest / step.reshape(-1, *[1] * (rest.ndim - 1)))
    return half, steps.astype(np.int8), step.astype(np.float32)


def _lengthened(half: np.ndarray, rest: np.ndarray, step: np.ndarray) -> np.ndarray:
    return half.astype(np.float32) + rest.astype(np.float32) * step.reshape(-1, *[1] * (rest.ndim - 1))


def _sides(tensor: keras.KerasTensor, names: Sequence[str]) -> Sequence[str | int]:
    """Return names for the height and width of feature maps, which depend on the images; nothing for other tensors."""
    return names if len(tensor.shape) == 4 else ()


# Kernels, by their Keras names: the order of the axes in ONNX seen from Keras, and back.
_KERNELS = {
    "kernel": ((3, 2, 0, 1), (2, 3, 1, 0)),  # (h, w, in, out) and (out, in, h, w)
    "depthwise_kernel": ((2, 3, 0, 1), (2, 3, 0, 1)),  # (h, w, in, 1) and (in, 1, h, w)
    "pointwise_kernel": ((3, 2, 0, 1), (2, 3, 1, 0)),
}
_VECTORS = ("bias", "gamma", "beta", "moving_mean", "moving_variance")


class _Graph:
    """The nodes and weights of a file, and the names of the tensors that are in it already."""

    def __init__(self, short: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.names: dict[int, str] = {}
        self._short, self._count = short, 0

    def value(self, tensor: keras.KerasTensor) -> str:
        """Return the name of a tensor, after adding whatever it depends on."""
        waiting = [tensor]
        while waiting:  # not recursive: NASNet is 700 layers deep
            last = waiting[-1]
            operation = last._keras_history.operation
            inputs = operation._inbound_nodes[0].input_tensors
            missing = [each for each in inputs if id(each) not in self.names]
            if id(last) in self.names or not missing:
                waiting.pop()
                if id(last) not in self.names:
                    self.names[id(last)] = self._layer(operation, [self.names[id(each)] for each in inputs])
            else:
                waiting += missing
        return self.names[id(tensor)]

    def add(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        self._count += 1
        output = f"value_{self._count}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name: str, values: Any) -> str:
        """Add an array of numbers; returns its name."""
        values = np.ascontiguousarray(values)
        if self._short and values.dtype == np.float32 and values.size >= SHORTENED:
            for suffix, part in zip((HALF, REST, STEP), _shortened(values), strict=True):
                self.weights.append(numpy_helper.from_array(part, name + suffix))
            half = self.add("Cast", [name + HALF], to=TensorProto.FLOAT)
            rest = self.add("DequantizeLinear", [name + REST, name + STEP], axis=0)
            self.nodes.append(helper.make_node("Add", [half, rest], [name]))
        else:
            self.weights.append(numpy_helper.from_array(values, name))
        return name

    def weight(self, layer: keras.layers.Layer, variable: str, title: str = "") -> list[str]:
        """Add a variable of a layer, called `title`; returns its name, or nothing if the layer has no such variable."""
        found, title = getattr(layer, variable, None), title or variable
        if found is None:
            return []
        values = np.asarray(found, np.float32)
        if values.ndim == 4:
            values = values.transpose(_KERNELS[title][0])
        return [self.constant(f"{layer.name}/{title}", values)]

    def activate(self, value: str, function: Callable) -> str:
        """Add an activation function."""
        name = function.__name__
        if name == "linear":
            return value
        if name == "silu":
            return self.add("Mul", [value, self.add("Sigmoid", [value])])
        if name not in _ACTIVATIONS:
            raise ValueError(f"the activation '{name}' cannot be written as ONNX")
        return self.add(_ACTIVATIONS[name], [value])

    def _layer(self, operation: Any, inputs: list[str]) -> str:
        kind = type(operation).__name__
        if kind not in _LAYERS:
            raise ValueError(f"the layer '{operation.name}' of type {kind} cannot be written as ONNX")
        return _LAYERS[kind](self, operation, inputs)


_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "softmax": "Softmax", "tanh": "Tanh"}


def _window(layer: Any, size: Sequence[int]) -> Attributes:
    padding = "SAME_UPPER" if layer.padding == "same" else "VALID"
    return {"kernel_shape": list(size), "strides": list(layer.strides), "auto_pad": padding}


def _convolution(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    attributes = _window(layer, layer.kernel_size) | {"group": layer.groups, "dilations": list(layer.dilation_rate)}
    weights = [*graph.weight(layer, "kernel"), *graph.weight(layer, "bias")]
    return graph.activate(graph.add("Conv", [*inputs, *weights], **attributes), layer.activation)


def _depthwise(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    attributes = _window(layer, layer.kernel_size) | {"group": layer.kernel.shape[2]}
    weights = [*graph.weight(layer, "kernel", "depthwise_kernel"), *graph.weight(layer, "bias")]
    return graph.activate(graph.add("Conv", [*inputs, *weights], **attributes), layer.activation)


def _separable(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    attributes = _window(layer, layer.kernel_size) | {"group": layer.depthwise_kernel.shape[2]}
    value = graph.add("Conv", [*inputs, *graph.weight(layer, "depthwise_kernel")], **attributes)
    weights = [*graph.weight(layer, "pointwise_kernel"), *graph.weight(layer, "bias")]
    return graph.activate(graph.add("Conv", [value, *weights], kernel_shape=[1, 1]), layer.activation)


def _normalized(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    size = layer.moving_mean.shape
    weights = [
        *(graph.weight(layer, "gamma") or [graph.constant(f"{layer.name}/ones", np.ones(size, np.float32))]),
        *(graph.weight(layer, "beta") or [graph.constant(f"{layer.name}/zeros", np.zeros(size, np.float32))]),
        *graph.weight(layer, "moving_mean"),
        *graph.weight(layer, "moving_variance"),
    ]
    return graph.add("BatchNormalization", [*inputs, *weights], epsilon=layer.epsilon)


def _relu(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    if layer.max_value is None:
        return graph.add("Relu", inputs)
    ends = [graph.constant(f"{layer.name}/{end}", np.float32(end)) for end in (0, layer.max_value)]
    return graph.add("Clip", [*inputs, *ends])


def _scaled(graph: _Graph, layer: Any, inputs: list[str], scale: Any, offset: Any) -> str:
    """Multiply, then add; both numbers, or one number for each channel."""
    for kind, name, number in (("Mul", "scale", scale), ("Add", "offset", offset)):
        values = np.asarray(number, np.float32).reshape(1, -1, 1, 1)
        inputs = [graph.add(kind, [*inputs, graph.constant(f"{layer.name}/{name}", values)])]
    return inputs[0]


def _rescaled(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    return _scaled(graph, layer, inputs, layer.scale, layer.offset)


def _standardized(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    deviation = np.maximum(np.sqrt(np.asarray(layer.variance)), 1e-7)
    return _scaled(graph, layer, inputs, 1 / deviation, -np.asarray(layer.mean) / deviation)


def _flipped(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    """Reverse the channels, RGB to BGR, by a convolution: OpenCV and browsers lack the operation itself."""
    kernel = np.eye(3, dtype=np.float32)[::-1].reshape(3, 3, 1, 1)
    return graph.add("Conv", [*inputs, graph.constant(f"{layer.name}/reversal", kernel)], kernel_shape=[1, 1])


def _local_response(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    size = 2 * layer.radius + 1  # ONNX divides alpha by it
    return graph.add("LRN", inputs, alpha=layer.alpha * size, beta=0.75, bias=layer.bias, size=size)


def _maximum(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    return graph.add("MaxPool", inputs, **_window(layer, layer.pool_size))


def _average(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    return graph.add("AveragePool", inputs, count_include_pad=0, **_window(layer, layer.pool_size))


def _mask(graph: _Graph, _: Any, inputs: list[str]) -> str:
    lightest = graph.add("ReduceMax", inputs, axes=[1], keepdims=1)
    level = graph.constant("mask/black", np.float32(BLACK_LEVEL))
    mask = graph.add("Cast", [graph.add("Greater", [lightest, level])], to=TensorProto.FLOAT)
    largest = graph.add("ReduceMax", [mask], axes=[1, 2, 3], keepdims=1)
    return graph.add("Add", [mask, graph.add("Sub", [graph.constant("mask/one", np.float32(1)), largest])])


def _cell_statistics(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    maps, mask = inputs
    sides = [(layer.input[1].shape[axis], layer.input[0].shape[axis]) for axis in (1, 2)]
    rows, columns = (averaging(*side) for side in sides)
    weight = graph.add("MatMul", [graph.constant(f"{layer.name}/rows", rows), mask])
    weight = graph.add("MatMul", [weight, graph.constant(f"{layer.name}/columns", columns.T)])
    weight = graph.add("Div", [weight, graph.add("ReduceMean", [weight], axes=[2, 3], keepdims=1)])

    def mean(values: str) -> str:
        return graph.add("ReduceMean", [graph.add("Mul", [values, weight])], axes=[2, 3], keepdims=1)

    average = mean(maps)
    centered = graph.add("Sub", [maps, average])
    variance = mean(graph.add("Mul", [centered, centered]))
    tiny = graph.constant(f"{layer.name}/tiny", np.float32(TINY))
    both = graph.add("Concat", [average, graph.add("Sqrt", [graph.add("Add", [variance, tiny])])], axis=1)
    return graph.add("Flatten", [both])


def _global(kind: str) -> Callable[[_Graph, Any, list[str]], str]:
    return lambda graph, layer, inputs: graph.add(kind, inputs, axes=[2, 3], keepdims=int(layer.keepdims))


def _reshaped(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    *ones, channels = layer.target_shape
    if math.prod(ones) != 1 or len(ones) != 2:
        raise ValueError(f"the layer '{layer.name}' reshapes to {layer.target_shape}, which cannot be written as ONNX")
    return graph.add("Reshape", [*inputs, graph.constant(f"{layer.name}/shape", np.array([0, channels, 1, 1]))])


def _padded(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    (top, bottom), (left, right) = layer.padding
    pads = np.array([0, 0, top, left, 0, 0, bottom, right])
    return graph.add("Pad", [*inputs, graph.constant(f"{layer.name}/pads", pads)])


def _cropped(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    (top, bottom), (left, right) = layer.cropping
    whole = np.iinfo(np.int64).max
    limits = {"starts": [top, left], "ends": [-bottom or whole, -right or whole], "axes": [2, 3]}
    return graph.add(
        "Slice", [*inputs, *(graph.constant(f"{layer.name}/{name}", np.array(v)) for name, v in limits.items())]
    )


def _added(graph: _Graph, _: Any, inputs: list[str]) -> str:
    total, *others = inputs
    for other in others:
        total = graph.add("Add", [total, other])
    return total


def _flattened(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    if len(layer.input.shape) == 4:  # Keras counts channels fastest
        inputs = [graph.add("Transpose", inputs, perm=[0, 2, 3, 1])]
    return graph.add("Flatten", inputs)


def _dense(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    value = graph.add("MatMul", [*inputs, *graph.weight(layer, "kernel")])
    if layer.use_bias:
        value = graph.add("Add", [value, *graph.weight(layer, "bias")])
    return graph.activate(value, layer.activation)


_LAYERS: dict[str, Callable[[_Graph, Any, list[str]], str]] = {
    "Conv2D": _convolution,
    "DepthwiseConv2D": _depthwise,
    "SeparableConv2D": _separable,
    "BatchNormalization": _normalized,
    "ReLU": _relu,
    "Activation": lambda graph, layer, inputs: graph.activate(inputs[0], layer.activation),
    "Rescaling": _rescaled,
    "Normalization": _standardized,
    "Flip": _flipped,
    "LocalResponseNormalization": _local_response,
    "MaxPooling2D": _maximum,
    "AveragePooling2D": _average,
    "GlobalAveragePooling2D": _global("ReduceMean"),
    "GlobalMaxPooling2D": _global("ReduceMax"),
    "Reshape": _reshaped,
    "ZeroPadding2D": _padded,
    "Cropping2D": _cropped,
    "Add": _added,
    "Multiply": lambda graph, _, inputs: graph.add("Mul", inputs),
    "CellMask": _mask,
    "CellStatistics": _cell_statistics,
    "Concatenate": lambda graph, _, inputs: graph.add("Concat", inputs, axis=1),
    "Flatten": _flattened,
    "Dense": _dense,
    "Dropout": lambda graph, _, inputs: inputs[0],
    "Softmax": lambda graph, _, inputs: graph.add("Softmax", inputs, axis=-1),
}
