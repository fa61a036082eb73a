"""The command line: the same words as the pages, one sentence for what the user can mend, and an exit status."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.shell_completion import ShellComplete
from made_runs import made_run

from leukodash.__main__ import cli, main
from leukodash.cli.terminal import progress_bar
from leukodash.data.demo_cells import make_demo
from leukodash.runs.migrations import stored_config
from leukodash.runs.run_folder import list_runs

README = Path(__file__).resolve().parents[1] / "README.md"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make_demo(tmp_path_factory.mktemp("cli") / "demo", cells=24, subjects=6)


def test_the_readme_names_every_command_and_its_options_exist():
    lines = re.findall(r"^    python -m leukodash (\S+)(.*)", README.read_text(), re.MULTILINE)
    assert {name for name, _ in lines} == set(cli.commands)
    for name, usage in lines:
        options = {word for parameter in cli.commands[name].params for word in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", usage)) <= options, name


def test_help_needs_no_table_and_no_network_library():
    code = "import sys\nfrom leukodash.__main__ import main\nmain(['--help'])\n"
    code += "print(sorted({'numpy', 'pandas', 'pydantic', 'keras', 'streamlit', 'onnx'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "find-lr" in shown
    assert shown.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["train", "--data", "x", "--backbone", "vgg"], "Invalid value for '--backbone': 'vgg' is not one of"),
        (["train", "--data", "x"], "Missing option '--backbone'. Choose one of mobilenet, "),
        (["train", "--backbone", "vgg16"], "Missing option '--data'."),
        (["train", "--data", "x", "--backbone", "vgg16", "--set", "epochs"], "Expected KEY=VALUE"),
        (["study", "unknown"], "'unknown' is not one of 'dhuri-guinde'"),
        (["sweep", "--data", "x", "--backbone", "vgg16", "alexnat"], "'alexnat' is not one of 'mobilenet'"),
        (["trian"], "No such command 'trian'."),
    ],
)
def test_a_wrong_command_line_gets_one_sentence_and_a_status(command, sentence, capsys):
    assert main(command) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert sentence in shown.err
    assert shown.err.count("\n") == 1


def test_control_c_ends_a_command_with_status_130(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("leukodash.runs.run_folder.list_runs", interrupted)
    assert main(["runs"]) == 130


def test_names_and_runs_are_completed():
    run = made_run()
    completion = ShellComplete(cli, {}, "leukodash", "_LEUKODASH_COMPLETE")
    for words, incomplete, expected in (
        (["train", "--backbone"], "al", ["alexnet"]),
        (["train", "--preset"], "ma", ["mamaev-2023"]),
        (["compare"], run.id[:8], [run.id]),
    ):
        assert [item.value for item in completion.get_completions(words, incomplete)] == expected


@pytest.mark.parametrize("terminal", [False, True])
def test_lists_are_tables_on_a_terminal_and_lines_in_a_pipe(terminal, capsys, monkeypatch):
    run = made_run()
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["runs"]) == 0
    shown = capsys.readouterr().out
    assert run.id in shown
    assert ("─" in shown, "Owner" in shown) == (terminal, terminal)


def test_the_bar_shows_stage_share_message_and_time_left(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # draws as on a terminal
    monkeypatch.setenv("COLUMNS", "120")
    with progress_bar("training") as bar:
        bar(0.5, "epoch 2 of 4 [loss 0.3]", 75)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert re.search(r"training +━+╺━+ +50% epoch 2 of 4 \[loss 0\.3\] · 1:15 left", shown)


def test_without_a_terminal_the_bar_prints_each_stage_once(capsys):
    with progress_bar("queued") as bar:
        for stage in ("queued", "queued", "training", "training"):
            bar.stage = stage
            bar(0.5, "message", 75)
    assert capsys.readouterr().err == "queued\ntraining\n"


def test_data_demo_draws_cells_and_data_check_counts_them(tmp_path, capsys):
    assert main(["data", "demo", str(tmp_path / "demo"), "--cells", "24", "--subjects", "6"]) == 0
    assert main(["data", "check", str(tmp_path / "demo")]) == 0
    shown = capsys.readouterr().out
    assert "24 generated cells of 6 subjects" in shown
    assert "No two images are byte-identical" in shown
    assert "0 leaks between the parts" in shown


def broken(demo, tmp_path, kind):
    folder = tmp_path / "set"
    if kind == "missing":
        return folder
    if kind == "empty":
        folder.mkdir()
        return folder
    shutil.copytree(demo, folder)
    image = next(folder.rglob("*_all.png"))
    if kind == "corrupt":
        image.write_bytes(image.read_bytes()[:300])
    if kind == "text":
        image.write_text("this is no image")
    if kind == "one class":
        for path in folder.rglob("hem"):
            shutil.rmtree(path)
    return folder


@pytest.mark.parametrize(
    ("kind", "words"),
    [("missing", "set"), ("empty", "set"), ("corrupt", "_all.png"), ("text", "_all.png"), ("one class", "class")],
)
def test_a_data_set_that_cannot_be_used_gets_one_sentence_and_a_status(kind, words, demo, tmp_path, capsys):
    folder = broken(demo, tmp_path, kind)
    assert main(["data", "check", str(folder)]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(("reading", "decoding"))]
    assert len(said) == 1
    assert words in said[0]


def test_settings_that_do_not_fit_are_said_before_anything_is_started(demo, capsys):
    status = main(["train", "--data", str(demo), "--backbone", "vgg16", "--set", "train_from=block7"])
    assert status == 2
    assert "VGG16 can be trained from" in capsys.readouterr().err
    assert list_runs() == []


def test_a_run_that_is_not_there_is_said(capsys):
    for command in (["resume", "nothing"], ["stop", "nothing"], ["compare", "nothing"]):
        assert main(command) == 2
        assert "is not a run" in capsys.readouterr().err


@pytest.mark.slow
def test_train_runs_to_the_end_and_prints_the_folder_last(demo, capsys):
    settings = ["weights=random", "epochs=1", "input_size=64"]
    command = ["train", "--data", str(demo), "--backbone", "alexnet", "--preset", "quick", "--owner", "Ada"]
    assert main(command + [word for setting in settings for word in ("--set", setting)]) == 0
    shown = capsys.readouterr().out.splitlines()
    (run,) = list_runs()
    assert shown[-1] == str(run.path)
    assert "Wilson 95 %" in shown[0]
    assert "random start" in shown[1]
    assert run.about["owner"] == "Ada"


@pytest.mark.slow
def test_a_failed_training_ends_with_its_sentence_and_a_status(demo, tmp_path, capsys):
    folder = broken(demo, tmp_path, "corrupt")
    assert main(["train", "--data", str(folder), "--backbone", "alexnet", "--preset", "quick"]) == 2
    assert "_all.png" in capsys.readouterr().err


@pytest.mark.slow
def test_compare_lists_runs_and_writes_json(tiny_run, tmp_path, capsys):
    first, second = tiny_run(), tiny_run(seed=3)
    assert main(["compare", first.id, second.id, "--json", str(tmp_path / "table.json")]) == 0
    table = json.loads((tmp_path / "table.json").read_text())
    assert {row["run"] for row in table} == {first.id, second.id}
    by_run = {row["run"]: row["accuracy"] for row in table}
    assert by_run[second.id] == pytest.approx(second.metrics["accuracy"])
    assert first.id in capsys.readouterr().out


@pytest.mark.slow
def test_compare_writes_a_report_a_card_and_takes_predictions_of_other_tools(tiny_run, tmp_path, capsys):
    run = tiny_run()
    theirs = run.predictions[run.predictions["part"] == "test"].drop(columns="part")
    theirs.to_csv(tmp_path / "theirs.csv", index=False)
    assert main(["import", str(tmp_path / "theirs.csv"), "--title", "PyTorch"]) == 0
    imported = Path(capsys.readouterr().out.strip()).name
    assert main(["compare", run.id, imported, "--report", str(tmp_path / "report.html")]) == 0
    assert "rank nothing" not in capsys.readouterr().out  # the same test cells
    assert "PyTorch" in (tmp_path / "report.html").read_text()
    assert main(["card", run.id]) == 0
    assert "# AlexNet" in capsys.readouterr().out
    assert main(["import", str(tmp_path / "none.csv")]) == 2


@pytest.mark.slow
def test_classify_gives_what_the_run_predicted_and_writes_overlays(tiny_run, tmp_path, capsys):
    run = tiny_run()
    test = run.predictions[run.predictions["part"] == "test"]
    files = [str(Path(run.config.data) / name) for name in test["file"]]
    csv, overlays = tmp_path / "out.csv", tmp_path / "overlays"
    assert main(["classify", *files, "--run", run.id, "--csv", str(csv), "--overlays", str(overlays)]) == 0
    table = pd.read_csv(csv)
    assert np.allclose(table["p_all"], test["p_all"], atol=1e-4)
    assert len(list(overlays.glob("*.png"))) == len(files)


@pytest.mark.slow
def test_classify_says_which_file_is_no_image_and_answers_for_the_others(tiny_run, tmp_path, capsys):
    run = tiny_run()
    good = Path(run.config.data) / run.predictions["file"].iloc[0]
    (tmp_path / "notes.png").write_text("no image")
    assert main(["classify", str(tmp_path / "notes.png"), str(good), "--run", run.id]) == 2
    shown = capsys.readouterr()
    assert "notes.png" in shown.err
    assert good.name in shown.out


@pytest.mark.slow
def test_classify_without_the_weights_that_a_run_was_trained_from_says_so(tiny_run, capsys, monkeypatch, tmp_path):
    run = tiny_run()
    config = run.trained.changed(weights="imagenet", weights_file="alexnet.h5", weights_sha256="0" * 64)
    run.write("model.json", run.model | {"config": stored_config(config)})
    (tmp_path / "none").mkdir()
    monkeypatch.setenv("LEUKODASH_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    good = Path(run.config.data) / run.predictions["file"].iloc[0]
    assert main(["classify", str(good), "--run", run.id]) == 2
    assert "weights of AlexNet" in capsys.readouterr().err


def no_network(*args, **kwargs):
    raise OSError("no network")
