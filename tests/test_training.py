"""A run from its config to its results: features once, epochs on the suffix, exact resuming, honest evaluation."""

import errno
import os
import re
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from waiting import until

from leukodash.config.presets import make_config
from leukodash.data.dataset import load_dataset
from leukodash.data.images import cell_store
from leukodash.errors import RunError, WeightsError
from leukodash.evaluation.cell_area import cell_area, stratified_auc
from leukodash.evaluation.statistics import groups
from leukodash.jobs import launch as jobs
from leukodash.runs.run_files import HISTORY_COLUMNS
from leukodash.runs.run_folder import create_run

pytestmark = pytest.mark.slow


def same_results(a, b):
    """Whether two runs have the same history (but for seconds), weights, predictions and novelty, to the bit."""
    import h5py

    with h5py.File(a.path / "trained.weights.h5") as one, h5py.File(b.path / "trained.weights.h5") as other:
        places = []
        one.visit(places.append)
        values = [place for place in places if isinstance(one[place], h5py.Dataset)]
        weights = all(np.array_equal(one[place][()], other[place][()]) for place in values)
    histories = [run.history.drop(columns="seconds") for run in (a, b)]
    novelty = [(run.path / "novelty.npz").read_bytes() for run in (a, b)]
    answers = a.predictions.equals(b.predictions)
    return weights and answers and histories[0].equals(histories[1]) and novelty[0] == novelty[1]


def test_a_run_ends_with_every_file_of_the_design_and_scikit_learns_metrics_of_its_predictions(
    pretend_weights, train, demo
):
    run = train()
    assert run.state == "finished"
    assert tuple(run.history.columns) == HISTORY_COLUMNS
    assert list(run.history["epoch"]) == [1, 2, 3]
    assert set(run.split["part"]) == {"train", "validation", "test"}
    assert list(run.split["sha256"]) == list(demo.cells["sha256"])
    assert set(run.predictions["part"]) == {"validation", "test"}
    assert np.allclose(run.predictions[["p_all", "p_hem"]].sum(axis=1), 1)
    assert run.trained.weights_sha256 == "5" * 64
    assert run.model["trained_layers"] == ["logits"]
    assert (run.path / "trained.weights.h5").stat().st_size < 20_000
    assert not run.metrics["random_start"] and run.metrics["generated"]
    assert not run.steps.empty
    test = run.predictions[run.predictions["part"] == "test"]
    is_blast = test["label"] == "all"
    assert run.metrics["n"] == len(test)
    assert run.metrics["accuracy"] == pytest.approx(accuracy_score(is_blast, test["p_all"] > 0.5))
    assert run.metrics["roc_auc"] == pytest.approx(roc_auc_score(is_blast, test["p_all"]))
    place = demo.cells.reset_index().set_index("file").loc[test["file"], "index"]
    areas = cell_area(cell_store(demo, run.trained.input_size)[place.to_numpy()])
    of = stratified_auc(areas, test["p_all"].to_numpy(), is_blast.to_numpy(), groups(test["subject"], len(test))[0])
    assert run.metrics["stratified_auc"] == pytest.approx(of[0])
    assert run.metrics["stratified_auc_interval"] == pytest.approx(of[1])


def test_the_weights_are_those_of_the_lowest_validation_loss(pretend_weights, train):
    run = train(epochs=60, learning_rate=0.1)  # too fast and too long, so that the last epoch is not the best
    best = run.history.loc[run.history["val_loss"].idxmin()]
    assert run.metrics["best_epoch"] == best["epoch"] < 60
    validation = run.predictions[run.predictions["part"] == "validation"]
    loss = log_loss(validation["label"] == "all", validation[["p_hem", "p_all"]].to_numpy())
    assert loss == pytest.approx(best["val_loss"], rel=1e-3)


def test_a_run_in_float16_learns_what_float32_learns_with_its_loss_scaled(pretend_weights, train, monkeypatch):
    import keras

    from leukodash.training import fit

    compiled = []
    real = fit.compile_suffix
    monkeypatch.setattr(fit, "compile_suffix", lambda suffix, *rest: compiled.append(suffix) or real(suffix, *rest))
    short, exact = (
        train(train_from="conv5", precision=name, epochs=2, schedule="cosine") for name in ("float16", "float32")
    )
    assert [isinstance(suffix.optimizer, keras.optimizers.LossScaleOptimizer) for suffix in compiled] == [True, False]
    assert np.allclose(short.history["loss"], exact.history["loss"], rtol=0.05)
    assert np.allclose(short.history["learning_rate"], exact.history["learning_rate"])


def test_the_same_seed_gives_the_same_run_and_another_seed_another_from_the_same_features(pretend_weights, train):
    runs = first, second, other = train(), train(), train(seed=1)
    assert [run.metrics["features_computed"] for run in runs] == [True, False, False]
    assert same_results(first, second)
    assert not same_results(first, other)


def test_stored_features_and_the_whole_network_learn_the_same(pretend_weights, train, demo):
    """An independent check: plain Keras through the whole network, every image in every epoch, in the same order."""
    import keras

    from leukodash.data.images import cell_store
    from leukodash.models.build import build
    from leukodash.models.head import class_probabilities
    from leukodash.models.weights import find_weights

    run = train(head=[], precision="float32")
    config = run.config
    model = build(config, 2, find_weights(config.spec))
    through = keras.Model(model.input, model.get_layer("logits").output)
    through.compile(keras.optimizers.Adam(1e-3), keras.losses.CategoricalCrossentropy(from_logits=True))
    images, part = cell_store(demo, 64), run.split["part"].to_numpy()
    one_hot = np.eye(2)[(demo.cells["label"] == "hem").to_numpy().astype(int)]
    rows = np.flatnonzero(part == "train")
    best, least = None, np.inf
    for epoch in (1, 2, 3):
        order = np.random.default_rng([config.seed, epoch]).permutation(rows)
        for start in range(0, len(order), 8):
            batch = order[start : start + 8]
            through.train_on_batch(images[batch], one_hot[batch])
        loss = through.test_on_batch(images[part == "validation"], one_hot[part == "validation"])
        if loss < least:
            least, best = loss, through.predict(images[part == "test"], verbose=0)
    ours = run.predictions.loc[run.predictions["part"] == "test", ["p_all", "p_hem"]].to_numpy()
    assert np.abs(class_probabilities(best.astype(float), 2) - ours).max() < 1e-3


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"head": [0.5, 32, 0.5], "flips": "views", "optimizer": "sgd", "schedule": "cosine", "warmup_epochs": 1},
        {"train_from": "conv5", "brightness": 0.2, "rotation": 30.0, "stain": 0.1},
        {"weights": "random", "flips": "views"},
    ],
    ids=["head", "views and dropout", "pixels", "everything"],
)
def test_a_run_stopped_again_and_again_ends_as_if_it_never_was(changes, pretend_weights, train, monkeypatch):
    unbroken = train(**changes)
    from leukodash.training import fit

    asked = []

    def stop_every_third_step(folder):
        asked.append(folder)
        return len(asked) % 3 == 0 and len(asked) < 60  # an evaluation begins anew, so it needs to be left alone

    broken = create_run(unbroken.config)
    monkeypatch.setattr(fit, "stop_requested", stop_every_third_step)
    for _ in range(100):
        train(broken)
        if broken.state == "finished":
            break
        assert broken.state == "stopped", broken.status
    assert len(asked) >= 9
    assert same_results(unbroken, broken)


def test_a_run_killed_at_any_moment_resumes_exactly(pretend_weights, train, demo):
    unbroken = train(epochs=200, flips="views")
    run = jobs.start(unbroken.config)
    for rows in (1, 30, 80):
        until(lambda rows=rows: len(run.history) > rows or run.state not in ("queued", "running"))
        os.kill(run.status["pid"], signal.SIGKILL)
        until(lambda: not run.alive())
        assert run.state == "lost"
        jobs.resume(run)
    until(lambda: run.state not in ("queued", "running"))
    assert run.state == "finished", run.log_tail()
    assert same_results(unbroken, run)


def test_without_pretrained_weights_the_whole_network_is_trained_and_marked(train, monkeypatch):
    from leukodash.training import fit

    monkeypatch.setattr(fit, "obtain_weights", Mock(side_effect=WeightsError("There is no network.")))
    run = train(epochs=1)
    assert run.metrics["random_start"] and run.trained.weights == "random"
    assert "conv1" in run.model["trained_layers"]
    assert run.config.train_from == "head"  # what was asked for stays on record


def test_a_data_set_that_changed_since_is_refused(pretend_weights, train, demo, tmp_path):
    shutil.copytree(demo.root, tmp_path / "mine")
    dataset = load_dataset(tmp_path / "mine")
    run = create_run(make_config("quick", "alexnet", dataset, input_size=64))
    next((tmp_path / "mine").rglob("*.png")).unlink()
    train(run)
    assert run.state == "failed"
    assert "has changed since this run was created" in run.status["error"]


def test_a_training_that_diverges_fails_with_a_sentence(pretend_weights, train):
    run = train(learning_rate=10.0, optimizer="sgd", train_from="conv2", epochs=3)
    assert run.state == "failed"
    expected = "Training diverged: the loss is NaN or infinite in epoch 1. Start again with a learning rate below 10"
    assert expected in run.status["error"]


def test_validation_losses_that_are_nan_infinite_or_huge_do_not_count_or_fail_the_run_or_mark_it(
    pretend_weights, train, monkeypatch
):
    from leukodash.runs.leaderboard import marks
    from leukodash.training import evaluate

    def train_with(*losses):
        monkeypatch.setattr(evaluate, "loss_and_accuracy", Mock(side_effect=[(loss, 0.5) for loss in losses]))
        return train()

    last_nan = train_with(0.8, 0.7, np.nan)
    assert last_nan.state == "finished"
    assert (last_nan.metrics["best_epoch"], last_nan.metrics["best_val_loss"]) == (2, 0.7)
    assert np.isnan(last_nan.history["val_loss"].iloc[-1])
    never_finite = train_with(np.nan, np.inf, np.nan)
    assert never_finite.state == "failed"
    expected = "Training diverged: the validation loss is NaN or infinite in every epoch."
    assert expected in never_finite.status["error"]
    assert "training diverged: validation loss 2e+30" in marks(train_with(3e30, 2e30, 4e30).metrics)


def test_a_history_survives_a_kill_while_it_is_rewritten(tmp_path, monkeypatch):
    from leukodash.training import fit

    path = tmp_path / "history.csv"
    fit._Rows(path, ("epoch", "loss"), lambda row: True).append(1, 0.5)
    with path.open("a") as file:
        file.write("2")  # a kill in the middle of a row
    before = path.read_text()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit.csv, "writer", Mock(side_effect=KeyboardInterrupt))  # a kill while the rest is written
        fit._Rows(path, ("epoch", "loss"), lambda row: True)
    assert path.read_text() in (before, "epoch,loss\n1,0.5\n")
    fit._Rows(path, ("epoch", "loss"), lambda row: True).append(2, 0.4)
    assert path.read_text() == "epoch,loss\n1,0.5\n2,0.4\n"


def test_rows_of_a_history_that_are_no_numbers_are_dropped(tmp_path):
    from leukodash.training import fit

    path = tmp_path / "history.csv"
    path.write_bytes(b"epoch,loss\n1,0.5\n2,0.4\n\x00\x00,\x00\n3\n4,0.3,1\n5,0.")
    fit._Rows(path, ("epoch", "loss"), lambda row: float(row["epoch"]) < 9)
    assert path.read_text() == "epoch,loss\n1,0.5\n2,0.4\n"


def test_a_run_that_needs_more_memory_than_is_free_fails_with_a_sentence_before_it_builds_its_network(
    pretend_weights, train, monkeypatch
):
    from leukodash.jobs import estimate

    with monkeypatch.context() as patch:
        patch.setattr(estimate, "memory_left", lambda: 3_000_000)
        patch.setattr("leukodash.models.build.build", Mock(side_effect=AssertionError("it was built")))
        patch.setattr(estimate, "memory_used_bytes", lambda: 500_000_000)
        run = train()
    assert run.state == "failed"
    assert re.match(r"This run needs about .* of memory, and 3 MB are free here", run.status["error"])
    train(run)  # the memory is free again
    assert run.state == "finished"


def test_a_run_whose_checkpoint_does_not_fit_on_the_disk_fails_before_its_first_epoch(
    pretend_weights, train, monkeypatch
):
    from leukodash.training import checkpoint

    with monkeypatch.context() as patch:
        free = lambda path: SimpleNamespace(free=1000 if "checkpoints" in path.parts else 1e12, total=1e12)  # noqa: E731
        patch.setattr(checkpoint.shutil, "disk_usage", free)
        run = train()
    assert (run.state, len(run.history)) == ("failed", 0)
    assert "A checkpoint of this run takes" in run.status["error"]
    train(run)
    assert run.state == "finished"


def test_a_run_on_a_full_disk_fails_with_the_reason_and_resumes_to_the_same_end(pretend_weights, train, monkeypatch):
    unbroken = train()
    write = Path.write_bytes

    def write_what_fits(path, content):
        if path.name.startswith(".novelty"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_what_fits)
        run = train()
    assert run.state == "failed"
    assert run.status["error"].startswith("The disk is full. Free some space, then resume this run")
    assert run.status["traceback"] == ""
    train(run)
    assert same_results(unbroken, run)


def test_a_damaged_checkpoint_is_refused_with_a_sentence(pretend_weights, train, demo):
    run = train(epochs=1)
    (run.path / "metrics.json").unlink()
    (run.path / "resume").mkdir(exist_ok=True)
    (run.path / "resume" / "state.npz").write_bytes(b"PK\x03\x04 cut")
    train(run)
    assert run.status["error"].startswith(
        "The checkpoint of this run does not fit this version of LeukoDash or Keras, or"
    )


def test_a_stop_is_honoured_while_the_novelty_measure_is_fitted(pretend_weights, train, monkeypatch):
    from leukodash.training import evaluate

    unbroken = train(epochs=1)
    run = create_run(unbroken.config)
    real, to_stop = evaluate.mean_over_positions, [run]

    def stop_once(maps, channels):
        if to_stop:
            (to_stop.pop().path / "stop").touch()
        return real(maps, channels)

    monkeypatch.setattr(evaluate, "mean_over_positions", stop_once)
    train(run)
    assert run.state == "stopped" and run.status["stage"] == "evaluating"
    train(run)
    assert run.state == "finished"
    assert same_results(unbroken, run)


def test_a_checkpoint_of_another_network_or_optimizer_is_refused_with_a_sentence(tmp_path):
    import keras

    from leukodash.training.checkpoint import Checkpoint

    def checkpoint(*units, optimizer="adam"):
        model = keras.Sequential([keras.Input((4,)), *map(keras.layers.Dense, units)])
        model.compile(optimizer)
        return Checkpoint(tmp_path, model)

    checkpoint(4, 4).save()
    checkpoint(4, 4).load()
    others = checkpoint(4, 3), checkpoint(4), checkpoint(4, 4, optimizer="sgd"), checkpoint(4, 4, optimizer="adadelta")
    for other in others:
        with pytest.raises(RunError, match="The checkpoint of this run does not fit"):
            other.load()


def test_early_stopping_waits_as_long_as_it_was_told(pretend_weights, train):
    run = train(epochs=200, learning_rate=0.05, early_stopping=4)
    assert run.metrics["epochs"] == run.metrics["best_epoch"] + 4 < 200


def test_validation_cells_stand_in_where_there_is_no_test_part_and_are_called_so(pretend_weights, train):
    run = train(split={"kind": "image", "validation": 0.2, "test": 0.0})
    assert run.metrics["part"] == "validation"
    assert run.metrics["n"] == 12
    assert run.metrics["leaks"] > 0


def test_jax_trains_too(pretend_weights, demo, monkeypatch):
    """Fresh layers and dropout are drawn differently by each backend: the loss must fall, not equal another's."""
    pytest.importorskip("jax")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    run = jobs.start(make_config("quick", "alexnet", demo, input_size=64, epochs=30, batch_size=8, head=[]))
    until(lambda: run.state not in ("queued", "running"))
    assert run.state == "finished", run.log_tail()
    assert run.model["environment"]["backend"] == "jax"
    assert run.history["loss"].iloc[-1] < 0.9 * run.history["loss"].iloc[0]
    validation = run.predictions[run.predictions["part"] == "validation"]
    loss = log_loss(validation["label"] == "all", validation[["p_hem", "p_all"]].to_numpy())
    assert loss == pytest.approx(run.history["val_loss"].min(), rel=1e-3)
