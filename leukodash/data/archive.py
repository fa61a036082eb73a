"""Read the images of an untrusted ZIP archive in memory; nothing is written to disk.

All limits are checked before reading. An archive with millions of members is refused by counting the entry signatures.
No member is unpacked beyond its declared size, and every declared size counts against the limit, even if the member is
damaged, so neither zip bombs nor overlapping members can exceed it.
"""

import io
import re
import stat
import struct
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import NamedTuple

from leukodash import settings
from leukodash.data.dataset import printable
from leukodash.errors import ImageError
from leukodash.progress import Progress

IMAGES = ("bmp", "png", "jpg", "jpeg", "tif", "tiff", "webp")
ARCHIVES = ("zip", "7z", "rar", "tar", "gz", "tgz", "bz2", "xz")
MAX_MEMBERS = 20_000  # each takes 1 KB before anything is unpacked
MAX_UNPACKED_MB = 500

_ENTRY_SIGNATURE = b"PK\x01\x02"  # starts each entry of the central directory
_DAMAGED = (  # raised by zipfile on damaged archives; NotImplementedError is a RuntimeError
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
)


class Unpacked(NamedTuple):
    """The contents of an archive.

    Attributes:
        files: (name, bytes) of each file with an image extension, not yet decoded. The name is its sanitized path
            within the archive.
        faults: a sentence for each image that could not be unpacked.
        left_out: sentences on skipped files: not images, or over a limit.
    """

    files: list[tuple[str, bytes]]
    faults: list[str]
    left_out: list[str]


def safe_name(name: str) -> str:
    """Return an untrusted file name as a short relative path, without drive, parent folders or control characters.

    Names are displayed and used in exports, but never to open a file.
    """
    parts = [part.strip() for part in re.split(r"[/\\]", name)]
    safe = [part for part in parts if part not in ("", ".", "..") and not re.fullmatch(r"[A-Za-z]:", part)]
    return printable("/".join(safe)) or "unnamed"


def unpack(
    data: bytes,
    name: str,
    most: int,
    most_bytes: int,
    member_bytes: int = settings.MAX_UPLOAD_MB * 10**6,
    progress: Progress | None = None,
) -> Unpacked:
    """Read the images of a ZIP archive, in its order.

    Hidden files and those that operating systems add (``__MACOSX``, ``Thumbs.db``) are skipped.

    Args:
        data: the archive.
        name: its name in messages.
        most: maximum number of images.
        most_bytes: maximum unpacked size of all images together, bytes.
        member_bytes: maximum unpacked size of one image, bytes.
        progress: called with the fraction done, 0..1, and a text.

    Raises:
        ImageError: if the archive as a whole cannot be read.
    """
    name = printable(name)
    if data.count(_ENTRY_SIGNATURE) > MAX_MEMBERS:  # the number that the archive states may be forged
        raise ImageError(f"'{name}' contains over {MAX_MEMBERS:,} files: put fewer into one ZIP.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [
                member for member in archive.infolist() if not member.filename.endswith("/") and not _is_hidden(member)
            ]
            images = [member for member in members if _extension(member) in IMAGES]
            result = Unpacked([], [], _left_out(members, images, name, most))
            for done, member in enumerate(images[:most]):
                if progress:
                    progress(done / len(images[:most]), f"Unpacking '{name}', {done:,} of {len(images[:most]):,}")
                try:
                    title = _readable(member, name, member_bytes)
                    most_bytes -= member.file_size
                    if most_bytes < 0:
                        left = len(images[:most]) - done
                        too_large = f"'{name}' is too large unpacked: put {left:,} images into another ZIP."
                        result.left_out.append(too_large)
                        break
                    result.files.append((safe_name(member.filename), _read(archive, member, title)))
                except ImageError as error:
                    result.faults.append(str(error))
    except _DAMAGED as error:
        raise ImageError(
            f"'{name}' is not a ZIP archive, or is damaged or truncated: create or copy it again."
        ) from error
    if not images:
        result.faults.append(f"'{name}' contains no images: expected BMP, PNG, JPEG, TIFF or WebP files.")
    return result


def _readable(member: zipfile.ZipInfo, name: str, member_bytes: int) -> str:
    """Return the name in messages of a member that can be unpacked; raise ImageError for any other."""
    title = f"'{safe_name(member.filename)}' in '{name}'"
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        raise ImageError(f"{title} is a link or a device, not an image: add the image itself.")
    if member.flag_bits & 1:
        raise ImageError(f"{title} is encrypted: create the ZIP without a password.")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Other methods are rare, and Python unpacks them without a memory limit.
        raise ImageError(f"{title} uses a rare compression method: create an ordinary ZIP (stored or deflated).")
    if member.file_size > member_bytes:
        raise ImageError(f"{title} is over {member_bytes // 10**6:,} MB unpacked: make it smaller.")
    return title


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, title: str) -> bytes:
    try:
        with archive.open(member) as stream:
            return stream.read(member.file_size + 1)  # one byte more than the size, so that the checksum is verified
    except _DAMAGED as error:
        raise ImageError(f"{title} is damaged: create the ZIP again.") from error


def _is_hidden(member: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(member.filename.replace("\\", "/")).parts
    hidden = any(part.startswith(".") and part != ".." for part in parts)
    return hidden or "__MACOSX" in parts or parts[-1:] in (("Thumbs.db",), ("desktop.ini",))


def _extension(member: zipfile.ZipInfo) -> str:
    return PurePosixPath(member.filename.replace("\\", "/")).suffix[1:].lower()


def _left_out(members: list[zipfile.ZipInfo], images: list[zipfile.ZipInfo], name: str, most: int) -> list[str]:
    nested = [member for member in members if _extension(member) in ARCHIVES]
    others = [member for member in members if _extension(member) not in (*ARCHIVES, *IMAGES)]
    sentences = []
    if nested:
        sentences.append(f"'{name}' contains other archives, {_some(nested)}: unpack them first.")
    if others:
        sentences.append(f"'{name}' contains files that are not images and were skipped: {_some(others)}.")
    if len(images) > most:
        sentences.append(
            f"'{name}' contains {len(images):,} images: the first {most:,} were used, upload the rest later."
        )
    return sentences


def _some(members: list[zipfile.ZipInfo]) -> str:
    more = f" and {len(members) - 1:,} more" if members[1:] else ""
    return f"'{safe_name(members[0].filename)}'{more}"
