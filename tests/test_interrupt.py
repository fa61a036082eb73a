"""Runs that are stopped or killed at the wrong moment: what they say, and which run goes on. Real processes."""

import os
import shutil
import signal
from types import SimpleNamespace

import pytest
from filelock import FileLock
from waiting import until

from leukodash import settings
from leukodash.config.presets import make_config
from leukodash.data.dataset import load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.jobs import launch as jobs
from leukodash.jobs.live_status import live_runs
from leukodash.jobs.queue import waiting
from leukodash.runs.locks import is_held
from leukodash.runs.run_folder import Run, create_run

pytestmark = pytest.mark.slow


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


def test_a_killed_trainer_is_lost_at_once_and_the_next_run_begins(pretend_weights, start):
    first, second = start(epochs=5000), start(epochs=2)
    until(lambda: first.state == "running")
    assert second.state == "queued"
    os.kill(first.status["pid"], signal.SIGKILL)
    until(lambda: first.state == "lost")
    until(lambda: second.state == "running")
    assert live_runs([first, second]) == [second]


STAGES = {
    "preparing": {},
    "features": {"input_size": 224, "flips": "views"},
    "training": {"epochs": 5000},
    # the whole network over many cells, since stored features are evaluated in an instant
    "evaluating": {"epochs": 1, "brightness": 0.1, "input_size": 224, "split": {"validation": 0.3, "test": 0.4}},
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stop_takes_effect_in_every_stage(stage, pretend_weights, start):
    run = start(**STAGES[stage])
    until(lambda: run.status["stage"] == stage and (run.status["progress"] > 0 or stage == "preparing"))
    jobs.stop(run)
    until(lambda: ended(run))
    assert (run.state, run.status["stage"]) == ("stopped", stage)  # and not after it
    assert not (run.path / "metrics.json").exists()
    if stage == "training":
        reached = len(run.history)
        jobs.resume(run)
        until(lambda: len(run.history) > reached + 1 or ended(run))
        assert run.state == "running", run.status
        assert list(run.history["epoch"])[: reached + 1] == list(range(1, reached + 2))


def test_a_waiting_run_stops_without_a_turn(start):
    queue = settings.checkpoints() / ".queue"
    queue.mkdir(parents=True)
    with FileLock(queue / "cpu-0.lock"):  # somebody trains
        run = start()
        until(lambda: run.id in waiting())
        jobs.stop(run)
        until(lambda: ended(run))
    assert run.state == "stopped"
    assert run.status["stage"] == ""


def test_a_run_whose_folder_is_removed_ends_within_seconds_and_frees_its_device(pretend_weights, start):
    first, second = start(epochs=5000), start(epochs=2)
    until(lambda: first.status["stage"] == "training")
    first.path.rename(first.path.with_name(".moved"))
    until(lambda: not Run(first.path.with_name(".moved")).alive())
    until(lambda: ended(second))
    assert second.state == "finished"
    assert not first.path.exists()  # nothing was written after it


def test_a_waiting_run_whose_folder_is_removed_leaves_the_line(start):
    queue = settings.checkpoints() / ".queue"
    queue.mkdir(parents=True)
    with FileLock(queue / "cpu-0.lock"):  # somebody trains
        run = start()
        until(lambda: run.id in waiting() and "pid" in run.status)
        ticket = next(path for path in queue.iterdir() if path.name.endswith(run.id))
        shutil.rmtree(run.path)
        until(lambda: not is_held(ticket))
    assert not run.path.exists()


def test_a_request_to_stop_that_is_older_than_the_start_of_a_run_is_dropped(demo, monkeypatch):
    monkeypatch.setattr(jobs.subprocess, "Popen", lambda *_, **__: SimpleNamespace(poll=lambda: None))
    run = create_run(make_config("quick", "alexnet", demo))
    (run.path / "stop").touch()
    jobs.launch(run)
    assert not (run.path / "stop").exists()
