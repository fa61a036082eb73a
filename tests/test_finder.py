"""The learning-rate finder, as a process of its own that waits in line like a run."""

import numpy as np
import pytest
from waiting import until

from leukodash.__main__ import main
from leukodash.config.presets import make_config
from leukodash.jobs import launch as jobs
from leukodash.jobs.lr_search import curve, start_finder, suggestion
from leukodash.runs.run_folder import list_runs

pytestmark = pytest.mark.slow


def test_rates_rise_step_by_step_until_the_loss_runs_away(pretend_weights, demo, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    run = start_finder(make_config("quick", "alexnet", demo, input_size=64, optimizer="sgd"))
    until(lambda: run.state not in ("queued", "running"))
    assert run.state == "finished", run.log_tail()
    found = curve(run)
    steps = np.diff(np.log(found["rate"]))
    assert np.allclose(steps, steps[0], rtol=1e-3)
    assert found["rate"].iloc[0] == pytest.approx(1e-6)
    assert found["smooth"].iloc[-1] > 4 * found["smooth"].min() or len(found) == 120
    weights = 0.2 * 0.8 ** np.arange(len(found))[::-1]  # the running mean, by its definition
    assert found["smooth"].iloc[-1] == pytest.approx((weights * found["loss"]).sum() / weights.sum(), rel=1e-3)
    assert list_runs() == []
    assert not (run.path / "metrics.json").exists()


def test_the_suggested_rate_learns_and_a_far_smaller_one_does_not(pretend_weights, demo, capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    settings = ["--set", "input_size=64", "--set", "head=[]", "--set", "precision=float32"]
    command = ["find-lr", "--data", str(demo.root), "--backbone", "alexnet", "--preset", "quick", *settings]
    assert main(command) == 0
    rate = float(capsys.readouterr().out.strip().splitlines()[-1].removeprefix("learning_rate="))
    losses = []
    for learning_rate in (rate, rate / 1000):
        config = make_config(
            "quick", "alexnet", demo, input_size=64, head=[], precision="float32", learning_rate=learning_rate, epochs=5
        )
        run = jobs.start(config)
        until(lambda run=run: run.state not in ("queued", "running"))
        losses.append(run.history["loss"].iloc[-1])
    assert losses[0] < 0.8 * losses[1]


def test_a_finder_can_be_stopped(pretend_weights, demo, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    run = start_finder(make_config("quick", "alexnet", demo, input_size=64))
    jobs.stop(run)
    until(lambda: run.state == "stopped")
    assert suggestion(curve(run)) is None
