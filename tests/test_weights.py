"""Finding, downloading, verifying and converting weights: a server on this machine plays the publisher."""

import base64
import hashlib
import io
import pickle
import re
import struct
import threading
import zipfile
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import h5py
import numpy as np
import pytest
from onnx import helper, numpy_helper

from leukodash import settings
from leukodash.errors import WeightsError
from leukodash.models.backbones import BACKBONES, constructor
from leukodash.models.weight_conversion import ALEXNET_LAYERS, GOOGLENET_LAYERS, convert, read_torch
from leukodash.models.weights import find_weights, identity, obtain_weights, sha256_of

VGG = BACKBONES["vgg16"]

# ------------------------------------------------------------------------------------- files in publishers' formats


class FloatStorage:
    def __init__(self, key):
        self.key = key


def _rebuild_tensor_v2():
    raise AssertionError("only its name is pickled")


class TorchPickler(pickle.Pickler):
    """Pickles arrays as `torch.save` pickles tensors, and keeps the arrays."""

    def persistent_id(self, value):
        return ("storage", FloatStorage, str(value.key), "cpu", 0) if isinstance(value, FloatStorage) else None

    def reducer_override(self, value):
        if not isinstance(value, np.ndarray):
            return NotImplemented
        self.arrays.append(value)
        stride = tuple(step // value.itemsize for step in value.strides)
        return _rebuild_tensor_v2, (FloatStorage(len(self.arrays)), 0, value.shape, stride, False, OrderedDict())


def torch_bytes(tensors, **extra):
    """What `torch.save` writes for a state dict, with PyTorch's names in place of this module's."""
    pickled, content = io.BytesIO(), io.BytesIO()
    pickler = TorchPickler(pickled, protocol=2)
    pickler.arrays = []
    pickler.dump(OrderedDict(tensors, **extra))
    names = pickled.getvalue().replace(f"c{__name__}\nFloat".encode(), b"ctorch\nFloat")
    names = names.replace(f"c{__name__}\n_rebuild".encode(), b"ctorch._utils\n_rebuild")
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("alexnet/data.pkl", names)
        for key, array in enumerate(pickler.arrays, start=1):
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
    for layer, (kernel, bias) in layers.items():
        name = re.sub(r"^(conv\d|inception_..)_", r"\1/", layer)  # as in Caffe: inception_3a/3x3_reduce, conv1/7x7_s2
        tensors |= {f"{name}_w_0": kernel, f"{name}_b_0": bias}
    return onnx_bytes(tensors)


def alexnet_bytes(layers, **extra):
    tensors = {"classifier.1.weight": np.ones((4, 2), "float32")}
    for layer, (kernel, bias) in layers.items():
        tensors |= {f"{ALEXNET_LAYERS[layer]}.weight": kernel, f"{ALEXNET_LAYERS[layer]}.bias": bias}
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


# ------------------------------------------------------------------------------------------------------- publisher


class Publisher:
    """An HTTP server of byte strings, which counts what it was asked for."""

    def __init__(self):
        self.files, self.headers, self.asked = {}, {}, []
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                publisher.asked.append(self.path)
                content = publisher.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                for name, value in ({"Content-Length": str(len(content))} | publisher.headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def offer(self, backbone, content, **known):
        """Return the backbone with its weights at this server; `known` is what is known of the file."""
        name = backbone.weights.published_name
        self.files[f"/{name}"] = content
        known = {"sha256": None, "md5": None, "size_bytes": None, **known}
        return replace(backbone, weights=replace(backbone.weights, url=f"{self.url}/{name}", **known))


@pytest.fixture
def publisher():
    publisher = Publisher()
    yield publisher
    publisher.close()


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


def md5(content):
    return hashlib.md5(content).hexdigest()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


# --------------------------------------------------------------------------------------------------------- finding


def test_a_fresh_machine_has_no_weights():
    assert all(find_weights(backbone) is None for backbone in BACKBONES.values())


def test_the_given_folder_is_searched_before_the_keras_cache_whose_files_need_the_right_checksum(given, tmp_path):
    cached = tmp_path / "keras" / "models" / VGG.weights.name
    cached.parent.mkdir(parents=True)
    row = replace(VGG, weights=replace(VGG.weights, md5=md5(b"weights"), size_bytes=None))
    cached.write_bytes(b"half a download")
    assert find_weights(row) is None
    cached.write_bytes(b"weights")
    assert find_weights(row) == cached
    (given / row.weights.name).write_bytes(b"other weights")
    assert find_weights(row) == given / row.weights.name


def test_nasnet_is_found_under_the_name_its_publisher_gives_it(given):
    path = given / "NASNet-mobile-no-top.h5"
    path.write_bytes(b"weights")
    assert find_weights(BACKBONES["nasnetmobile"]) == path


def test_a_given_file_whose_checksum_differs_from_sha256sums_is_damaged(given):
    path = given / VGG.weights.name
    path.write_bytes(b"weights")
    (given / "SHA256SUMS").write_text(f"{sha256(b'weights')}  {path.name}\n")
    assert find_weights(VGG) == path
    path.write_bytes(b"weightz!")
    with pytest.raises(WeightsError, match="is damaged"):
        find_weights(VGG)


def test_a_checksum_is_computed_again_when_the_file_changes(tmp_path):
    path = tmp_path / "a.h5"
    for content in (b"one", b"three"):
        path.write_bytes(content)
        assert sha256_of(path) == sha256(content)


@pytest.mark.real
def test_the_shared_files_are_found_and_have_the_checksums_in_sha256sums(real_weights):
    stated = dict(reversed(line.split()) for line in (real_weights / "SHA256SUMS").read_text().splitlines())
    for name in ("mobilenet", "vgg16", "resnet50", "googlenet", "alexnet"):
        path = find_weights(BACKBONES[name])
        assert path.parent == real_weights
        assert identity(path) == sha256_of(path) == stated[path.name]


# ----------------------------------------------------------------------------------------------------- downloading


def test_a_download_is_verified_kept_and_repeated_only_if_it_changed(publisher):
    content = keras_bytes(np.ones(9, "float32"))
    row = publisher.offer(VGG, content, md5=md5(content), size_bytes=len(content))
    seen = []
    path = obtain_weights(row, progress=lambda fraction, words: seen.append((fraction, words)))
    assert path.read_bytes() == content
    assert seen[-1][0] == 1.0
    assert "VGG16" in seen[-1][1]
    assert find_weights(row) == obtain_weights(row) == path
    assert len(publisher.asked) == 1
    assert kept() == ["SHA256SUMS", row.weights.name]
    path.write_bytes(b"bit rot")
    assert find_weights(row) is None
    assert obtain_weights(row).read_bytes() == content
    assert len(publisher.asked) == 2


def test_thirty_students_download_once(publisher):
    row = publisher.offer(VGG, b"weights" * 100_000, md5=md5(b"weights" * 100_000))
    with ThreadPoolExecutor(30) as students:
        paths = list(students.map(lambda _: obtain_weights(row), range(30)))
    assert len(set(paths)) == len(publisher.asked) == 1


@pytest.mark.parametrize(
    ("known", "stated_length", "words"),
    [
        ({"md5": md5(b"other")}, 7, "its MD5 begins with"),
        ({"sha256": "0" * 64}, 7, "its SHA256 begins with"),
        ({"sha256": "01234567"}, 7, "01234567 was expected"),
        ({"size_bytes": 8}, 7, "it has 7 bytes and 8 were expected"),
        ({}, 7, "does not hold the 14,714,688 parameters of VGG16"),
        ({"md5": md5(b"weights")}, 20, "only 7 of 20 bytes"),
    ],
)
def test_a_wrong_or_incomplete_download_is_deleted_and_reported(publisher, known, stated_length, words):
    row = publisher.offer(VGG, b"weights", **known)
    publisher.headers["Content-Length"] = str(stated_length)
    with pytest.raises(WeightsError, match=words) as error:
        obtain_weights(row)
    assert "deleted" in str(error.value)
    assert f"put the file {row.weights.published_name} into a folder and set LEUKODASH_WEIGHTS" in str(error.value)
    assert kept() == []
    assert find_weights(row) is None


def test_the_checksum_that_googles_storage_sends_is_verified(publisher):
    content = keras_bytes(np.ones(9, "float32"))
    row = publisher.offer(replace(BACKBONES["mobilenet"], parameters=9), content)
    publisher.headers["x-goog-hash"] = "crc32c=AAAAAA==, md5=" + base64.b64encode(bytes(16)).decode()
    with pytest.raises(WeightsError, match="00000000 was expected"):
        obtain_weights(row)
    publisher.headers["x-goog-hash"] = "md5=" + base64.b64encode(hashlib.md5(content).digest()).decode()
    assert obtain_weights(row).read_bytes() == content


def test_without_the_file_or_the_network_a_message_says_what_to_do(publisher, given):
    row = publisher.offer(VGG, b"weights")
    publisher.files.clear()
    with pytest.raises(WeightsError, match=r"could not be downloaded.*404"):
        obtain_weights(row)
    publisher.close()
    with pytest.raises(WeightsError, match="could not be downloaded") as error:
        obtain_weights(row)
    assert f"put the file {row.weights.name} into the folder {given}" in str(error.value)


def test_folders_that_cannot_be_used_are_reported(tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("LEUKODASH_CACHE", str(tmp_path / "a file"))
    with pytest.raises(WeightsError, match="set LEUKODASH_CACHE"):
        obtain_weights(VGG)
    monkeypatch.setenv("LEUKODASH_WEIGHTS", str(tmp_path / "wieghts"))
    with pytest.raises(WeightsError, match=r"wieghts, but there is no such folder"):
        find_weights(VGG)


# ------------------------------------------------------------------------------------------------------ converting


def converted_row(publisher, name, shapes=None):
    """A backbone whose publisher offers random layers of these shapes, its file, and the layers."""
    names, as_bytes = CONVERTED[name]
    layers = random_layers(shapes or {key: [(2, 3, 5, 4), (2,)] for key in names})
    source = as_bytes(layers)
    row = replace(BACKBONES[name], parameters=sum(kernel.size + bias.size for kernel, bias in layers.values()))
    return publisher.offer(row, source, sha256=sha256(source), size_bytes=len(source)), source, layers


def check_converted(path, layers, source):
    """The file holds the layers' kernels, transposed, and names its source."""
    with h5py.File(path) as file:
        assert list(file.attrs["layer_names"]) == list(layers)
        for name, (kernel, bias) in layers.items():
            np.testing.assert_array_equal(file[name][f"{name}/kernel"], kernel.transpose(2, 3, 1, 0))
            np.testing.assert_array_equal(file[name][f"{name}/bias"], bias)
    assert identity(path) == sha256(source)


@pytest.mark.parametrize("name", CONVERTED)
def test_a_publishers_file_is_downloaded_and_converted(publisher, name):
    row, source, layers = converted_row(publisher, name)
    path = obtain_weights(row)
    assert path.name == f"{name}-{sha256(source)[:8]}.h5"
    check_converted(path, layers, source)
    assert kept() == ["SHA256SUMS", path.name]
    assert obtain_weights(row) == path
    assert len(publisher.asked) == 1


def test_a_publishers_file_in_the_given_folder_is_converted_unless_it_is_damaged(publisher, given):
    row, source, layers = converted_row(publisher, "googlenet")
    path = given / "googlenet-7.onnx"
    path.write_bytes(b"half a download")
    with pytest.raises(WeightsError, match=r"googlenet-7\.onnx is not the file"):
        obtain_weights(row)
    path.write_bytes(source)  # the damaged file was left there
    check_converted(obtain_weights(row), layers, source)
    assert publisher.asked == []


def test_only_tensors_whose_names_begin_with_the_prefix_are_read(tmp_path):
    (tmp_path / "some.pth").write_bytes(torch_bytes({"features.0.bias": np.ones(3), "classifier.1.bias": np.ones(2)}))
    assert list(read_torch(tmp_path / "some.pth", prefix="features.")) == ["features.0.bias"]


class Evil:
    def __reduce__(self):
        return eval, ("1 / 0",)  # raises if it is run


SMALL = random_layers({key: [(2, 3, 1, 1), (2,)] for key in ALEXNET_LAYERS})
NO_GOOGLENET = "is not the weight file of GoogLeNet"
NO_ALEXNET = "is not the weight file of AlexNet"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("googlenet", b"", NO_GOOGLENET),
        ("googlenet", b"no protobuf at all", NO_GOOGLENET),
        ("googlenet", onnx_bytes({"conv1/7x7_s2_w_0": np.ones((2, 3, 1, 1), "float32")})[:-9], NO_GOOGLENET),
        ("googlenet", b"\xff" * 30, NO_GOOGLENET),
        ("alexnet", b"", NO_ALEXNET),
        ("alexnet", b"\x80\x02}q\x00.", NO_ALEXNET),
        ("alexnet", struct.pack("<I", 7), NO_ALEXNET),
        ("alexnet", alexnet_bytes(SMALL), "it is a file of another network"),
        ("alexnet", alexnet_bytes(SMALL, **{"features.99": 1}), "features.99 is not a tensor"),
        ("alexnet", alexnet_bytes(SMALL, **{"features.99": Evil()}), r"asks for __builtin__\.eval"),
    ],
    ids="empty text cut-off ones no-archive pickle bytes other-widths no-tensor hostile-pickle".split(),
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
    row, _, layers = converted_row(publisher, name, shapes)
    assert row.parameters == BACKBONES[name].parameters
    model.load_weights(obtain_weights(row))
    for layer, (kernel, bias) in layers.items():
        loaded_kernel, loaded_bias = model.get_layer(layer).get_weights()
        np.testing.assert_array_equal(loaded_kernel, kernel.transpose(2, 3, 1, 0))
        np.testing.assert_array_equal(loaded_bias, bias)
