"""Finding, downloading, verifying and converting weights: a server on this machine plays the publisher."""

import base64
import contextlib
import hashlib
import io
import pickle
import re
import threading
import zipfile
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import NamedTuple

import h5py
import numpy as np
import pytest
from onnx import helper, numpy_helper

from leukodash import settings
from leukodash.errors import WeightsError
from leukodash.models.backbones import BACKBONES, constructor
from leukodash.models.weight_conversion import ALEXNET_LAYERS, GOOGLENET_LAYERS, convert, read_torch
from leukodash.models.weights import find_weights, identity, obtain_weights, sha256_of, values_digest

VGG = BACKBONES["vgg16"]


class FloatStorage(str):
    """The key of a storage."""


def _rebuild_tensor_v2():
    """Only its name is pickled."""


class Tensor(NamedTuple):
    key: str
    array: np.ndarray

    def __reduce__(self):
        stride = tuple(step // self.array.itemsize for step in self.array.strides)
        return _rebuild_tensor_v2, (FloatStorage(self.key), 0, self.array.shape, stride, False, OrderedDict())


class TorchPickler(pickle.Pickler):
    def persistent_id(self, value):
        return ("storage", FloatStorage, str(value), "cpu", 0) if isinstance(value, FloatStorage) else None


def torch_bytes(arrays, **extra):
    """What `torch.save` writes for a state dict, with PyTorch's names in place of this module's."""
    tensors = {name: Tensor(str(key), array) for key, (name, array) in enumerate(arrays.items())}
    pickled, content = io.BytesIO(), io.BytesIO()
    TorchPickler(pickled, protocol=2).dump(OrderedDict(tensors, **extra))
    names = pickled.getvalue().replace(f"c{__name__}\nFloat".encode(), b"ctorch\nFloat")
    names = names.replace(f"c{__name__}\n_rebuild".encode(), b"ctorch._utils\n_rebuild")
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("alexnet/data.pkl", names)
        for key, array in tensors.values():
            archive.writestr(f"alexnet/data/{key}", array.astype("<f4").tobytes())
    return content.getvalue()


def onnx_bytes(tensors):
    """An ONNX model with these tensors and one shape."""
    stored = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    stored.append(numpy_helper.from_array(np.array([1, 9]), "a_shape_of_int64"))
    return helper.make_model(helper.make_graph([], "graph", [], [], stored)).SerializeToString()


def random_layers(shapes):
    """Kernel (out, in, height, width) and bias by layer name."""
    rng = np.random.default_rng(1)
    return {name: [rng.normal(size=size).astype("float32") for size in sizes] for name, sizes in shapes.items()}


def googlenet_bytes(layers):
    tensors = {"loss3/classifier_w_0": np.ones((4, 2), "float32")}
    for layer, pair in layers.items():
        name = re.sub(r"^(conv\d|inception_..)_", r"\1/", layer)  # as in Caffe: inception_3a/3x3_reduce, conv1/7x7_s2
        tensors |= zip((f"{name}_w_0", f"{name}_b_0"), pair, strict=True)
    return onnx_bytes(tensors)


def alexnet_bytes(layers, **extra):
    tensors = {"classifier.1.weight": np.ones((4, 2), "float32")}
    for layer, pair in layers.items():
        tensors |= zip((f"{ALEXNET_LAYERS[layer]}.weight", f"{ALEXNET_LAYERS[layer]}.bias"), pair, strict=True)
    return torch_bytes(tensors, **extra)


CONVERTED = {"googlenet": (GOOGLENET_LAYERS, googlenet_bytes), "alexnet": (ALEXNET_LAYERS, alexnet_bytes)}


def keras_bytes(array):
    """One of Keras' HDF5 weight files, with the array as the weights of a layer."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs["layer_names"] = ["conv1", "conv1_relu"]
        file["conv1/kernel"] = array
        file["conv1"].attrs["weight_names"] = ["kernel"]
        file.create_group("conv1_relu").attrs["weight_names"] = np.array([], "S1")
    return content.getvalue()


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path, b"")
        self.send_response(200 if content else 404)
        for name, value in ({"Content-Length": str(len(content))} | self.server.headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


class Publisher(HTTPServer):
    """An HTTP server of byte strings, which records the paths of requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.files, self.headers, self.asked = {}, {}, []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()

    def offer(self, backbone, content, **known):
        """Return the backbone with its weights at this server; `known` is what is known of the file."""
        name = backbone.weights.published_name
        self.files[f"/{name}"] = content
        known = {"sha256": None, "md5": None, "values_sha256": None, "size_bytes": None, **known}
        url = f"http://127.0.0.1:{self.server_port}/{name}"
        return replace(backbone, weights=replace(backbone.weights, url=url, **known))


@pytest.fixture
def publisher():
    with contextlib.closing(Publisher()) as publisher:
        yield publisher


@pytest.fixture
def given(tmp_path, monkeypatch):
    """An empty folder that LEUKODASH_WEIGHTS names."""
    folder = tmp_path / "given"
    folder.mkdir()
    monkeypatch.setenv("LEUKODASH_WEIGHTS", str(folder))
    return folder


def kept():
    """What LeukoDash's own folder of weights holds, locks left out."""
    folder = settings.cache() / "weights"
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock") if folder.is_dir() else []


def checksum(content, algorithm="sha256"):
    return hashlib.new(algorithm, content).hexdigest()


def test_the_given_folder_is_searched_before_the_keras_cache_whose_files_need_the_right_checksum(given, tmp_path):
    cached = tmp_path / "keras" / "models" / VGG.weights.name
    cached.parent.mkdir(parents=True)
    spec = replace(VGG, weights=replace(VGG.weights, md5=checksum(b"weights", "md5"), size_bytes=None))
    missing = [backbone for backbone in BACKBONES.values() if not backbone.weights.shipped]
    assert len(missing) == len(BACKBONES) - 1
    assert all(find_weights(backbone) is None for backbone in (spec, *missing))
    cached.write_bytes(b"half a download")
    assert find_weights(spec) is None
    cached.write_bytes(b"weights")
    assert find_weights(spec) == cached
    nasnet = given / "NASNet-mobile-no-top.h5"  # the name that its publisher gives it
    for other, path in ((spec, given / spec.weights.name), (BACKBONES["nasnetmobile"], nasnet)):
        path.write_bytes(b"other weights")
        assert find_weights(other) == path


def test_a_given_file_whose_checksum_differs_from_sha256sums_is_damaged(given):
    path = given / VGG.weights.name
    path.write_bytes(b"weights")
    (given / "SHA256SUMS").write_text(f"{checksum(b'weights')}  {path.name}\n")
    assert find_weights(VGG) == path
    path.write_bytes(b"weightz!")
    with pytest.raises(WeightsError, match="is damaged"):
        find_weights(VGG)


def test_a_published_file_that_was_damaged_in_a_folder_is_not_used(given):
    content = keras_bytes(np.ones(9, "float32"))
    path = given / VGG.weights.name
    path.write_bytes(content)
    spec = replace(VGG, weights=replace(VGG.weights, md5=checksum(content, "md5"), size_bytes=len(content)))
    assert find_weights(spec) == path
    path.write_bytes(content[:-1] + b"x")
    with pytest.raises(WeightsError, match="is damaged: its MD5 begins with"):
        find_weights(spec)


def test_values_are_recognized_however_a_file_stores_them_and_other_values_are_not(publisher, tmp_path):
    digests = []
    for number, array in enumerate((np.ones(9, "float16"), np.ones(9, "float32"), np.full(9, 2, "float32"))):
        path = tmp_path / f"{number}.h5"
        path.write_bytes(keras_bytes(array))
        digests.append(values_digest(path))
    assert digests[0] == digests[1] != digests[2]
    row = BACKBONES["mobilenet"]
    spec = replace(row, weights=replace(row.weights, shipped=None))
    good = publisher.offer(spec, (tmp_path / "0.h5").read_bytes(), values_sha256=digests[1])
    assert values_digest(obtain_weights(good)) == digests[1]
    bad = publisher.offer(spec, (tmp_path / "2.h5").read_bytes(), values_sha256=digests[1])
    with pytest.raises(WeightsError, match="its values are not those that its publisher trained"):
        obtain_weights(replace(bad, weights=replace(bad.weights, name="other.h5")))


@pytest.mark.real
def test_the_default_networks_values_are_those_that_its_row_pins(real_weights):
    weights = BACKBONES["mobilenet"].weights
    assert values_digest(real_weights / weights.name) == weights.values_sha256


def test_shipped_weights_that_were_damaged_in_the_cache_are_written_again():
    path = find_weights(BACKBONES["mobilenet"])
    content = path.read_bytes()
    path.write_bytes(content[:-1000] + bytes(1000))
    assert find_weights(BACKBONES["mobilenet"]).read_bytes() == content


@pytest.mark.real
def test_the_shared_files_are_found_and_have_the_checksums_in_sha256sums(real_weights):
    stated = dict(reversed(line.split()) for line in (real_weights / "SHA256SUMS").read_text().splitlines())
    for name in ("mobilenet", "vgg16", "resnet50", "googlenet", "alexnet"):
        path = find_weights(BACKBONES[name])
        assert path.parent == real_weights
        assert identity(path) == sha256_of(path) == stated[path.name]


def test_a_download_is_verified_kept_and_repeated_only_if_it_changed(publisher):
    content = keras_bytes(np.ones(9, "float32"))
    spec = publisher.offer(VGG, content, md5=checksum(content, "md5"), size_bytes=len(content))
    seen = []
    path = obtain_weights(spec, progress=lambda fraction, words: seen.append((fraction, words)))
    assert path.read_bytes() == content
    assert seen[-1][0] == 1.0
    assert "VGG16" in seen[-1][1]
    assert find_weights(spec) == obtain_weights(spec) == path
    assert len(publisher.asked) == 1
    assert kept() == ["SHA256SUMS", spec.weights.name]
    path.write_bytes(b"bit rot")
    assert find_weights(spec) is None
    assert obtain_weights(spec).read_bytes() == content
    assert len(publisher.asked) == 2


def test_thirty_students_download_once(publisher):
    spec = publisher.offer(VGG, b"weights" * 100_000, md5=checksum(b"weights" * 100_000, "md5"))
    with ThreadPoolExecutor(30) as students:
        paths = set(students.map(obtain_weights, [spec] * 30))
    assert len(paths) == len(publisher.asked) == 1


@pytest.mark.parametrize(
    ("known", "stated_length", "words"),
    [
        ({"md5": checksum(b"other", "md5")}, 7, "its MD5 begins with"),
        ({"sha256": "0" * 64}, 7, "its SHA256 begins with"),
        ({"sha256": "01234567"}, 7, "01234567 was expected"),
        ({"size_bytes": 8}, 7, "it has 7 bytes and 8 were expected"),
        ({}, 7, "does not hold the 14,714,688 parameters of VGG16"),
        ({"md5": checksum(b"weights", "md5")}, 20, "only 7 of 20 bytes"),
    ],
)
def test_a_wrong_or_incomplete_download_is_deleted_and_reported(publisher, known, stated_length, words):
    spec = publisher.offer(VGG, b"weights", **known)
    publisher.headers["Content-Length"] = str(stated_length)
    with pytest.raises(WeightsError, match=words) as error:
        obtain_weights(spec)
    assert "deleted" in str(error.value)
    assert f"put the file {spec.weights.published_name} into a folder and set LEUKODASH_WEIGHTS" in str(error.value)
    assert kept() == []
    assert find_weights(spec) is None


def test_the_checksum_that_googles_storage_sends_is_verified(publisher):
    content = keras_bytes(np.ones(9, "float32"))
    row = BACKBONES["mobilenet"]
    spec = publisher.offer(replace(row, parameters=9, weights=replace(row.weights, shipped=None)), content)
    publisher.headers["x-goog-hash"] = "crc32c=AAAAAA==, md5=" + base64.b64encode(bytes(16)).decode()
    with pytest.raises(WeightsError, match="00000000 was expected"):
        obtain_weights(spec)
    publisher.headers["x-goog-hash"] = "md5=" + base64.b64encode(hashlib.md5(content).digest()).decode()
    assert obtain_weights(spec).read_bytes() == content


def test_without_the_file_or_the_network_a_message_says_what_to_do(publisher, given):
    spec = publisher.offer(VGG, b"weights")
    publisher.files.clear()
    with pytest.raises(WeightsError, match=r"could not be downloaded.*404"):
        obtain_weights(spec)
    publisher.close()
    with pytest.raises(WeightsError, match="could not be downloaded") as error:
        obtain_weights(spec)
    assert f"put the file {spec.weights.name} into the folder {given}" in str(error.value)


def test_folders_that_cannot_be_used_are_reported(tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("LEUKODASH_CACHE", str(tmp_path / "a file"))
    with pytest.raises(WeightsError, match="set LEUKODASH_CACHE"):
        obtain_weights(VGG)
    monkeypatch.setenv("LEUKODASH_WEIGHTS", str(tmp_path / "wieghts"))
    with pytest.raises(WeightsError, match=r"wieghts, but there is no such folder"):
        find_weights(VGG)


def converted_spec(publisher, name, shapes=None):
    """A backbone whose publisher offers random layers of these shapes, its file, and the layers."""
    names, as_bytes = CONVERTED[name]
    layers = random_layers(shapes or {key: [(2, 3, 5, 4), (2,)] for key in names})
    source = as_bytes(layers)
    spec = replace(BACKBONES[name], parameters=sum(kernel.size + bias.size for kernel, bias in layers.values()))
    return publisher.offer(spec, source, sha256=checksum(source), size_bytes=len(source)), source, layers


def check_converted(path, layers, source):
    """The file holds the layers' kernels, transposed, and names its source."""
    with h5py.File(path) as file:
        assert list(file.attrs["layer_names"]) == list(layers)
        for name, (kernel, bias) in layers.items():
            np.testing.assert_array_equal(file[name][f"{name}/kernel"], kernel.transpose(2, 3, 1, 0))
            np.testing.assert_array_equal(file[name][f"{name}/bias"], bias)
    assert identity(path) == checksum(source)
    assert kept() == ["SHA256SUMS", path.name]


@pytest.mark.parametrize("name", CONVERTED)
def test_a_publishers_file_is_downloaded_and_converted(publisher, name):
    spec, source, layers = converted_spec(publisher, name)
    path = obtain_weights(spec)
    assert path.name == f"{name}-{checksum(source)[:8]}.h5"
    check_converted(path, layers, source)
    assert obtain_weights(spec) == path
    assert len(publisher.asked) == 1


def test_a_publishers_file_in_the_given_folder_is_converted_unless_it_is_damaged(publisher, given):
    spec, source, layers = converted_spec(publisher, "googlenet")
    path = given / "googlenet-7.onnx"
    path.write_bytes(b"half a download")
    with pytest.raises(WeightsError, match=r"googlenet-7\.onnx is not the file"):
        obtain_weights(spec)
    path.write_bytes(source)  # the damaged file was left there
    check_converted(obtain_weights(spec), layers, source)
    assert publisher.asked == []


def test_only_tensors_whose_names_begin_with_the_prefix_are_read(tmp_path):
    (tmp_path / "some.pth").write_bytes(torch_bytes({"features.0.bias": np.ones(3), "classifier.1.bias": np.ones(2)}))
    assert list(read_torch(tmp_path / "some.pth", prefix="features.")) == ["features.0.bias"]


class Evil:
    def __reduce__(self):
        return eval, ("1 / 0",)  # raises if it is run


SMALL = random_layers({key: [(2, 3, 1, 1), (2,)] for key in ALEXNET_LAYERS})


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("googlenet", b"", "is not the weight file of GoogLeNet"),
        ("googlenet", onnx_bytes({"a": np.ones(9)})[:-9], "is not the weight file of GoogLeNet"),
        ("alexnet", b"\x80\x02}q\x00.", "is not the weight file of AlexNet"),
        ("alexnet", alexnet_bytes(SMALL), "it is a file of another network"),
        ("alexnet", alexnet_bytes(SMALL, **{"features.99": 1}), "features.99 is not a tensor"),
        ("alexnet", alexnet_bytes(SMALL, **{"features.99": Evil()}), r"asks for __builtin__\.eval"),
    ],
    ids="empty cut-off no-archive other-widths no-tensor hostile-pickle".split(),
)
def test_a_file_that_is_not_the_networks_is_reported(tmp_path, name, content, words):
    source = tmp_path / "source"
    source.write_bytes(content)
    with pytest.raises(WeightsError, match=words):
        convert(BACKBONES[name], source, tmp_path / "out.h5", "0" * 64)
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVERTED)
def test_converted_weights_load_into_the_network_layer_by_layer(name, publisher):
    model = constructor(BACKBONES[name])(include_top=False, weights=None, input_shape=(64, 64, 3))
    shapes = {layer.name: [w.shape[::-1] for w in layer.weights] for layer in model.layers if layer.weights}
    spec, _, layers = converted_spec(publisher, name, shapes)
    assert spec.parameters == BACKBONES[name].parameters
    model.load_weights(obtain_weights(spec))
    for layer, (kernel, bias) in layers.items():
        for loaded, expected in zip(model.get_layer(layer).weights, (kernel.transpose(2, 3, 1, 0), bias), strict=True):
            np.testing.assert_array_equal(loaded, expected)
