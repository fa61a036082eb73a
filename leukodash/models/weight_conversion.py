"""Turn the weight files that GoogLeNet's and AlexNet's publishers offer into the HDF5 layout that Keras loads.

Neither PyTorch nor onnx is needed: an ONNX file is read by its protobuf fields, and a PyTorch file is a ZIP archive
with one pickle, of which only the handful of names that describe tensors are let through.
"""

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from leukodash.errors import WeightsError
from leukodash.models.backbones import Backbone

# In the order of the layers in the Keras models, which is how Keras matches a file's layers with a model's.
GOOGLENET_LAYERS = (
    "conv1_7x7_s2",
    "conv2_3x3_reduce",
    "conv2_3x3",
    *(
        f"inception_{module}_{part}"
        for module in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
        for part in ("3x3_reduce", "5x5_reduce", "1x1", "3x3", "5x5", "pool_proj")
    ),
)
ALEXNET_LAYERS = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
}

Layers = dict[str, tuple[np.ndarray, np.ndarray]]  # name → kernel (height, width, in, out) and bias (out,), float32


def convert(backbone: Backbone, source: Path, target: Path, source_sha256: str) -> None:
    """Write the convolutions of a publisher's file as a weight file for `keras.Model.load_weights`.

    Args:
        backbone: GoogLeNet or AlexNet.
        source: the publisher's file: ``.onnx`` for GoogLeNet, ``.pth`` for AlexNet.
        target: the HDF5 file to write.
        source_sha256: checksum of `source`, kept in the file as the identity of these weights.

    Raises:
        WeightsError: the file cannot be read, lacks a layer, or has other shapes than the network.
    """
    readers = {"googlenet": _googlenet_layers, "alexnet": _alexnet_layers}
    try:
        layers = readers[backbone.name](source)
    except (ValueError, KeyError, IndexError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{source.name} is not the weight file of {backbone.title} that {backbone.weights.url} offers: {error}."
        ) from error
    found = sum(kernel.size + bias.size for kernel, bias in layers.values())
    if found != backbone.parameters:
        raise WeightsError(
            f"{source.name} has {found:,} parameters in the convolutions of {backbone.title}, "
            f"which has {backbone.parameters:,}: it is a file of another network."
        )
    _write(target, layers, source_sha256)


def _googlenet_layers(source: Path) -> Layers:
    # The zoo's names are Caffe's: inception_3a/3x3_reduce_w_0 and …_b_0.
    tensors = {re.sub(r"\W", "_", name): tensor for name, tensor in read_onnx(source).items()}
    return {layer: _to_keras(tensors[f"{layer}_w_0"], tensors[f"{layer}_b_0"]) for layer in GOOGLENET_LAYERS}


def _alexnet_layers(source: Path) -> Layers:
    tensors = read_torch(source, prefix="features.")
    return {
        layer: _to_keras(tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for layer, name in ALEXNET_LAYERS.items()
    }


def _to_keras(kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bring a kernel of shape (out, in, height, width) into Keras' (height, width, in, out)."""
    if kernel.ndim != 4 or bias.shape != kernel.shape[:1]:
        raise ValueError(f"a kernel of shape {kernel.shape} with a bias of shape {bias.shape} is no convolution")
    return np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)), bias


def _write(target: Path, layers: Layers, source_sha256: str) -> None:
    """Write layers as Keras' HDF5 weight files have them: a group and a list of weight names for each layer."""
    with h5py.File(target, "w") as file:
        file.attrs["backend"] = "tensorflow"  # the layout of the kernels, not a need for TensorFlow
        file.attrs["keras_version"] = "3"
        file.attrs["source_sha256"] = source_sha256
        file.attrs["layer_names"] = list(layers)
        for layer, (kernel, bias) in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/kernel", f"{layer}/bias"]
            group[f"{layer}/kernel"] = kernel
            group[f"{layer}/bias"] = bias


# ---------------------------------------------------------------------------------------------------------- ONNX


def read_onnx(path: Path) -> dict[str, np.ndarray]:
    """Read the float32 initializers of an ONNX model (onnx.proto3: ModelProto 7, GraphProto 5, TensorProto).

    Returns:
        Arrays by name, in the file's own layout.

    Raises:
        ValueError: the file is no protobuf message or a tensor's data does not fit its shape.
    """
    tensors = {}
    for graph_field, graph in _fields(memoryview(path.read_bytes())):
        if graph_field != 7:
            continue
        for field, tensor in _fields(graph):
            if field == 5:
                name, array = _onnx_tensor(tensor)
                if array is not None:
                    tensors[name] = array
    return tensors


def _onnx_tensor(message: memoryview) -> tuple[str, np.ndarray | None]:
    shape, name, data, is_float = [], "", b"", False
    for field, value in _fields(message):
        if field == 1:
            shape += [value] if isinstance(value, int) else list(_varints(value))
        elif field == 2:
            is_float = value == 1
        elif field in (4, 9) and len(value):  # packed float_data or raw_data
            data = value
        elif field == 8:
            name = bytes(value).decode()
    return name, np.frombuffer(data, "<f4").reshape(shape) if is_float else None


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Yield the (field number, value) pairs of a protobuf message: int, or bytes for all other wire types."""
    if not isinstance(message, memoryview):
        raise ValueError("a number stands where a message should")
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        wire = key & 7
        if wire == 0:
            value, position = _varint(message, position)
        elif wire in (1, 2, 5):
            length = 8 if wire == 1 else 4
            if wire == 2:
                length, position = _varint(message, position)
            value, position = message[position : position + length], position + length
            if position > len(message):
                raise ValueError("it ends in the middle of a field")
        else:
            raise ValueError(f"it has the wire type {wire}, which protobuf does not have")
        yield key >> 3, value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def _varints(packed: memoryview) -> Iterator[int]:
    position = 0
    while position < len(packed):
        value, position = _varint(packed, position)
        yield value


# ------------------------------------------------------------------------------------------------------- PyTorch


class _Storage(NamedTuple):
    dtype: np.dtype
    key: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _StateDict(pickle.Unpickler):
    """Unpickles tensors' descriptions and nothing else: a pickle that names any other function is refused."""

    allowed = {  # noqa: RUF012 - never written
        ("collections", "OrderedDict"): OrderedDict,
        ("torch", "FloatStorage"): np.dtype("<f4"),
        ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, stride, *_: _Tensor(
            storage, offset, tuple(shape), tuple(stride)
        ),
        ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"its pickle asks for {module}.{name}, which weights never need") from None

    def persistent_load(self, pid: tuple) -> _Storage:
        kind, dtype, key = pid[:3]
        if kind != "storage":
            raise pickle.UnpicklingError(f"its pickle refers to a {kind!r}, not to a storage")
        return _Storage(dtype, key)


def read_torch(path: Path, prefix: str = "") -> dict[str, np.ndarray]:
    """Read the tensors of a state dict that `torch.save` of PyTorch 1.6 or later wrote, without PyTorch.

    Args:
        path: the ``.pth`` file: a ZIP archive of ``<root>/data.pkl`` and one ``<root>/data/<key>`` for each storage.
        prefix: only tensors whose names begin so are read.

    Returns:
        float32 arrays by name, in PyTorch's layout.

    Raises:
        zipfile.BadZipFile, pickle.UnpicklingError, ValueError, KeyError: the file is damaged or holds other things.
    """
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"a state dict has one data.pkl, this archive has {len(pickles)}")
        root = pickles[0].removesuffix("data.pkl")
        with archive.open(pickles[0]) as file:
            state = _StateDict(file).load()
        if not isinstance(state, dict):
            raise ValueError("its pickle is no state dict")
        tensors = {}
        for name, tensor in state.items():
            if not name.startswith(prefix):
                continue
            if not isinstance(tensor, _Tensor):
                raise ValueError(f"{name} is no tensor")
            values = np.frombuffer(archive.read(f"{root}data/{tensor.storage.key}"), tensor.storage.dtype)
            last = tensor.offset + int(np.prod(tensor.shape))
            array = values[tensor.offset : last].reshape(tensor.shape)
            if tuple(step // array.itemsize for step in array.strides) != tensor.stride:
                raise ValueError(f"{name} is a view with strides {tensor.stride}; a plain tensor was expected")
            tensors[name] = array
        return tensors
