"""The train page without a browser, and its parts: form, texts, curves. No training process is started here."""

import contextlib
import re
import sys
import time

import numpy as np
import pandas as pd
import pytest
from apptest import open_page, texts, widget
from made_runs import made_cells, made_run

from leukodash import settings
from leukodash.config.form_schema import HIDDEN, changes, differences, read_list, settings_of, value_of, write_list
from leukodash.config.presets import make_config
from leukodash.config.run_config import RunConfig
from leukodash.errors import RunError
from leukodash.evaluation.comparison import summary
from leukodash.figures.training_curves import history_figure, sparkline
from leukodash.jobs import launch as jobs
from leukodash.jobs.live_status import best_words, curve_runs, queue_words, stage_words
from leukodash.models.backbones import BACKBONES
from leukodash.runs.leaderboard import compare_runs
from leukodash.runs.locks import run_lock
from leukodash.runs.run_folder import create_run, list_runs

pytestmark = pytest.mark.usefixtures("app_demo")


@pytest.fixture
def started(monkeypatch):
    """Runs that the page starts: their folders are created, their processes are not."""
    runs = []

    def start_together(planned, actor, owner):
        runs.extend(create_run(each.config, title=each.title, owner=owner, by=actor.id) for each in planned)
        return runs[-len(planned) :]

    monkeypatch.setattr(jobs, "start_together", start_together)
    return runs


@pytest.fixture
def run_of(app_demo):
    """Return a function that creates a run without training it."""

    def make(backbone="mobilenet", state="finished", owner="", **status):
        run = create_run(make_config("quick", backbone, app_demo), owner=owner)
        run.write("status.json", {"state": state, "updated": 0, **status})
        return run

    return make


def with_curve(run, epochs=3):
    rows = [(e, 1 / e, 0.5 + e / 20, 1.1 / e, 0.5 + e / 25, 0.001, 0.1) for e in range(1, epochs + 1)]
    columns = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"]
    pd.DataFrame(rows, columns=columns).to_csv(run.path / "history.csv", index=False)
    return run


def keys(page, start):
    """Return the keys of the page's buttons that start like this."""
    return [button.key for button in page.button if button.key.startswith(start)]


def test_a_first_run_needs_one_click_and_the_page_describes_it_without_tensorflow(started, app_demo):
    before = "tensorflow" in sys.modules
    page = open_page("train")
    said = texts(page)
    for words in ("generated", "60 cells", "split by subject", "about"):
        assert words in said
    assert "random start" not in said  # its weights come with LeukoDash
    assert page.button(key="start").label == "Start"
    page.button(key="start").click().run()
    assert [run.config for run in started] == [make_config("quick", "mobilenet", app_demo)]
    assert ("tensorflow" in sys.modules) == before


def test_each_selected_backbone_gets_a_run_with_its_own_preset_which_is_in_the_address(started):
    page = open_page("train")
    page.pills(key="backbones").set_value(["resnet50", "mobilenet"]).run()
    assert "There is no test set" not in texts(page)
    assert "ImageNet weights of ResNet50 are not on this machine" in texts(page)
    assert "from random weights" in texts(page)
    page.pills(key="preset").set_value("mamaev-2023").run()
    assert page.query_params["preset"] == "mamaev-2023"
    assert "There is no test set" in texts(page)
    page.text_input(key="owner").input("Ada").run()
    assert page.button(key="start").label == "Start 2 runs"
    page.button(key="start").click().run()
    heads = {run.config.backbone: run.config.head for run in started}
    assert heads == {"mobilenet": (0.5,), "resnet50": (0.5, 1024)}
    assert {run.about["owner"] for run in started} == {"Ada"}


def test_an_address_is_followed_as_far_as_it_names_what_there_is():
    assert open_page("train", preset="mamaev-2023").pills(key="preset").value == "mamaev-2023"
    (settings.data_root() / "empty").mkdir()
    (settings.data_root() / "single" / "blast").mkdir(parents=True)
    (settings.data_root() / "single" / "blast" / "1.png").write_bytes(b"x")
    page = open_page("train", preset="<b>", data="gone")
    assert page.pills(key="preset").value == "quick"
    assert "There is no recipe '<b>'" in texts(page)
    for words in ("no data set 'gone'", "No cell images were found in 'empty'", "'single' has one class, 'blast'"):
        assert words in texts(page)


def test_a_link_fills_the_form_and_each_value_that_cannot_be_used_gets_a_sentence(started, app_demo):
    link = {"backbones": "resnet50,alexnet", "preset": "quick", "preprocessing": "divide_by_255", "epochs": "7"}
    page = open_page("train", **link, head="0.5, 64", **{"split.kind": "image", "batchnorm_momentum": "0.9"})
    assert widget(page.number_input, "Epochs").value == 7
    widget(page.number_input, "Epochs").set_value(8).run()  # and from then on the form counts
    page.button(key="start").click().run()
    assert [run.config.backbone for run in started] == ["resnet50", "alexnet"]
    config = started[0].config
    assert (config.preset, config.preprocessing, config.epochs) == ("quick", "divide_by_255", 8)
    assert (config.head, config.split.kind, config.batchnorm_momentum) == ((0.5, 64), "image", 0.9)

    wrong = {"epochs": "0", "learning_rate": "fast", "flips": "often", "seed": "1,2", "colour": "*red*"}
    page = open_page("train", backbones="vgg99,alexnet", **wrong)
    for words in (
        "no network 'vgg99'", "Epochs takes numbers from 1 to 10000, not 0", "not 'fast'", "not 'often'",
        "Seed takes one value, not '1,2'", "no setting 'colour'",
    ):  # fmt: skip
        assert words in texts(page)
    page.button(key="start").click().run()
    assert started[-1].config == make_config("quick", "alexnet", app_demo)


def test_settings_survive_a_reload_and_back_undoes_them(monkeypatch):
    page = open_page("train")
    assert not page.query_params  # an untouched form adds nothing to the browser's history
    page.pills(key="backbones").set_value(["alexnet"]).run()
    widget(page.number_input, "Epochs").set_value(7).run()
    widget(page.text_input, "Head").input("64, 0.5").run()
    widget(page.toggle, "Class weights").set_value(True).run()
    address = dict(page.query_params)

    def form(page):
        head, weighted = widget(page.text_input, "Head").value, widget(page.toggle, "Class weights").value
        return page.pills(key="backbones").value, widget(page.number_input, "Epochs").value, head, weighted

    filled = (["alexnet"], 7, "64, 0.5", True)
    assert form(page) == form(open_page("train", **address)) == filled
    before = {name: value for name, value in address.items() if name != "class_weights"}
    for stale, shown in ((5.0, filled), (0.0, (*filled[:3], False))):  # a late rerun is not taken for a step back
        monkeypatch.setattr("leukodash.app.train.address.STALE_SECONDS", stale)
        page.query_params.clear()
        page.query_params.update(before)
        page.run()
        assert form(page) == shown


def test_a_changed_setting_applies_to_every_run_and_another_preset_resets_it(started):
    page = open_page("train")
    page.pills(key="backbones").set_value(["mobilenet", "alexnet"]).run()
    widget(page.number_input, "Epochs").set_value(7).run()
    assert "Augmentation is off" in texts(page)
    widget(page.selectbox, "Views").select("views").run()
    assert "how training may see it" in texts(page)
    page.button(key="start").click().run()
    assert [(run.config.epochs, run.config.flips) for run in started] == [(7, "views")] * 2
    for preset, unused in (("recommended", True), ("quick", False)):
        page.pills(key="preset").set_value(preset).run()
        epochs = widget(page.number_input, "Epochs")
        assert epochs.disabled == unused and epochs.value != 7
    assert epochs.value == 15


def test_settings_that_do_not_fit_are_reported_before_start():
    page = open_page("train")

    def problem(words):
        return words in texts(page) and page.button(key="start").disabled

    page.pills(key="backbones").set_value([]).run()
    assert problem("Select a network")
    page.pills(key="backbones").set_value(["mobilenet"]).run()
    widget(page.number_input, "Weight decay").set_value(0.1).run()
    assert problem("weight decay belongs to the optimizer adamw")
    widget(page.selectbox, "Optimizer").select("adamw").run()
    assert not page.button(key="start").disabled
    page.selectbox(key="vary").select("learning_rate").run()
    page.text_input(key="vary-learning_rate").input("0.01, fast").run()
    assert problem("not 'fast'")
    page.text_input(key="vary-learning_rate").input("0.01").run()
    assert not page.button(key="start").disabled
    widget(page.text_input, "Head").input("many").run()
    assert problem("Head takes numbers")


def test_a_sweep_of_all_networks_is_started_with_one_click_and_its_runs_can_be_told_apart(started):
    page = open_page("train")
    page.button(key="use-all").click().run()
    page.selectbox(key="vary").select("learning_rate").run()
    page.text_input(key="vary-learning_rate").input("0.01, 0.001; 1e-4").run()
    expected = [(backbone, rate) for backbone in BACKBONES for rate in (0.01, 0.001, 0.0001)]
    assert page.button(key="start").label == f"Start {len(expected)} runs"
    page.button(key="start").click().run()
    assert [(run.config.backbone, run.config.learning_rate) for run in started] == expected
    assert "MobileNet · learning rate 0.01" in [run.title for run in started]
    assert len({run.title for run in started}) == len(expected)


def test_running_runs_come_before_waiting_ones_can_be_stopped_and_a_long_queue_is_counted(run_of):
    runs = [run_of("alexnet", "queued", ahead=place) for place in range(9)]
    status = {"stage": "training", "progress": 0.5, "message": "epoch 3 of 20", "seconds_left": 12}
    running = with_curve(run_of("mobilenet", "running", **status))
    run_of("vgg16", "stopped")
    with contextlib.ExitStack() as stack:
        for run in (*runs, running):
            stack.enter_context(run_lock(run.path))
        page = open_page("train")
        shown = [bar.proto.text.replace("\\", "") for bar in page.get("progress")]
        assert shown[0] == "training · epoch 3 of 20 · about 12 s left · learning rate 0.001"
        assert re.fullmatch(r"2nd in line( · starts in about \d+ s)?", shown[2])
        assert len(keys(page, "stop-")) == 6
        assert page.button(key="more-live").label == "4 more in the queue"
        page.button(key=f"stop-{running.id}").click().run()
        assert (running.path / "stop").exists()
        assert page.button(key=f"stop-{running.id}").disabled


def test_a_run_that_gets_ready_is_spoken_of_and_not_one_before_it(run_of):
    page = open_page("train")
    assert "The curves of your run are drawn here" in texts(page)
    assert "example" in page.get("bidi_component")[0].proto.json  # of what will be here
    with_curve(run_of(state="stopped"))
    assert "lowest in epoch 3" in texts(open_page("train"))
    new = run_of("alexnet", "running", stage="preparing")
    with run_lock(new.path):
        said = texts(open_page("train"))
    assert "**: getting ready" in said
    assert "lowest in epoch" not in said


def test_the_kept_epoch_is_explained_where_another_had_more_cells_right():
    run = made_run()  # 40 validation cells; loss and accuracy are best in epoch 4
    assert best_words(run) == (
        "the validation loss is lowest in epoch 4, whose weights are kept: 87.5% of 40 validation cells are right."
    )
    run.history.assign(val_loss=[0.5, 0.3, 0.4, 0.6]).to_csv(run.path / "history.csv", index=False)
    assert best_words(run).endswith(
        "75.0% of 40 validation cells are right. Epoch 4 had more right, 87.5%, but a higher loss."
    )


@pytest.mark.parametrize("subject", ["known", None])
def test_a_run_has_the_interval_that_compare_gives_it(subject):
    cells = made_cells()
    run = made_run(cells=cells if subject else cells.assign(subject=None))
    comparison = compare_runs([run])
    row = summary(comparison, dict.fromkeys(comparison.predictions)).table.iloc[0]
    interval = f"95% interval {row['accuracy_low']:.1%}–{row['accuracy_high']:.1%}"
    assert f"{row['accuracy']:.1%} ({run.metrics['correct']} of 70; {interval})" in texts(open_page("train"))


def test_start_says_so_and_a_long_queue_is_announced_with_what_would_be_quicker(started, run_of, monkeypatch):
    page = open_page("train", preset="recommended", backbones="vgg16,mobilenet")
    assert "Quicker" not in texts(page)
    monkeypatch.setattr("leukodash.app.train.start_button.turns", lambda live, runs: ({}, 1800.0))
    waiting = [run_of(state="queued") for _ in range(2)]
    with run_lock(waiting[0].path), run_lock(waiting[1].path):
        page.run()
        assert "2 runs come first: yours starts in about 30 min. Results take about 3" in texts(page)
        assert "MobileNet alone with the recipe Quick" in texts(page)
    page.button(key="start").click().run()
    assert page.toast[0].value.startswith("Started: 2 runs.")


def test_failed_lost_and_unreadable_runs_are_explained_and_a_lost_one_can_be_resumed(run_of, monkeypatch):
    resumed = []
    monkeypatch.setattr(jobs, "resume", lambda run, actor: resumed.append(run))
    lost = run_of("mobilenet", "running", stage="training")  # and nobody holds its lock
    failed = run_of("mobilenet", "failed", error="The cells went away.")
    (failed.path / "log.txt").write_text("first\nlast words\n")
    (run_of("vgg16").path / "config.json").write_text("{")
    page = open_page("train")
    for words in ("lost", "The cells went away.", "'config.json' of"):
        assert words in texts(page)
    assert any("last words" in code.value for code in page.code)
    page.button(key=f"resume-{lost.id}").click().run()
    assert resumed == [lost]


def test_runs_can_be_filtered_by_owner_and_a_deleted_run_can_be_restored(run_of):
    _, run, _ = (with_curve(run_of(state="stopped", owner=owner)) for owner in ("ben *x*", "Ada", ""))
    page = open_page("train")
    assert page.pills(key="of").options == ["Ada", r"ben \*x\*"]  # as Markdown shows it
    assert len(keys(page, "delete-")) == 3
    page.pills(key="of").set_value("Ada").run()
    assert keys(page, "delete-") == [f"delete-{run.id}"]
    page.button(key=f"delete-{run.id}").click().run()
    assert not run.path.exists()
    assert "was deleted" in texts(page)
    page.button(key=f"undo-{run.id}").click().run()
    assert len(run.history) == 3
    assert "was deleted" not in texts(page)


def test_a_found_learning_rate_goes_into_the_form(monkeypatch):
    monkeypatch.setattr(jobs, "launch", lambda run: None)
    page = open_page("train")
    page.button(key="find-rate").click().run()
    assert not page.exception
    (folder,) = settings.checkpoints().glob(".rates-*")
    assert not list_runs()
    (folder / "status.json").write_text('{"state": "finished"}')
    rate = np.geomspace(1e-6, 10, 120)
    smooth = 1 - 0.9 / (1 + (0.01 / rate) ** 2) + rate / 5  # falls fastest around 0.01, and rises again
    pd.DataFrame({"rate": rate, "loss": smooth, "smooth": smooth}).to_csv(folder / "rates.csv", index=False)
    page.run()
    page.button(key="use-rate").click().run()
    assert not page.exception
    assert 0.003 <= widget(page.number_input, "Learning rate").value <= 0.02


def test_restart_with_changes_fills_the_form_from_the_run(started, app_demo):
    old = create_run(make_config("quick", "alexnet", app_demo, epochs=9, split={"kind": "image", "seed": 4}))
    old.write("status.json", {"state": "stopped"})
    page = open_page("train")
    page.button(key=f"again-{old.id}").click().run()
    assert widget(page.number_input, "Epochs").value == 9
    widget(page.number_input, "Epochs").set_value(11).run()
    page.button(key="start").click().run()
    assert not page.exception
    assert started[0].config == old.config.changed(epochs=11)


# ------------------------------------------------------------------------------------------ what it is made of


def test_every_setting_of_a_run_is_in_the_form_with_its_choices_limits_and_help():
    form = {setting.name: setting for setting in settings_of(BACKBONES["vgg16"])}
    declared = [name for name in RunConfig.model_fields if name not in (*HIDDEN, "split")]
    assert [name for name in form if not name.startswith("split.")] == declared
    assert all(setting.help for setting in form.values())
    assert form["train_from"].choices == ("head", "block5", "block4", "block3", "block2", "all")
    limits = {"input_size": (32, 600), "seed": (0, 2**31 - 1), "learning_rate": (0, 10)}
    assert {name: (form[name].low, form[name].high) for name in limits} == limits


def test_only_what_differs_counts_as_a_change(app_demo):
    config = make_config("dhuri-guinde-2020", "mobilenet", app_demo)
    values = {setting.name: value_of(config, setting.name) for setting in settings_of(config.spec)}
    assert changes(config, values) == {}
    assert changes(config, {**values, "epochs": 3, "split.seed": 5}) == {"epochs": 3, "split": {"seed": 5}}
    assert changes(config, {**values, "split.kind": "image"}) == {"split": {"kind": "image", "counts": None}}
    old_settings = {"epochs": 3, "split": {"seed": 2}}
    base, old = (make_config("quick", "mobilenet", app_demo, **more) for more in ({}, old_settings))
    assert differences(old, base) == {"epochs": 3, "split.seed": 2}


def test_lists_are_read_as_they_are_written():
    assert read_list(write_list((0.5, 2048, 0.5)), "Head") == (0.5, 2048, 0.5)
    assert read_list("", "Head") == ()
    with pytest.raises(RunError, match="Head takes numbers"):
        read_list("0.5, a", "Head")


def test_places_in_the_queue_and_stages_are_said_in_words():
    places = {0: "next in line", 1: "2nd in line", 2: "3rd in line", 10: "11th in line", 20: "21st in line"}
    assert {ahead: queue_words(ahead) for ahead in places} == places
    status = {"state": "running", "stage": "features", "message": "64 of 600 cells", "progress": 0.1}
    assert stage_words(status) == "computing features of the frozen layers · 64 of 600 cells"


def test_curves_of_runs_started_together_stay_together(run_of, monkeypatch):
    old, one, two = (with_curve(run_of(backbone)) for backbone in ("resnet50", "mobilenet", "vgg16"))
    ages = {old: 10_000, one: 30, two: 0}
    monkeypatch.setattr("leukodash.jobs.live_status.started", lambda run: time.time() - ages[run])
    assert set(curve_runs([two, one, old], [])) == {one, two}


def test_the_empty_chart_says_what_will_be_there():
    figure = history_figure({}, "accuracy", {})
    assert not figure.data
    assert figure.layout.annotations[0].text == "the curve appears here"


def test_a_sparkline_runs_from_left_to_right_and_higher_is_up():
    svg = sparkline([0.5, 0.9], "#123456", width=100, height=40)
    assert 'points="3.0,37.0 97.0,3.0"' in svg
    assert "#123456" in svg
