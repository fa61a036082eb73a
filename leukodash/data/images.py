"""Decode and validate images; store the decoded cells of a data set in one memory-mapped file."""

import contextlib
import hashlib
import io
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import filelock
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import STRIPOFFSETS, TILELENGTH, TILEOFFSETS, TILEWIDTH, TiffImageFile

from leukodash import settings
from leukodash.cache_folder import make_room, mark_used
from leukodash.data.dataset import Dataset, printable
from leukodash.errors import DataError, ImageError
from leukodash.progress import Progress

FORMATS = ("BMP", "PNG", "JPEG", "TIFF", "WEBP")
STORE_VERSION = 1  # increase it whenever the same files would give other pixels
MIN_SIDE = 8  # pixels
MAX_PUBLIC_PIXELS = 16_000_000  # decoding takes up to 20 bytes per pixel; a public host has 1 GB in all
MAX_SLOW_PIXELS = 25_000_000  # of a WebP or progressive JPEG, which take twice as much memory as the others
MAX_RLE_PIXELS = 4_000_000  # of a compressed BMP, which Pillow decodes in Python
MAX_SCANS = 100  # of a JPEG; cameras and editors write at most 10, and each costs one pass over the image
MAX_SCANNED_PIXELS = 500_000_000  # pixels times scans
MAX_READS, MAX_HEADER_BYTES = 400_000, 32 * 2**20  # by Pillow from one file, which bounds the work in Python
MAX_TAGS, MAX_VALUES = 4_000, 100_000  # of a TIFF, and of one tag: a list of strips takes 350 bytes for each
MAX_TILE_PIXELS = 4_000_000  # of a TIFF's tiles, which are decoded whole, whatever the image's size
BAND = 2**20  # pixels converted at a time, which limits the memory for temporary copies of a large image

Source = Path | tuple[str, bytes]  # an image file, or the name and bytes of an upload


class Sample(tuple[str, bytes]):
    """Name and bytes of a picture made from one on this machine: no upload, so that sessions can share its answers."""


_LARGE = threading.Lock()  # one image of more than a band is decoded at a time, which limits memory

_OURS = (b"BM", b"\x89PNG", b"\xff\xd8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # signatures of `FORMATS`, except WebP
_OTHERS = {  # signatures of files that are mistaken for images
    b"GIF8": "a GIF",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a ZIP archive or an Office document",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x1f\x8b": "a gzip archive",
    b"8BPS": "a Photoshop document",
    b"\0\0\1\0": "a Windows icon",
    b"<": "an HTML, SVG or XML file",
    b"{": "a JSON file",
}
_PHONES = {b"heic": "a HEIC photograph", b"heix": "a HEIC photograph", b"mif1": "a HEIF photograph", b"avif": "an AVIF"}

_DAMAGED = (  # raised by Pillow on damaged files
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
    """Decode a BMP, PNG, JPEG, TIFF or WebP image, or the first frame of several.

    Gray and palette images are converted to RGB and 16 bits to 8. Transparency is composited on black, the background
    of segmented cells. The EXIF orientation is applied.

    Args:
        source: the file or its bytes.
        name: its name in messages; default is the file name.

    Returns:
        uint8 array of shape (H, W, 3), RGB.

    Raises:
        ImageError: if it is not an image, damaged, truncated, smaller than ``MIN_SIDE`` on a side, or larger than
            ``settings.MAX_IMAGE_PIXELS`` (checked in the header, before decoding).
    """
    name = printable(name or (source.name if isinstance(source, Path) else "the image"))
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise ImageError(f"'{name}' cannot be read ({error.strerror}): check the file.") from error
    # OpenCV would take 0.7 ms for a 320×320 WebP and 0.6 ms for a 450×450 BMP, Pillow takes 1.0 and 0.8 ms (one
    # thread). For a third of a second per thousand cells, once, it handles transparency, CMYK and 16 bits correctly.
    with _opened(data, name) as image:
        width, height = image.size
        with _LARGE if width * height > BAND else contextlib.nullcontext():
            ImageOps.exif_transpose(image, in_place=True)
            return _rgb(image, name)


def has_more_frames(data: bytes) -> bool:
    """Return whether an image has several frames or pages, of which `read_image` reads the first. Decodes none."""
    try:
        with _opened(data, "") as image:
            return image.format in ("PNG", "TIFF", "WEBP") and getattr(image, "is_animated", False)
    except ImageError:
        return False


class _Reader(io.BytesIO):
    """The bytes of an untrusted image. Pillow may read only so often: some files make it read each byte by itself."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads_left, self.bytes_left = MAX_READS, float(MAX_HEADER_BYTES)

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.reads_left -= 1
        self.bytes_left -= len(found)
        if self.reads_left < 0 or self.bytes_left < 0:
            raise OSError("This image has too many parts, or too much before its pixels.")
        return found


@contextlib.contextmanager
def _opened(data: bytes, name: str) -> Iterator[Image.Image]:
    """Open an image whose header is within all limits, without decoding it. Raises ImageError, in the block too."""
    if not data:
        raise ImageError(f"'{name}' is empty: expected a BMP, PNG, JPEG, TIFF or WebP image.")
    most = MAX_PUBLIC_PIXELS if settings.public() else settings.MAX_IMAGE_PIXELS
    reader = _Reader(data)
    if data.startswith(b"RIFF"):  # of a WebP, Pillow reads everything
        reader.bytes_left = float("inf")
    try:
        if data.startswith((b"II", b"MM")) and _most_values(data) > MAX_VALUES:
            raise ImageError(_damaged(name))
        with Image.open(reader, formats=FORMATS) as image:
            reader.bytes_left = float("inf")
            _check(image, data, name, most)
            yield image
    except UnidentifiedImageError as error:
        if data.startswith(_OURS):
            raise ImageError(_damaged(name)) from error
        kind = _kind(data)
        raise ImageError(f"'{name}' is {kind or 'not an image'}: expected BMP, PNG, JPEG, TIFF or WebP.") from error
    except Image.DecompressionBombError as error:  # Pillow's own limit is 179 million
        raise ImageError(
            f"'{name}' claims to have far more pixels than the limit of {most // 10**6} million: crop or shrink it."
        ) from error
    except _DAMAGED as error:
        raise ImageError(_damaged(name)) from error


def _check(image: Image.Image, data: bytes, name: str, most: int) -> None:
    """Raise ImageError for an image that is too large or too small, or whose decoding would be slow."""
    width, height = image.size
    pixels, scans = width * height, 1
    if data.startswith(b"\xff\xd8"):
        scans = data.count(b"\xff\xda")
    slow = image.format == "WEBP" or "progressive" in image.info
    limit = min(most, MAX_SLOW_PIXELS) if slow else most
    if pixels > limit:
        which = "" if limit == most else " for a WebP or progressive JPEG"
        raise ImageError(
            f"'{name}' has {width:,} × {height:,} pixels, over the limit of {limit // 10**6} million{which}: crop or "
            "shrink it."
        )
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            f"'{name}' has {width:,} × {height:,} pixels, but a cell needs {MIN_SIDE} or more per side: use "
            "a larger image."
        )
    if scans > MAX_SCANS or (scans > 1 and scans * pixels > MAX_SCANNED_PIXELS):
        count = f"over {MAX_SCANS}" if scans > MAX_SCANS else f"{scans}"
        raise ImageError(f"'{name}' is a JPEG with {count} scans, which is slow to decode: save it again.")
    if image.format == "BMP" and image.info.get("compression") in (1, 2) and pixels > MAX_RLE_PIXELS:
        raise ImageError(f"'{name}' is a large compressed BMP, which is slow to decode: save it as PNG.")
    if isinstance(image, TiffImageFile):
        tile = [image.tag_v2.get(tag, 0) for tag in (TILEWIDTH, TILELENGTH)]
        if not all(isinstance(side, int) for side in tile) or tile[0] * tile[1] > MAX_TILE_PIXELS:
            raise ImageError(_damaged(name))


def _most_values(data: bytes) -> int:
    """Return the length of the longest list of numbers in a TIFF's first directory."""
    order, big = "<" if data.startswith(b"II") else ">", data[2:3] == b"+"
    most, step = 0, 20 if big else 12
    try:
        (start,) = struct.unpack_from(f"{order}{'Q' if big else 'L'}", data, 8 if big else 4)
        (tags,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, start)
        for number in range(min(tags, MAX_TAGS)):
            at = start + (8 if big else 2) + step * number
            tag, kind, count = struct.unpack_from(f"{order}HH{'Q' if big else 'L'}", data, at)
            if kind not in (1, 2, 7) or tag in (STRIPOFFSETS, TILEOFFSETS):  # the others are bytes and texts
                most = max(most, count)
    except struct.error:  # cut off: Pillow uses the tags before
        return most
    return most if tags <= MAX_TAGS else MAX_VALUES + 1


def _damaged(name: str) -> str:
    return f"'{name}' is damaged, truncated or of a rare type: save it again, preferably as PNG."


def _kind(data: bytes) -> str:
    """Return the type of a file that is in none of `FORMATS`, from its signature; empty if unknown."""
    if data[4:8] == b"ftyp":
        return _PHONES.get(data[8:12], "a video")
    beginning = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((kind for start, kind in _OTHERS.items() if beginning.startswith(start)), "")


def _rgb(image: Image.Image, name: str) -> np.ndarray:
    if image.mode == "F" or (image.mode == "I" and image.getextrema()[1] > 65535):  # type: ignore[operator]  # a pair of numbers in this mode
        raise ImageError(f"'{name}' has 32 bits per channel: save it with 8 or 16.")
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
    if image.mode.startswith("I"):  # 16 bits: Pillow's own conversion would clip at 255
        gray = ((np.asarray(image).clip(0, 65535).astype(np.uint32) + 128) // 257).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def square(image: np.ndarray, size: int) -> np.ndarray:
    """Scale an image to fit into a square, keeping its aspect ratio and padding with black.

    Args:
        image: uint8 array of shape (H, W, 3).
        size: pixels per side.

    Returns:
        uint8 array of shape (size, size, 3) with the image in the center.
    """
    height, width = image.shape[:2]
    scale = size / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    if (new_height, new_width) != (height, width):
        # Area averaging avoids aliasing of the chromatin texture when shrinking.
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = cv2.resize(image, (new_width, new_height), interpolation=method)
    if new_height == new_width:
        return image
    result = np.zeros((size, size, 3), np.uint8)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    result[top : top + new_height, left : left + new_width] = image
    return result


def cell_store_key(dataset: Dataset, size: int) -> str:
    """Return the key of a cell store, 64 hex digits: a hash of the files in order, the size and the version."""
    text = "\n".join([f"{STORE_VERSION} {size}", *dataset.cells["sha256"]])
    return hashlib.sha256(text.encode()).hexdigest()


def cell_store(dataset: Dataset, size: int, progress: Progress | None = None) -> np.memmap:
    """Return all cells of a data set, decoded and scaled once into a file that every run and process maps.

    Args:
        dataset: the data set.
        size: pixels per side.
        progress: called with the fraction done, 0..1, and a text.

    Returns:
        Read-only uint8 array of shape (N, size, size, 3), RGB; row i is ``dataset.cells.iloc[i]``.

    Raises:
        DataError: if images cannot be read (the first three are named) or the disk is too small.
    """
    path = settings.cache() / "cells" / f"{cell_store_key(dataset, size)}.npy"
    while True:
        if not path.exists():
            _make_store(dataset, size, path, progress)
        mark_used(path)
        with contextlib.suppress(FileNotFoundError):  # another process has just evicted it
            return np.load(path, mmap_mode="r")


def _make_store(dataset: Dataset, size: int, path: Path, progress: Progress | None) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _acquire(path.with_suffix(".lock"), progress)
    except OSError as error:
        raise DataError(
            f"The cache folder {settings.cache()} is not writable ({error.strerror}): set LEUKODASH_CACHE to "
            "another folder."
        ) from error
    try:
        if not path.exists():
            _write_store(dataset, size, path, progress)
    finally:
        lock.release()


def _acquire(path: Path, progress: Progress | None) -> filelock.BaseFileLock:
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if progress:
            progress(0.0, "waiting for another run, which is decoding the cells")
        lock.acquire()
    return lock


def _write_store(dataset: Dataset, size: int, path: Path, progress: Progress | None) -> None:
    count = len(dataset.cells)
    make_room(path, count * size * size * 3 + 4096, f"{count:,} cells at {size}×{size} pixels")
    temporary = path.with_suffix(".tmp")  # a fixed name is safe, as only the holder of the lock writes it
    problems: list[str] = []
    try:
        # Written, not mapped: if the disk fills up, writing to a mapped file would kill the process.
        with temporary.open("wb") as stream:
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
            np.lib.format.write_array_header_1_0(stream, header)
            for done, cell in enumerate(_decode(dataset, size), 1):
                if isinstance(cell, str):
                    problems.append(cell)
                elif not problems:
                    stream.write(cell.data)
                if progress and (done % 64 == 0 or done == count):
                    progress(done / count, f"decoding cells, {done:,} of {count:,}")
            stream.flush()
            os.fsync(stream.fileno())
        if problems:
            more = f" And {len(problems) - 3:,} more." if len(problems) > 3 else ""
            raise DataError(f"{len(problems):,} of {count:,} cells cannot be used. {' '.join(problems[:3])}{more}")
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"The cells cannot be written to {path.parent} ({error.strerror}).") from error
    finally:
        temporary.unlink(missing_ok=True)


def _decode(dataset: Dataset, size: int) -> Iterator[np.ndarray | str]:
    """Yield each cell in order, or a sentence that says why it cannot be used."""

    def cell(file: str, sha256: str) -> np.ndarray | str:
        try:
            data = (dataset.root / file).read_bytes()
            if hashlib.sha256(data).hexdigest() != sha256:
                return f"'{printable(file)}' changed after it was indexed: try again."
            return np.ascontiguousarray(square(read_image(data, file), size))
        except ImageError as error:
            return str(error)
        except OSError as error:
            return f"'{printable(file)}' cannot be read ({error.strerror}): check the file."

    files, hashes = list(dataset.cells["file"]), list(dataset.cells["sha256"])
    threads = os.cpu_count() or 1
    batch = 64 * threads  # bounded, so that memory does not grow with the number of cells
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(files), batch):
            rows = slice(start, start + batch)
            yield from pool.map(cell, files[rows], hashes[rows])
