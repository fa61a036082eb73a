"""The run folder: claimed once, whole files only, and a state that is true even when the trainer is not there."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from leukodash.config.presets import make_config
from leukodash.errors import RunError
from leukodash.runs.locks import STARTING_SECONDS, run_lock
from leukodash.runs.run_folder import Run, create_run, find_run, finished, list_runs
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
    assert run.metrics == {} and run.model == {} and run.log_tail() == ""
    assert finished([run]) == []


def test_a_new_run_is_queued_and_lost_when_its_process_never_came(run):
    assert run.state == "queued"
    late = {"state": "queued", "starting": True, "updated": time.time() - STARTING_SECONDS - 1}
    run.write("status.json", late)
    assert run.state == "lost"


def test_a_running_run_is_lost_as_soon_as_its_lock_is_free(run):
    with run_lock(run.path):
        Status(run.path).set(state="running", stage="training")
        assert run.state == "running"
    assert run.state == "lost"


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
    now[0] += 10
    status.progress(0.25)
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
    monkeypatch.setattr("leukodash.runs.status.write_atomic", lambda path, content: written.append(json.loads(content)))
    monkeypatch.setattr("leukodash.runs.status.time.monotonic", lambda: clock[0])
    status = Status(tmp_path)
    for ahead, moment in ((3, 100.0), (3, 101.0), (3, 102.0), (2, 102.1), (1, 102.2), (1, 103.0), (1, 104.0)):
        clock[0] = moment
        status.progress(0.0, f"{ahead} ahead", ahead=ahead)
    assert [fields["ahead"] for fields in written] == [3, 2, 1]  # at 100, at 102.1, and at 103 what 102.2 could not say
