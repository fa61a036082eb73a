"""The archives of published runs, which come with LeukoDash: one for each study, unpacked once into the cache folder.

An archive holds run folders as `studies.catalogue.share` writes them, and the tables of cells that they share. It is
a solid ``.tar.xz``: file names and labels of the same cells are stored once for all runs.
"""

import hashlib
import io
import lzma
import os
import shutil
import tarfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path, PurePath

from filelock import FileLock

from leukodash import settings
from leukodash.atomic_write import replacing, write_atomic
from leukodash.cache_folder import mark_used

SUFFIX = ".tar.xz"
THREADS = 3  # archives that are unpacked at once: the first page waits for them
MARK = ".published"  # a file beside the unpacked run folders

unpacked: set[str] = set()  # folders that are known to hold published runs: nothing in them changes
_damaged: dict[str, str] = {}  # SHA-256 of an archive that cannot be unpacked → what is wrong with it


def published_folders() -> tuple[list[Path], list[str]]:
    """Return the folders that hold the published runs, and a sentence on each archive that cannot be read."""
    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(_folder_or_problem, sorted(settings.published().glob(f"*{SUFFIX}"))))
    return [each for each in results if isinstance(each, Path)], [each for each in results if isinstance(each, str)]


def _folder_or_problem(archive: Path) -> Path | str:
    try:
        return _unpacked(archive)
    except (OSError, EOFError, lzma.LZMAError, tarfile.TarError) as error:
        return f"The published runs in '{archive.name}' cannot be read: {error}."


def is_published(run_folder: Path) -> bool:
    """Whether a run folder comes from an archive, and so must stay as it is."""
    folder = os.path.dirname(run_folder)  # noqa: PTH120  (asked for thousands of times on a page: a tenth of the time)
    if folder not in unpacked and (run_folder.parent / MARK).is_file():
        unpacked.add(folder)
    return folder in unpacked


def write_archive(path: Path, files: Mapping[str, bytes]) -> None:
    """Write an archive of files by their paths; the same files give the same bytes.

    Files of one name follow one another, which makes the archive smaller.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(files, key=lambda name: (PurePath(name).name, name)):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            archive.addfile(member, io.BytesIO(files[name]))
    write_atomic(path, buffer.getvalue())


def _unpacked(archive: Path) -> Path:
    """Return the folder in the cache that holds an archive's files. The first process to ask unpacks them."""
    info = archive.stat()
    digest = _sha256(archive, info.st_mtime_ns, info.st_size)
    folder = settings.cache() / "published" / digest[:16]
    if folder.is_dir():
        mark_used(folder)
        return folder
    if digest in _damaged:
        raise tarfile.ReadError(_damaged[digest])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            for leftover in folder.parent.glob(f".{folder.name}.*"):  # of a process that was killed
                shutil.rmtree(leftover, ignore_errors=True)
            try:
                with replacing(folder) as temporary:
                    with tarfile.open(archive, "r:xz") as content:
                        content.extractall(temporary, filter="data")
                    (temporary / MARK).touch()
            except (EOFError, lzma.LZMAError, tarfile.TarError) as error:
                _damaged[digest] = f"it is damaged ({error}). Install LeukoDash again"
                raise tarfile.ReadError(_damaged[digest]) from error
    return folder


@lru_cache(maxsize=64)
def _sha256(path: Path, mtime_ns: int, size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
