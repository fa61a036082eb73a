"""The feature store: computed once, whole or not there, and never larger than it may be. Also views and augmenting."""

import errno
import threading
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from leukodash import settings
from leukodash.config.presets import make_config
from leukodash.errors import DataError

pytestmark = pytest.mark.slow


def ignore(fraction, message):
    pass


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (70, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def prefix():
    import keras

    x = keras.Input((8, 8, 3))
    return keras.Model(x, keras.layers.Conv2D(4, 3, dtype="float32")(x))


def compute(prefix, images, views=(0,), name="store", progress=ignore, waiting=ignore):
    from leukodash.training.feature_store import compute_features

    folder = settings.cache() / "features" / name
    return compute_features(prefix, lambda: images, folder, views, progress, waiting)


def test_the_eight_views_are_the_symmetries_of_a_square():
    from leukodash.training.feature_store import view

    image = np.arange(16).reshape(1, 4, 4, 1)
    turned = [np.rot90(image, k, axes=(1, 2)) for k in range(4)]
    expected = {array.tobytes() for array in [*turned, *(array[:, :, ::-1] for array in turned)]}
    assert {view(image, number).tobytes() for number in range(8)} == expected
    assert np.array_equal(view(image, 0), image)
    assert np.array_equal(view(image, 3), np.rot90(image, 2, axes=(1, 2)))


def test_stored_features_are_what_the_prefix_gives(prefix, images):
    from leukodash.training.feature_store import view

    features = compute(prefix, images, views=(0, 5))
    rows = np.array([3, 69, 0])
    assert np.allclose(features.batch(rows), prefix(images[rows]), atol=1e-3)
    turned = features.batch(rows, np.array([1, 0, 1]))
    assert np.allclose(turned[0], prefix(view(images[3:4], 5))[0], atol=1e-3)
    assert np.allclose(turned[1], prefix(images[69:70])[0], atol=1e-3)


def test_features_are_computed_once_and_a_missing_view_is_added(prefix, images):
    assert compute(prefix, images).computed
    assert not compute(prefix, images).computed
    assert compute(prefix, images, views=(0, 1)).computed
    assert not compute(prefix, images, views=(1,)).computed


def test_threads_that_ask_at_once_compute_once_and_the_others_hear_how_far_it_is(prefix, images):
    heard, computed, someone_heard = [], [], threading.Event()

    def hear(fraction, words):
        heard.append((fraction, words))
        someone_heard.set()

    def ask():
        features = compute(prefix, images, progress=lambda *_: someone_heard.wait(60), waiting=hear)
        computed.append(features.computed)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(computed) == [False] * 5 + [True]
    assert heard and all(0 <= fraction <= 1 and words for fraction, words in heard)


def test_a_computation_broken_off_leaves_nothing_that_is_read(prefix, images):
    def break_off(fraction, message):
        if fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute(prefix, images, progress=break_off)
    folder = settings.cache() / "features" / "store"
    assert not list(folder.glob("view*.npy"))
    assert compute(prefix, images).computed
    assert not [path for path in folder.glob(".*") if path.is_file()]


def test_a_kill_between_the_files_of_a_store_does_no_harm(prefix, images):
    whole = compute(prefix, images)
    folder = settings.cache() / "features" / "store"
    (folder / "ms_per_image").unlink()
    again = compute(prefix, images)
    assert again.computed and again.ms_per_image > 0
    assert np.array_equal(again.arrays[0][0], whole.arrays[0][0])


def test_bfloat16_features_are_stored_to_the_bit(images):
    import keras
    import ml_dtypes

    x = keras.Input((8, 8, 3))
    prefix = keras.Model(x, keras.layers.Conv2D(4, 3, dtype="mixed_bfloat16")(x))
    features = compute(prefix, images)
    assert features.arrays[0][0].dtype == ml_dtypes.bfloat16
    full = images[:32]
    exact = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(prefix.predict_on_batch(full), "float32")))
    assert np.array_equal(features.batch(np.arange(32)), exact)


def test_a_cut_with_two_tensors_keeps_both(images):
    import keras

    x = keras.Input((8, 8, 3))
    prefix = keras.Model(x, [keras.layers.Conv2D(2, 3)(x), keras.layers.AveragePooling2D(2)(x)])
    batch = compute(prefix, images).batch(np.array([1, 2]))
    assert [part.shape for part in batch] == [(2, 6, 6, 2), (2, 4, 4, 3)]


def test_the_least_recently_used_store_goes_first(prefix, images, monkeypatch):
    import os

    size = 70 * 6 * 6 * 4 * 4
    monkeypatch.setenv("LEUKODASH_CACHE_GB", str(2.5 * size / 1e9))
    for age, name in ((300, "old"), (200, "older-but-used"), (100, "young")):
        if name != "young":
            compute(prefix, images, name=name)
            folder = settings.cache() / "features" / name
            os.utime(folder, (folder.stat().st_mtime - age,) * 2)
    compute(prefix, images, name="young")
    assert sorted(path.name for path in (settings.cache() / "features").iterdir() if path.is_dir()) == [
        "older-but-used",
        "young",
    ]


def test_a_disk_without_room_is_said_before_anything_is_written(prefix, images, monkeypatch):
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    with pytest.raises(DataError, match="LEUKODASH_CACHE"):
        compute(prefix, images)


def test_a_cache_that_cannot_be_written_is_said_and_features_that_are_stored_are_read(prefix, images, monkeypatch):
    whole = compute(prefix, images)
    with monkeypatch.context() as patch:
        read_only = Mock(side_effect=OSError(errno.EROFS, "Read-only file system"))
        for name in ("touch", "mkdir", "write_bytes"):
            patch.setattr(Path, name, read_only)
        assert np.array_equal(compute(prefix, images).arrays[0][0], whole.arrays[0][0])
        with pytest.raises(DataError, match=r"cannot be stored in .* .Read-only file system.*LEUKODASH_CACHE"):
            compute(prefix, images, name="other")
    assert compute(prefix, images, name="other").computed


def test_augmenting_follows_its_seed_and_leaves_black_black(two_cells):
    from leukodash.training.augmentation import augment

    config = make_config(
        "quick", "mobilenet", two_cells, brightness=0.3, stain=0.3, rotation=90.0, flips="views", input_size=32
    )
    images = np.zeros((4, 32, 32, 3), np.uint8)
    images[:, 10:20, 8:22] = 120
    views = np.array([0, 3, 5, 7])
    once, again, other = (augment(images, views, config, [0, 1, seed]) for seed in (2, 2, 3))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)
    assert not once[:, :2, :2].any()


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [("constant", 0, [1, 1, 1, 1]), ("cosine", 0, [1, 0.8535534, 0.5, 0.1464466]), ("constant", 2, [0.5, 1, 1, 1])],
)
def test_the_learning_rate_follows_its_schedule(two_cells, schedule, warmup, expected):
    from leukodash.training.fit import learning_rate

    config = make_config(
        "quick", "mobilenet", two_cells, epochs=4, learning_rate=1.0, schedule=schedule, warmup_epochs=warmup
    )
    assert [learning_rate(config, step, 1) for step in range(4)] == pytest.approx(expected)
