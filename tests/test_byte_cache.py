import gc

import numpy as np

from leukodash.byte_cache import ByteCache, OwnPart, remembered, size_of


def test_what_was_used_longest_ago_is_dropped_beyond_the_limit():
    cache = ByteCache(3 * size_of(bytes(1000)))
    for name in "abc":
        cache[name] = bytes(1000)
    assert cache["a"] == bytes(1000)
    cache["d"] = bytes(1000)
    assert list(cache) == ["c", "a", "d"]
    cache["whole"] = bytes(4000)
    assert list(cache) == ["c", "a", "d"]  # what is too large for the cache drops nothing


def test_a_replaced_or_deleted_value_no_longer_counts():
    cache = ByteCache(10_000)
    cache["a"] = bytes(5000)
    cache["a"] = bytes(100)
    cache["b"] = np.zeros(50)
    del cache["a"]
    assert cache.bytes == 400
    assert len(cache) == 1


def test_a_value_is_made_once_even_if_it_is_none():
    made = []
    cache = ByteCache(1000)
    for _ in range(2):
        assert remembered(cache, "x", lambda: made.append(1)) is None
    assert made == [1]


def test_nobody_finds_the_entries_of_an_own_part_and_they_go_with_it():
    whole = ByteCache(10_000)
    one, other = OwnPart(whole), OwnPart(whole)
    one["key"], other["key"], whole["key"] = "one", "other", "all"
    assert (one["key"], other["key"], whole["key"]) == ("one", "other", "all")
    assert list(one) == ["key"]
    del one
    gc.collect()
    assert len(whole) == 2
    assert other["key"] == "other"
    del other["key"]
    assert len(other) == 0


def test_own_parts_share_one_limit():
    whole = ByteCache(20_000)
    parts = [OwnPart(whole) for _ in range(50)]
    for part in parts:
        part["picture"] = bytes(5000)
    assert whole.bytes <= 20_000
    assert [len(part) for part in parts] == [0] * 47 + [1] * 3
