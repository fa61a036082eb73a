import json

from made_runs import made_cells, made_run, publish

from leukodash import settings
from leukodash.runs.run_folder import all_runs
from leukodash.studies.questions import answer, best_recipe, questions, split_rows


def published(studies, **runs):
    """Publish runs, and an index of studies: of each, labels by the run's name here. Returns the published runs."""
    runs = dict(zip(runs, publish(*runs.values()), strict=True))
    index = {
        study: [
            {"label": label, "run": runs[name].id, "cells": "", "cpu_overrides": {}} for name, label in rows.items()
        ]
        for study, rows in studies.items()
    }
    (settings.published() / "studies.json").write_text(json.dumps(index))
    return runs


def test_only_questions_with_runs_are_asked_and_the_users_runs_come_first():
    assert questions([]) == {}
    published({}, a=made_run("vgg16"), b=made_run("mobilenet"))
    assert [question.title for question in questions(all_runs()).values()] == ["Which network?"]
    own = made_run("resnet50")
    asked = questions(all_runs())
    assert list(asked) == ["own", "network"]
    assert asked["own"].runs == (own,)
    assert {run.config.backbone for run in asked["network"].runs} == {"vgg16", "mobilenet"}


def test_recipes_are_compared_on_the_same_cells_each_by_its_first_run():
    other = made_cells(test=30)
    validation = {"metrics": {"validation": {"f1_weighted": 0.9}}}
    runs = published(
        {"best": {"plain": "plain", "again": "plain", "blocks": "blocks", "elsewhere": "blocks", "vgg16": "plain"}},
        plain=made_run(seed=0),
        again=made_run(seed=1),
        blocks=made_run(seed=2, config={"seed": 0, "pooling": "blocks"}, **validation),
        elsewhere=made_run(seed=3, cells=other),
        vgg16=made_run("vgg16"),
    )
    assert set(questions(all_runs())["recipe"].runs) == {runs["plain"], runs["blocks"]}
    assert best_recipe([runs["plain"]]) == runs["blocks"]
    assert best_recipe([runs["blocks"]]) is None
    assert best_recipe([made_run(cells=made_cells(test=50))]) is None


def test_splits_are_compared_by_all_test_cells_of_the_networks_that_have_both():
    halves = made_cells(test=40, root="a"), made_cells(test=30, root="b")
    right, wrong = ([p if label == "all" else 1 - p for label in halves[1]["label"]] for p in (0.9, 0.1))
    names = {"image": "by image", "one": "five folds of subjects", "two": "five folds of subjects", "vgg16": "by image"}
    published(
        {"honest": names},
        image=made_run(seed=0, cells=halves[1], p_all=right),
        one=made_run(seed=1, cells=halves[0]),
        two=made_run(seed=2, cells=halves[1], p_all=wrong),
        vgg16=made_run("vgg16"),
    )
    rows = split_rows().set_index("name")
    assert rows["n"].to_dict() == {"MobileNet, split by image": 30, "MobileNet, split by subject": 70}
    assert rows.loc["MobileNet, split by image", "accuracy"] == 1
    assert len(questions(all_runs())["split"].runs) == 3


def test_a_question_has_the_answer_of_its_study_and_none_without_runs():
    assert answer("split") == answer("own") == ""
    cells = made_cells(test=60, subjects=12)
    published(
        {"honest": {"image": "by image", "apart": "five folds of subjects"}},
        image=made_run(seed=0, cells=cells, skill=3.0),
        apart=made_run(seed=1, cells=cells, skill=0.3),
    )
    assert answer("split").startswith("Yes: split by image, the network looks better, by ")
