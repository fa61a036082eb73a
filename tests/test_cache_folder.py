"""One limit for the whole cache folder: what was used longest ago goes, and never what is in use."""

import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from filelock import FileLock

from leukodash import settings
from leukodash.cache_folder import GONE, cached_items, evict, make_room, mark_used
from leukodash.data.dataset import load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.data.images import cell_store
from leukodash.errors import DataError

MB = 1_000_000


def item(name, megabytes=1, age=0):
    """Make a file, or a folder with a file in it, that was last used `age` seconds ago."""
    path = settings.cache() / name
    file = path if path.suffix else path / "file"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(int(megabytes * MB)))
    os.utime(path, (time.time() - age,) * 2)
    return path


def left():
    return sorted(str(each.path.relative_to(settings.cache())) for each in cached_items())


@pytest.fixture
def limit(monkeypatch):
    return lambda megabytes: monkeypatch.setenv("LEUKODASH_CACHE_GB", str(megabytes / 1000))


def test_decoded_cells_of_many_sizes_stay_within_the_limit(tmp_path, limit):
    cells = load_dataset(make_demo(tmp_path / "demo", cells=40, subjects=8))
    limit(1.5)
    stores = [cell_store(cells, size) for size in (64, 80, 96, 64)]
    assert sum(each.size for each in cached_items()) <= 1.5 * MB
    assert [store.shape for store in stores] == [(40, size, size, 3) for size in (64, 80, 96, 64)]
    assert (stores[0] == stores[3]).all()  # a store that is open can be read after it was evicted


def test_all_kinds_share_the_limit_and_the_least_recently_used_goes_first(limit):
    item("features/a", age=500)
    item("cells/b.npy", age=400)
    item("programs/c-1.onnx", age=300)
    item("exports/d", age=200)
    item("published/e", age=7200)
    item("weights/f.h5", age=9000)
    mark_used(settings.cache() / "cells" / "b.npy")
    limit(4)
    make_room(settings.cache() / "features" / "new", 2 * MB, "The features")
    assert left() == ["cells/b.npy", "exports/d"]
    assert (settings.cache() / "weights" / "f.h5").exists()


def test_what_is_being_made_or_read_stays(limit):
    item("features/made", age=500)
    item("published/read", age=600)
    old = item("exports/old", age=100)
    limit(1)
    with FileLock(settings.cache() / "features" / "made.lock"):
        make_room(old.with_name("new"), 1 * MB, "Files")
    assert left() == ["features/made", "published/read"]


def test_a_kill_while_an_item_is_removed_leaves_none_that_is_incomplete(limit):
    whole = item("features/whole")
    whole.replace(whole.with_name(f"{GONE}whole"))
    assert left() == []
    make_room(whole, 1, "The features")
    assert list((settings.cache() / "features").iterdir()) == []


def test_room_on_a_short_disk_is_made_too_and_what_cannot_fit_is_said(monkeypatch):
    path = item("features/old", 3, age=10)
    disk = shutil.disk_usage(path)

    def usage(_):
        return disk._replace(total=100 * MB, free=(8 if path.exists() else 11) * MB)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    make_room(path.with_name("new"), 5 * MB, "The features")
    assert left() == []
    with pytest.raises(DataError, match=r"The features need 0\.01 GB .* set LEUKODASH_CACHE to another disk"):
        make_room(path.with_name("new"), 7 * MB, "The features")


def test_readers_get_their_cells_while_others_evict_them(tmp_path):
    cells = load_dataset(make_demo(tmp_path / "demo", cells=12, subjects=6))
    expected, done = np.array(cell_store(cells, 32)), threading.Event()

    def evict_all():
        count = 0
        while not done.is_set():
            count += sum(evict(each) for each in cached_items())
        return count

    def read(_):
        return all((cell_store(cells, 32) == expected).all() for _ in range(15))

    with ThreadPoolExecutor(4) as pool:
        evicted = pool.submit(evict_all)
        try:
            assert all(pool.map(read, range(3)))
        finally:
            done.set()
        assert evicted.result() > 0


def test_a_public_demo_has_a_smaller_limit(monkeypatch):
    own = settings.cache_limit_bytes()
    monkeypatch.setenv("LEUKODASH_PUBLIC", "1")
    assert settings.cache_limit_bytes() < own / 5
