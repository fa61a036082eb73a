import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from leukodash.config.presets import make_config
from leukodash.data.dataset import load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.data.images import cell_store, read_image, square
from leukodash.data.split import Split, make_split
from leukodash.errors import RunError
from leukodash.evaluation.novelty import FILE, Novelty, mean_over_positions


def cells(number, seed, width=200):
    """Return positive features whose variance is largest in three directions."""
    rng = np.random.default_rng(seed)
    ways = np.random.default_rng(99).normal(0, 0.3, (3, width))
    return np.abs(2 + rng.normal(size=(number, 3)) @ ways + rng.normal(0, 0.2, (number, width)))


@pytest.fixture(scope="module")
def novelty():
    return Novelty.fit(cells(600, 1), cells(300, 2))


def test_most_new_cells_are_accepted_and_other_images_and_broken_features_are_rejected(novelty):
    assert 0.95 <= np.mean(novelty.score(cells(2000, 3)) <= novelty.limit) < 1
    assert np.mean(novelty.score(cells(300, 2)) <= novelty.limit) == pytest.approx(0.99, abs=1 / 300)  # validation
    noise, spike, nothing = np.random.default_rng(4).uniform(0, 4, (50, 200)), np.eye(200)[:50], np.zeros((1, 200))
    for other in (noise, spike, nothing):
        assert (novelty.score(other) > novelty.limit).all()
    broken = cells(3, 9)
    broken[0, 5], broken[1, 7] = np.nan, np.inf
    assert list(novelty.score(broken) > novelty.limit) == [True, True, False]
    few = Novelty.fit(cells(12, 1), cells(4, 2))
    assert (few.score(noise) > few.limit).all()


def test_the_score_is_the_mahalanobis_distance_of_the_directions_of_highest_variance(novelty):
    from scipy.spatial.distance import mahalanobis

    directions = novelty.directions.astype(float)
    across = np.eye(200) - directions @ directions.T
    covariance = directions @ np.diag(novelty.spread) @ directions.T + novelty.rest * across
    some = cells(5, 5)
    unit = some / np.linalg.norm(some, axis=1, keepdims=True)
    distances = [mahalanobis(row, novelty.mean, np.linalg.inv(covariance)) for row in unit]
    assert novelty.score(some) == pytest.approx(distances, rel=1e-2)  # directions are stored in 16 bits
    assert novelty.score(3 * some) == pytest.approx(novelty.score(some))
    ways, _ = np.linalg.qr(np.random.default_rng(99).normal(0, 0.3, (3, 200)).T)
    share = np.linalg.norm(ways.T @ novelty.directions[:, :3].astype(float)) ** 2 / 3
    assert share > 0.95


def test_a_saved_model_scores_the_same_and_the_same_fit_writes_the_same_bytes_which_stay_few(novelty, tmp_path):
    novelty.save(tmp_path)
    loaded, written = Novelty.load(tmp_path), (tmp_path / FILE).read_bytes()
    assert loaded.limit == novelty.limit
    assert np.array_equal(loaded.score(cells(20, 7)), novelty.score(cells(20, 7)))
    Novelty.fit(cells(600, 1), cells(300, 2)).save(tmp_path)
    assert (tmp_path / FILE).read_bytes() == written
    Novelty.fit(cells(400, 1, width=2048), cells(100, 2, width=2048)).save(tmp_path)  # the widest network
    assert (tmp_path / FILE).stat().st_size < 300_000


def test_a_missing_file_gives_none_and_a_damaged_one_an_error(novelty, tmp_path):
    assert Novelty.load(tmp_path) is None
    novelty.save(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    for damaged in (b"", b"no archive", whole[: len(whole) // 2], whole[:-200] + bytes(200)):
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(RunError, match="cannot be read"):
            Novelty.load(tmp_path)


def test_flattened_feature_maps_are_averaged_over_positions(novelty):
    maps = np.random.default_rng(8).uniform(0, 1, (4, 3, 5, 200))
    assert mean_over_positions(maps.reshape(4, -1), 200) == pytest.approx(maps.mean(axis=(1, 2)))
    assert novelty.score(maps.reshape(4, -1)) == pytest.approx(novelty.score(maps.mean(axis=(1, 2))))


def test_identical_features_are_accepted_and_others_rejected():
    same = np.ones((20, 50))
    novelty = Novelty.fit(same, same)
    assert (novelty.score(same) <= novelty.limit).all()
    assert novelty.score(np.eye(50)[:3]).min() > novelty.limit
    dead = Novelty.fit(np.zeros((20, 50)), np.zeros((9, 50)))
    assert (dead.score(np.zeros((3, 50))) <= dead.limit).all()


@pytest.mark.slow
def test_a_finished_run_has_a_reproducible_novelty_file(tiny_run):
    run = tiny_run()
    novelty = Novelty.load(run.path)
    assert len(novelty.mean) == 256  # AlexNet's last feature maps
    assert (run.path / FILE).stat().st_mtime_ns <= (run.path / "metrics.json").stat().st_mtime_ns
    assert (run.path / FILE).read_bytes() == (tiny_run(seed=0).path / FILE).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("train_from", "pooling"), [("head", "blocks"), ("conv4", "blocks"), ("conv4", "flatten"), ("all", "average")]
)
def test_the_fit_sees_the_whole_networks_features_at_every_split_point(train_from, pooling, tmp_path):
    """Reference: all training and validation cells through the whole network in one call."""
    import keras

    from leukodash.models import build
    from leukodash.training import evaluate as results
    from leukodash.training.batches import Batches
    from leukodash.training.feature_store import Features

    dataset = load_dataset(make_demo(tmp_path / "demo", cells=48, subjects=8))
    config = make_config("quick", "alexnet", dataset, input_size=96, train_from=train_from, pooling=pooling)
    part, images = make_split(dataset.cells, config.split), cell_store(dataset, 96)
    model = build.build(config, 2, None)
    prefix, suffix = build.split_model(model, build.frozen_layer(config))
    suffix.compile(jit_compile=False)
    crossing = prefix and prefix.predict(images, verbose=0)
    stored = prefix and Features([crossing if isinstance(crossing, list) else [crossing]], True, 0.0)
    heard = []
    batches = Batches(config, stored or images, dataset, part)
    novelty = results.novelty(model, suffix, batches, lambda fraction, words: heard.append(fraction))

    pool = model.get_layer("pool")
    whole, before = (keras.Model(model.input, x).predict(images, verbose=0) for x in (pool.output, pool.input))
    maps = whole if pooling == "blocks" else before.mean(axis=(1, 2))
    expected = Novelty.fit(maps[part == "train"], maps[part == "validation"])
    assert novelty.mean == pytest.approx(expected.mean, abs=1e-5)
    assert novelty.limit == pytest.approx(expected.limit, rel=1e-2)
    assert novelty.score(whole) == pytest.approx(expected.score(maps), rel=1e-2)
    assert heard and max(heard) <= 1


@pytest.mark.real
@pytest.mark.slow
def test_a_frozen_mobilenet_accepts_cells_of_new_subjects_and_rejects_other_images(real_cnmc, real_weights):
    pytest.importorskip("skimage")
    from benchmarks.outsiders import outsiders
    from leukodash.models import build
    from leukodash.models.weights import find_weights

    dataset = load_dataset(real_cnmc)
    part = make_split(dataset.cells, Split(kind="subject"))
    config = make_config("quick", "mobilenet", dataset, input_size=128)
    pool = build.split_model(build.build(config, 2, find_weights(config.spec)), "pool")[0]

    def pooled(images):
        return pool.predict(np.stack([square(image, 128) for image in images]), verbose=0)

    cells = {}
    for name in ("train", "validation", "test"):
        files = dataset.cells.loc[part == name, "file"].sample(300, random_state=0)
        cells[name] = pooled([read_image(dataset.root / file) for file in files])
    novelty = Novelty.fit(cells["train"], cells["validation"])
    inside = novelty.score(cells["test"])
    assert np.mean(inside <= novelty.limit) >= 0.95
    for kind, images in outsiders(None).items():
        outside = novelty.score(pooled(images))
        assert roc_auc_score(np.repeat([0, 1], [len(inside), len(outside)]), [*inside, *outside]) >= 0.98, kind
        assert np.mean(outside <= novelty.limit) <= 0.02, kind
