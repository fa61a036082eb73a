"""Atomic writes: to a hidden temporary name, flushed to the disk, then renamed into place.

A reader sees the old content or the new, never a part, and after a power cut too. What a killed process leaves behind
is removed by the next write in the same folder.
"""

import contextlib
import errno
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

FOREIGN_SECONDS = 24 * 3600  # after which a temporary of another machine counts as left behind
_HOST = os.uname().nodename
_TEMPORARY = re.compile(r"\..+\.tmp-(?P<host>.+)-(?P<pid>\d+)-\d+(\.\w+)?")


def write_atomic(path: Path, content: bytes | memoryview, durable: bool = True) -> None:
    """Write bytes so that a reader sees either the old file or the new one. Creates the folder if needed.

    Args:
        path: the file.
        content: its new content.
        durable: whether to wait until it is on the disk; not worth it for progress and whatever is easily made again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, durable) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a hidden name for a new file or folder; at the end of the block, it becomes `path`.

    If the block fails, what it wrote is removed. The folder around `path` must exist: nothing is written for a run
    whose folder was deleted. `durable`: see `write_atomic`.
    """
    temporary = temporary_name(path)
    if durable:
        sweep(path.parent)
    try:
        yield temporary
        if durable:
            _flush(temporary)
        temporary.replace(path)
    except BaseException:
        _remove(temporary)
        raise
    if durable:
        _flush_entry(path.parent)


def move(path: Path, target: Path) -> None:
    """Rename a file or folder, and wait until that is on the disk. Raises OSError where `target` has files."""
    path.replace(target)
    _flush_entry(path.parent)
    _flush_entry(target.parent)


def temporary_name(path: Path) -> Path:
    """Return a hidden name beside `path`, with its suffix, that no other process or thread uses."""
    return path.with_name(f".{path.stem}.tmp-{_HOST}-{os.getpid()}-{threading.get_ident()}{path.suffix}")


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders that killed processes left in a folder."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            found = _TEMPORARY.fullmatch(entry.name)
            if found and _is_left(entry, found["host"], int(found["pid"])):
                _remove(Path(entry))


def is_full(error: BaseException) -> bool:
    """Return whether an error says that the disk, or the user's share of it, is full. HDF5 says so in its text only."""
    number = getattr(error, "errno", None)
    return number in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error)


def _is_left(entry: os.DirEntry, host: str, pid: int) -> bool:
    if host != _HOST:
        return time.time() - entry.stat().st_mtime > FOREIGN_SECONDS
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # alive, another user's
    return False


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _flush(path: Path) -> None:
    """Wait until a file, or a folder with all that is in it, is on the disk."""
    if path.is_dir():
        for each in path.iterdir():
            _flush(each)
        _flush_entry(path)
    else:
        _fsync(path)


def _flush_entry(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; some network file systems cannot say."""
    with contextlib.suppress(OSError):
        _fsync(folder)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
