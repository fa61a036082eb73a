"""The lesson page without a browser: what it says with the study's runs, and without them."""

from urllib.parse import parse_qsl

import numpy as np
import pytest
from apptest import open_page, texts, widget
from made_runs import made_cells, made_run
from sklearn.metrics import roc_auc_score

from leukodash.app.lesson.cells_part import sample_cells, shared_test_cells
from leukodash.config.presets import make_config
from leukodash.data.split import Split, make_split
from leukodash.figures.lesson_pictures import ranges_figure
from leukodash.figures.theme import alt_text
from leukodash.studies.catalogue import StudyRun, record_study_run

pytestmark = pytest.mark.usefixtures("app_demo")


def answers_for(label, run, cpu_overrides=False):
    whole = run.config.changed(epochs=run.config.epochs + 1) if cpu_overrides else run.config
    record_study_run("resnet50", StudyRun(label, "resnet50"), run.config, whole, run)


def test_without_runs_the_page_shows_the_suspects_and_how_to_train_the_runs():
    page = open_page("lesson")
    assert "36 of 70 cells, 51.4%" in texts(page)
    assert any("study resnet50 --data DIR" in info.value for info in page.info)
    assert [head.value[0] for head in page.header] == list("123456")
    assert [one.value for one in page.subheader] == [
        "Suspect 1: one output unit",
        "Suspect 2: pixels on another scale",
        "Suspect 3: batch normalization in two modes",
        "One change at a time",
    ]


def test_classes_are_hidden_until_asked_for_and_then_the_guesses_are_counted():
    page = open_page("lesson")
    hidden = page.get("image")
    assert not [image for image in hidden[:12] if "blast" in str(image.proto) or "normal" in str(image.proto)]
    cells, _ = sample_cells()
    blasts = [number for number, label in enumerate(cells["label"][:12], 1) if label == "all"]
    assert 3 <= len(blasts) <= 9
    widget(page.get("button_group"), "The blasts are").set_value(blasts[1:])
    widget(page.toggle, "Show the answers").set_value(True).run()
    assert "You have **11 of 12 (91.7%; 64.6% to 98.5%)** right" in texts(page)
    assert "normal" in str([image.proto for image in page.get("image")[:12]])
    assert "C-NMC 2019, Gupta & Gupta, CC BY 3.0" in texts(page)


def test_the_limit_of_size_counts_the_cells_on_its_right_side():
    page = open_page("lesson")
    cells, _ = sample_cells()
    widget(page.slider, "Blast if the cell fills at least (% of the picture)").set_value(15).run()
    right = ((cells["share"] >= 0.15) == (cells["label"] == "all")).sum()
    assert f"Right: **{right} of 48" in texts(page)
    assert f"in {roc_auc_score(cells['label'] == 'all', cells['share']):.0%} of all pairs" in texts(page)


def test_both_splits_test_the_cells_shown_and_only_the_one_by_image_trains_on_their_people(app_demo):
    shown = shared_test_cells(str(app_demo.root), app_demo.fingerprint)
    cells, part = app_demo.cells, make_split(app_demo.cells, Split(kind="image"))
    assert len(shown) > 0
    for row in shown.itertuples():
        assert row.image == ((cells["subject"] == row.subject) & (part == "train")).sum() > 0
        assert row.person == 0


def test_the_links_fill_the_train_form_with_settings_that_exist(app_demo):
    page = open_page("lesson")
    links = [dict(parse_qsl(link.proto.query_string)) for link in page.get("page_link")]
    known = {"data", "preset", "backbones", "split.kind", "preprocessing"}
    assert {name for query in links for name in query} == known
    for query in filter(None, links):
        settings = {name: value for name, value in query.items() if "." not in name}
        _, preset, backbone = settings.pop("data"), settings.pop("preset"), settings.pop("backbones")
        split = {"kind": query["split.kind"]} if "split.kind" in query else {}
        assert make_config(preset, backbone, app_demo, split=split, **settings).backbone == backbone


def test_the_published_runs_say_what_a_split_by_image_adds_and_how_many_people_are_right(monkeypatch):
    monkeypatch.delenv("LEUKODASH_PUBLISHED")
    said = texts(open_page("lesson"))
    assert "**87.9%** by image, **85.0%** by subject" in said
    assert "**33 of 36 people** are right" in said


def test_the_sliders_update_the_page():
    page = open_page("lesson")
    page.slider(key="output").set_value(0.0)
    page.slider(key="batches").set_value(100).run()
    assert [metric.value for metric in page.metric] == ["100%", "50%", "50%"]
    assert "37% of each moving average" in texts(page)


def test_the_verdict_comes_from_the_runs():
    cells = made_cells(test=400, subjects=20)
    answers_for("as published", made_run("resnet50", cells=cells, skill=0.0, seed=1), cpu_overrides=True)
    for seed, label in ((3, "its own preprocessing"), (4, "batch normalization left alone")):
        answers_for(label, made_run("resnet50", cells=cells, skill=0.0, seed=seed))
    best = made_run("resnet50", cells=cells, skill=2.0, seed=2)
    answers_for("both", best)
    said = texts(open_page("lesson"))
    assert "Neither change alone is enough to leave chance, but both are: as published" in said
    assert f"Best: **both**, {best.metrics['accuracy']:.1%} of 400 test cells" in said
    assert "ResNet50, as published: epochs" in said


def test_the_figure_and_its_alt_text_show_the_input_ranges():
    figure = ranges_figure({"taught": np.array([-124.0, 0, 151]), "divided": np.array([0, 0.4, 1])})
    assert [list(box.lowerfence) + list(box.upperfence) for box in figure.data] == [[-124, 151], [0, 1]]
    assert "taught from -124 to 151; divided from 0 to 1" in alt_text(figure)
