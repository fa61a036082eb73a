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
        (["train", "--data", "DEMO", "--backbone", "vgg16", "--set", "train_from=block7"], "VGG16 can be trained from"),
        *(([command, "nothing"], "is not a run") for command in ("resume", "stop", "compare", "card")),
        (["import", "none.csv"], "none.csv"),
    ],
)
def test_a_wrong_command_line_gets_one_sentence_and_a_status(command, sentence, demo, capsys):
    assert main([str(demo) if word == "DEMO" else word for word in command]) == 2
    check_one_sentence(capsys.readouterr(), sentence)
    assert list_runs() == []


def check_one_sentence(shown, sentence):
    assert shown.out == ""
    (said,) = [line for line in shown.err.splitlines() if not line.startswith(("reading", "decoding"))]
    assert sentence in said


def test_control_c_ends_a_command_with_status_130(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("leukodash.runs.run_folder.run_folders", interrupted)
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


def test_the_bar_shows_stage_share_message_and_time_left_and_in_a_pipe_the_stages_alone(monkeypatch, capsys):
    with progress_bar("queued") as bar:  # without a terminal it prints each stage once
        for stage in ("queued", "queued", "training", "training"):
            bar.stage = stage
            bar(0.5, "message", 75)
    assert capsys.readouterr().err == "queued\ntraining\n"
    monkeypatch.setenv("FORCE_COLOR", "1")  # draws as on a terminal
    monkeypatch.setenv("COLUMNS", "120")
    with progress_bar("training") as bar:
        bar(0.5, "epoch 2 of 4 [loss 0.3]", 75)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert re.search(r"training +━+╺━+ +50% epoch 2 of 4 \[loss 0\.3\] · 1:15 left", shown)


def test_data_demo_draws_cells_and_data_check_counts_them(tmp_path, capsys):
    assert main(["data", "demo", str(tmp_path / "demo"), "--cells", "24", "--subjects", "6"]) == 0
    assert main(["data", "check", str(tmp_path / "demo")]) == 0
    shown = capsys.readouterr().out
    assert "24 generated cells of 6 subjects" in shown
    assert "No two files show the same cell" in shown
    assert "0 leaks between the parts" in shown


def broken(demo, folder, kind):
    """Copy the data set into the folder, and damage it."""
    if kind == "empty":
        folder.mkdir()
    if kind in ("missing", "empty"):
        return
    shutil.copytree(demo, folder)
    image = next(folder.rglob("*_all.png"))
    if kind == "corrupt":
        image.write_bytes(image.read_bytes()[:300])
    if kind == "text":
        image.write_text("this is no image")
    if kind == "one class":
        for path in folder.rglob("hem"):
            shutil.rmtree(path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("missing", "set"), ("empty", "set"), ("corrupt", "_all.png"), ("text", "_all.png"), ("one class", "class")],
)
def test_a_data_set_that_cannot_be_used_gets_one_sentence_and_a_status(kind, words, demo, tmp_path, capsys):
    broken(demo, tmp_path / "set", kind)
    assert main(["data", "check", str(tmp_path / "set")]) == 2
    check_one_sentence(capsys.readouterr(), words)


@pytest.mark.slow
def test_train_runs_to_the_end_and_prints_the_folder_last(demo, capsys):
    settings = ["weights=random", "epochs=1", "input_size=64"]
    command = ["train", "--data", str(demo), "--backbone", "alexnet", "--preset", "quick", "--owner", "Ada"]
    assert main(command + [word for setting in settings for word in ("--set", setting)]) == 0
    shown = capsys.readouterr().out.splitlines()
    (run,) = list_runs()
    assert shown[-1] == str(run.path)
    assert "Wilson 95 %" in shown[0]
    assert shown[1].startswith("By person: ")
    assert "random start" in shown[2]
    assert run.about["owner"] == "Ada"


@pytest.mark.slow
def test_a_failed_training_ends_with_its_sentence_and_a_status(demo, tmp_path, capsys):
    broken(demo, tmp_path / "set", "corrupt")
    assert main(["train", "--data", str(tmp_path / "set"), "--backbone", "alexnet", "--preset", "quick"]) == 2
    assert "_all.png" in capsys.readouterr().err


@pytest.mark.slow
def test_compare_writes_json_and_a_report_of_runs_and_predictions_of_other_tools(tiny_run, tmp_path, capsys):
    run = tiny_run()
    theirs = run.predictions[run.predictions["part"] == "test"].drop(columns="part")
    theirs.to_csv(tmp_path / "theirs.csv", index=False)
    assert main(["import", str(tmp_path / "theirs.csv"), "--title", "PyTorch"]) == 0
    imported = Path(capsys.readouterr().out.strip()).name
    files = ["--json", str(tmp_path / "table.json"), "--report", str(tmp_path / "report.html")]
    assert main(["compare", run.id, imported, *files]) == 0
    shown = capsys.readouterr().out
    assert run.id in shown
    assert "rank nothing" not in shown  # the same test cells
    table = {row["run"]: row["accuracy"] for row in json.loads((tmp_path / "table.json").read_text())}
    assert table == {key: pytest.approx(run.metrics["accuracy"]) for key in (run.id, imported)}
    assert "PyTorch" in (tmp_path / "report.html").read_text()
    assert main(["card", run.id]) == 0
    assert "# AlexNet" in capsys.readouterr().out


@pytest.mark.slow
def test_classify_gives_what_the_run_predicted_and_says_which_file_is_no_image(tiny_run, cells, tmp_path, capsys):
    run = tiny_run()
    csv, overlays = tmp_path / "out.csv", tmp_path / "overlays"
    command = ["classify", *map(str, cells), "--run", run.id, "--csv", str(csv)]
    assert main([*command, "--overlays", str(overlays)]) == 0
    predictions = run.predictions.query("part == 'test'")
    assert np.allclose(pd.read_csv(csv)["p_all"], predictions["p_all"], atol=1e-4)
    assert len(list(overlays.glob("*.png"))) == len(cells)
    assert main(["classify", run.config.data, "--run", run.id, "--csv", str(csv)]) == 0
    assert "If all these cells are of one person:" in capsys.readouterr().err
    (tmp_path / "notes.png").write_text("no image")
    assert main(["classify", str(tmp_path / "notes.png"), str(cells[0]), "--run", run.id]) == 2
    shown = capsys.readouterr()
    assert "notes.png" in shown.err
    assert cells[0].name in shown.out


@pytest.mark.slow
def test_classify_without_the_weights_that_a_run_was_trained_from_says_so(tiny_run, cells, capsys, monkeypatch):
    run = tiny_run()
    config = run.trained.changed(weights="imagenet", weights_file="alexnet.h5", weights_sha256="0" * 64)
    run.write("model.json", run.model | {"config": stored_config(config)})

    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    assert main(["classify", str(cells[0]), "--run", run.id]) == 2
    assert "weights of AlexNet" in capsys.readouterr().err
