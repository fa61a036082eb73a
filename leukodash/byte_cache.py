"""A cache with a limit in bytes, which sessions can share or have to themselves."""

import dataclasses
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, MutableMapping
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
Cache = MutableMapping[Hashable, Any]


class ByteCache(Cache):
    """Cache that drops what was used longest ago beyond a number of bytes, but never the newest. Threads can share it.

    Args:
        limit: bytes of all values together, or what returns them.
        size: returns the bytes of a value. It is asked again at every use, since values can grow.
    """

    def __init__(self, limit: int | Callable[[], int], size: Callable[[Any], int] | None = None) -> None:
        self._limit, self._size, self.bytes = limit, size or size_of, 0
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.RLock()  # the end of an `OwnPart` may be noticed in the middle of a call

    def __getitem__(self, key: Hashable) -> Any:
        with self._lock:
            value, _ = self._entries[key]
            self[key] = value
            return value

    def __setitem__(self, key: Hashable, value: Any) -> None:
        size = self._size(value)
        with self._lock:
            self.bytes -= self._entries.pop(key, (None, 0))[1]
            self._entries[key] = value, size
            self.bytes += size
            limit = self._limit() if callable(self._limit) else self._limit
            while self.bytes > limit and len(self._entries) > 1:
                self.bytes -= self._entries.popitem(last=False)[1][1]

    def __delitem__(self, key: Hashable) -> None:
        with self._lock:
            self.bytes -= self._entries.pop(key)[1]

    def __iter__(self) -> Iterator[Hashable]:
        with self._lock:
            return iter(list(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def remember(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value of a key, or what `make` returns, which is kept. Threads that ask at once make it once."""
        with self._lock:
            if key in self._entries:
                return self[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            try:
                if key not in self._entries:
                    self[key] = value = make()
                    return value
                return self[key]
            finally:
                with self._lock:
                    self._making.pop(key, None)


class OwnPart(Cache):
    """Part of a `ByteCache` whose entries nobody else finds. They go when this object does."""

    def __init__(self, whole: ByteCache) -> None:
        self._whole, self._mark = whole, object()
        weakref.finalize(self, _forget, whole, self._mark)

    def __getitem__(self, key: Hashable) -> Any:
        return self._whole[self._mark, key]

    def __setitem__(self, key: Hashable, value: Any) -> None:
        self._whole[self._mark, key] = value

    def __delitem__(self, key: Hashable) -> None:
        del self._whole[self._mark, key]

    def __iter__(self) -> Iterator[Hashable]:
        return (key for _, key in _entries(self._whole, self._mark))

    def __len__(self) -> int:
        return len(_entries(self._whole, self._mark))

    def remember(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return a value as `ByteCache.remember` does."""
        return self._whole.remember((self._mark, key), make)


def size_of(value: Any) -> int:
    """Return the bytes that a value takes: an array, text, bytes, a number, or a tuple, list or data class of such."""
    if dataclasses.is_dataclass(value):
        value = list(vars(value).values())
    if isinstance(value, list | tuple):
        return sys.getsizeof(value) + sum(map(size_of, value))
    return value.nbytes if isinstance(value, np.ndarray) else sys.getsizeof(value)


def _entries(whole: ByteCache, mark: object) -> list[tuple]:
    return [key for key in whole if isinstance(key, tuple) and key[0] is mark]


def _forget(whole: ByteCache, mark: object) -> None:
    for key in _entries(whole, mark):
        whole.pop(key, None)
