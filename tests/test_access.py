"""Who may do what: every action by everyone on every kind of run, the limits of a public demo, and whose turn it is."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_runs import made_run, publish
from waiting import until

from leukodash import settings
from leukodash.app.common import plain
from leukodash.config.presets import make_config
from leukodash.data.dataset import load_dataset
from leukodash.errors import NotAllowedError, RunError
from leukodash.jobs import launch, queue
from leukodash.jobs.sweep import Planned
from leukodash.runs import access, trash
from leukodash.runs.access import ANYONE, OPERATOR, Actor, change_about, may, refusal, visible
from leukodash.runs.locks import run_lock
from leukodash.runs.run_folder import about_texts, create_run, list_runs
from leukodash.training.__main__ import check_run

ROOT = Path(__file__).parents[1]
ME, OTHER = "me", "other"
MODES = {"own": {}, "class": {"LEUKODASH_CLASS": "1"}, "public": {"LEUKODASH_PUBLIC": "1"}}
CHANGES = ("stop", "resume", "edit", "delete", "restore")
# Whose runs someone may see, change and export: their own (m), another person's (o), the operator's (u), which nobody
# signed in to start, and published ones (p). And what they may do without a run: train, search rates, import.
RIGHTS = [
    ("own", "anyone", "moup", "mou", "moup", "tsi"),
    ("class", "anyone", "up", "", "p", ""),
    ("class", "student", "moup", "m", "mp", "tsi"),
    ("class", "teacher", "moup", "mou", "moup", "tsi"),
    ("class", "operator", "moup", "mou", "moup", "tsi"),
    ("public", "anyone", "up", "", "p", ""),
    ("public", "visitor", "mup", "m", "", "t"),
    ("public", "operator", "moup", "mou", "moup", "tsi"),
]
VISITOR, STRANGER = Actor(ME, role="visitor"), Actor(OTHER, role="visitor")


def mode(monkeypatch, name):
    for variable, value in MODES[name].items():
        monkeypatch.setenv(variable, value)


@pytest.fixture
def public(monkeypatch):
    mode(monkeypatch, "public")


@pytest.fixture
def live():
    """Return a function that creates a run whose process seems to live."""
    with contextlib.ExitStack() as stack:

        def make(config, by, **more):
            run = create_run(config, by=by, turn=access.turn(Actor(by)), **more)
            stack.enter_context(run_lock(run.path))
            return run

        yield make


@pytest.fixture
def started(monkeypatch):
    """No processes are started."""
    monkeypatch.setattr(launch, "launch", lambda run: None)


@pytest.mark.parametrize(("where", "role", "see", "change", "export", "alone"), RIGHTS)
def test_everyone_may_do_what_the_table_says_and_nothing_else(monkeypatch, where, role, see, change, export, alone):
    runs = {"m": made_run(about={"by": ME}), "o": made_run(seed=1, about={"by": OTHER}), "u": made_run(seed=2)}
    (runs["p"],) = publish(made_run(seed=3))
    mode(monkeypatch, where)
    actor = Actor(ME if role in ("student", "teacher", "visitor") else "", role=role)
    found = {action: "".join(key for key, run in runs.items() if may(actor, action, run)) for action in CHANGES}
    assert found == dict.fromkeys(CHANGES, change)
    for action, expected in (("see", see), ("export", export)):
        assert "".join(key for key, run in runs.items() if may(actor, action, run)) == expected
    assert "".join(action[0] for action in ("train", "search rates", "import") if may(actor, action)) == alone
    assert visible(actor, runs.values()) == [run for key, run in runs.items() if key in see]


@pytest.mark.parametrize(
    ("where", "actor", "words"),
    [
        ("class", ANYONE, "Sign in first"),
        ("class", Actor("x", role="student"), "MobileNet.* is another person's run and cannot be deleted by you"),
        ("public", Actor("x", role="visitor"), "MobileNet.* is another person's run and cannot be deleted by you"),
    ],
)
def test_whatever_acts_on_a_run_refuses_with_a_sentence_and_leaves_the_run_as_it_is(monkeypatch, where, actor, words):
    run = made_run(about={"by": OTHER})
    mode(monkeypatch, where)
    with pytest.raises(NotAllowedError, match=words):
        trash.discard(run, actor)
    for act in (launch.stop, launch.resume, lambda run, actor: change_about(run, actor, title="Mine")):
        with pytest.raises(NotAllowedError):
            act(run, actor)
    assert (run.about["title"], run.state) == ("", "finished")
    trash.discard(run, OPERATOR)
    with pytest.raises(NotAllowedError):
        trash.bring_back(run.id, actor)
    assert trash.bring_back(run.id, OPERATOR).metrics


def test_a_run_whose_settings_cannot_be_read_is_refused_by_its_id(public):
    run = made_run(about={"by": OTHER})
    (run.path / "config.json").write_text("{")
    assert run.id in refusal(VISITOR, "delete", run)


def test_names_and_notes_have_a_length():
    run = made_run()
    change_about(run, notes="x" * 5000)
    with pytest.raises(RunError, match="5,000 characters, not 5,001"):
        change_about(run, notes="x" * 5001)
    assert len(run.about["notes"]) == 5000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 31}, "train at most 30 epochs, not 31"),
        ({"input_size": 225}, "at most 224 pixels a side, not 225"),
        ({"train_from": "all"}, "train the head of a frozen network"),
        ({"brightness": 0.1}, "without random brightness"),
        ({"backbone": "vgg16"}, "a network whose weights are on this server"),
        ({"head": (513,)}, "at most 512 units in a layer"),
        ({"data": "/somewhere"}, "use the generated cells or the sample cells"),
        ({"epochs": 10_000, "input_size": 600}, "not 10,000 and have at most 224 pixels"),
    ],
)
def test_a_visitor_trains_small_runs_on_built_in_cells_alone(public, demo, started, changes, words):
    config = make_config("quick", "mobilenet", demo)
    for allowed in (config, config.changed(data=str(settings.asset("cells"))), config.changed(epochs=30, head=(512,))):
        access.require_settings(VISITOR, allowed)
    wrong = config.changed(**changes)
    assert words in access.settings_refusal(VISITOR, wrong)
    with pytest.raises(NotAllowedError):
        launch.start(wrong, VISITOR)
    assert not list_runs()
    access.require_settings(OPERATOR, wrong)


def test_a_form_offers_a_visitor_what_is_allowed(pretend_weights):
    assert access.offered_networks(VISITOR) == ["mobilenet", "alexnet"]
    assert len(access.offered_networks(ANYONE)) == 8
    spec = access.BACKBONES["mobilenet"]
    for actor, limits in ((VISITOR, (30, 224)), (ANYONE, (10_000, 600))):
        found = {each.name: each.high for each in access.offered_settings(actor, spec)}
        assert (found["epochs"], found["input_size"]) == limits


def test_a_visitor_starts_no_run_that_takes_long_by_the_estimate(public, demo, started, monkeypatch):
    config = make_config("quick", "mobilenet", demo)
    monkeypatch.setattr("leukodash.jobs.estimate.MAX_SECONDS", 2.0)
    with pytest.raises(NotAllowedError, match=r"a run may take 2 s, not about \d+ s"):
        launch.start(config, VISITOR)
    assert not list_runs()
    launch.start(config, OPERATOR)
    monkeypatch.setattr("leukodash.jobs.estimate.MAX_SECONDS", 600.0)
    monkeypatch.setattr("leukodash.jobs.estimate.memory_limit_bytes", lambda: 10**9)
    with pytest.raises(NotAllowedError, match="of memory"):
        launch.start(config, VISITOR)


def test_a_visitor_has_few_runs_at_a_time_and_all_visitors_together_have_not_many(public, demo, started, live):
    config = make_config("quick", "mobilenet", demo)
    with pytest.raises(NotAllowedError, match="2 runs at a time, not 3"):
        launch.start_together([Planned(config, "")] * 3, VISITOR)
    assert not list_runs()  # all or none
    assert len(launch.start_together([Planned(config, "")] * 2, VISITOR)) == 2
    with pytest.raises(NotAllowedError, match="Wait for yours"):
        launch.start(config, VISITOR)
    stopped = made_run(about={"by": ME})
    (stopped.path / "metrics.json").unlink()
    with pytest.raises(NotAllowedError, match="Wait for yours"):
        launch.resume(stopped, VISITOR)
    for number in range(access.MAX_WAITING - 2):
        live(config, f"visitor {number}")
    with pytest.raises(NotAllowedError, match="Too many visitors train here right now"):
        launch.start(config, STRANGER)
    launch.start(config, OPERATOR)


def test_the_oldest_ended_runs_of_visitors_are_deleted_for_good_and_the_operators_never(public, demo, started):
    config = make_config("quick", "mobilenet", demo)
    operators = made_run(when="20250101-000000")
    mine = [made_run(seed=n, when=f"20260101-00000{n}", about={"by": ME}) for n in range(access.MAX_KEPT_OWN + 2)]
    assert set(access.surplus(VISITOR)) == set(mine[:2])
    assert access.surplus(OPERATOR) == access.surplus(STRANGER) == []
    launch.start(config, VISITOR)
    assert {run.id for run in list_runs()} >= {run.id for run in (operators, *mine[2:])}
    assert not [run for run in mine[:2] if run.path.exists() or (settings.checkpoints() / ".trash" / run.id).exists()]
    others = [
        made_run(seed=n, when=f"20250601-{n:06}", about={"by": f"visitor {n}"})
        for n in range(access.MAX_KEPT - access.MAX_KEPT_OWN + 1)
    ]
    assert access.surplus(STRANGER) == [others[0]]


@pytest.mark.parametrize(("by", "refused"), [("somebody", True), ("", False)])
def test_the_trainer_itself_refuses_a_visitors_run_over_the_limits(public, two_cells, by, refused):
    run = create_run(make_config("quick", "mobilenet", two_cells, epochs=31), by=by)
    if not refused:
        check_run(run.path)
        return
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-m", "leukodash.training", str(run.path)]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert ended.returncode == 2
    assert run.state == "failed"
    assert "at most 30 epochs, not 31" in run.status["error"]


WAITER = """
import json, sys
from pathlib import Path
from leukodash.jobs.queue import wait_for_device
folder = Path(sys.argv[1])
status = json.loads((folder / "status.json").read_text())
with wait_for_device(folder, asked=status["asked"], turn=status["turn"]):
    pass
"""


def test_first_runs_of_all_people_come_before_second_runs_of_anybody(monkeypatch, demo, live):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    config = make_config("quick", "mobilenet", demo)
    order = ["ana", "ana", "ana", "ben", "cleo", "ben", "ana"]
    runs = [live(config, by, title=f"{by} {order[:place].count(by)}") for place, by in enumerate(order)]
    with queue.wait_for_device(settings.checkpoints() / "holder"):
        commands = [[sys.executable, "-c", WAITER, str(run.path)] for run in reversed(runs)]
        processes = [subprocess.Popen(command, cwd=ROOT) for command in commands]
        until(lambda: len(queue.waiting()) == len(runs))
        titles = {run.id: run.title for run in runs}
        waiting = [titles[name] for name in queue.waiting()]
        for run in runs:  # none is about to join the queue any more
            run.write("status.json", {**run.status, "starting": False})
    assert waiting == ["ana 0", "ben 0", "cleo 0", "ana 1", "ben 1", "ana 2", "ana 3"]
    assert [process.wait() for process in processes] == [0] * len(runs)


def test_without_sign_in_the_queue_is_in_the_order_of_the_requests(demo, live):
    config = make_config("quick", "mobilenet", demo)
    assert [live(config, "").status["turn"] for _ in range(3)] == [0, 0, 0]


def test_who_started_a_run_is_kept_with_it_and_a_name_that_was_signed_in_with_is_its_owner(
    monkeypatch, started, app_demo
):
    mode(monkeypatch, "class")
    config = make_config("quick", "mobilenet", load_dataset(app_demo.root))
    run = launch.start(config, Actor("id-of-ana", "Ana", "student"), owner="Ben")
    assert (run.by, run.about["owner"]) == ("id-of-ana", "Ana")
    change_about(run, Actor("t", "Ms T", "teacher"), notes="Well done")
    assert (run.by, run.about["owner"], run.about["notes"]) == ("id-of-ana", "Ana", "Well done")


def test_messages_do_not_tell_where_a_shared_server_keeps_its_folders(monkeypatch):
    words = f"Runs are kept in '{settings.checkpoints()}/x', and the cache is {settings.cache()}."
    assert str(settings.cache()).rsplit("/", 1)[-1] in plain(words)
    monkeypatch.setenv("LEUKODASH_PUBLIC", "1")
    assert plain(words) == plain("Runs are kept in 'the folder of runs/x', and the cache is the cache folder.")


def test_a_title_holds_no_tag_that_a_chart_would_read():
    assert about_texts(title="<a href='x'>lr < 0.1</a>")["title"] == "‹a href='x'>lr < 0.1‹/a>"
