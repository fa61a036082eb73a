"""A run folder that is damaged in one file is shown as damaged, and breaks no page and no command.

Each file of four kinds of run folders is damaged in twenty ways and more, and looked at by each page and each command.
``make test`` looks at a few, by a fixed seed; ``LEUKODASH_DAMAGE=200`` at 200; ``LEUKODASH_DAMAGE=all`` takes hours.
"""

import contextlib
import errno
import fcntl
import io
import json
import math
import os
import random
import shutil
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from apptest import APP, open_page, texts
from filelock import FileLock
from made_runs import made_run, publish
from streamlit.testing.v1 import AppTest

from leukodash import settings
from leukodash.__main__ import main
from leukodash.data.dataset import load_dataset
from leukodash.errors import RunError
from leukodash.evaluation.novelty import Novelty
from leukodash.jobs import launch, queue
from leukodash.models.backbones import BACKBONES
from leukodash.runs.imported_predictions import import_predictions, imported_runs
from leukodash.runs.locks import is_held, run_lock, stop_requested
from leukodash.runs.migrations import stored_config
from leukodash.runs.run_folder import (
    Run,
    all_runs,
    create_run,
    damaged_runs,
    finished,
    list_runs,
    published_runs,
    readable,
    run_folders,
)
from leukodash.studies.catalogue import StudyRun, done, record_study_run

GOOD = "file,label,p_all,p_hem\na.png,all,0.9,0.1\nb.png,hem,0.2,0.8\nc.png,all,0.4,0.6\n"
FEW, SEED = 12, 15
TABLES = ("history.csv", "steps.csv", "split.csv", "predictions.csv")
TRAINED = ("config.json", "about.json", "model.json", "metrics.json", "status.json", *TABLES)
FILES = {
    "trained": (*TRAINED, "novelty.npz", "trained.weights.h5", "log.txt", "lock", "stop", "resume"),
    "imported": ("imported.json", "about.json", "metrics.json", "split.csv", "predictions.csv"),
    "live": ("config.json", "about.json", "model.json", "status.json", "history.csv", "steps.csv", "split.csv"),
    "published": (*TRAINED, "novelty.npz", "trained.weights.h5"),
}


# --------------------------------------------------------------------------------------------------------- damage


def _written(change):
    """Return a damage that replaces the content of a file."""

    def damage(path, rng):
        path.write_bytes(change(path.read_bytes(), rng))

    return damage


def _replaced(make):
    """Return a damage that puts something else in the place of a file."""

    def damage(path, rng):
        path.unlink()
        make(path)

    return damage


def _huge(path):
    with path.open("wb") as file:
        file.truncate(2 * 10**9)  # a sparse file


def _scattered(content, rng):
    changed = bytearray(content)
    for _ in range(20):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


ANY = {
    "missing": _replaced(lambda path: None),
    "empty": _written(lambda content, rng: b""),
    "half": _written(lambda content, rng: content[: len(content) // 2]),
    "cut": _written(lambda content, rng: content[:-3]),
    "zeros": _written(lambda content, rng: bytes(len(content))),
    "zeros at the end": _written(lambda content, rng: content[:-40] + bytes(40)),
    "noise": _written(lambda content, rng: rng.randbytes(len(content))),
    "some noise": _written(_scattered),
    "a folder": _replaced(Path.mkdir),
    "a link to itself": _replaced(lambda path: path.symlink_to(path)),
    "a device": _replaced(lambda path: path.symlink_to("/dev/zero")),
    "a pipe": _replaced(os.mkfifo),
    "huge": _replaced(_huge),
    "a page": _written(lambda content, rng: b"<html><body>404 Not Found</body></html>\n"),
    "not UTF-8": _written(lambda content, rng: content[:20] + b"\xff\xfe" + content[20:]),
    "with a mark": _written(lambda content, rng: b"\xef\xbb\xbf" + content),
    "twice": _written(lambda content, rng: content + content),
}


def _json(change):
    return _written(lambda content, rng: json.dumps(change(json.loads(content), rng)).encode())


def _one(value):
    """Return a damage that replaces one value of a JSON object."""

    def change(content, rng):
        name = rng.choice(sorted(content))
        return content | {name: value(content[name]) if callable(value) else value}

    return _json(change)


def _nested(content, rng):
    return b'{"classes": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


JSON = {
    "a list": _json(lambda content, rng: [content]),
    "null": _json(lambda content, rng: None),
    "no fields": _json(lambda content, rng: {}),
    "nested": _written(_nested),
    "a nested value": _one(lambda value: json.loads("[" * 150 + "]" * 150)),
    "without a field": _json(lambda content, rng: {name: content[name] for name in rng.sample(sorted(content), 1)}),
    "with another field": _json(lambda content, rng: content | {"\u0000new": [{}]}),
    "all null": _json(lambda content, rng: dict.fromkeys(content)),
    "all texts": _json(lambda content, rng: dict.fromkeys(content, "x")),
    "all numbers": _json(lambda content, rng: dict.fromkeys(content, -1)),
    "all lists": _json(lambda content, rng: {name: [] for name in content}),
    "all objects": _json(lambda content, rng: {name: {} for name in content}),
    **{f"a value {value!r:.8}": _one(value) for value in (None, "x", -1, 0, 0.5, 10**30, [], [1, 2], {}, True)},
    "a value NaN": _one(math.nan),
    "a value infinite": _one(math.inf),
    "a huge value": _one(10**400),
    "a lone surrogate": _written(lambda content, rng: content.replace(b'": "', b'": "\\ud800')),
}


def _table(change):
    """Return a damage that changes the rows of a table, a list of lists of texts; the first one is its head."""

    def damage(path, rng):
        rows = [line.split(",") for line in path.read_text().splitlines()]
        path.write_text("".join(",".join(row) + "\n" for row in change(rows, rng)))

    return damage


def _cell(value):
    """Return a damage that replaces one value of a table."""

    def change(rows, rng):
        row = rng.randrange(1, len(rows))
        rows[row][rng.randrange(len(rows[0]))] = value
        return rows

    return _table(change)


def _without_column(rows, rng):
    column = rng.randrange(len(rows[0]))
    return [row[:column] + row[column + 1 :] for row in rows]


CSV = {
    "no rows": _table(lambda rows, rng: rows[:1]),
    "no head": _table(lambda rows, rng: rows[1:]),
    "without a column": _table(_without_column),
    "without another column": _table(_without_column),
    "one column": _table(lambda rows, rng: [row[:1] for row in rows]),
    "another column": _table(lambda rows, rng: [["new", *row] for row in rows]),
    "a column twice": _table(lambda rows, rng: [[*row, row[0]] for row in rows]),
    "half of the rows": _table(lambda rows, rng: rows[: len(rows) // 2]),
    "rows twice": _table(lambda rows, rng: rows + rows[1:]),
    "longer rows": _table(lambda rows, rng: rows[:1] + [["x", *row] for row in rows[1:]]),
    "a longer row": _table(lambda rows, rng: [*rows, rows[-1] + rows[-1]]),
    "a shorter row": _table(lambda rows, rng: [*rows, rows[-1][:1]]),
    "an open quote": _table(lambda rows, rng: [*rows, ['"']]),
    "all empty": _table(lambda rows, rng: rows[:1] + [[""] * len(row) for row in rows[1:]]),
    "all texts": _table(lambda rows, rng: rows[:1] + [["x"] * len(row) for row in rows[1:]]),
    "all zero": _table(lambda rows, rng: rows[:1] + [["0"] * len(row) for row in rows[1:]]),
    **{
        f"a value {value!r}": _cell(value)
        for value in ("", "x", "-1", "0", "2", "0.5", "nan", "inf", "1e400", "9" * 40, "None", "\u0000", "<b>")
    },
}


def ways(file):
    """Return the ways to damage a file, by name."""
    return ANY | (JSON if file.endswith(".json") else CSV if file.endswith(".csv") else {})


CASES = [(kind, file, way) for kind, files in FILES.items() for file in files for way in ways(file)]


# ----------------------------------------------------------------------------------------------------------- runs


def _cells():
    """The sample cells, split into parts."""
    cells = load_dataset(settings.asset("cells")).cells
    place = cells.groupby("label").cumcount()
    part = np.select([place % 4 == 0, place % 4 == 1], ["train", "validation"], "test")
    return cells[["file", "label", "subject", "sha256"]].assign(part=part)[
        ["file", "label", "subject", "part", "sha256"]
    ]


def whole_run(seed=0):
    """Return a finished run that answers without TensorFlow, with every file that a trained run has."""
    sha256 = BACKBONES["mobilenet"].weights.shipped_sha256
    data = {"data": str(settings.asset("cells")), "weights_sha256": sha256}
    run = made_run(cells=_cells(), seed=seed, config=data, when=f"2026010{seed + 1}-120000")
    made = {"schema": 2, "config": stored_config(run.config), "precision": "float32", "parameters": 3_230_914}
    made |= {"environment": {"leukodash": "0.2", "cpu": "some", "gpu": None}, "trained_layers": ["logits"]}
    run.write("model.json", run.model | made)
    rng = np.random.default_rng(seed)
    with h5py.File(run.weights, "w") as file:
        group = file.create_group("0")
        group.attrs["layer"] = "logits"
        group["0"], group["1"] = rng.normal(size=(1024, 2)).astype(np.float32), np.zeros(2, np.float32)
    directions = np.linalg.qr(rng.normal(size=(1024, 2)))[0].astype(np.float16)
    Novelty(np.full(1024, 0.03, np.float32), directions, np.array([0.1, 0.1]), 0.01, 9.0).save(run.path)
    (run.path / "steps.csv").write_text("step,epoch,loss,accuracy\n1,1,0.7,0.5\n2,1,0.6,0.6\n")
    return run


def run_of(kind):
    """Return a run of this kind, beside a whole one."""
    other = whole_run(seed=1)
    if kind == "imported":
        answers = other.predictions.query("part == 'test'").drop(columns="part")
        return import_predictions(answers.to_csv(index=False).encode(), "theirs.csv", like=[other], backbone="vgg16")
    if kind == "live":
        run = create_run(other.config, title="Mine", owner="Ada")
        run.write("status.json", {"state": "running", "stage": "training", "progress": 0.5, "device": "CPU (2 cores)"})
        for name in ("model.json", "history.csv", "steps.csv", "split.csv"):
            shutil.copy(other.path / name, run.path)
        return run
    run = whole_run()
    if kind == "published":
        (run,) = publish(run)
    else:
        for name in ("log.txt", "lock", "stop", "resume"):
            (run.path / name).write_text("some lines\nof text\n")
    record_study_run("honest", StudyRun("by image", "mobilenet"), run.config, run.config, run)
    return run


def damage(run, file, way):
    """Damage a file of a run. The same name gives the same damage."""
    ways(file)[way](run.path / file, random.Random(f"{SEED} {run.path.name[16:]} {file} {way}"))


# ---------------------------------------------------------------------------------------------------------- looks

PAGES = {
    "trained": [
        ("lesson", False),
        ("train", False),
        ("compare", False),
        ("compare", True),
        ("classify", False),
        ("classify", True),
    ],
    "imported": [("train", False), ("compare", False), ("compare", True), ("classify", True)],
    "live": [("data", False), ("train", False), ("compare", True), ("classify", True)],
    "published": [("compare", False), ("compare", True), ("classify", True), ("home", False), ("lesson", False)],
}


def page_looks(run, kind):
    """Return by name functions that open a page and fail for an exception on it."""

    def look(name, named):
        if name == "home":
            texts(AppTest.from_file(APP, default_timeout=120).run())
        else:
            texts(open_page(name, **({"runs": run.id} if named else {})))

    shown = PAGES[kind]
    return {f"{name}{'?runs' * named}": lambda name=name, named=named: look(name, named) for name, named in shown}


def command_looks(run, demo, folder):
    """Return by name functions that run a command and fail for a traceback."""
    cell = str(next(settings.asset("cells").rglob("*.png"), next(settings.asset("cells").rglob("*.*"))))
    others = [path.name for path in settings.checkpoints().iterdir() if path.name[:8] == "20260102"]

    def look(*words):
        said, wrong = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
            status = main([str(word) for word in words])
        assert status in (0, 2, 130)
        if status == 2:
            assert wrong.getvalue().strip()
        for text in (said.getvalue(), wrong.getvalue()):
            assert "Traceback" not in text

    commands = {
        "runs": ["runs"],
        "about": ["about", run.id],
        "log": ["log", run.id],
        "compare": ["compare", run.id, *others, "--report", folder / "report.html"],
        "card": ["card", run.id],
        "classify": ["classify", cell, "--run", run.id, "--rule", "validation"],
        "export": ["export", run.id, "--output", folder],
        "study": ["study", "--write", folder / "results.md"],
        "estimate": ["estimate", "--data", demo.root, "--backbone", "mobilenet"],
        "again": ["again", run.id],
        "resume": ["resume", run.id],
        "stop": ["stop", run.id],
        "rename": ["about", run.id, "--title", "New"],
        "delete": ["delete", run.id],
        "undo": ["delete", "--undo", run.id],
    }
    return {name: lambda words=words: look(*words) for name, words in commands.items()}


@pytest.fixture
def quick(monkeypatch):
    """Nothing is trained or written as a model file."""

    def ended(run):
        Run(run.path).write("status.json", {"state": "stopped"})

    def exported(run, format, folder, progress):
        from leukodash.export import model_export
        from leukodash.inference.classifier import load

        load(run)
        model_export.check_cells(run, 32)
        return model_export.Exported(folder / model_export.metadata(run)["run"], 8, 0.0, "float32", 0.0, 0)

    monkeypatch.setattr(launch, "launch", ended)
    monkeypatch.setattr("leukodash.export.model_export.export", exported)


ASKED = os.environ.get("LEUKODASH_DAMAGE", str(FEW))
SHOWN = CASES if ASKED == "all" else random.Random(SEED).sample(CASES, int(ASKED))


@pytest.mark.parametrize(("kind", "file", "way"), SHOWN, ids=map(", ".join, SHOWN))
def test_a_damaged_file_breaks_no_page_and_no_command(kind, file, way, quick, app_demo, tmp_path):
    run = run_of(kind)
    damage(run, file, way)
    looks = page_looks(run, kind)
    if len(SHOWN) == FEW:  # two pages
        looks = dict(random.Random(f"{kind} {file} {way}").sample(sorted(looks.items()), 2))
    looks |= command_looks(run, app_demo, tmp_path)
    broken = {}
    with run_lock(run.path) if kind == "live" else contextlib.nullcontext():
        for name, look in looks.items():
            try:
                look()
            except BaseException as error:  # noqa: BLE001  (all looks are counted)
                broken[name] = f"{type(error).__name__}: {str(error)[-300:]}"
    assert not broken, f"{len(broken)} of {len(looks)} looks: {json.dumps(broken, indent=1)}"


# --------------------------------------------------------------------------------------------------- what is said

HARMLESS = ("with a mark", "with another field", "another column", "some noise", "a longer row", "a shorter row")
BY_CHANCE = ("without", "a value", "a nested value", "a huge value", "all", "cut", "twice", "rows twice", "half")
PLAIN = [
    (kind, file, way)
    for kind, file, way in CASES
    if kind in ("trained", "imported") and file.endswith((".json", ".csv")) and not way.startswith(BY_CHANCE)
    if way not in HARMLESS
]
OPTIONAL = ("about.json", "status.json", "history.csv", "steps.csv")
GROWING = ("history.csv", "steps.csv")


def is_damage(file, way):
    """Whether a file that was damaged in this way cannot be what LeukoDash wrote."""
    whole = {
        "missing": file not in OPTIONAL,
        "no rows": file not in GROWING,
        "no fields": file != "about.json",
        "zeros at the end": file not in GROWING,
        "half of the rows": file == "predictions.csv",
    }
    return whole.get(way, True)


@pytest.mark.parametrize(("kind", "file"), sorted({(kind, file) for kind, file, _ in PLAIN}))
def test_a_damaged_run_says_which_file_and_what_to_do_until_the_file_is_restored(kind, file):
    run = run_of(kind)
    content = (run.path / file).read_bytes()
    assert run.full_problem == ""
    for way in [way for *case, way in PLAIN if case == [kind, file] and is_damage(file, way)]:
        damage(run, file, way)
        said = run.full_problem
        assert said.startswith(f"'{file}' of {run.id} is damaged: "), way
        assert ("delete this one file" in said) == (file in OPTIONAL), way
        path = run.path / file
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        path.write_bytes(content)
        assert run.full_problem == "", way


def test_nobody_is_told_to_delete_results_for_settings_that_cannot_be_read():
    run = whole_run()
    (run.path / "config.json").write_text("{")
    assert "the results are still in the run's folder" in run.problem


def test_damaged_runs_are_told_from_whole_ones_wherever_runs_are_listed(capsys):
    damaged, whole = whole_run(), whole_run(seed=1)
    theirs = import_predictions(GOOD.encode(), "theirs.csv")
    for run, file in ((damaged, "metrics.json"), (theirs, "imported.json")):
        (run.path / file).write_text("{")
    assert list_runs() == [whole, damaged]
    assert set(run_folders()) == {whole, damaged, theirs}
    assert readable(run_folders())[0] == finished(all_runs()) == [whole]
    assert imported_runs() == []
    assert set(damaged_runs()) == {damaged, theirs}
    assert main(["runs"]) == 0
    states = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()}
    assert states == {damaged.id: "damaged", theirs.id: "damaged", whole.id: "finished"}


@pytest.mark.parametrize("file", ["config.json", "imported.json", "metrics.json"])
def test_a_run_is_damaged_too_when_a_file_that_it_needs_is_gone(file):
    run = import_predictions(GOOD.encode(), "theirs.csv") if file == "imported.json" else whole_run()
    (run.path / file).unlink()
    assert damaged_runs() == [run]
    assert f"'{file}' of {run.id} is damaged: it is missing" in run.problem
    assert run.title


def test_the_train_page_lists_damaged_runs_and_imports_and_deletes_them(app_demo):
    run, theirs = whole_run(), import_predictions(GOOD.encode(), "theirs.csv", title="*Theirs*")
    for each in (run, theirs):
        (each.path / "metrics.json").write_text("[]")
    page = open_page("train")
    assert texts(page).count("'metrics.json' of") == 2
    page.button(key=f"delete-{theirs.id}").click().run()
    page.button(key=f"delete-{run.id}").click().run()
    assert not page.exception and run_folders() == []
    page.button(key=f"undo-{run.id}").click().run()
    assert run_folders() == [run]


def test_a_live_run_with_a_damaged_file_can_still_be_stopped(app_demo):
    run = run_of("live")
    (run.path / "about.json").write_text("x")
    with run_lock(run.path):
        page = open_page("train")
        page.button(key=f"stop-{run.id}").click().run()
    assert stop_requested(run.path)


def test_compare_and_classify_name_a_damaged_run_of_their_link_and_go_on_without_it():
    run, other = whole_run(), whole_run(seed=1)
    (run.path / "predictions.csv").write_text((run.path / "predictions.csv").read_text().replace("0.", "1.", 9))
    for name in ("compare", "classify"):
        page = open_page(name, runs=f"{run.id},{other.id}")
        assert "'predictions.csv' of" in texts(page)
        assert "not here" not in texts(page)
    (run.path / "metrics.json").write_text("x")
    for name in ("compare", "classify"):
        assert "'metrics.json' of" in texts(open_page(name, runs=f"{run.id},{other.id}"))
        assert "1 damaged run is left out" in texts(open_page(name, runs=other.id))


def test_commands_know_imported_runs(capsys):
    run = import_predictions(GOOD.encode(), "theirs.csv", title="Theirs")
    assert main(["runs"]) == 0
    assert f"{run.id}  imported" in capsys.readouterr().out
    for command in ("about", "log", "card", "compare"):
        assert main([command, run.id[-12:]]) == 0
    assert "predictions of another tool: theirs.csv" in capsys.readouterr().out
    for command in (["again"], ["resume"], ["export"], ["classify", "x.png", "--run"]):
        assert main([*command, run.id]) == 2
        assert "holds predictions of another tool" in capsys.readouterr().err
    assert main(["delete", run.id]) == 0
    assert run_folders() == []
    assert main(["delete", "--undo", run.id]) == 0
    assert imported_runs() == [run]


def test_every_field_of_model_json_that_may_be_null_may_be(capsys):
    run = whole_run()
    run.write("model.json", run.model | dict.fromkeys(("environment", "precision", "features", "weights_file")))
    assert run.full_problem == ""
    assert main(["card", run.id]) == 0


def test_published_runs_that_were_damaged_in_the_cache_are_left_out_and_say_how_they_come_back():
    good, bad = publish(whole_run(), whole_run(seed=1))
    (bad.path / "model.json").write_bytes(b"")
    assert finished(published_runs()) == [good]
    assert "it is unpacked again" in bad.problem


def test_classes_and_subjects_may_be_called_na_none_or_nan():
    run = whole_run()
    names = ["NA", "None", "null", "nan"]
    rows = [f"{name}.png,{name},{name},test,{number}" for number, name in enumerate(names)]
    (run.path / "split.csv").write_text("\n".join(["file,label,subject,part,sha256", *rows, "x.png,x,,test,9", ""]))
    assert run.split["label"].tolist() == [*names, "x"]
    assert run.split["subject"].tolist()[:4] == names and run.split["subject"].isna().tolist()[4]


def test_a_damaged_record_of_studies_is_no_page_s_end_and_is_not_written_over(app_demo):
    run = run_of("trained")
    record = settings.checkpoints() / "studies.json"
    for content in ('{"honest": [{}]}', "[", '{"honest": 3}'):
        record.write_text(content)
        assert done() == {}
        texts(open_page("compare"))
        with pytest.raises(RunError, match="delete it"):
            record_study_run("honest", StudyRun("by image", "mobilenet"), run.config, run.config, run)
        assert record.read_text() == content


# ------------------------------------------------------------------------------------ read-only disks, and clocks


def test_the_look_at_a_lock_writes_nothing_and_needs_no_permission_to_write(tmp_path, monkeypatch):
    lock = tmp_path / "lock"
    assert not is_held(lock) and not lock.exists()
    with FileLock(lock):
        assert is_held(lock)
    flags = []
    opened = os.open
    monkeypatch.setattr(os, "open", lambda path, how, *more: flags.append(how) or opened(path, how, *more))
    assert not is_held(lock)
    assert not flags[0] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)


def test_two_looks_at_once_do_not_take_each_other_for_a_run(tmp_path):
    (tmp_path / "lock").touch()
    with (tmp_path / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)  # as `is_held` does
        assert not is_held(tmp_path / "lock")


def test_a_dead_run_on_a_read_only_file_system_is_lost(capsys, monkeypatch):
    run = run_of("live")
    (run.path / "lock").touch()

    def refused(path, how, *more):
        if how & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, "Read-only file system")
        return opened(path, how, *more)

    opened = os.open
    monkeypatch.setattr(os, "open", refused)
    assert run.state == "lost"
    assert main(["runs"]) == 0
    assert f"{run.id}  lost" in capsys.readouterr().out


@pytest.mark.parametrize("ahead", [-30, 30, 25 * 3600])
def test_a_run_that_died_while_starting_is_lost_whatever_its_clock_said(ahead, app_demo):
    run = create_run(whole_run().config)
    run.write("status.json", {"state": "queued", "starting": True, "updated": time.time() + ahead})
    assert run.state == "lost"


@pytest.mark.parametrize(
    "content", ["[]", "3", '{"starting": true, "turn": "x"}', '{"starting": true, "asked": null}', "[" * 100_000]
)
def test_a_damaged_status_stops_no_run_that_waits(content):
    run = create_run(whole_run().config)
    (run.path.parent / "other").mkdir()
    (run.path.parent / "other" / "status.json").write_text(content)
    assert not queue._earlier_run_starting(run.path, 1, 0)
