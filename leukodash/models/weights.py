"""Find, download and verify pretrained weights. Nothing here imports Keras.

Weights are searched in the folder ``LEUKODASH_WEIGHTS``, in Keras' cache and in LeukoDash's cache, which downloads go
to. The checksums in a folder's ``SHA256SUMS`` (as ``sha256sum`` writes it) take precedence; LeukoDash's cache has that
file, so that weights that changed on disk are downloaded again.
"""

import base64
import hashlib
import os
import shutil
import urllib.request
from functools import lru_cache
from http.client import HTTPException, HTTPMessage
from pathlib import Path

import h5py
import numpy as np
from filelock import FileLock

from leukodash import settings
from leukodash.atomic_write import replacing, write_atomic
from leukodash.errors import WeightsError
from leukodash.models.backbones import Backbone, WeightFile
from leukodash.models.weight_conversion import convert, write_weights
from leukodash.progress import Progress

TIMEOUT_SECONDS = 30  # without receiving a byte
CHUNK_BYTES = 1 << 20


def find_weights(backbone: Backbone) -> Path | None:
    """Find a backbone's pretrained weights on this machine, ready for `keras.Model.load_weights`.

    Returns:
        The file, or None if it has to be downloaded (or, for GoogLeNet and AlexNet, converted). MobileNet's weights
        come with LeukoDash, in three bytes a value; the full ones are preferred where they are found.

    Raises:
        WeightsError: ``LEUKODASH_WEIGHTS`` is not a folder, or its file does not have the checksum in the
            ``SHA256SUMS`` next to it.
    """
    file = backbone.weights
    given = _given_folder()
    if given:
        for name in (file.name,) if file.reader else (file.name, file.published_name):
            path = given / name
            if path.is_file():
                stated = _stated(path)
                if path.stat().st_size == file.size_bytes and (fault := _fault(path, file)):
                    raise WeightsError(f"{path} is damaged: {fault}. Copy the file again, or remove it.")
                if stated and stated != sha256_of(path):
                    raise WeightsError(
                        f"{path} is damaged: its SHA-256 is {sha256_of(path)[:16]}…, but SHA256SUMS next to it "
                        f"says {stated[:16]}…. Copy the file again, or remove it to have it downloaded."
                    )
                return path

    if not file.reader:
        home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
        path = Path(home) / "models" / file.name
        if path.is_file() and _fault(path, file) is None:
            return path

    path = _own_folder() / _own_name(backbone)
    if path.is_file() and _stated(path) == sha256_of(path):
        return path
    return _shipped(backbone) if file.shipped else None


def obtain_weights(backbone: Backbone, progress: Progress | None = None, sha256: str | None = None) -> Path:
    """Find a backbone's pretrained weights, or download them from their publisher, verify and convert them.

    Processes that call this at the same time wait for one download.

    Args:
        backbone: a row of `BACKBONES`.
        progress: called with the fraction that has been downloaded and a short text.
        sha256: the `identity` that the weights must have: those that a run was trained with.

    Returns:
        A file for `keras.Model.load_weights` of the network without its classifier.

    Raises:
        WeightsError: the weights are not here and cannot be downloaded, they differ from `sha256`, or the download is
            damaged. The text says what to do.
    """
    path = find_weights(backbone)
    if path is None:
        folder = _own_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f"{backbone.name}.lock"):
                path = find_weights(backbone) or _fetch(backbone, folder, progress)
        except OSError as error:
            raise WeightsError(
                f"The weights of {backbone.title} cannot be written to {folder} ({error}). "
                "Free some space there, or set LEUKODASH_CACHE to a writable folder."
            ) from error
    if sha256 and sha256 == backbone.weights.shipped_sha256 and identity(path) != sha256:
        path = _shipped(backbone) or path  # a published run; the publisher's own file has another checksum
    if sha256 and identity(path) != sha256:
        raise WeightsError(
            f"The run was trained with {backbone.title} weights of SHA-256 {sha256[:16]}…, but {path} has "
            f"{identity(path)[:16]}…. Put the original weight file into the folder LEUKODASH_WEIGHTS."
        )
    return path


def identity(path: Path) -> str:
    """Return the SHA-256 that identifies weights: of the publisher's file if they were converted, else of the file."""
    with h5py.File(path, "r") as file:
        source = file.attrs.get("source_sha256")
    return str(source) if source else sha256_of(path)


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 as 64 hex digits; cached until its size or modification time changes."""
    return _digest(path, "sha256")


def _shipped(backbone: Backbone) -> Path | None:
    """Return the weights that come with LeukoDash, written for Keras on first use; None if the cache is read-only."""
    from leukodash.models.onnx_graph import read_weights

    file = backbone.weights
    assert file.shipped is not None and file.shipped_sha256 is not None
    path = _own_folder() / f"{backbone.name}-shipped-{file.shipped_sha256[:8]}.h5"
    if path.is_file() and _stated(path) == sha256_of(path):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            write_weights(temporary, read_weights(settings.asset(file.shipped)), file.shipped_sha256)
            checksum = sha256_of(temporary)
        _state(path, checksum)
    except OSError:
        return None
    return path


def _fetch(backbone: Backbone, folder: Path, progress: Progress | None) -> Path:
    """Fetch the weights into LeukoDash's cache: from LEUKODASH_WEIGHTS, else from the publisher."""
    file = backbone.weights
    target = folder / _own_name(backbone)
    given = _given_folder()
    local = given / file.published_name if given and file.reader else None
    work = folder / f"{backbone.name}.part"  # the caller holds the lock; a killed download leaves this folder behind
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        if local and local.is_file():
            source = local
            fault = _fault(source, file)
            if fault:
                raise WeightsError(f"{local} is not the file at {file.url}: {fault}. Copy it again.")
        else:
            source = work / file.published_name
            _download(backbone, source, progress)
        ready = source
        if file.reader:
            ready = work / target.name
            convert(backbone, source, ready, sha256_of(source))
        checksum = sha256_of(ready)
        ready.replace(target)  # whose checksum is verified before each use
    finally:
        shutil.rmtree(work, ignore_errors=True)
    _state(target, checksum)
    return target


def _download(backbone: Backbone, target: Path, progress: Progress | None) -> None:
    file = backbone.weights
    words = f"Downloading the weights of {backbone.title}"
    advice = _advice(file)
    request = urllib.request.Request(file.url, headers={"User-Agent": "leukodash"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response, target.open("wb") as copy:
            total = int(response.headers.get("Content-Length") or file.size_bytes or 0)
            received = 0
            while chunk := response.read(CHUNK_BYTES):
                copy.write(chunk)
                received += len(chunk)
                if progress and total:
                    progress(min(received / total, 1.0), f"{words} ({total / 1e6:.0f} MB)")
            sent_md5 = _sent_md5(response.headers)
    except (OSError, HTTPException) as error:
        raise WeightsError(
            f"The weights of {backbone.title} could not be downloaded from {file.url} ({error}). {advice}"
        ) from error
    fault = f"only {received:,} of {total:,} bytes arrived" if received < total else _fault(target, file, sent_md5)
    known = file.sha256 or file.md5 or file.values_sha256
    if fault is None and not known and _parameters(target) != backbone.parameters:
        fault = f"it does not hold the {backbone.parameters:,} parameters of {backbone.title}"
    if fault:
        target.unlink()
        raise WeightsError(
            f"The download from {file.url} is not the weight file of {backbone.title}: {fault}. "
            f"It has been deleted; try again later. {advice}"
        )


def _advice(file: WeightFile) -> str:
    folder = settings.weights()
    where = f"the folder {folder}" if folder else "a folder and set LEUKODASH_WEIGHTS to that folder"
    return f"Check the network, or put the file {file.published_name} into {where}."


def _sent_md5(headers: HTTPMessage) -> str | None:
    """Return the MD5, in hex, that Google's storage sends with each file."""
    for value in headers.get_all("x-goog-hash") or ():
        for part in value.split(","):
            kind, _, digest = part.strip().partition("=")
            if kind == "md5":
                return base64.b64decode(digest).hex()
    return None


def _fault(path: Path, file: WeightFile, sent_md5: str | None = None) -> str | None:
    """Return how a file differs from what its publisher states, in words, or None."""
    size = path.stat().st_size
    if file.size_bytes and size != file.size_bytes:
        return f"it has {size:,} bytes and {file.size_bytes:,} were expected"
    for algorithm, expected in (("sha256", file.sha256), ("md5", file.md5 or sent_md5)):
        if expected and not (actual := _digest(path, algorithm)).startswith(expected):
            return f"its {algorithm.upper()} begins with {actual[:8]} and {expected[:8]} was expected"
    if file.values_sha256 and values_digest(path) != file.values_sha256:
        return "its values are not those that its publisher trained"
    return None


def values_digest(path: Path) -> str:
    """Return a SHA-256 over the values in one of Keras' HDF5 weight files, as 64 hex digits; "" for another file.

    It is the same however the file stores them: names and order of the layers do not count, values and shapes do.
    """
    found = path.stat()
    return _values_of_version(str(path.resolve()), found.st_size, found.st_mtime_ns)


def _parameters(path: Path) -> int:
    """Return the number of parameters in one of Keras' HDF5 weight files; 0 if it is another file."""
    try:
        with h5py.File(path, "r") as file:
            groups = [file[name] for name in file.attrs["layer_names"]]
            return sum(group[name].size for group in groups for name in group.attrs["weight_names"])
    except (OSError, KeyError):
        return 0


def _given_folder() -> Path | None:
    folder = settings.weights()
    if folder and not folder.is_dir():
        raise WeightsError(
            f"LEUKODASH_WEIGHTS is {folder}, but there is no such folder. "
            "Set it to a folder with weight files, or unset it."
        )
    return folder


def _own_folder() -> Path:
    return settings.cache() / "weights"


def _own_name(backbone: Backbone) -> str:
    """Return the file name in LeukoDash's cache; for converted files with the first digits of the source's checksum."""
    file = backbone.weights
    return f"{backbone.name}-{file.sha256[:8]}.h5" if file.reader and file.sha256 else file.name


def _stated(path: Path) -> str | None:
    """Return a file's checksum in the ``SHA256SUMS`` next to it."""
    return _sums(path.parent).get(path.name)


def _sums(folder: Path) -> dict[str, str]:
    try:
        lines = (folder / "SHA256SUMS").read_text().splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.split(maxsplit=1) for line in lines)
    return {pair[1].lstrip("*"): pair[0] for pair in pairs if len(pair) == 2}


def _state(path: Path, checksum: str) -> None:
    """Write a file's checksum into the ``SHA256SUMS`` next to it."""
    with FileLock(path.parent / "SHA256SUMS.lock"):
        sums = {**_sums(path.parent), path.name: checksum}
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
        write_atomic(path.parent / "SHA256SUMS", lines.encode())


def _digest(path: Path, algorithm: str) -> str:
    found = path.stat()
    return _digest_of_version(str(path.resolve()), found.st_size, found.st_mtime_ns, algorithm)


@lru_cache(maxsize=64)
def _digest_of_version(path: str, size: int, mtime_ns: int, algorithm: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


@lru_cache(maxsize=8)
def _values_of_version(path: str, size: int, mtime_ns: int) -> str:
    try:
        with h5py.File(path, "r") as file:
            groups = [file[name] for name in file.attrs["layer_names"]]
            arrays = [np.asarray(group[name], "<f4") for group in groups for name in group.attrs["weight_names"]]
    except (OSError, KeyError, ValueError):
        return ""
    parts = sorted(hashlib.sha256(repr(array.shape).encode() + array.tobytes()).digest() for array in arrays)
    return hashlib.sha256(b"".join(parts)).hexdigest()
