"""The lesson page without a browser: what it says with the study's runs, and without them."""

import numpy as np
from apptest import open_page, texts
from made_runs import made_cells, made_run

from leukodash.figures.lesson_pictures import ranges_figure
from leukodash.figures.theme import alt_text
from leukodash.studies.catalogue import StudyRun, record_study_run


def answers_for(label, run, cpu_overrides=False):
    whole = run.config.changed(epochs=run.config.epochs + 1) if cpu_overrides else run.config
    record_study_run("resnet50", StudyRun(label, "resnet50"), run.config, whole, run)


def test_without_runs_the_page_shows_the_suspects_and_how_to_train_the_runs():
    page = open_page("lesson")
    assert "36 of 70 cells, 51.4%" in texts(page)
    assert "study resnet50 --data DIR" in page.info[0].value
    assert [one.value for one in page.subheader][:4] == [
        "Suspect 1: one output unit",
        "Suspect 2: pixels on another scale",
        "Suspect 3: batch normalization in two modes",
        "One change at a time",
    ]


def test_the_sliders_update_the_page():
    page = open_page("lesson")
    page.slider(key="output").set_value(0.0)
    page.slider(key="batches").set_value(100).run()
    assert [metric.value for metric in page.metric] == ["100%", "50%", "50%"]
    assert "37% of each moving average" in texts(page)


def test_the_verdict_comes_from_the_runs():
    cells = made_cells(test=400, subjects=20)
    answers_for("as published", made_run("resnet50", cells=cells, skill=0.0, seed=1), cpu_overrides=True)
    best = made_run("resnet50", cells=cells, skill=2.0, seed=2)
    answers_for("both", best)
    said = texts(open_page("lesson"))
    assert "No better than guessing: **as published**" in said
    assert f"Best: **both**, {best.metrics['accuracy']:.1%} of 400 test cells" in said
    assert "ResNet50, as published: epochs" in said


def test_the_figure_and_its_alt_text_show_the_input_ranges():
    figure = ranges_figure({"taught": np.array([-124.0, 0, 151]), "divided": np.array([0, 0.4, 1])})
    assert [list(box.lowerfence) + list(box.upperfence) for box in figure.data] == [[-124, 151], [0, 1]]
    assert "taught from -124 to 151; divided from 0 to 1" in alt_text(figure)
