"""A cache with a limit in bytes, shared by threads: whatever visitors ask for, it does not grow beyond its limit."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """Values by key; the least recently used ones are dropped beyond the limit, but never the newest.

    Args:
        limit: returns the limit in bytes.
        size: returns the bytes of a value. It is asked again at every use, since values can grow.
    """

    def __init__(self, limit: Callable[[], int], size: Callable[[V], int]) -> None:
        self._limit, self._size = limit, size
        self._values: OrderedDict[K, V] = OrderedDict()
        self._making: dict[K, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return the value of a key; `make` makes it where there is none. Threads that ask at once make it once."""
        with self._lock:
            if key in self._values:
                return self._used(key)
            making = self._making.setdefault(key, threading.Lock())
        with making:
            try:
                with self._lock:
                    if key in self._values:
                        return self._used(key)
                self.put(key, value := make())
                return value
            finally:
                with self._lock:
                    self._making.pop(key, None)

    def put(self, key: K, value: V) -> None:
        """Store a value, or replace it."""
        with self._lock:
            self._values[key] = value
            self._used(key)

    def _used(self, key: K) -> V:
        """Note the use of a value, and drop others beyond the limit; returns the value."""
        self._values.move_to_end(key)
        total = sum(map(self._size, self._values.values()))
        while total > self._limit() and len(self._values) > 1:
            total -= self._size(self._values.popitem(last=False)[1])
        return self._values[key]

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values
