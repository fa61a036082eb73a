"""Reading files that may be damaged: within a size, and never a folder or a pipe. Waiting processes import it."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class DamagedError(Exception):
    """A file that cannot be used; the message says what is wrong with it, as in "it is empty"."""


def read_bounded(path: Path, most: int) -> bytes:
    """Return the content of a file of 1 to `most` bytes. Raises DamagedError for anything else."""
    return with_bounded(path, most, _whole)


def check_bounded(path: Path, most: int) -> None:
    """Raise DamagedError unless this is a file of 1 to `most` bytes."""
    with_bounded(path, most, lambda file, size: None)


def with_bounded(path: Path, most: int, read: Callable[[int, int], T]) -> T:
    """Return what `read` gives for the descriptor and size of a file. Raises DamagedError as `read_bounded` does."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would block
        try:
            info = os.fstat(file)
            if not stat.S_ISREG(info.st_mode):
                raise DamagedError("it is not a file")
            if info.st_size == 0:
                raise DamagedError("it is empty")
            if info.st_size > most:
                raise DamagedError(f"it has {info.st_size / 1e6:,.0f} MB, more than such a file can have")
            return read(file, info.st_size)
        finally:
            os.close(file)
    except FileNotFoundError as error:
        raise DamagedError("it is missing") from error
    except OSError as error:
        raise DamagedError(f"it cannot be read ({error.strerror})") from error


def _whole(file: int, size: int) -> bytes:
    parts = []
    while size > 0 and (part := os.read(file, size)):  # one read gives at most 2 GB, and less where the file was cut
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
