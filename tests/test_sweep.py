"""Several runs at once, what is said of those that wait, and the same things by command line."""

import os
import time
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest

from leukodash import settings
from leukodash.__main__ import main
from leukodash.config.presets import make_config
from leukodash.errors import RunError
from leukodash.jobs import hardware as machine
from leukodash.jobs import launch as jobs
from leukodash.jobs import queue
from leukodash.jobs.live_status import (
    expected_starts,
    live_runs,
    patience_words,
    rate_words,
    start_words,
)
from leukodash.jobs.lr_search import suggestion
from leukodash.jobs.sweep import MOST, Planned, plan, read_values, sweepable
from leukodash.models.backbones import BACKBONES
from leukodash.runs import trash
from leukodash.runs.locks import run_lock
from leukodash.runs.run_folder import create_run, find_run, list_runs


@pytest.fixture
def launched(monkeypatch):
    """Runs that are started: their folders are made, their processes are not."""
    runs = []
    monkeypatch.setattr(jobs, "launch", runs.append)
    return runs


@pytest.fixture
def run_of(demo):
    """Return a function that makes a run in this state."""

    def make(state, **status):
        run = create_run(make_config("quick", "alexnet", demo))
        run.write("status.json", {"state": state, "updated": time.time(), **status})
        return run

    return make


def setting(name):
    return next(setting for setting in sweepable(BACKBONES["vgg16"]) if setting.name == name)


def test_every_backbone_gets_every_value_and_all_else_stays(demo):
    changes = {"epochs": 3, "split": {"validation": 0.3}}
    planned = plan("quick", ["alexnet", "vgg16"], demo, changes, setting("learning_rate"), [0.01, 0.001])
    configs = [run.config for run in planned]
    assert [(config.backbone, config.learning_rate, config.epochs) for config in configs] == [
        ("alexnet", 0.01, 3), ("alexnet", 0.001, 3), ("vgg16", 0.01, 3), ("vgg16", 0.001, 3),
    ]  # fmt: skip
    assert planned[1].title == "AlexNet · learning rate 0.001"
    configs = [run.config for run in plan("quick", ["alexnet"], demo, changes, setting("split.seed"), [1, 2])]
    assert [(config.split.seed, config.split.validation) for config in configs] == [(1, 0.3), (2, 0.3)]
    planned = plan("quick", list(BACKBONES), demo, {})  # without values, a run is named by its backbone alone
    assert [(run.config.backbone, run.title) for run in planned] == [(name, "") for name in BACKBONES]


def test_plans_that_do_not_fit_are_refused(demo):
    with pytest.raises(RunError, match="AlexNet can be trained from"):
        plan("quick", ["vgg16", "alexnet"], demo, {}, setting("train_from"), ["block5"])
    with pytest.raises(RunError, match="are 62 runs"):
        plan("quick", ["vgg16", "alexnet"], demo, {}, setting("seed"), list(range(MOST // 2 + 1)))


def test_values_are_read_as_their_setting_takes_them():
    for name, text, values in [
        ("learning_rate", "0.01, 1e-3;1, 0.01", [0.01, 0.001, 1.0]),
        ("seed", "0, 1,2.0,", [0, 1, 2]),
        ("train_from", "head, block5", ["head", "block5"]),
        ("class_weights", "on, off", [True, False]),
        ("epochs", "", []),
    ]:
        assert read_values(text, setting(name)) == values


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("learning_rate", "fast"), ("learning_rate", "NaN"), ("seed", "1.5"), ("seed", "true"),
        ("train_from", "block9"), ("class_weights", "1"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_said_with_what_would(name, text):
    with pytest.raises(RunError, match=rf"takes .* not '{text}'"):
        read_values(text, setting(name))


# --------------------------------------------------------------------------------------------------- waiting


def test_a_waiting_run_starts_when_those_ahead_are_done(run_of, monkeypatch):
    running = run_of("running", started=time.time() - 40)
    first, second = run_of("queued"), run_of("queued")
    monkeypatch.setattr("leukodash.jobs.live_status.places", lambda: {first.id: 0, second.id: 1})
    with run_lock(running.path), run_lock(first.path), run_lock(second.path):
        live = live_runs(list_runs())
        one_device, two_devices = (expected_starts(live, lambda run: 100.0, devices=number) for number in (1, 2))
        latest = run_of("queued")  # it has no ticket yet
        with run_lock(latest.path):
            then = expected_starts([*live, latest], lambda run: 100.0, devices=1)
    assert one_device[0] == pytest.approx({first.id: 60, second.id: 160}, abs=2)
    assert two_devices[0] == pytest.approx({first.id: 0, second.id: 60}, abs=2)
    assert (one_device[1], two_devices[1], then[1]) == pytest.approx((260, 100, 360), abs=2)  # when a new one would
    assert start_words(one_device[0][second.id]) == "starts in about 2 min 40 s"


def test_a_run_that_was_asked_for_first_goes_first_though_its_process_is_late(demo, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    monkeypatch.setattr(queue, "STARTING_SECONDS", 1.0)
    first, second = (create_run(make_config("quick", "alexnet", demo)) for _ in range(2))
    waits = []
    with queue.wait_for_device(second.path, waits.append, second.status["asked"]):
        pass
    assert waits == [0] * len(waits) and waits  # nobody ahead in line, and yet it waited, but not for ever
    first.write("status.json", first.status | {"starting": False})
    waits.clear()
    with queue.wait_for_device(second.path, waits.append, second.status["asked"]):
        pass
    assert not waits


def test_early_stopping_is_said_in_words(demo):
    config = make_config("quick", "alexnet", demo, early_stopping=5)
    history = pd.DataFrame({"epoch": [1, 2, 3, 4], "val_loss": [0.5, 0.3, 0.4, 0.6], "learning_rate": [1e-3] * 4})
    assert patience_words(config, history) == "no better loss for 2 of 5 epochs"
    assert patience_words(config, history[:2]) == "best loss so far"
    assert patience_words(config, history[:0]) == ""
    assert patience_words(config.changed(early_stopping=0), history) == ""
    assert rate_words(history) == "learning rate 0.001"


def test_a_gpu_is_named_with_its_memory_and_use_where_nvidia_smi_is_there(monkeypatch):
    said = "0, NVIDIA H100 80GB HBM3, 3174, 81559, 64\n1, Old card, [N/A], [N/A], [N/A]\n"
    with monkeypatch.context() as patch:
        patch.setattr(machine.subprocess, "run", lambda *_, **__: type("Answer", (), {"stdout": said}))
        machine._gpus.cache_clear()
        assert machine.gpu_words("GPU 0") == "NVIDIA H100 80GB HBM3, 3.1 of 79.6 GiB, 64 % busy"
        assert machine.gpu_words("GPU 1") == "Old card"
        assert machine.gpu_words("CPU (2 cores)") == ""
    monkeypatch.setenv("PATH", "")
    machine._gpus.cache_clear()
    assert machine.gpu_words("GPU 0") == ""
    machine._gpus.cache_clear()


def test_a_deleted_run_can_be_brought_back_until_it_is_purged_and_a_running_one_is_not_deleted(run_of):
    run = run_of("running")
    with run_lock(run.path), pytest.raises(RunError, match="still running"):
        trash.discard(run)
    assert list_runs() == [run]
    trash.discard(run)
    assert list_runs() == []
    trash.purge()  # not a day old
    assert trash.bring_back(run.id) == run
    assert list_runs() == [run]
    trash.discard(run)
    trash.purge([run.id])
    with pytest.raises(RunError, match="no longer in the trash"):
        trash.bring_back(run.id)


def test_a_clock_that_jumps_ahead_does_not_empty_the_trash(run_of, monkeypatch):
    run = run_of("stopped")
    trash.discard(run)
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(trash.time, "time", lambda: now + 25 * 3600)
        trash.purge()
    assert trash.bring_back(run.id) == run
    trash.discard(run)
    with monkeypatch.context() as patch:  # both clocks: a day has passed
        patch.setattr(trash.time, "time", lambda: now + 25 * 3600)
        patch.setattr(trash.time, "monotonic", lambda: now - trash._CLOCK + 25 * 3600)
        trash.purge()
    with pytest.raises(RunError, match="no longer in the trash"):
        trash.bring_back(run.id)


def test_a_run_of_last_week_stays_in_the_trash_for_a_day_even_if_deleting_it_is_broken_off(run_of, monkeypatch):
    run = run_of("stopped")
    os.utime(run.path, (1, 1))
    move = Mock(side_effect=lambda path, target: path.replace(target) and 1 / 0)  # a kill right after the rename
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(trash, "move", move)
        trash.discard(run)
    trash.purge()
    assert trash.bring_back(run.id) == run


def test_what_a_kill_leaves_of_a_removed_run_cannot_be_restored_and_goes_next_time(run_of, monkeypatch):
    run = run_of("stopped")
    deleted = trash.discard(run)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trash.shutil, "rmtree", Mock(side_effect=KeyboardInterrupt))
        trash.purge([run.id])
    with pytest.raises(RunError, match="no longer in the trash"):
        trash.bring_back(run.id)
    assert list(deleted.path.parent.iterdir())
    trash.purge()
    assert not list(deleted.path.parent.iterdir())


def test_of_two_people_who_delete_a_run_one_is_told_that_it_is_gone(run_of):
    run = run_of("stopped")
    trash.discard(run)
    with pytest.raises(RunError, match="no longer there"):
        trash.discard(run)
    trash.bring_back(run.id)
    with pytest.raises(RunError, match="no longer in the trash"):
        trash.bring_back(run.id)


def test_runs_are_started_all_or_none(demo, monkeypatch):
    config = make_config("quick", "alexnet", demo)
    launched = Mock(side_effect=[None, RunError("no more processes")])
    monkeypatch.setattr(jobs, "launch", launched)
    with pytest.raises(RunError, match="no more processes"):
        jobs.start_together([Planned(config, "one"), Planned(config, "two")])
    assert launched.call_count == 2 and list_runs() == []


def test_the_suggested_learning_rate_is_where_the_loss_falls_fastest():
    rate = np.geomspace(1e-6, 10, 120)
    loss = 0.7 - 0.5 / (1 + (3e-3 / rate)) + (rate / 2) ** 2  # a logistic step in the logarithm, centered at 0.003
    assert suggestion(pd.DataFrame({"rate": rate, "loss": loss, "smooth": loss})) == pytest.approx(3e-3, rel=0.35)
    assert suggestion(pd.DataFrame({"rate": rate, "loss": rate, "smooth": rate})) is None
    assert suggestion(pd.DataFrame(columns=["rate", "loss", "smooth"])) is None


# ---------------------------------------------------------------------------------------------- command line


def test_a_sweep_by_command_line_starts_what_the_page_would(demo, launched, capsys):
    command = ["sweep", "--data", str(demo.root), "--backbone", "alexnet", "vgg16", "--preset", "quick"]
    assert main([*command, "--vary", "seed=1,2", "--set", "epochs=3", "--owner", "Ada"]) == 0
    assert [(run.config.backbone, run.config.seed, run.config.epochs) for run in launched] == [
        ("alexnet", 1, 3), ("alexnet", 2, 3), ("vgg16", 1, 3), ("vgg16", 2, 3),
    ]  # fmt: skip
    assert capsys.readouterr().out.splitlines() == [str(run.path) for run in launched]
    assert main(["runs", "--owner", "Ada"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert main(["runs", "--owner", "Ben"]) == 0
    assert capsys.readouterr().out == ""


def test_the_estimate_and_a_sweep_of_what_cannot_be_varied_start_nothing(demo, launched, capsys):
    assert main(["sweep", "--data", str(demo.root), "--backbone", "alexnet", "--vary", "speed=1,2"]) == 2
    assert "'speed' is not a setting that can be varied" in capsys.readouterr().err
    assert main(["estimate", "--data", str(demo.root), "--backbone", "alexnet", "--preset", "quick"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("about ")
    assert "of memory" in said and "of disk" in said
    assert not launched and not list_runs()


def test_a_run_is_named_noted_read_and_deleted_by_command_line(run_of, capsys):
    run = run_of("stopped")
    (run.path / "log.txt").write_text("one\ntwo\nthree\n")
    assert main(["about", run.id, "--title", "Mine", "--notes", "slow"]) == 0
    assert main(["about", run.id, "--owner", "Ada"]) == 0
    assert find_run(run.id).about == {"title": "Mine", "owner": "Ada", "notes": "slow", "by": ""}
    capsys.readouterr()
    assert main(["log", run.id, "--lines", "2"]) == 0
    assert capsys.readouterr().out == "two\nthree\n"
    assert main(["delete", run.id]) == 0
    assert list_runs() == []
    assert main(["delete", "--undo", run.id]) == 0
    assert list_runs() == [run]
    assert (settings.checkpoints() / run.id / "config.json").is_file()


def test_again_takes_an_old_runs_settings_and_changes_some(demo, launched, monkeypatch):
    monkeypatch.setattr("leukodash.cli.run_commands.watch", lambda run: 0)
    old = create_run(make_config("quick", "alexnet", demo, epochs=7, split={"validation": 0.3}), owner="Ada")
    assert main(["again", old.id, "--set", "epochs=9", "--set", "split.seed=4"]) == 0
    expected = old.config.changed(epochs=9, split={**old.config.split.model_dump(), "seed": 4})
    assert launched[0].config == expected
    assert launched[0].about["owner"] == "Ada"
