"""Convert the weight files of GoogLeNet's and AlexNet's publishers into the HDF5 layout that Keras loads.

PyTorch is not needed: its file is a ZIP archive with one pickle, of which only the few names that describe tensors are
allowed. Nothing here imports Keras.
"""

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import h5py
import numpy as np

from leukodash.errors import WeightsError
from leukodash.models.backbones import Backbone, load_function

# In the order of the layers of the Keras model: Keras matches the layers of a file with those of a model by order.
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
        backbone: a backbone whose weights have a ``reader``.
        source: the publisher's file.
        target: the HDF5 file to write.
        source_sha256: checksum of `source`, kept in the file as the identity of these weights.

    Raises:
        WeightsError: the file cannot be read, lacks a layer, or has other shapes than the network.
    """
    if backbone.weights.reader is None:
        raise ValueError(f"the weights of {backbone.title} need no conversion")
    try:
        layers = load_function(backbone.weights.reader)(source)
    except (ValueError, KeyError, IndexError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{source.name} is not the weight file of {backbone.title} at {backbone.weights.url}: {error}."
        ) from error
    parameters = sum(kernel.size + bias.size for kernel, bias in layers.values())
    if parameters != backbone.parameters:
        raise WeightsError(
            f"{source.name} has {parameters:,} parameters in the convolutions of {backbone.title}, "
            f"which has {backbone.parameters:,}: it is a file of another network."
        )
    pairs = {layer: {"kernel": kernel, "bias": bias} for layer, (kernel, bias) in layers.items()}
    write_weights(target, pairs, source_sha256)


def read_googlenet(source: Path) -> Layers:
    """Read GoogLeNet's convolutions from the ONNX model zoo's file. Raises ValueError or KeyError if it is another."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(source.read_bytes())
    except DecodeError as error:
        raise ValueError("it is not an ONNX model") from error
    # Its names are Caffe's: inception_3a/3x3_reduce_w_0 and …_b_0.
    tensors = {re.sub(r"\W", "_", tensor.name): tensor for tensor in model.graph.initializer}
    arrays = {name: onnx.numpy_helper.to_array(tensor) for name, tensor in tensors.items()}
    return {layer: _to_keras(arrays[f"{layer}_w_0"], arrays[f"{layer}_b_0"]) for layer in GOOGLENET_LAYERS}


def read_alexnet(source: Path) -> Layers:
    """Read AlexNet's convolutions from torchvision's file. Raises what `read_torch` raises."""
    tensors = read_torch(source, prefix="features.")
    return {
        layer: _to_keras(tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for layer, name in ALEXNET_LAYERS.items()
    }


def _to_keras(kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bring a kernel of shape (out, in, height, width) into Keras' (height, width, in, out)."""
    if kernel.ndim != 4 or bias.shape != kernel.shape[:1]:
        raise ValueError(f"a kernel of shape {kernel.shape} with a bias of shape {bias.shape} is not a convolution")
    return np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)), bias


def write_weights(target: Path, layers: Mapping[str, Mapping[str, np.ndarray]], source_sha256: str) -> None:
    """Write variables by layer as Keras' HDF5 weight files have them: a group and a list of names for each layer."""
    with h5py.File(target, "w") as file:
        file.attrs["backend"] = "tensorflow"  # the layout of the kernels, not a need for TensorFlow
        file.attrs["keras_version"] = "3"
        file.attrs["source_sha256"] = source_sha256
        file.attrs["layer_names"] = list(layers)
        for layer, variables in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{name}" for name in variables]
            for name, values in variables.items():
                group[f"{layer}/{name}"] = values


class _Storage(NamedTuple):
    dtype: np.dtype
    key: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _StateDictUnpickler(pickle.Unpickler):
    """Unpickler of tensors' descriptions: refuses a pickle that names any other function."""

    allowed: ClassVar[dict[tuple[str, str], Any]] = {
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
    """Read the tensors of a state dict that `torch.save` of PyTorch 1.6 or later wrote.

    Args:
        path: the ``.pth`` file: a ZIP archive of ``<root>/data.pkl`` and one ``<root>/data/<key>`` for each storage.
        prefix: only tensors whose names start with it are read.

    Returns:
        float32 arrays by name, in PyTorch's layout.

    Raises:
        zipfile.BadZipFile, pickle.UnpicklingError, ValueError, KeyError: the file is damaged or not a state dict.
    """
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"a state dict has one data.pkl, this archive has {len(pickles)}")
        root = pickles[0].removesuffix("data.pkl")
        with archive.open(pickles[0]) as file:
            state = _StateDictUnpickler(file).load()
        if not isinstance(state, dict):
            raise ValueError("its pickle is not a state dict")
        tensors = {}
        for name, tensor in state.items():
            if not name.startswith(prefix):
                continue
            if not isinstance(tensor, _Tensor):
                raise ValueError(f"{name} is not a tensor")
            values = np.frombuffer(archive.read(f"{root}data/{tensor.storage.key}"), tensor.storage.dtype)
            last = tensor.offset + int(np.prod(tensor.shape))
            array = values[tensor.offset : last].reshape(tensor.shape)
            if tuple(step // array.itemsize for step in array.strides) != tensor.stride:
                raise ValueError(f"{name} is a view with strides {tensor.stride}; a plain tensor was expected")
            tensors[name] = array
        return tensors
