"""Run folders that LeukoDash 0.1 wrote (tests/data/old_runs, schema 1): every reader opens them, and they resume."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from made_runs import made_run

from leukodash import settings
from leukodash.data.dataset import load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.errors import RunError
from leukodash.runs.leaderboard import compare_runs, fold_seeds, leaderboard
from leukodash.runs.migrations import SCHEMA
from leukodash.runs.run_folder import Run, list_runs
from leukodash.runs.run_report import run_card

OLD = Path(__file__).parent / "data" / "old_runs"
FINISHED, STOPPED, RANDOM_START = sorted(path.name for path in OLD.iterdir())


@pytest.fixture
def old():
    """The old run folders, in the test's own checkpoints folder."""
    shutil.copytree(OLD, settings.checkpoints())
    return {name: Run(settings.checkpoints() / name) for name in (FINISHED, STOPPED, RANDOM_START)}


@pytest.fixture
def demo(old, tmp_path):
    """The 24 generated cells that the old runs were trained on, where their configs point to."""
    dataset = load_dataset(make_demo(tmp_path / "data" / "demo", cells=24, subjects=6))
    for run in old.values():
        config = json.loads((run.path / "config.json").read_text())
        run.write("config.json", config | {"data": str(dataset.root), "fingerprint": dataset.fingerprint})
    return dataset


def test_old_folders_open_and_compare(old):
    assert [run.id for run in list_runs()] == [RANDOM_START, STOPPED, FINISHED]
    assert [run.state for run in old.values()] == ["finished", "stopped", "finished"]
    assert old[FINISHED].config.train_from == old[FINISHED].trained.train_from == "head"
    assert old[FINISHED].trained.weights_sha256 == "5" * 64
    board = leaderboard([old[FINISHED], old[RANDOM_START]])
    assert set(board["accuracy"]) == {run.metrics["accuracy"] for run in (old[FINISHED], old[RANDOM_START])}
    assert len(compare_runs([old[FINISHED], old[RANDOM_START]]).predictions) == 2


def test_a_random_start_is_trained_otherwise_than_it_was_asked_for(old):
    run = old[RANDOM_START]
    assert (run.config.weights, run.config.train_from, run.config.pooling) == ("imagenet", "head", "blocks")
    assert (run.trained.weights, run.trained.train_from, run.trained.pooling) == ("random", "all", "average")
    assert run.trained.weights_file is None


def test_the_card_of_a_random_start_lists_the_settings_that_were_trained(old):
    card = run_card(old[RANDOM_START])
    assert "- trained from: random weights" in card
    settings_ = card[card.index("## Settings") :]
    assert "- train_from: `all`" in settings_ and "- pooling: `average`" in settings_


def test_a_pretrained_and_a_random_start_are_not_two_seeds_of_one_recipe():
    made_run(seed=0, when="20260101-100000")
    by_chance = made_run(seed=1, when="20260101-110000", metrics={"random_start": True})
    by_chance.write("model.json", by_chance.model | {"random_start": True})
    assert list(fold_seeds(list_runs())["seeds"]) == [1, 1]
    made_run(seed=2, when="20260101-120000")
    assert sorted(fold_seeds(list_runs())["seeds"]) == [1, 2]


@pytest.mark.slow
def test_the_random_twin_of_a_random_start_has_the_layers_that_were_trained(old):
    from leukodash.explain.sanity_checks import _random_network

    run = old[RANDOM_START]
    twin = _random_network(SimpleNamespace(run=run, classes=("all", "hem"), precision="float32"), 1)
    assert twin.count_params() == run.model["parameters"]
    assert [layer.name for layer in twin.layers if layer.trainable and layer.weights] == run.model["trained_layers"]


@pytest.mark.slow
def test_an_old_run_classifies_as_it_did(old, demo, pretend_weights):
    from leukodash.data.images import read_image
    from leukodash.inference.classifier import load

    table = old[FINISHED].predictions
    served = load(old[FINISHED])
    assert served.views == 4
    answers = served.predict([read_image(demo.root / file) for file in table["file"]])
    assert np.abs(answers - table[["p_all", "p_hem"]].to_numpy()).max() < 0.02  # bfloat16 on another processor


@pytest.mark.slow
def test_an_old_run_resumes_and_ends_as_its_undisturbed_twin(old, demo, pretend_weights, train):
    run, twin = old[STOPPED], old[FINISHED]
    train(run)
    assert run.state == "finished", run.status
    assert run.metrics["epochs"] == 4
    assert np.abs(run.history[["loss", "val_loss"]] - twin.history[["loss", "val_loss"]]).max(axis=None) < 0.05
    assert np.abs(run.predictions[["p_all", "p_hem"]] - twin.predictions[["p_all", "p_hem"]]).max(axis=None) < 0.02
    assert run.model["schema"] == SCHEMA and run.trained.train_from == "head"


def test_a_run_of_a_newer_version_is_refused_with_a_sentence(old):
    config = json.loads((OLD / FINISHED / "config.json").read_text())
    old[FINISHED].write("config.json", config | {"schema": SCHEMA + 1, "nobody_knows": 1})
    with pytest.raises(RunError, match=r"made by a newer LeukoDash \(schema 3.*Update LeukoDash"):
        _ = old[FINISHED].config
    old[FINISHED].write("config.json", config | {"nobody_knows": 1})
    with pytest.raises(RunError, match="nobody_knows: there is no such setting"):
        _ = old[FINISHED].config
