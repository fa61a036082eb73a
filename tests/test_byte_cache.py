import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from made_runs import made_run

from leukodash.byte_cache import ByteCache, OwnPart, size_of
from leukodash.runs import run_folder


def test_what_was_used_longest_ago_is_dropped_beyond_the_limit():
    cache = ByteCache(3 * size_of(bytes(1000)))
    for name in "abc":
        cache[name] = bytes(1000)
    assert cache["a"] == bytes(1000)
    cache["d"] = bytes(1000)
    assert list(cache) == ["c", "a", "d"]
    cache["whole"] = bytes(4000)
    assert list(cache) == ["whole"]  # the newest stays


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
        assert cache.remember("x", lambda: made.append(1)) is None
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


def test_a_value_that_grows_makes_others_go():
    cache = ByteCache(lambda: 10, len)
    growing = ["1"]
    cache["other"] = "12345"
    cache["growing"] = growing
    growing += 9 * ["1"]
    assert cache.remember("growing", list) is growing
    assert len(cache) == 1


def test_threads_that_ask_at_once_make_a_value_once():
    cache = ByteCache(lambda: 10, len)
    made, all_ask = [], threading.Barrier(8)

    def make():
        made.append(1)
        return "made"

    def ask(_):
        all_ask.wait(20)
        return cache.remember("key", make)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {"made"}
    assert len(made) == 1


def test_a_failure_is_not_kept():
    cache = ByteCache(lambda: 10, len)
    with pytest.raises(ZeroDivisionError):
        cache.remember("key", lambda: 1 / 0)
    assert cache.remember("key", lambda: "made") == "made"


def test_tables_of_many_runs_stay_within_their_limit_and_are_read_again_when_they_change(monkeypatch):
    monkeypatch.setattr(run_folder, "TABLE_BYTES", 100_000)
    runs = [made_run("mobilenet", seed=seed) for seed in range(12)]
    tables = [run.predictions for run in runs]
    assert run_folder._tables.bytes <= 100_000
    assert all(run.predictions.equals(table) for run, table in zip(runs, tables, strict=True))
    (runs[0].path / "predictions.csv").write_text("file,label,subject,part\na,all,1,test\n")
    assert list(runs[0].predictions["file"]) == ["a"]
