"""A cache with a limit in bytes."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from made_runs import made_run

from leukodash.bounded_cache import BoundedCache
from leukodash.runs import run_folder


@pytest.fixture
def cache():
    return BoundedCache(lambda: 10, len)


def test_the_least_recently_used_goes_beyond_the_limit(cache):
    for key in "abc":
        cache.put(key, "1234")
        cache.get("a", lambda: "1234")
    assert [key for key in "abc" if key in cache] == ["a", "c"]


def test_the_newest_stays_even_if_it_is_larger_than_the_limit(cache):
    cache.put("small", "1")
    assert cache.get("large", lambda: 20 * "x") == 20 * "x"
    assert "large" in cache
    assert len(cache) == 1


def test_a_value_that_grows_makes_others_go(cache):
    growing = ["1"]
    cache.put("other", "12345")
    cache.put("growing", growing)
    growing += 9 * ["1"]
    assert cache.get("growing", list) is growing
    assert len(cache) == 1


def test_threads_that_ask_at_once_make_a_value_once(cache):
    made, all_ask = [], threading.Barrier(8)

    def make():
        made.append(1)
        return "made"

    def ask(_):
        all_ask.wait(20)
        return cache.get("key", make)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {"made"}
    assert len(made) == 1


def test_a_failure_is_not_kept(cache):
    with pytest.raises(ZeroDivisionError):
        cache.get("key", lambda: 1 / 0)
    assert cache.get("key", lambda: "made") == "made"


def test_tables_of_many_runs_stay_within_their_limit_and_are_read_again_when_they_change(monkeypatch):
    monkeypatch.setattr(run_folder, "TABLE_BYTES", 100_000)
    runs = [made_run("mobilenet", seed=seed) for seed in range(12)]
    tables = [run.predictions for run in runs]
    assert sum(size for _, _, size in run_folder._tables._values.values()) <= 100_000
    assert all(run.predictions.equals(table) for run, table in zip(runs, tables, strict=True))
    (runs[0].path / "predictions.csv").write_text("file,label,subject,part\na,all,1,test\n")
    assert list(runs[0].predictions["file"]) == ["a"]
