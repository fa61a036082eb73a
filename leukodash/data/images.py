"""Decode and check single images; keep a data set's cells decoded in one memory-mapped file."""

import contextlib
import hashlib
import io
import os
import shutil
import struct
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import filelock
import numpy as np
from PIL import Image, ImageOps

from leukodash import settings
from leukodash.data.dataset import Dataset, Progress, printable
from leukodash.errors import DataError, ImageError

FORMATS = ("BMP", "PNG", "JPEG", "TIFF", "WEBP")
STORE_VERSION = 1  # to be raised whenever the same files would give other pixels
MIN_SIDE = 8  # pixels: less is a dot, not a cell
MAX_PUBLIC_PIXELS = 16_000_000  # decoding takes up to 20 bytes a pixel, beside TensorFlow, of a public host's 1 GB
MAX_SCANS = 100  # of a JPEG; cameras and editors write 10 or fewer, and each costs the decoder a pass over the image
BAND = 2**20  # pixels that are converted at once, so that a large image needs few copies of itself

Source = Path | tuple[str, bytes]  # an image file, or an upload: its name, and its bytes

_LARGE = threading.Lock()  # sessions and threads decode images over 4 bands in turn, which bounds their memory

_OURS = (b"BM", b"\x89PNG", b"\xff\xd8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how `FORMATS` begin, but for WebP
_OTHERS = {  # how other files begin that people take for images
    b"GIF8": "a GIF",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a ZIP archive or an Office document",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x1f\x8b": "a gzip archive",
    b"8BPS": "a Photoshop document",
    b"\0\0\1\0": "a Windows icon",
    b"<": "a text in HTML, SVG or XML",
    b"{": "a text in JSON",
}
_PHONES = {b"heic": "a HEIC photograph", b"heix": "a HEIC photograph", b"mif1": "a HEIF photograph", b"avif": "an AVIF"}

_DAMAGED = (  # what Pillow raises on damaged files
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    EOFError,
    struct.error,
    zlib.error,
)


def read_image(source: Path | bytes, name: str | None = None) -> np.ndarray:
    """Decode one image: BMP, PNG, JPEG, TIFF or WebP; of several frames, the first.

    Gray and palette images become RGB, 16 bits become 8, what is transparent becomes black (segmented cells lie
    on black), and a camera's rotation mark is obeyed.

    Args:
        source: the file, or its bytes.
        name: what messages call it; the file's name by default.

    Returns:
        uint8 array of shape (H, W, 3), RGB.

    Raises:
        ImageError: not an image, damaged or cut short, under ``MIN_SIDE`` pixels, or over
            ``settings.MAX_IMAGE_PIXELS`` (by its header, before a pixel is decoded).
    """
    name = printable(name or (source.name if isinstance(source, Path) else "the image"))
    data = source
    if isinstance(source, Path):
        try:
            data = source.read_bytes()
        except OSError as error:
            raise ImageError(f"'{name}' cannot be read ({error.strerror}): check the file.") from error
    if not data:
        raise ImageError(f"'{name}' is empty: expected a BMP, PNG, JPEG, TIFF or WebP image.")
    most = MAX_PUBLIC_PIXELS if settings.public() else settings.MAX_IMAGE_PIXELS
    # Pillow reads the header and the pixels. OpenCV needs 0.7 ms for a 320×320 WebP and 0.6 ms for a 450×450
    # BMP, Pillow 1.0 and 0.8 (one thread): a third of a second per thousand cells, once, buys transparency,
    # CMYK and 16 bits done right and one reading of what is damaged.
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > most:
                raise ImageError(
                    f"'{name}' has {width:,} × {height:,} pixels, over the limit of {most // 10**6} million: cut or "
                    "shrink it."
                )
            if min(width, height) < MIN_SIDE:
                raise ImageError(
                    f"'{name}' has {width:,} × {height:,} pixels, and a cell needs {MIN_SIDE} or more a side: take a "
                    "larger picture of it."
                )
            if image.format == "JPEG" and data.count(b"\xff\xda") > MAX_SCANS:
                raise ImageError(f"'{name}' is a JPEG of over {MAX_SCANS} scans, made to be slow: save it again.")
            with _LARGE if width * height > 4 * BAND else contextlib.nullcontext():
                ImageOps.exif_transpose(image, in_place=True)
                return _rgb(image, name)
    except Image.UnidentifiedImageError as error:
        if data.startswith(_OURS):
            raise ImageError(_damaged(name)) from error
        kind = _kind(data)
        raise ImageError(f"'{name}' is {kind or 'not an image'}: expected BMP, PNG, JPEG, TIFF or WebP.") from error
    except Image.DecompressionBombError as error:  # Pillow's own limit is 179 million
        raise ImageError(
            f"'{name}' claims to have far more pixels than the limit of {most // 10**6} million: cut or shrink it."
        ) from error
    except _DAMAGED as error:
        raise ImageError(_damaged(name)) from error


def has_more_frames(data: bytes) -> bool:
    """Whether an image goes on after the frame that `read_image` reads: an animation, or a TIFF of several pages."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "TIFF", "WEBP")) as image:
            image.seek(1)
            return True
    except (*_DAMAGED, Image.DecompressionBombError):
        return False


def _damaged(name: str) -> str:
    return f"'{name}' is damaged, cut short, or of a rare kind: save it again, best as a usual PNG."


def _kind(data: bytes) -> str:
    """Name what a file is that is none of `FORMATS`; empty where its beginning does not tell."""
    if data[4:8] == b"ftyp":
        return _PHONES.get(data[8:12], "a video")
    beginning = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((kind for start, kind in _OTHERS.items() if beginning.startswith(start)), "")


def _rgb(image: Image.Image, name: str) -> np.ndarray:
    if image.mode == "F" or (image.mode == "I" and image.getextrema()[1] > 65535):
        raise ImageError(f"'{name}' has 32 bits a channel: save it with 8 or 16.")
    width, height = image.size
    rows = max(1, BAND // width)
    if rows >= height:
        return _rgb_band(image)
    result = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        result[top:bottom] = _rgb_band(image.crop((0, top, width, bottom)))
    return result


def _rgb_band(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16 bits: Pillow's own conversion would cut at 255
        gray = ((np.asarray(image).clip(0, 65535).astype(np.uint32) + 128) // 257).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def square(image: np.ndarray, size: int) -> np.ndarray:
    """Scale an image into a square with its proportions kept and the rest black.

    Args:
        image: uint8 array of shape (H, W, 3).
        size: pixels of a side.

    Returns:
        uint8 array of shape (size, size, 3), the image in its middle.
    """
    height, width = image.shape[:2]
    scale = size / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    if (new_height, new_width) != (height, width):
        # Averaging over areas keeps the chromatin's texture from aliasing where an image shrinks.
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = cv2.resize(image, (new_width, new_height), interpolation=method)
    if new_height == new_width:
        return image
    result = np.zeros((size, size, 3), np.uint8)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    result[top : top + new_height, left : left + new_width] = image
    return result


def cell_store_key(dataset: Dataset, size: int) -> str:
    """Name of the decoded cells, 64 hex digits: of the files' contents in order, the size, and the version."""
    text = "\n".join([f"{STORE_VERSION} {size}", *dataset.cells["sha256"]])
    return hashlib.sha256(text.encode()).hexdigest()


def cell_store(dataset: Dataset, size: int, progress: Progress | None = None) -> np.memmap:
    """All cells of a data set, decoded and scaled once, then read from the disk by every run and process.

    Returns:
        Read-only uint8 array of shape (N, size, size, 3), RGB; row i is ``dataset.cells.iloc[i]``.

    Raises:
        DataError: unreadable images (the first three are named), or a disk without room for the store.
    """
    path = settings.cache() / "cells" / f"{cell_store_key(dataset, size)}.npy"
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = _acquire(path.with_suffix(".lock"), progress)
        except OSError as error:
            raise DataError(
                f"The cache folder {settings.cache()} cannot be written ({error.strerror}): set LEUKODASH_CACHE to one "
                "that can."
            ) from error
        try:
            if not path.exists():
                _write_store(dataset, size, path, progress)
        finally:
            lock.release()
    return np.load(path, mmap_mode="r")


def _acquire(path: Path, progress: Progress | None) -> filelock.BaseFileLock:
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if progress:
            progress(0.0, "waiting for another run, which decodes the cells")
        lock.acquire()
    return lock


def _write_store(dataset: Dataset, size: int, path: Path, progress: Progress | None) -> None:
    count = len(dataset.cells)
    needed = count * size * size * 3 + 4096
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise DataError(
            f"Decoding {count:,} cells at {size}×{size} needs {needed / 1e9:.2f} GB in {path.parent}, and "
            f"{free / 1e9:.2f} GB is free: make room, or set LEUKODASH_CACHE to another disk."
        )
    temporary = path.with_suffix(".tmp")  # one name is enough: only the lock's holder writes it
    problems: list[str] = []
    try:
        # Written, not mapped: on a disk that fills up, a mapped file would end the process without a word.
        with temporary.open("wb") as stream:
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
            np.lib.format.write_array_header_1_0(stream, header)
            for done, cell in enumerate(_decode(dataset, size), 1):
                if isinstance(cell, str):
                    problems.append(cell)
                elif not problems:
                    stream.write(cell)
                if progress and (done % 64 == 0 or done == count):
                    progress(done / count, f"decoding cells, {done:,} of {count:,}")
        if problems:
            more = f" And {len(problems) - 3:,} more." if len(problems) > 3 else ""
            raise DataError(f"{len(problems):,} of {count:,} cells are unusable. {' '.join(problems[:3])}{more}")
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"The cells cannot be written to {path.parent} ({error.strerror}).") from error
    finally:
        temporary.unlink(missing_ok=True)


def _decode(dataset: Dataset, size: int) -> Iterator[np.ndarray | str]:
    """Each cell in order, or the sentence that says why it cannot be had."""

    def cell(file: str, sha256: str) -> np.ndarray | str:
        try:
            data = (dataset.root / file).read_bytes()
            if hashlib.sha256(data).hexdigest() != sha256:
                return f"'{printable(file)}' changed after it was indexed: start again."
            return np.ascontiguousarray(square(read_image(data, file), size))
        except ImageError as error:
            return str(error)
        except OSError as error:
            return f"'{printable(file)}' cannot be read ({error.strerror}): check the file."

    files, hashes = list(dataset.cells["file"]), list(dataset.cells["sha256"])
    threads = os.cpu_count() or 1
    batch = 64 * threads  # bounded, so that memory stays flat whatever the number of cells
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(files), batch):
            rows = slice(start, start + batch)
            yield from pool.map(cell, files[rows], hashes[rows])
