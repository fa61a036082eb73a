"""One limit for what is made in the cache folder: what was used longest ago goes first, never what is being made.

Decoded cells, features, programs, exported files and unpacked archives are *items*: a file or folder, and beside it a
``.lock`` that whoever makes it holds. Every item can be made again. Weights and the small files of the cache are not
items: they are kept.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from leukodash import settings
from leukodash.errors import DataError

FOLDERS = ("cells", "features", "programs", "exports", "published")
READ_SECONDS = 3600  # since its last use, an unpacked archive counts as in use: pages read its runs
RESERVE, RESERVED_SHARE = 200_000_000, 0.05  # bytes of the disk that stay free; of a small disk, its share
GONE = ".gone-"  # start of the name of an item that is being removed


@dataclass(frozen=True)
class Item:
    """Something in the cache folder that can be evicted.

    Attributes:
        path: its file or folder.
        size: its bytes.
        used: when it was last used, in Unix seconds.
    """

    path: Path
    size: int
    used: float


def cached_items() -> list[Item]:
    """Return everything that can be evicted, what was used longest ago first."""
    items = []
    for folder in FOLDERS:
        for path in _entries(settings.cache() / folder):
            if path.suffix not in (".lock", ".tmp") and not path.name.startswith("."):
                with contextlib.suppress(OSError):  # another process removes it
                    items.append(Item(path, _size(path), path.stat().st_mtime))
    return sorted(items, key=lambda item: item.used)


def mark_used(path: Path) -> None:
    """Note that an item is used now."""
    with contextlib.suppress(OSError):  # a cache that cannot be written evicts nothing either
        os.utime(path)


def make_room(place: Path, needed: int, what: str) -> None:
    """Evict other items until `needed` bytes more fit into the limit, and onto the disk.

    Args:
        place: where an item is about to be made. The caller holds its lock.
        needed: its bytes.
        what: a plural that names it in the error.

    Raises DataError if the disk has not enough space.
    """
    for leftover in _leftovers():
        _remove(leftover)
    items = cached_items()
    too_much = sum(item.size for item in items) + needed - settings.cache_limit_bytes()
    missing = max(too_much, needed - _free(place))
    for item in items:
        if missing > 0 and item.path != place and evict(item):
            missing -= item.size
    if needed > (free := _free(place)):
        raise DataError(
            f"{what} need {needed / 1e9:.2f} GB in '{settings.cache()}', and only {max(0, free) / 1e9:.2f} GB is free "
            "there: free some space, or set LEUKODASH_CACHE to another disk."
        )


def evict(item: Item) -> bool:
    """Remove an item; returns False for one that is being made or read, and stays.

    A memory map of it stays readable. Whoever opens it by name afterwards makes it again.
    """
    if item.path.parent.name == "published" and time.time() - item.used < READ_SECONDS:
        return False
    try:
        with FileLock(item.path.with_suffix(".lock")).acquire(blocking=False):
            # renamed first, so that a killed process leaves no item with missing files
            gone = item.path.with_name(f"{GONE}{item.path.name}")
            item.path.replace(gone)
            _remove(gone)
    except (Timeout, OSError):
        return False
    return True


def _free(place: Path) -> int:
    disk = shutil.disk_usage(place.parent)
    return disk.free - int(min(RESERVE, RESERVED_SHARE * disk.total))


def _leftovers() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from (path for path in _entries(settings.cache() / folder) if path.name.startswith(GONE))


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # nothing was made yet
        return []


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
