"""The outputs of the frozen prefix, computed once for the whole data set and shared by all runs.

A store is a folder ``<cache>/features/<key>`` with one ``.npy`` file per view and crossing tensor; row i belongs to
cell i of the data set. The key covers everything that can change a value. Files are renamed into place under a lock, so
that thirty processes compute them once and none reads an incomplete file.
"""

import contextlib
import ctypes
import hashlib
import json
import mmap
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import ml_dtypes
import numpy as np
from filelock import FileLock, Timeout

from leukodash import settings
from leukodash.atomic_write import replacing, write_atomic
from leukodash.cache_folder import make_room, mark_used
from leukodash.data.views import view
from leukodash.errors import DataError
from leukodash.progress import Progress

VERSION = 2
BATCH = 32
WAIT_SECONDS = 0.5
PACE = "ms_per_image"  # a file of the store


@dataclass(frozen=True)
class Features:
    """Stored outputs: ``arrays[view][tensor]`` is a read-only memory map with one row per cell."""

    arrays: list[list[np.ndarray]]
    computed: bool  # whether this call computed any of them
    ms_per_image: float  # milliseconds per cell, on the machine that computed them

    def batch(self, rows: np.ndarray, views: np.ndarray | None = None) -> np.ndarray | list[np.ndarray]:
        """Return the crossing tensor(s) of some cells, float32, each cell in its own view (default: the first)."""
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
        """Return the pages that were read to the system, so that they do not count as memory of this process."""
        for tensors in self.arrays:
            for array in tensors:
                release(array)


def release(array: np.ndarray) -> None:
    """Return the pages of a read-only memory map to the system, if the system supports it."""
    pages = getattr(array, "_mmap", None)
    if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def _trim() -> None:
    """Return freed memory to the system: the C library would keep it, and training needs its own."""
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def store_folder(**parts: object) -> Path:
    """Return the folder of a store, named by a hash of everything that its values depend on, versions included."""
    backend = keras.backend.backend()
    frameworks = {"keras": keras.__version__, backend: sys.modules[backend].__version__}
    text = json.dumps({"version": VERSION, **frameworks, **parts}, sort_keys=True)
    return settings.cache() / "features" / hashlib.sha256(text.encode()).hexdigest()[:24]


@contextlib.contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"The features cannot be stored in '{settings.cache()}' ({error.strerror}). Free some space there, or set "
            "LEUKODASH_CACHE to a folder that you can write."
        ) from error


@_storing()
def compute_features(
    prefix: keras.Model,
    cells: Callable[[], np.ndarray],
    folder: Path,
    views: tuple[int, ...],
    progress: Progress,
    waiting: Progress,
) -> Features:
    """Return the prefix's outputs for all cells in these views; compute and store those that are missing.

    Args:
        prefix: images float32 (n, s, s, 3) → crossing tensor(s).
        cells: returns uint8 (n, s, s, 3), RGB, a memory map; called only if something is missing.
        folder: from `store_folder`.
        views: see `leukodash.data.views.view`.
        progress: called with the progress of the computation; may raise to stop it.
        waiting: called with the progress of another process that computes the same; may raise to stop waiting.

    Raises:
        DataError: the disk has no space for the store, or cannot be written.
    """
    computed = False
    while True:
        computed |= _compute_missing(prefix, cells, folder, views, progress, waiting)
        mark_used(folder)
        with contextlib.suppress(FileNotFoundError):  # another process has just evicted it
            arrays = [[_open(_file(folder, number, t)) for t in range(len(prefix.outputs))] for number in views]
            return Features(arrays, computed, float((folder / PACE).read_text()))


def _compute_missing(
    prefix: keras.Model,
    cells: Callable[[], np.ndarray],
    folder: Path,
    views: tuple[int, ...],
    progress: Progress,
    waiting: Progress,
) -> bool:
    """Compute the views that are not stored; returns whether any were missing. Arguments as `compute_features`."""
    tensors = prefix.outputs
    missing = [number for number in views if not _files_exist(folder, number, len(tensors))]
    if missing:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock_shared_with_progress(folder, waiting):
            folder.mkdir(exist_ok=True)
            missing = [number for number in views if not _files_exist(folder, number, len(tensors))]
            if missing:
                _sweep(folder)
                images = cells()
                make_room(folder, len(missing) * _bytes_per_view(prefix, len(images)), "The features")
                for done, number in enumerate(missing):
                    _compute_view(prefix, images, folder, number, _scaled(progress, folder, done, len(missing)))
                (folder / "progress").unlink(missing_ok=True)
                release(images)
                _trim()
    return bool(missing)


def _file(folder: Path, number: int, tensor: int) -> Path:
    return folder / f"view{number}-{tensor}.npy"


def _files_exist(folder: Path, number: int, tensors: int) -> bool:
    return all(path.is_file() for path in (folder / PACE, *(_file(folder, number, t) for t in range(tensors))))


def _open(path: Path) -> np.ndarray:
    array = np.load(path, mmap_mode="r")
    return array.view(ml_dtypes.bfloat16) if array.dtype == np.uint16 else array  # .npy cannot name bfloat16


def _one_or_all(tensors: list[np.ndarray]) -> np.ndarray | list[np.ndarray]:
    """Return a bare array for a model with one input, as Keras expects."""
    return tensors[0] if len(tensors) == 1 else tensors


def _float32(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, dtype=np.float32)


def _dtype(tensor: keras.KerasTensor) -> np.dtype:
    """Return the dtype that stores a tensor exactly: 16-bit values stay 16-bit."""
    return np.dtype(np.uint16 if tensor.dtype == "bfloat16" else tensor.dtype)


def _bytes_per_view(prefix: keras.Model, cells: int) -> int:
    return cells * sum(int(np.prod(t.shape[1:])) * _dtype(t).itemsize for t in prefix.outputs)


def _compute_view(prefix: keras.Model, cells: np.ndarray, folder: Path, number: int, progress: Progress) -> None:
    """Write the files of one view, and the milliseconds per cell, without the first batch if there are others.

    Plain writes instead of a memory map: pages of the file do not count as memory of this process.
    """
    n, times = len(cells), []
    with contextlib.ExitStack() as stack:
        paths = [stack.enter_context(replacing(_file(folder, number, t))) for t in range(len(prefix.outputs))]
        files = [stack.enter_context(path.open("wb")) for path in paths]
        for file, tensor in zip(files, prefix.outputs, strict=True):
            header = {"descr": _dtype(tensor).str, "fortran_order": False, "shape": (n, *tensor.shape[1:])}
            np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, n, BATCH):
            progress(start / n, f"{start:,} of {n:,} cells")
            rows = cells[start : start + BATCH]
            full = np.concatenate([rows, np.repeat(rows[-1:], BATCH - len(rows), axis=0)])  # one shape, one compilation
            since = time.perf_counter()
            outputs = prefix.predict_on_batch(np.ascontiguousarray(view(full, number)))
            times.append(time.perf_counter() - since)
            release(cells)  # otherwise all images would count as memory of this process
            for file, output in zip(files, outputs if isinstance(outputs, list) else [outputs], strict=True):
                output = np.asarray(output)[: len(rows)]
                file.write(np.ascontiguousarray(output).tobytes())
        pace = 1000 * float(np.median(times[1:] or times)) / BATCH
        write_atomic(folder / PACE, f"{pace:.3f}".encode())
    progress(1.0, f"{n:,} of {n:,} cells")


def _scaled(progress: Progress, folder: Path, done: int, total: int) -> Progress:
    """Return a callback that scales the progress of one view to that of all, and writes it for waiting processes."""

    def report(fraction: float, message: str) -> None:
        overall = (done + fraction) / total
        words = message if total == 1 else f"view {done + 1} of {total}: {message}"
        progress(overall, words)
        with contextlib.suppress(OSError):  # waiting processes can do without
            write_atomic(folder / "progress", f"{overall:.4f}".encode(), durable=False)

    return report


@contextlib.contextmanager
def _lock_shared_with_progress(folder: Path, waiting: Progress) -> Iterator[None]:
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
            waiting(fraction, "waiting for features that another run is computing")
    try:
        yield
    finally:
        lock.release()


def _sweep(folder: Path) -> None:
    """Remove incomplete files of killed processes. Called under the lock, so no other process is writing here."""
    for leftover in folder.glob(".*"):
        leftover.unlink(missing_ok=True)
