import numpy as np
import pytest
from made_runs import made_run

from leukodash import settings
from leukodash.data.dataset import load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.data.split import Split, make_split
from leukodash.errors import DataError
from leukodash.evaluation.simple_baselines import AREA, HISTOGRAM, KNN, SVM
from leukodash.runs.baseline_predictions import frozen_features, predict_baselines


@pytest.fixture
def run(tmp_path):
    dataset = load_dataset(make_demo(tmp_path / "data" / "demo", cells=96, subjects=12))
    cells = dataset.cells.assign(part=make_split(dataset.cells, Split(kind="subject"))).drop(columns="fold")
    return made_run(
        "vgg16", cells=cells, config={"data": str(dataset.root), "fingerprint": dataset.fingerprint, "input_size": 64}
    )


@pytest.fixture
def tested(run):
    """The run's test cells."""
    return run.split[run.split["part"] == "test"]


@pytest.fixture
def features(run):
    """The folder of the run's features."""
    folder = settings.cache() / "features" / "abc"
    folder.mkdir(parents=True)
    run.write("model.json", {**run.model, "features": "abc"})
    return folder


def test_the_area_of_generated_cells_separates_their_classes_in_the_order_that_was_asked_for(run, tested):
    answers, backward = (predict_baselines(run, files) for files in (tested["file"], tested["file"][::-1]))
    assert list(answers) == [AREA, HISTOGRAM]
    p, blast = answers[AREA].test[:, 0], (tested["label"] == "all").to_numpy()
    assert p[blast].mean() > p[~blast].mean()
    assert np.array_equal(answers[AREA].test[::-1], backward[AREA].test)


def test_frozen_features_in_the_cache_give_svm_and_neighbors(run, tested, features):
    labels = load_dataset(run.config.data).cells["label"] == "all"
    np.save(features / "view0-0.npy", np.random.default_rng(0).normal(size=(96, 5)) + 3 * labels.to_numpy()[:, None])
    answers = predict_baselines(run, tested["file"])
    assert list(answers) == [AREA, HISTOGRAM, SVM, KNN]
    assert ((answers[SVM].test[:, 0] > 0.5) == (tested["label"] == "all")).mean() > 0.9


def test_all_that_crosses_a_cut_is_pooled_in_its_order(run, features):
    maps = np.random.default_rng(0).normal(size=(96, 2, 2, 3)).astype(np.float32)
    np.save(features / "view0-10.npy", np.full((96, 1), 10, np.float32))
    np.save(features / "view0-2.npy", maps)
    np.save(features / "view1-0.npy", maps)
    found = frozen_features(run)
    assert np.allclose(found[:, :3], maps.mean(axis=(1, 2)), atol=1e-6)
    assert np.array_equal(found[:, 3:], np.full((96, 1), 10))


def test_a_data_set_that_lost_cells_is_named(run, tested):
    (load_dataset(run.config.data).root / tested["file"].iloc[0]).unlink()
    with pytest.raises(DataError, match="has changed since VGG16"):
        predict_baselines(run, tested["file"])
