"""The run folder: claimed once, whole files only, and a state that is true even when the trainer is not there."""

import hashlib
import json
import os
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from made_runs import METRICS

from leukodash.config.presets import make_config
from leukodash.errors import RunError
from leukodash.runs.locks import STARTING_SECONDS, run_lock
from leukodash.runs.run_folder import Run, cells_hash, create_run, find_run, finished, list_runs
from leukodash.runs.status import Status


@pytest.fixture
def run(two_cells):
    return create_run(make_config("quick", "mobilenet", two_cells), owner="Ada")


def test_a_run_is_named_by_time_and_backbone_and_keeps_its_config(run, two_cells):
    assert re.fullmatch(r"\d{8}-\d{6}-mobilenet-[0-9a-f]{4}", run.id)
    assert run.config == make_config("quick", "mobilenet", two_cells)
    assert run.about["owner"] == "Ada"
    assert list_runs() == [run]


def test_many_runs_at_once_get_folders_of_their_own(two_cells):
    config = make_config("quick", "mobilenet", two_cells)
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: create_run(config), range(60)))
    assert len({run.id for run in runs}) == 60


def test_a_run_without_results_reads_as_empty(run):
    assert run.history.empty and run.steps.empty and run.predictions.empty and run.split.empty
    assert list(run.predictions) == ["file", "label", "subject", "part"]
    assert list(run.split) == ["file", "label", "subject", "part", "sha256"]
    assert run.metrics == {} and run.model == {} and run.log_tail() == ""
    assert finished([run]) == []


def test_every_file_is_read_under_the_name_of_the_design(run):
    run.write("model.json", {"classes": ["all", "hem"], "positive": "all"})
    (run.path / "steps.csv").write_text("step,epoch,loss,accuracy\n1,1,0.5,0.75\n")
    (run.path / "predictions.csv").write_text("file,label,subject,part,p_all,p_hem\n1.png,all,,test,1,0\n")
    assert run.model["classes"] == ["all", "hem"]
    assert run.steps.to_dict("records") == [{"step": 1, "epoch": 1, "loss": 0.5, "accuracy": 0.75}]
    assert run.predictions["subject"].isna().all()  # unknown, which is no subject's name
    assert run.weights == run.path / "trained.weights.h5"


def test_files_of_one_size_and_time_are_not_taken_for_each_other(two_cells):
    runs = [create_run(make_config("quick", "mobilenet", two_cells)) for _ in range(2)]
    for number, one in enumerate(runs):
        one.write("metrics.json", {**METRICS, "leaks": number})
        os.utime(one.path / "metrics.json", (1, 1))
    assert [one.metrics["leaks"] for one in (*runs, *runs)] == [0, 1, 0, 1]


def test_json_files_take_numpy_numbers_and_paths_and_hold_objects(run):
    more = {"accuracy": np.float32(0.5), "counts": np.array([1, 2]), "data": Path("cells")}
    run.write("metrics.json", {**METRICS, **more})
    assert run.metrics == {**METRICS, "accuracy": 0.5, "counts": [1, 2], "data": "cells"}
    run.write("metrics.json", ["no", "object"])
    assert run.metrics == {}


def test_runs_of_all_versions_name_the_same_test_cells_alike(run):
    expected = hashlib.sha256(b"a\nb").hexdigest()[:12]
    assert cells_hash(["b", "a"]) == expected
    (run.path / "split.csv").write_text(
        "file,label,subject,part,sha256\n1,all,1,test,b\n2,hem,H,test,a\n3,all,2,train,c\n"
    )
    run.write("metrics.json", METRICS)
    assert run.test_set == expected
    run.write("metrics.json", {**METRICS, "test_set": "known"})
    assert run.test_set == "known"


def test_a_run_is_named_by_its_settings_and_its_start_until_somebody_gives_it_a_title(run):
    assert re.fullmatch(r"MobileNet · quick · split by subject · \d+ [A-Z][a-z]{2} \d\d:\d\d", run.title)
    run.write("about.json", {"label": "eight views, draw 3"})
    assert run.title.startswith("MobileNet · quick · split by subject")
    run.write("about.json", {"label": "eight views", "title": "Mine"})
    assert run.title == "Mine"


def test_the_tail_of_a_long_log_is_its_last_lines(run):
    (run.path / "log.txt").write_text("".join(f"line {number}\n" for number in range(5000)))
    assert run.log_tail(2) == "line 4998\nline 4999"
    assert len(run.log_tail().splitlines()) == 20


def test_a_new_run_is_queued_and_lost_when_its_process_never_came(run):
    assert json.loads((run.path / "status.json").read_text())["state"] == "queued"
    assert (run.state, run.status["progress"], run.status["message"]) == ("queued", 0.0, "")
    late = {"state": "queued", "starting": True, "updated": time.time() - STARTING_SECONDS - 1}
    run.write("status.json", late)
    assert run.state == "lost"


def test_a_running_run_is_lost_as_soon_as_its_lock_is_free(run):
    with run_lock(run.path):
        Status(run.path).set(state="running", stage="training")
        assert run.state == "running"
    assert run.state == "lost"


def test_a_run_that_was_killed_after_its_results_has_finished(run):
    with run_lock(run.path):
        Status(run.path).set(state="running", stage="evaluating")
        run.write("metrics.json", {"n": 1})
        assert run.state == "running"
    assert run.state == "finished"


def test_rows_that_were_cut_are_not_read(run):
    head = "epoch,loss,accuracy,val_loss,val_accuracy,learning_rate,seconds\n"
    (run.path / "history.csv").write_text(head + "1,0.7,0.5,0.8,0.4,0.001,2\n2,0.6,0.5,0.8,0.4,0.001,1")  # of 13 s
    assert list(run.history["epoch"]) == [1]
    (run.path / "steps.csv").write_text("step,epoch,loss,accuracy\n1,1,0.5,0.75\n2,1,0.")
    assert list(run.steps["step"]) == [1]


def test_nothing_is_written_for_a_run_whose_folder_is_gone(run):
    status = Status(run.path)
    shutil.rmtree(run.path)
    with pytest.raises(RunError, match="no longer there"):
        run.write("about.json", {"title": "late"})
    with pytest.raises(FileNotFoundError):
        status.set(state="running")
    assert not run.path.exists()


def test_a_run_folder_appears_whole_and_one_that_was_broken_off_is_removed(run, two_cells, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "utime", Mock(side_effect=KeyboardInterrupt))  # the last thing that is done to its files
        with pytest.raises(KeyboardInterrupt):
            create_run(run.config)
    assert [path.name for path in run.path.parent.iterdir()] == [run.id]


def test_an_ended_run_stays_what_it_was(run):
    Status(run.path).set(state="failed", error="no cells")
    assert run.state == "failed"
    assert run.status["error"] == "no cells"


def test_a_growing_history_is_read_anew(run):
    file = run.path / "history.csv"
    file.write_text("epoch,loss,accuracy,val_loss,val_accuracy,learning_rate,seconds\n1,0.7,0.5,0.8,0.4,0.001,2\n")
    assert list(run.history["loss"]) == [0.7]
    with file.open("a") as rows:
        rows.write("2,0.6,0.5,0.8,0.4,0.001,2\n")
    assert list(run.history["loss"]) == [0.7, 0.6]


def test_a_damaged_file_reads_as_if_it_were_not_there(run):
    (run.path / "metrics.json").write_text('{"accuracy": 0.')
    assert run.metrics == {}


def test_a_run_is_found_by_a_part_of_its_name_and_named_where_it_is_not(run):
    assert find_run(run.id) == run
    assert find_run(run.id[-4:]) == run
    assert find_run(str(run.path)) == Run(run.path)
    with pytest.raises(RunError, match=f"is not a run under .*{run.id}"):
        find_run("20200101-000000-vgg16-dead")


def test_a_folder_that_is_no_run_is_left_out_of_the_list(run):
    (run.path.parent / "notes").mkdir()
    (run.path.parent / ".queue").mkdir()
    assert list_runs() == [run]


def test_a_checkpoints_folder_that_cannot_be_made_is_answered_with_what_to_do(run, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LEUKODASH_CHECKPOINTS", str(tmp_path / "file"))
    with pytest.raises(RunError, match="Set LEUKODASH_CHECKPOINTS"):
        create_run(run.config)


def test_the_time_left_follows_from_the_pace(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    status = Status(tmp_path)
    status.set(stage="training")
    now[0] += 100  # the first step also compiles the network, and says nothing about the others
    status.progress(0.2)
    assert status.fields["seconds_left"] is None
    now[0] += 10
    status.progress(0.4)
    assert status.fields["seconds_left"] == pytest.approx(30)
    status.set(stage="evaluating")
    assert status.fields["seconds_left"] is None


def test_runs_of_one_second_are_listed_in_the_order_they_were_asked_for(monkeypatch, two_cells):
    suffixes = iter(("ffff", "0000", "8888"))
    monkeypatch.setattr("leukodash.runs.run_folder.secrets.token_hex", lambda _: next(suffixes))
    monkeypatch.setattr("leukodash.runs.run_folder.time.strftime", lambda _: "20260101-120000")
    config = make_config("quick", "mobilenet", two_cells)
    asked = [create_run(config).id for _ in range(3)]
    assert [run.id for run in list_runs()] == asked[::-1]


def test_a_status_is_written_only_when_it_says_something_new_and_then_even_if_late(tmp_path, monkeypatch):
    written, clock = [], [100.0]
    monkeypatch.setattr("leukodash.runs.status.time.monotonic", lambda: clock[0])
    status = Status(tmp_path)
    write = status._write
    monkeypatch.setattr(status, "_write", lambda: written.append(write() or json.loads(status.path.read_bytes())))
    for ahead, moment in ((3, 100.0), (3, 101.0), (3, 102.0), (2, 102.1), (1, 102.2), (1, 103.0), (1, 104.0)):
        clock[0] = moment
        status.progress(0.0, f"{ahead} ahead", ahead=ahead)
    assert [fields["ahead"] for fields in written] == [3, 2, 1]  # at 100, at 102.1, and at 103 what 102.2 could not say
