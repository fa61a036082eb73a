"""The frozen prefix's outputs, computed once for the whole data set and shared by all runs.

A store is a folder ``<cache>/features/<key>`` with one ``.npy`` file for each view and crossing tensor, row i of which
belongs to cell i of the data set. The key covers everything that can change a value. Files appear by rename, under a
lock, so that thirty processes compute them once and none reads a half-written one.
"""

import contextlib
import ctypes
import hashlib
import json
import mmap
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import ml_dtypes
import numpy as np
from filelock import FileLock, Timeout

from leukodash import settings
from leukodash.atomic_write import temporary_name, write_atomic
from leukodash.data.views import view
from leukodash.errors import DataError

VERSION = 2
BATCH = 32
WAIT_SECONDS = 0.5

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Features:
    """Stored outputs: ``arrays[view][tensor]`` is a read-only memory map with a row a cell."""

    arrays: list[list[np.ndarray]]
    computed: bool  # whether this call computed any of them, rather than found them
    ms_per_image: float  # that the prefix took for a cell, on the machine that computed them

    def batch(self, rows: np.ndarray, views: np.ndarray | None = None) -> np.ndarray | list[np.ndarray]:
        """Return the crossing tensor or tensors of some cells, float32, each in its own view (by default the first)."""
        if views is None:
            return _one_or_all([_float32(tensor[rows]) for tensor in self.arrays[0]])
        batch = []
        for t, first in enumerate(self.arrays[0]):
            values = np.empty((len(rows), *first.shape[1:]), np.float32)
            for number in np.unique(views):
                here = views == number
                values[here] = self.arrays[number][t][rows[here]]
            batch.append(values)
        return _one_or_all(batch)

    def release(self) -> None:
        """Hand the pages that were read back to the system's cache, so that they do not count as this process'."""
        for tensors in self.arrays:
            for array in tensors:
                release(array)


def release(array: np.ndarray) -> None:
    """Hand a read-only memory map's pages back to the system's cache (where the system can)."""
    pages = getattr(array, "_mmap", None)
    if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def _trim() -> None:
    """Hand back what the prefix was computed in: the C library keeps it otherwise, and training comes on top."""
    with contextlib.suppress(OSError, AttributeError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def store_folder(**parts: object) -> Path:
    """Return the folder of a store, named by a hash of everything that its values depend on."""
    text = json.dumps({"version": VERSION, "backend": keras.backend.backend(), **parts}, sort_keys=True)
    return settings.cache() / "features" / hashlib.sha256(text.encode()).hexdigest()[:24]


def compute_features(
    prefix: keras.Model,
    cells: Callable[[], np.ndarray],
    folder: Path,
    views: tuple[int, ...],
    progress: Progress,
    waiting: Progress,
) -> Features:
    """Return the prefix's outputs for all cells in the wanted views; compute and store what is missing.

    Args:
        prefix: images float32 (n, s, s, 3) → crossing tensor(s).
        cells: returns uint8 (n, s, s, 3), RGB, a memory map; called only if something must be computed.
        folder: from `store_folder`.
        views: see `leukodash.data.views.view`.
        progress: hears how far the computing is; may raise to stop it.
        waiting: hears how far another process is that computes the same; may raise to stop the waiting.

    Raises:
        DataError: the disk has no room for the store.
    """
    tensors = prefix.outputs
    missing = [number for number in views if not _files_exist(folder, number, len(tensors))]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock_shared_with_progress(folder, waiting):
            missing = [number for number in views if not _files_exist(folder, number, len(tensors))]
            if missing:
                _sweep(folder)
                images = cells()
                _make_room(folder, len(missing) * _bytes_per_view(prefix, len(images)))
                for done, number in enumerate(missing):
                    pace = _compute_view(prefix, images, folder, number, _scaled(progress, folder, done, len(missing)))
                    write_atomic(folder / "ms_per_image", f"{pace:.3f}".encode())
                (folder / "progress").unlink(missing_ok=True)
                release(images)
                _trim()
    folder.touch()  # least recently used goes first
    arrays = [[_open(_file(folder, number, t)) for t in range(len(tensors))] for number in views]
    return Features(arrays, bool(missing), float((folder / "ms_per_image").read_text()))


def _file(folder: Path, number: int, tensor: int) -> Path:
    return folder / f"view{number}-{tensor}.npy"


def _files_exist(folder: Path, number: int, tensors: int) -> bool:
    return all(_file(folder, number, t).is_file() for t in range(tensors))


def _open(path: Path) -> np.ndarray:
    array = np.load(path, mmap_mode="r")
    return array.view(ml_dtypes.bfloat16) if array.dtype == np.uint16 else array  # .npy has no name for bfloat16


def _one_or_all(tensors: list[np.ndarray]) -> np.ndarray | list[np.ndarray]:
    """Keras takes a bare array where a model has one input."""
    return tensors[0] if len(tensors) == 1 else tensors


def _float32(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, dtype=np.float32)


def _dtype(tensor: keras.KerasTensor) -> np.dtype:
    """Keep what the prefix gives, to the bit: bfloat16 is stored as such, and float16 too."""
    return np.dtype(np.uint16 if tensor.dtype == "bfloat16" else tensor.dtype)


def _bytes_per_view(prefix: keras.Model, cells: int) -> int:
    return cells * sum(int(np.prod(t.shape[1:])) * _dtype(t).itemsize for t in prefix.outputs)


def _compute_view(prefix: keras.Model, cells: np.ndarray, folder: Path, number: int, progress: Progress) -> float:
    """Write one view's files; returns the milliseconds for a cell, the first batch left out where there are others.

    Plain writes rather than a memory map: pages of the file are no memory of ours.
    """
    n, times = len(cells), []
    paths = [_file(folder, number, t) for t in range(len(prefix.outputs))]
    temporary = [temporary_name(path) for path in paths]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in temporary]
        for file, tensor in zip(files, prefix.outputs, strict=True):
            header = {"descr": _dtype(tensor).str, "fortran_order": False, "shape": (n, *tensor.shape[1:])}
            np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, n, BATCH):
            progress(start / n, f"{start:,} of {n:,} cells")
            rows = cells[start : start + BATCH]
            full = np.concatenate([rows, np.repeat(rows[-1:], BATCH - len(rows), axis=0)])  # one shape, one trace
            since = time.perf_counter()
            outputs = prefix.predict_on_batch(np.ascontiguousarray(view(full, number)))
            times.append(time.perf_counter() - since)
            release(cells)  # else the whole store of images would come to count as this process' memory
            for file, output in zip(files, outputs if isinstance(outputs, list) else [outputs], strict=True):
                output = np.asarray(output)[: len(rows)]
                file.write(np.ascontiguousarray(output).tobytes())
    for made, path in zip(temporary, paths, strict=True):
        made.replace(path)
    progress(1.0, f"{n:,} of {n:,} cells")
    return 1000 * float(np.median(times[1:] or times)) / BATCH


def _scaled(progress: Progress, folder: Path, done: int, total: int) -> Progress:
    """Fit one view's progress into that of all, and leave it where waiting processes can read it."""

    def report(fraction: float, message: str) -> None:
        overall = (done + fraction) / total
        words = message if total == 1 else f"view {done + 1} of {total}: {message}"
        progress(overall, words)
        write_atomic(folder / "progress", f"{overall:.4f}".encode())

    return report


@contextlib.contextmanager
def _lock_shared_with_progress(folder: Path, waiting: Progress) -> contextlib.AbstractContextManager:
    lock = FileLock(folder.with_suffix(".lock"))
    while True:
        try:
            lock.acquire(timeout=WAIT_SECONDS)
            break
        except Timeout:
            try:
                fraction = float((folder / "progress").read_text())
            except (OSError, ValueError):
                fraction = 0.0
            waiting(fraction, "waiting for features that another run computes")
    try:
        yield
    finally:
        lock.release()


def _sweep(folder: Path) -> None:
    """Remove what killed processes left unfinished. Called under the lock, so nobody else is writing here."""
    for leftover in folder.glob(".*"):
        leftover.unlink(missing_ok=True)


def _make_room(folder: Path, needed: int) -> None:
    """Evict the least recently used stores until this one fits under the limit, then check the disk."""
    others = [path for path in folder.parent.iterdir() if path.is_dir() and path != folder]
    others.sort(key=lambda path: path.stat().st_mtime)
    sizes = {path: sum(file.stat().st_size for file in path.glob("*.npy")) for path in others}
    total = sum(sizes.values()) + sum(file.stat().st_size for file in folder.glob("*.npy")) + needed
    for path in others:
        if total <= settings.cache_limit_bytes():
            break
        lock = FileLock(path.with_suffix(".lock"))
        with contextlib.suppress(Timeout), lock.acquire(blocking=False):  # one that is being computed stays
            shutil.rmtree(path, ignore_errors=True)
            total -= sizes[path]
    free = shutil.disk_usage(folder).free
    if needed > free - 200_000_000:
        raise DataError(
            f"The features need {needed / 1e9:.1f} GB, and '{settings.cache()}' has {free / 1e9:.1f} GB left. "
            "Make room, set LEUKODASH_CACHE to a larger disk, train fewer blocks, or use no views."
        )
