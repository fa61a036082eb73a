"""The train page without a browser, and its parts: form, texts, curves. No training process is started here."""

import contextlib
import re
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from leukodash import settings
from leukodash.config.form_schema import HIDDEN, changes, differences, read_list, settings_of, value_of, write_list
from leukodash.config.presets import make_config
from leukodash.config.run_config import RunConfig
from leukodash.data.dataset import load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.errors import RunError
from leukodash.figures.training_curves import history_figure, sparkline
from leukodash.jobs import launch as jobs
from leukodash.jobs.live_status import curve_names, curve_runs, live_runs, queue_words, readable, stage_words
from leukodash.models.backbones import BACKBONES
from leukodash.runs.locks import run_lock
from leukodash.runs.run_folder import create_run, list_runs

APP = str(Path(__file__).resolve().parents[1] / "streamlit_app.py")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A few demo cells, generated once."""
    return make_demo(tmp_path_factory.mktemp("drawn") / "demo", cells=48, subjects=12)


@pytest.fixture(autouse=True)
def small_demo(drawn, monkeypatch):
    """The few demo cells, in the app's data folder."""
    st.cache_resource.clear()  # it outlives a test, and the folders in it do not
    shutil.copytree(drawn, settings.data_root() / "demo")
    monkeypatch.setattr("leukodash.app.common.make_demo", lambda folder: folder)


@pytest.fixture
def started(monkeypatch):
    """Runs that the page starts: their folders are created, their processes are not."""
    runs = []

    def start(config, **about):
        runs.append(create_run(config, **about))
        return runs[-1]

    monkeypatch.setattr(jobs, "start", start)
    return runs


@pytest.fixture
def page():
    return AppTest.from_file(APP, default_timeout=60)


def demo():
    return load_dataset(settings.data_root() / "demo")


def run_of(backbone="mobilenet", state="finished", **status):
    run = create_run(make_config("quick", backbone, demo()))
    run.write("status.json", {"state": state, "updated": 0, **status})
    return run


def with_curve(run, epochs=3):
    rows = [(e, 1 / e, 0.5 + e / 20, 1.1 / e, 0.5 + e / 25, 0.001, 0.1) for e in range(1, epochs + 1)]
    columns = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"]
    pd.DataFrame(rows, columns=columns).to_csv(run.path / "history.csv", index=False)
    return run


def said(page):
    return "\n".join(
        element.value for kind in ("markdown", "caption", "error", "warning", "info") for element in page.get(kind)
    )


def test_a_first_run_needs_one_click(page, started):
    page.run()
    assert not page.exception
    assert page.button(key="start").label == "Start"
    page.button(key="start").click().run()
    assert [run.config.backbone for run in started] == ["mobilenet"]
    assert started[0].config.preset == "quick"
    assert started[0].config == make_config("quick", "mobilenet", demo())


def test_the_page_says_that_demo_cells_are_generated_and_how_they_are_split(page):
    page.run()
    assert "generated" in said(page)
    assert "48 cells" in said(page)
    assert "split by subject" in said(page)
    assert "about" in said(page)


def test_each_selected_backbone_gets_a_run_with_its_own_preset(page, started):
    page.run()
    page.checkbox(key="use-resnet50").check().run()
    assert "There is no test set" not in said(page)
    page.pills(key="preset").set_value("mamaev-2023").run()
    assert "There is no test set" in said(page)
    page.text_input(key="owner").input("Ada").run()
    assert page.button(key="start").label == "Start 2 runs"
    page.button(key="start").click().run()
    assert [run.config.backbone for run in started] == ["mobilenet", "resnet50"]
    assert [run.config.head for run in started] == [(0.5,), (0.5, 1024)]
    assert {run.about["owner"] for run in started} == {"Ada"}


@pytest.mark.parametrize(("asked", "preset"), [("mamaev-2023", "mamaev-2023"), ("<b>", "quick")])
def test_the_url_contains_the_preset(page, asked, preset):
    page.query_params["preset"] = asked
    page.run()
    assert page.pills(key="preset").value == preset
    assert page.query_params["preset"] == preset
    page.pills(key="preset").set_value("recommended").run()
    assert page.query_params["preset"] == "recommended"


def test_a_changed_setting_applies_to_every_run_and_another_preset_resets_it(page, started):
    page.run()
    page.checkbox(key="use-alexnet").check().run()
    widget(page.number_input, "Epochs").set_value(7).run()
    page.button(key="start").click().run()
    assert [run.config.epochs for run in started] == [7, 7]
    page.pills(key="preset").set_value("recommended").run()
    assert widget(page.number_input, "Epochs").value == 60
    page.pills(key="preset").set_value("quick").run()
    assert widget(page.number_input, "Epochs").value == 15


def test_inconsistent_settings_are_reported_before_start(page):
    page.run()
    widget(page.number_input, "Weight decay").set_value(0.1).run()
    assert "weight decay belongs to the optimizer adamw" in said(page)
    assert page.button(key="start").disabled
    widget(page.selectbox, "Optimizer").select("adamw").run()
    assert not page.button(key="start").disabled


def test_a_text_that_is_not_a_list_of_numbers_is_reported_before_start(page):
    page.run()
    widget(page.text_input, "Head").input("many").run()
    assert "Head takes numbers" in said(page)
    assert page.button(key="start").disabled


def test_without_pretrained_weights_the_page_says_what_will_happen(page):
    page.run()
    assert "random start" in said(page)
    assert "from random weights" in said(page)


def test_start_is_disabled_without_a_backbone(page):
    page.run()
    page.checkbox(key="use-mobilenet").uncheck().run()
    assert not page.exception
    assert page.button(key="start").disabled
    assert "Select a network" in said(page)


def test_a_running_and_a_waiting_run_are_shown_and_can_be_stopped(page):
    one = with_curve(
        run_of("mobilenet", "running", stage="training", progress=0.5, message="epoch 3 of 20", seconds_left=12)
    )
    two = run_of("vgg16", "queued", ahead=1)
    with run_lock(one.path), run_lock(two.path):
        page.run()
        assert not page.exception
        shown = [bar.proto.text for bar in page.get("progress")]
        assert shown[0] == "training · epoch 3 of 20 · about 12 s left · learning rate 0.001"
        assert re.fullmatch(r"2nd in line · starts in about \d+ s|2nd in line", shown[1])
        page.button(key=f"stop-{one.id}").click().run()
        assert (one.path / "stop").exists()
        assert page.button(key=f"stop-{one.id}").disabled


def test_a_lost_run_can_be_resumed(page, monkeypatch):
    resumed = []
    monkeypatch.setattr(jobs, "resume", resumed.append)
    run = run_of("mobilenet", "running", stage="training")  # and nobody holds its lock
    page.run()
    assert "lost" in said(page)
    page.button(key=f"resume-{run.id}").click().run()
    assert resumed == [run]


def test_a_failed_run_shows_its_error_and_the_end_of_its_log(page):
    run = run_of("mobilenet", "failed", error="The cells went away.")
    (run.path / "log.txt").write_text("first\nlast words\n")
    page.run()
    assert "The cells went away." in said(page)
    assert any("last words" in code.value for code in page.code)


def test_a_deleted_run_can_be_restored(page):
    run = with_curve(run_of(state="stopped"))
    page.run()
    page.button(key=f"delete-{run.id}").click().run()
    assert not page.exception
    assert not run.path.exists()
    assert "was deleted" in said(page)
    page.button(key=f"undo-{run.id}").click().run()
    assert len(run.history) == 3
    assert "was deleted" not in said(page)


def test_a_sweep_is_started_with_one_click_and_its_runs_can_be_told_apart(page, started):
    page.run()
    page.checkbox(key="use-alexnet").check().run()
    page.selectbox(key="vary").select("learning_rate").run()
    page.text_input(key="vary-learning_rate").input("0.01, 0.001; 1e-4").run()
    assert not page.exception
    assert page.button(key="start").label == "Start 6 runs"
    page.button(key="start").click().run()
    assert [(run.config.backbone, run.config.learning_rate) for run in started] == [
        (backbone, rate) for backbone in ("mobilenet", "alexnet") for rate in (0.01, 0.001, 0.0001)
    ]
    assert started[0].title == "MobileNet · learning rate 0.01"
    assert len({run.title for run in started}) == 6


def test_an_invalid_sweep_value_is_reported_before_start(page):
    page.run()
    page.selectbox(key="vary").select("learning_rate").run()
    page.text_input(key="vary-learning_rate").input("0.01, fast").run()
    assert "not 'fast'" in said(page)
    assert page.button(key="start").disabled


def test_all_networks_are_selected_with_one_click(page, started):
    page.run()
    page.button(key="use-all").click().run()
    page.button(key="start").click().run()
    assert [run.config.backbone for run in started] == list(BACKBONES)


def test_runs_can_be_filtered_by_owner(page):
    mine, other = (with_curve(run_of(state="stopped")) for _ in range(2))
    for run, owner in ((mine, "Ada"), (other, "Ben *x*")):
        run.write("about.json", {"owner": owner})
    page.run()
    assert page.button(key=f"delete-{other.id}")
    page.pills(key="of").set_value("Ada").run()
    assert not page.exception
    assert [button.key for button in page.button if button.key.startswith("delete-")] == [f"delete-{mine.id}"]


def test_a_long_queue_is_counted_not_listed(page):
    runs = [run_of("alexnet", "queued", ahead=place) for place in range(9)]
    with contextlib.ExitStack() as stack:
        for run in runs:
            stack.enter_context(run_lock(run.path))
        page.run()
        assert not page.exception
        assert len([button for button in page.button if button.key.startswith("stop-")]) == 6
        assert page.button(key="more-live").label == "3 more in the queue"


def test_augmentation_is_previewed_before_start(page):
    page.run()
    assert "Augmentation is off" in said(page)
    widget(page.selectbox, "Views").select("views").run()
    assert not page.exception
    assert "how training may see it" in said(page)


def test_a_found_learning_rate_goes_into_the_form(page, monkeypatch):
    monkeypatch.setattr(jobs, "launch", lambda run: None)
    page.run()
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


def test_restart_with_changes_fills_the_form_from_the_run(page, started):
    old = create_run(make_config("quick", "alexnet", demo(), epochs=9, split={"kind": "image", "seed": 4}))
    old.write("status.json", {"state": "stopped"})
    page.run()
    page.button(key=f"again-{old.id}").click().run()
    assert not page.exception
    assert widget(page.number_input, "Epochs").value == 9
    widget(page.number_input, "Epochs").set_value(11).run()
    page.button(key="start").click().run()
    assert started[0].config.model_dump() == old.config.changed(epochs=11).model_dump()


def test_a_folder_without_a_readable_config_does_not_break_the_page(page):
    broken = settings.checkpoints() / "20260101-000000-mobilenet-0000"
    broken.mkdir(parents=True)
    (broken / "config.json").write_text("{")
    page.run()
    assert not page.exception
    assert "no readable config.json" in said(page)


def test_folders_that_are_not_data_sets_get_a_warning_each(page):
    (settings.data_root() / "empty").mkdir()
    (settings.data_root() / "single" / "blast").mkdir(parents=True)
    (settings.data_root() / "single" / "blast" / "1.png").write_bytes(b"x")
    page.run()
    assert not page.exception
    assert "No cell images were found in 'empty'" in said(page)
    assert "'single' has one class, 'blast'" in said(page)


def test_a_link_to_a_missing_data_set_shows_a_warning(page):
    page.query_params["data"] = "gone"
    page.run()
    assert not page.exception
    assert "There is no data set 'gone'" in said(page)


def test_the_page_does_not_import_tensorflow(page):
    before = "tensorflow" in sys.modules
    page.run()
    assert ("tensorflow" in sys.modules) == before


def widget(kind, label):
    return next(element for element in kind if element.label == label)


# ------------------------------------------------------------------------------------------ what it is made of


def test_every_setting_of_a_run_is_in_the_form_with_help():
    names = [setting.name for setting in settings_of(BACKBONES["vgg16"])]
    declared = [name for name in RunConfig.model_fields if name not in (*HIDDEN, "split")]
    assert [name for name in names if not name.startswith("split.")] == declared
    assert all(setting.help for setting in settings_of(BACKBONES["vgg16"]))


def test_the_cuts_to_choose_from_are_the_backbones_own():
    cut = next(setting for setting in settings_of(BACKBONES["vgg16"]) if setting.name == "train_from")
    assert cut.choices == ("head", "block5", "block4", "block3", "block2", "all")


def test_limits_are_those_of_the_settings():
    limits = {setting.name: (setting.low, setting.high) for setting in settings_of(BACKBONES["vgg16"])}
    assert limits["input_size"] == (32, 600)
    assert limits["seed"] == (0, 2**31 - 1)
    assert limits["learning_rate"] == (0, 10)


def test_only_what_differs_counts_as_a_change():
    config = make_config("dhuri-guinde-2020", "mobilenet", demo())
    values = {setting.name: value_of(config, setting.name) for setting in settings_of(config.spec)}
    assert changes(config, values) == {}
    assert changes(config, {**values, "epochs": 3, "split.seed": 5}) == {"epochs": 3, "split": {"seed": 5}}
    assert changes(config, {**values, "split.kind": "image"}) == {"split": {"kind": "image", "counts": None}}


def test_differences_lead_from_a_preset_to_an_old_run():
    base, old = (
        make_config("quick", "mobilenet", demo(), **more) for more in ({}, {"epochs": 3, "split": {"seed": 2}})
    )
    assert differences(old, base) == {"epochs": 3, "split.seed": 2}


def test_lists_are_read_as_they_are_written():
    assert read_list(write_list((0.5, 2048, 0.5)), "Head") == (0.5, 2048, 0.5)
    assert read_list("", "Head") == ()
    with pytest.raises(RunError, match="Head takes numbers"):
        read_list("0.5, a", "Head")


@pytest.mark.parametrize(
    ("ahead", "words"),
    [(0, "next in line"), (1, "2nd in line"), (2, "3rd in line"), (10, "11th in line"), (20, "21st in line")],
)
def test_places_in_the_queue_are_ordinals(ahead, words):
    assert queue_words(ahead) == words


def test_a_stage_is_said_in_words():
    status = {"state": "running", "stage": "features", "message": "64 of 600 cells", "progress": 0.1}
    assert stage_words(status) == "computing features of the frozen layers · 64 of 600 cells"


def test_running_runs_come_before_waiting_ones():
    runs = [run_of(state="queued"), run_of("vgg16", "running"), run_of("alexnet", "stopped")]
    with run_lock(runs[0].path), run_lock(runs[1].path):
        assert live_runs(list_runs()) == [runs[1], runs[0]]


def test_curves_of_runs_started_together_stay_together(monkeypatch):
    old, one, two = (with_curve(run_of(backbone)) for backbone in ("resnet50", "mobilenet", "vgg16"))
    ages = {old: 10_000, one: 30, two: 0}
    monkeypatch.setattr("leukodash.jobs.live_status.started", lambda run: time.time() - ages[run])
    assert set(curve_runs([two, one, old], [])) == {one, two}


def test_runs_of_the_same_second_have_names_of_their_own():
    runs = [run_of(), run_of(), run_of()]
    for run in runs:
        run.write("about.json", {"title": "Mine"})
    assert len(curve_names(runs)) == 3


def test_curves_of_a_study_are_named_by_what_tells_them_apart():
    labels = ["eight views, tested on fold 0", "eight views, tested on fold 0, draw 2", "eight views, tested on fold 1"]
    runs = [run_of() for _ in labels]
    for run, label in zip(runs, labels, strict=True):
        run.write("about.json", {"label": label})
    named, own = run_of("vgg16"), run_of("resnet50")
    named.write("about.json", {"title": "Mine", "label": "eight views"})
    assert list(curve_names([*runs, named, own])) == [
        "MobileNet: tested on fold 0", "MobileNet: tested on fold 0, draw 2", "MobileNet: tested on fold 1",
        "Mine", own.title,
    ]  # fmt: skip
    assert list(curve_names(runs[:1])) == [f"MobileNet: {labels[0]}"]


def test_unreadable_runs_are_set_apart():
    good, bad = run_of(), run_of()
    (bad.path / "config.json").write_text("[]")
    runs, problems = readable([good, bad])
    assert runs == [good]
    assert len(problems) == 1


def test_the_empty_chart_says_what_will_be_there():
    figure = history_figure({}, "accuracy", {})
    assert not figure.data
    assert figure.layout.annotations[0].text == "the curve appears here"


def test_a_sparkline_runs_from_left_to_right_and_higher_is_up():
    svg = sparkline([0.5, 0.9], "#123456", width=100, height=40)
    assert 'points="3.0,37.0 97.0,3.0"' in svg
    assert "#123456" in svg
