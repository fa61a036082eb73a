"""Read the images in a ZIP archive that may come from anyone, in memory: nothing is ever written to the disk.

What is read is bounded before it is read. A directory of millions of members is refused by counting its marks; a
member is unpacked no further than the size that it declares, and every declared size counts against the budget,
whether or not the member turns out well, so neither a bomb nor members that share their bytes cost more than that.
"""

import io
import re
import stat
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import NamedTuple

from leukodash import settings
from leukodash.data.dataset import Progress, printable
from leukodash.errors import ImageError

IMAGES = ("bmp", "png", "jpg", "jpeg", "tif", "tiff", "webp")
ARCHIVES = ("zip", "7z", "rar", "tar", "gz", "tgz", "bz2", "xz")
MAX_MEMBERS = 20_000  # each costs 1 KB before anything is unpacked
MAX_UNPACKED_MB = 500
MAX_PUBLIC_UNPACKED_MB = 50

_MEMBER_MARK = b"PK\x01\x02"  # begins each entry of a ZIP's directory
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)


class Unpacked(NamedTuple):
    """What came out of an archive.

    Attributes:
        files: (name, bytes) of each image; whether it is one, `images.read_image` will tell. The name is its path
            within the archive, made safe.
        faults: a sentence for each image that cannot be had.
        left_out: sentences on what was passed over: no images, or too much.
    """

    files: list[tuple[str, bytes]]
    faults: list[str]
    left_out: list[str]


def safe_name(name: str) -> str:
    """Return an untrusted file name as a short relative path: no drive, no way up, none of the odd characters.

    Names are shown and become names in exports; no file of this machine is ever opened by one.
    """
    parts = [part.strip() for part in re.split(r"[/\\]", name)]
    kept = [part for part in parts if part not in ("", ".", "..") and not re.fullmatch(r"[A-Za-z]:", part)]
    return printable("/".join(kept)) or "unnamed"


def unpack(
    data: bytes,
    name: str,
    most: int,
    most_bytes: int,
    member_bytes: int = settings.MAX_UPLOAD_MB * 10**6,
    progress: Progress | None = None,
) -> Unpacked:
    """Read the images of a ZIP archive, in its order.

    Hidden files and what operating systems add (``__MACOSX``, ``Thumbs.db``) are passed over.

    Args:
        data: the archive.
        name: what messages call it.
        most: images that are taken at most.
        most_bytes: bytes that are unpacked at most, all images together.
        member_bytes: bytes that one image may have unpacked.
        progress: hears the share that is done.

    Returns:
        What came out; see `Unpacked`.

    Raises:
        ImageError: the archive as a whole cannot be read.
    """
    name = printable(name)
    if data.count(_MEMBER_MARK) > MAX_MEMBERS:  # counted, not looked up: a forged directory may lie about its size
        raise ImageError(f"'{name}' holds over {MAX_MEMBERS:,} files: pack fewer into one ZIP.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [member for member in archive.infolist() if not member.is_dir() and not _of_a_system(member)]
            images = [member for member in members if _ending(member) in IMAGES]
            result = Unpacked([], [], _left_out(members, images, name, most))
            for done, member in enumerate(images[:most]):
                if progress:
                    progress(done / len(images[:most]), f"Unpacking '{name}', {done:,} of {len(images[:most]):,}")
                try:
                    title = _readable(member, name, member_bytes)
                    most_bytes -= member.file_size
                    if most_bytes < 0:
                        left = len(images[:most]) - done
                        too_large = f"'{name}' is too large unpacked: {left:,} of its images need a ZIP of their own."
                        result.left_out.append(too_large)
                        break
                    result.files.append((safe_name(member.filename), _read(archive, member, title)))
                except ImageError as error:
                    result.faults.append(str(error))
    except _DAMAGED as error:
        raise ImageError(f"'{name}' is no ZIP archive, or is damaged or cut short: pack or copy it again.") from error
    if not images:
        result.faults.append(f"'{name}' holds no images: expected BMP, PNG, JPEG, TIFF or WebP files in it.")
    return result


def _readable(member: zipfile.ZipInfo, name: str, member_bytes: int) -> str:
    """Return what messages call a member that may be unpacked; raises ImageError for any other."""
    title = f"'{safe_name(member.filename)}' in '{name}'"
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        raise ImageError(f"{title} is a link or a device, not an image: pack the image itself.")
    if member.flag_bits & 1:
        raise ImageError(f"{title} is locked with a password: pack it without one.")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # What else there is unpacks without a bound on memory, and hardly any program writes it.
        raise ImageError(f"{title} is packed in a rare way: pack it as a usual ZIP (stored or deflated).")
    if member.file_size > member_bytes:
        raise ImageError(f"{title} has over {member_bytes // 10**6:,} MB unpacked: make it smaller.")
    return title


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, title: str) -> bytes:
    try:
        with archive.open(member) as stream:
            return stream.read(member.file_size + 1)  # one more than there is, so that the checksum is looked at
    except _DAMAGED as error:
        raise ImageError(f"{title} is damaged: pack it again.") from error


def _of_a_system(member: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(member.filename.replace("\\", "/")).parts
    hidden = any(part.startswith(".") and part != ".." for part in parts)
    return hidden or "__MACOSX" in parts or parts[-1:] in (("Thumbs.db",), ("desktop.ini",))


def _ending(member: zipfile.ZipInfo) -> str:
    return PurePosixPath(member.filename.replace("\\", "/")).suffix[1:].lower()


def _left_out(members: list[zipfile.ZipInfo], images: list[zipfile.ZipInfo], name: str, most: int) -> list[str]:
    nested = [member for member in members if _ending(member) in ARCHIVES]
    others = [member for member in members if _ending(member) not in (*ARCHIVES, *IMAGES)]
    sentences = []
    if nested:
        sentences.append(f"'{name}' holds archives in it, {_some(nested)}: unpack them first.")
    if others:
        sentences.append(f"'{name}' holds what is no image and is left out: {_some(others)}.")
    if len(images) > most:
        sentences.append(f"'{name}' holds {len(images):,} images, and {most:,} of them are taken: send the rest later.")
    return sentences


def _some(members: list[zipfile.ZipInfo]) -> str:
    more = f" and {len(members) - 1:,} more" if members[1:] else ""
    return f"'{safe_name(members[0].filename)}'{more}"
