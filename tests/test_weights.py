"""Finding, downloading, verifying and converting weights: a server on this machine plays the publisher."""

import base64
import hashlib
import pickle
import struct
import sys
import threading
import types
import zipfile
from collections import OrderedDict
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import h5py
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from leukodash import settings
from leukodash.errors import WeightsError
from leukodash.models.backbones import BACKBONES
from leukodash.models.weight_conversion import ALEXNET_LAYERS, GOOGLENET_LAYERS, convert, read_torch
from leukodash.models.weights import find_weights, identity, obtain_weights, sha256_of

# ------------------------------------------------------------------------------------- files in publishers' formats


def onnx_bytes(tensors, raw=True):
    """An ONNX model with these float tensors, stored as raw_data or float_data, and one shape."""
    stored = [
        numpy_helper.from_array(array, name)
        if raw
        else helper.make_tensor(name, TensorProto.FLOAT, array.shape, array.ravel().tolist())
        for name, array in tensors.items()
    ]
    stored.append(numpy_helper.from_array(np.array([1, 9]), "a_shape_of_int64"))
    return helper.make_model(helper.make_graph([], "graph", [], [], stored)).SerializeToString()


@pytest.fixture
def torch_file(monkeypatch, tmp_path):
    """Writer of what `torch.save` writes for a state dict, with stand-ins for the names that its pickle refers to."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    class FloatStorage:
        def __init__(self, key, array):
            self.key, self.array = key, array

    class Tensor:
        def __init__(self, storage):
            self.storage = storage

        def __reduce__(self):
            shape = self.storage.array.shape
            stride = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
            return utils._rebuild_tensor_v2, (self.storage, 0, shape, stride, False, OrderedDict())

    def _rebuild_tensor_v2():
        raise AssertionError("only its name is pickled")

    FloatStorage.__module__, FloatStorage.__qualname__ = "torch", "FloatStorage"
    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    torch.FloatStorage, utils._rebuild_tensor_v2 = FloatStorage, _rebuild_tensor_v2

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, FloatStorage):
                return "storage", FloatStorage, value.key, "cpu", value.array.size
            return None

    def write(tensors, extra=None):
        path = tmp_path / "publishers.pth"
        storages = {name: FloatStorage(str(key), array) for key, (name, array) in enumerate(tensors.items())}
        state = OrderedDict((name, Tensor(storage)) for name, storage in storages.items())
        state.update(extra or {})
        with zipfile.ZipFile(path, "w") as archive:
            with monkeypatch.context() as patch, archive.open("alexnet/data.pkl", "w") as file:
                patch.setitem(sys.modules, "torch", torch)  # only here: Keras asks whether PyTorch is imported
                patch.setitem(sys.modules, "torch._utils", utils)
                Pickler(file, protocol=2).dump(state)
            for storage in storages.values():
                archive.writestr(f"alexnet/data/{storage.key}", storage.array.astype("<f4").tobytes())
        return path

    return write


def google_name(layer):
    """Caffe's and the ONNX zoo's name of a layer: inception_3a/3x3_reduce, conv1/7x7_s2."""
    for group in ("conv1", "conv2", *(f"inception_{level}" for level in "3a 3b 4a 4b 4c 4d 4e 5a 5b".split())):
        if layer.startswith(group + "_"):
            return group + "/" + layer.removeprefix(group + "_")
    raise AssertionError(layer)


def random_layers(names, seed, shape=(2, 3, 1, 1)):
    """Kernels (out, in, height, width) and biases by layer name."""
    rng = np.random.default_rng(seed)
    return {
        name: (rng.normal(size=shape).astype("float32"), rng.normal(size=shape[0]).astype("float32")) for name in names
    }


def googlenet_file(layers, raw=True):
    tensors = {}
    for layer, (kernel, bias) in layers.items():
        tensors[google_name(layer) + "_w_0"], tensors[google_name(layer) + "_b_0"] = kernel, bias
    tensors["loss3/classifier_w_0"] = np.ones((4, 2), "float32")
    return onnx_bytes(tensors, raw)


def alexnet_tensors(layers):
    tensors = {}
    for layer, (kernel, bias) in layers.items():
        tensors[f"{ALEXNET_LAYERS[layer]}.weight"], tensors[f"{ALEXNET_LAYERS[layer]}.bias"] = kernel, bias
    return {**tensors, "classifier.1.weight": np.ones((4, 2), "float32")}


def size_of(layers):
    return sum(kernel.size + bias.size for kernel, bias in layers.values())


def keras_file(path, arrays):
    """One of Keras' HDF5 weight files, with the arrays as the weights of a layer."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["conv1", "conv1_relu"]
        group = file.create_group("conv1")
        group.attrs["weight_names"] = [f"conv1/{number}" for number in range(len(arrays))]
        file.create_group("conv1_relu").attrs["weight_names"] = np.array([], "S1")
        for number, array in enumerate(arrays):
            group[f"conv1/{number}"] = array
    return path.read_bytes()


# ------------------------------------------------------------------------------------------------------- publisher


class Publisher:
    """An HTTP server of byte strings, which counts what it was asked for."""

    def __init__(self):
        self.files, self.headers, self.asked, self.length = {}, {}, [], None
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                publisher.asked.append(self.path)
                content = publisher.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(publisher.length or len(content)))
                for name, value in publisher.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

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
    publisher.server.shutdown()
    publisher.server.server_close()


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


VGG = BACKBONES["vgg16"]


def md5(content):
    return hashlib.md5(content).hexdigest()


# --------------------------------------------------------------------------------------------------------- finding


def test_a_fresh_machine_has_no_weights():
    assert all(find_weights(backbone) is None for backbone in BACKBONES.values())


def test_the_given_folder_is_searched_before_the_keras_cache(given, tmp_path):
    models = tmp_path / "keras" / "models"
    models.mkdir(parents=True)
    content = b"weights"
    row = replace(VGG, weights=replace(VGG.weights, md5=md5(content), size_bytes=None))
    (models / row.weights.name).write_bytes(content)
    assert find_weights(row) == models / row.weights.name
    (given / row.weights.name).write_bytes(b"other weights")
    assert find_weights(row) == given / row.weights.name


def test_nasnet_is_found_under_the_name_its_publisher_gives_it(given):
    path = given / "NASNet-mobile-no-top.h5"
    path.write_bytes(b"weights")
    assert find_weights(BACKBONES["nasnetmobile"]) == path


def test_a_file_in_the_keras_cache_with_another_checksum_is_ignored(tmp_path):
    models = tmp_path / "keras" / "models"
    models.mkdir(parents=True)
    row = replace(VGG, weights=replace(VGG.weights, size_bytes=None))
    (models / row.weights.name).write_bytes(b"half a download")
    assert find_weights(row) is None


def test_a_given_file_whose_checksum_differs_from_sha256sums_is_damaged(given):
    path = given / VGG.weights.name
    path.write_bytes(b"weights")
    (given / "SHA256SUMS").write_text(f"{hashlib.sha256(b'weights').hexdigest()}  {path.name}\n")
    assert find_weights(VGG) == path
    path.write_bytes(b"weightz!")
    with pytest.raises(WeightsError, match="is damaged"):
        find_weights(VGG)


def test_a_missing_weights_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("LEUKODASH_WEIGHTS", str(tmp_path / "wieghts"))
    with pytest.raises(WeightsError, match=r"wieghts, but there is no such folder"):
        find_weights(VGG)


def test_a_checksum_is_computed_again_when_the_file_changes(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"one")
    assert sha256_of(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"three")
    assert sha256_of(path) == hashlib.sha256(b"three").hexdigest()


@pytest.mark.real
def test_the_shared_files_are_found_and_have_the_checksums_in_sha256sums(real_weights):
    stated = dict(reversed(line.split()) for line in (real_weights / "SHA256SUMS").read_text().splitlines())
    for name in ("mobilenet", "vgg16", "resnet50", "googlenet", "alexnet"):
        path = find_weights(BACKBONES[name])
        assert path.parent == real_weights
        assert identity(path) == sha256_of(path) == stated[path.name]


# ----------------------------------------------------------------------------------------------------- downloading


def test_a_download_is_verified_kept_and_not_repeated(publisher, tmp_path):
    content = keras_file(tmp_path / "vgg.h5", [np.ones(9, "float32")])
    row = publisher.offer(VGG, content, md5=md5(content), size_bytes=len(content))
    seen = []
    path = obtain_weights(row, progress=lambda fraction, words: seen.append((fraction, words)))
    assert path.read_bytes() == content
    assert seen[-1][0] == 1.0
    assert "VGG16" in seen[-1][1]
    assert find_weights(row) == obtain_weights(row) == path
    assert len(publisher.asked) == 1
    assert kept() == ["SHA256SUMS", row.weights.name]


def test_a_kept_file_that_changed_is_downloaded_again(publisher):
    row = publisher.offer(VGG, b"weights", md5=md5(b"weights"))
    path = obtain_weights(row)
    path.write_bytes(b"bit rot")
    assert find_weights(row) is None
    assert obtain_weights(row).read_bytes() == b"weights"
    assert len(publisher.asked) == 2


def test_thirty_students_download_once(publisher):
    row = publisher.offer(VGG, b"weights" * 100_000, md5=md5(b"weights" * 100_000))
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(obtain_weights(row))) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 30
    assert len(set(paths)) == 1
    assert len(publisher.asked) == 1


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"md5": md5(b"other")}, "its MD5 begins with"),
        ({"sha256": "0" * 64}, "its SHA256 begins with"),
        ({"sha256": "01234567"}, "01234567 was expected"),
        ({"size_bytes": 8}, "it has 7 bytes and 8 were expected"),
        ({}, "does not hold the 14,714,688 parameters of VGG16"),
    ],
)
def test_a_wrong_download_is_deleted_and_reported(publisher, known, words):
    row = publisher.offer(VGG, b"weights", **known)
    with pytest.raises(WeightsError, match=words) as error:
        obtain_weights(row)
    assert "deleted" in str(error.value)
    assert f"put the file {row.weights.published_name} into a folder and set LEUKODASH_WEIGHTS" in str(error.value)
    assert kept() == []
    assert find_weights(row) is None


def test_the_checksum_that_googles_storage_sends_is_verified(publisher, tmp_path):
    row = replace(BACKBONES["mobilenet"], parameters=9)
    content = keras_file(tmp_path / "mobilenet.h5", [np.ones(9, "float32")])
    row = publisher.offer(row, content)
    publisher.headers["x-goog-hash"] = "crc32c=AAAAAA==, md5=" + base64.b64encode(bytes(16)).decode()
    with pytest.raises(WeightsError, match="00000000 was expected"):
        obtain_weights(row)
    publisher.headers["x-goog-hash"] = "md5=" + base64.b64encode(hashlib.md5(content).digest()).decode()
    assert obtain_weights(row).read_bytes() == content


def test_an_incomplete_download_is_reported(publisher):
    row = publisher.offer(VGG, b"weights", md5=md5(b"weights"))
    publisher.length = 20
    with pytest.raises(WeightsError, match="only 7 of 20 bytes"):
        obtain_weights(row)
    assert kept() == []


def test_a_file_that_the_publisher_removed_is_reported(publisher):
    row = publisher.offer(VGG, b"weights")
    publisher.files.clear()
    with pytest.raises(WeightsError, match=r"could not be downloaded.*404"):
        obtain_weights(row)


def test_a_machine_without_network_is_told_what_to_do(publisher, given):
    row = publisher.offer(VGG, b"weights")
    publisher.server.shutdown()
    publisher.server.server_close()
    with pytest.raises(WeightsError, match="could not be downloaded") as error:
        obtain_weights(row)
    assert f"put the file {row.weights.name} into the folder {given}" in str(error.value)


def test_a_cache_that_cannot_be_written_is_reported(tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("LEUKODASH_CACHE", str(tmp_path / "a file"))
    with pytest.raises(WeightsError, match="set LEUKODASH_CACHE"):
        obtain_weights(VGG)


# ------------------------------------------------------------------------------------------------------ converting


def test_a_torch_file_gives_the_requested_tensors(torch_file):
    tensors = {"features.0.weight": np.arange(24, dtype="float32").reshape(2, 3, 4), "classifier.1.bias": np.ones(3)}
    read = read_torch(torch_file(tensors), prefix="features.")
    assert list(read) == ["features.0.weight"]
    np.testing.assert_array_equal(read["features.0.weight"], tensors["features.0.weight"])


def test_a_pickle_that_would_run_a_program_is_refused(torch_file, tmp_path):
    class Evil:
        def __reduce__(self):
            import os

            return os.system, (f"touch {tmp_path / 'ran'}",)

    path = torch_file(alexnet_tensors(random_layers(ALEXNET_LAYERS, 0)), extra={"features.99": Evil()})
    with pytest.raises(WeightsError, match=r"asks for (posix|os|nt)\.system"):
        convert(BACKBONES["alexnet"], path, tmp_path / "out.h5", "0" * 64)
    assert not (tmp_path / "ran").exists()


def check_converted(path, layers, source):
    """The file holds the layers' kernels, transposed, and names its source."""
    with h5py.File(path) as file:
        assert list(file.attrs["layer_names"]) == list(layers)
        for name, (kernel, bias) in layers.items():
            np.testing.assert_array_equal(file[name][f"{name}/kernel"], kernel.transpose(2, 3, 1, 0))
            np.testing.assert_array_equal(file[name][f"{name}/bias"], bias)
    assert identity(path) == hashlib.sha256(source).hexdigest()


@pytest.mark.parametrize("raw", [True, False], ids=["raw_data", "float_data"])
def test_googlenet_is_downloaded_and_converted_from_onnx(publisher, raw):
    layers = random_layers(GOOGLENET_LAYERS, 1, shape=(2, 3, 5, 4))
    source = googlenet_file(layers, raw)
    row = replace(BACKBONES["googlenet"], parameters=size_of(layers))
    sha256 = hashlib.sha256(source).hexdigest()
    row = publisher.offer(row, source, sha256=sha256, size_bytes=len(source))
    path = obtain_weights(row)
    assert path.name == f"googlenet-{sha256[:8]}.h5"
    check_converted(path, layers, source)
    assert kept() == ["SHA256SUMS", path.name]
    assert obtain_weights(row) == path
    assert len(publisher.asked) == 1


def test_alexnet_is_downloaded_and_converted_from_torch(publisher, torch_file):
    layers = random_layers(ALEXNET_LAYERS, 2, shape=(2, 3, 5, 4))
    source = torch_file(alexnet_tensors(layers)).read_bytes()
    row = replace(BACKBONES["alexnet"], parameters=size_of(layers))
    row = publisher.offer(row, source, sha256=hashlib.sha256(source).hexdigest()[:8])
    check_converted(obtain_weights(row), layers, source)


def test_a_publishers_file_in_the_given_folder_is_converted_without_a_download(publisher, given):
    layers = random_layers(GOOGLENET_LAYERS, 3)
    source = googlenet_file(layers)
    row = replace(BACKBONES["googlenet"], parameters=size_of(layers))
    row = publisher.offer(row, source, sha256=hashlib.sha256(source).hexdigest())
    (given / "googlenet-7.onnx").write_bytes(source)
    check_converted(obtain_weights(row), layers, source)
    assert publisher.asked == []


def test_a_damaged_publishers_file_in_the_given_folder_is_reported_and_kept(publisher, given):
    row = publisher.offer(BACKBONES["googlenet"], b"", sha256="0" * 64)
    path = given / "googlenet-7.onnx"
    path.write_bytes(b"half a download")
    with pytest.raises(WeightsError, match=r"googlenet-7\.onnx is not the file"):
        obtain_weights(row)
    assert path.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"no protobuf at all", onnx_bytes({"conv1/7x7_s2_w_0": np.ones((2, 3, 1, 1), "float32")})[:-9], b"\xff" * 30],
    ids=["empty", "text", "cut off", "ones"],
)
def test_a_file_that_is_not_googlenet_is_reported(tmp_path, content):
    source = tmp_path / "googlenet-7.onnx"
    source.write_bytes(content)
    with pytest.raises(WeightsError, match=r"is not the weight file of GoogLeNet"):
        convert(BACKBONES["googlenet"], source, tmp_path / "out.h5", "0" * 64)


@pytest.mark.parametrize("content", [b"", b"\x80\x02}q\x00.", struct.pack("<I", 7)], ids=["empty", "pickle", "bytes"])
def test_a_file_that_is_not_a_torch_archive_is_reported(tmp_path, content):
    source = tmp_path / "alexnet.pth"
    source.write_bytes(content)
    with pytest.raises(WeightsError, match=r"is not the weight file of AlexNet"):
        convert(BACKBONES["alexnet"], source, tmp_path / "out.h5", "0" * 64)


def test_a_network_of_other_widths_is_reported(torch_file, tmp_path):
    source = torch_file(alexnet_tensors(random_layers(ALEXNET_LAYERS, 4)))
    with pytest.raises(WeightsError, match="it is a file of another network"):
        convert(BACKBONES["alexnet"], source, tmp_path / "out.h5", "0" * 64)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "alexnet"])
def test_converted_weights_load_into_the_network_layer_by_layer(name, publisher, torch_file):
    from leukodash.models.backbones import constructor

    build = constructor(BACKBONES[name])
    model = build(include_top=False, weights=None, input_shape=(64, 64, 3))
    rng = np.random.default_rng(6)
    layers = {}
    for layer in model.layers:
        if layer.weights:
            height, width, incoming, outgoing = layer.kernel.shape
            kernel = rng.normal(size=(outgoing, incoming, height, width)).astype("float32")
            layers[layer.name] = kernel, rng.normal(size=outgoing).astype("float32")
    source = googlenet_file(layers) if name == "googlenet" else torch_file(alexnet_tensors(layers)).read_bytes()
    row = publisher.offer(BACKBONES[name], source, sha256=hashlib.sha256(source).hexdigest())
    model.load_weights(obtain_weights(row))
    for layer, (kernel, bias) in layers.items():
        loaded_kernel, loaded_bias = model.get_layer(layer).get_weights()
        np.testing.assert_array_equal(loaded_kernel, kernel.transpose(2, 3, 1, 0))
        np.testing.assert_array_equal(loaded_bias, bias)
