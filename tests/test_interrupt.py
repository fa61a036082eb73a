"""Runs that are stopped or killed at the wrong moment: what is said, who goes on, and how soon. Real processes."""

import os
import signal
import time

import pytest
from test_training import pretend_weights, until  # noqa: F401  (a fixture)

from leukodash.config.presets import make_config
from leukodash.data.dataset import load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.jobs import launch as jobs
from leukodash.jobs.live_status import live_runs
from leukodash.jobs.queue import waiting

pytestmark = pytest.mark.slow

STOP_SECONDS = 5.0  # a stop takes effect within one step or this, whichever is longer
LOST_SECONDS = 3.0


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return load_dataset(make_demo(tmp_path_factory.mktemp("data") / "demo", cells=240, subjects=12))


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")


@pytest.fixture
def start(demo, monkeypatch):
    runs = []

    def start(**settings):
        runs.append(jobs.start(make_config("quick", "alexnet", demo, **({"input_size": 64} | settings))))
        return runs[-1]

    yield start
    for run in runs:
        if run.alive():
            os.kill(run.status["pid"], signal.SIGKILL)


def ended(run):
    return run.state not in ("queued", "running")


def test_a_killed_trainer_is_lost_at_once_the_next_begins_and_resuming_finishes_it(pretend_weights, start):  # noqa: F811
    first, second = start(epochs=150, flips="views"), start(epochs=2)
    until(lambda: len(first.history) > 3)
    assert second.state == "queued"
    os.kill(first.status["pid"], signal.SIGKILL)
    killed = time.monotonic()
    until(lambda: first.state == "lost", LOST_SECONDS)
    lost = time.monotonic() - killed
    until(lambda: second.state == "running", LOST_SECONDS)
    began = time.monotonic() - killed
    assert live_runs([first, second]) == [second]
    epochs = len(first.history)
    jobs.resume(first)
    until(lambda: ended(first) and ended(second))
    assert (first.state, second.state) == ("finished", "finished"), first.log_tail()
    assert list(first.history["epoch"]) == list(range(1, 151))
    print(f"lost after {lost:.2f} s, next began after {began:.2f} s, resumed from epoch {epochs}")


STAGES = {
    "waiting": {},
    "preparing": {},
    "features": {"input_size": 224, "flips": "views"},
    "training": {"epochs": 5000},
    # the whole network over many cells, since stored features are evaluated in an instant
    "evaluating": {"epochs": 1, "brightness": 0.1, "input_size": 224, "split": {"validation": 0.3, "test": 0.4}},
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stop_takes_effect_soon_in_every_stage_and_the_run_goes_on_when_resumed(stage, pretend_weights, start):  # noqa: F811
    before = start(epochs=5000) if stage == "waiting" else None
    run = start(**STAGES[stage])
    if before:
        until(lambda: run.id in waiting() and before.status["stage"] == "training")
    else:
        until(lambda: run.status["stage"] == stage and (run.status["progress"] > 0 or stage == "preparing"))
    jobs.stop(run)
    asked = time.monotonic()
    until(lambda: ended(run), STOP_SECONDS)
    print(f"{stage}: {run.state} after {time.monotonic() - asked:.2f} s")
    assert run.state == "stopped"
    assert not (run.path / "metrics.json").exists()
    if before:
        jobs.stop(before)
    jobs.resume(run)
    until(lambda: run.status["stage"] in ("features", "training", "evaluating") or ended(run))
    assert run.state in ("running", "finished"), run.status


def test_a_request_to_stop_that_is_older_than_the_run_does_not_stop_it(pretend_weights, start):  # noqa: F811
    run = start(epochs=2)
    until(lambda: ended(run))
    assert run.state == "finished"
    assert not (run.path / "stop").exists()
