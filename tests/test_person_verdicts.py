"""Verdicts by person: intervals, the threshold, how many cells it takes, and what is said of an upload."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from made_runs import made_cells, made_run
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint
from streamlit.testing.v1 import AppTest

from benchmarks.people_coverage import chosen_thresholds, coverage
from leukodash.errors import DataError
from leukodash.evaluation.comparison import Comparison, Predictions
from leukodash.evaluation.person_verdicts import (
    LIKELY,
    auc_interval,
    cells_words,
    clopper_pearson,
    few_people_words,
    people_of,
    person_auc,
    person_sentences,
    person_table,
    person_threshold,
    person_verdicts,
    stability,
)
from leukodash.figures.people_charts import people_figure, people_roc_figure, stability_figure
from leukodash.figures.theme import alt_text
from leukodash.inference.person_summary import person_groups, person_words, verdicts_of
from leukodash.runs.leaderboard import compare_runs
from leukodash.runs.run_verdicts import run_verdicts

HELD_OUT = {"all": [0.9, 0.9, 0.9, 0.8, 0.75], "hem": [0.1, 0.1, 0.1, 0.2, 0.65]}  # 0.7 separates them


def made_comparison(shares, held_out=None, cells=20):
    """People whose share of cells called blast is given by label: {"all": [0.9], "hem": [0.1]}."""

    def drawn(shares, first):
        rows = [(label, f"{first}{label}{i}", share) for label, own in shares.items() for i, share in enumerate(own)]
        answers = [np.arange(cells) < round(share * cells) for *_, share in rows]
        p = np.where(np.concatenate(answers), 0.9, 0.1)
        table = pd.DataFrame([row for row in rows for _ in range(cells)], columns=["label", "subject", "share"])
        return table.assign(file=table.index.astype(str)), np.stack([p, 1 - p], axis=1)

    tested, p = drawn(shares, "t")
    others, q = drawn(held_out, "v") if held_out else (tested[:0], p[:0])
    columns = others["label"].to_numpy(dtype=object), others["subject"].to_numpy(dtype=object)
    return Comparison(tested, ("all", "hem"), "all", {"run": Predictions(p, None, q, *columns)})


def verdicts(*given, **more):
    return person_verdicts(made_comparison(*given, **more), {"run": None})["run"]


@pytest.mark.parametrize(("k", "n"), [(0, 5), (39, 42), (42, 42), (1, 1)])
def test_the_exact_interval_is_that_of_statsmodels(k, n):
    assert clopper_pearson(k, n) == pytest.approx(proportion_confint(k, n, method="beta"))


def test_an_interval_of_nobody_says_what_it_needs():
    with pytest.raises(DataError, match="n > 0"):
        clopper_pearson(0, 0)


@pytest.mark.parametrize(("auc", "m", "n"), [(0.9, 19, 9), (0.6, 5, 7), (0.1, 8, 8)])
def test_both_ends_of_the_interval_of_an_auc_are_as_far_off_as_their_own_hanley_mcneil_error_allows(auc, m, n):
    for end in auc_interval(auc, m, n):
        q1, q2, mean = end / (2 - end), 2 * end**2 / (1 + end), (m + n) / 2
        error = np.sqrt((end * (1 - end) + (mean - 1) * (q1 - end**2) + (mean - 1) * (q2 - end**2)) / (m * n))
        assert abs(end - auc) == pytest.approx(1.959964 * error, rel=1e-5)


def test_an_auc_of_one_has_an_interval_too():
    low, high = auc_interval(1, 19, 9)
    assert (low, high) == (pytest.approx(0.836, abs=0.001), 1)
    assert auc_interval(0, 19, 9) == pytest.approx((1 - high, 1 - low))


def test_the_auc_over_people_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    ill, share = rng.random(40) < 0.5, rng.integers(0, 6, 40) / 5
    assert person_auc(ill, share) == pytest.approx(roc_auc_score(ill, share))


@pytest.mark.parametrize(
    ("ill", "well", "threshold"),
    [
        ([0.9, 0.9, 0.9, 0.8, 0.7], [0.1, 0.1, 0.1, 0.2, 0.3], 0.5),  # one half separates them
        ([0.9, 0.9, 0.9, 0.8, 0.75], [0.1, 0.1, 0.1, 0.2, 0.65], 0.7),
        ([0.9, 0.9, 0.9, 0.8, 0.4], [0.1, 0.1, 0.1, 0.2, 0.3], 0.35),
        ([0.9, 0.9, 0.9, 0.8, 0.75], [0.1, 0.1, 0.1, 0.65], 0.5),  # too few people without leukemia
        ([], [], 0.5),
    ],
)
def test_the_threshold_is_chosen_on_enough_people_and_stays_at_one_half_where_that_is_as_good(ill, well, threshold):
    truth = np.arange(len(ill) + len(well)) < len(ill)
    assert person_threshold(truth, np.array([*ill, *well])) == pytest.approx(threshold)


def test_a_person_with_cells_of_several_labels_or_without_a_name_is_left_out():
    cells = pd.DataFrame({"label": ["all", "hem", "all", "all", "hem"], "subject": ["a", "a", "b", "b", None]})
    people, left_out = people_of(cells, np.array([True, True, True, False, True]), "all")
    assert people.to_dict("records") == [
        {"person": "b", "label": "all", "positive": True, "cells": 2, "called": 1, "share": 0.5}
    ]
    assert left_out == 1


def test_counts_are_of_people_and_the_threshold_comes_from_people_held_out():
    tested = {"all": [0.9, 0.8, 0.9, 1, 0.75], "hem": [0, 0.1, 0.2, 0.6, 0.65]}
    half = verdicts(tested)
    assert half.counts == {"people": (8, 10), "sensitivity": (5, 5), "specificity": (3, 5)}
    assert "no people were held out" in person_sentences(half)[1]
    chosen = verdicts(tested, HELD_OUT)
    assert (chosen.threshold, chosen.held_out) == (pytest.approx(0.7), (5, 5))
    assert person_sentences(chosen)[0].startswith("10 of 10 people right (100.0%, 95% interval 69.2% to 100.0%); sens")
    assert "from 70% of the cells, a threshold chosen on 10 held-out people (5 " in person_sentences(chosen)[1]
    assert chosen.auc == (1, *auc_interval(1, 5, 5))
    assert person_table({"run": chosen}).loc[0, "people right"] == "10 of 10 (69–100%)"


def test_an_auc_takes_five_people_of_each_class_and_few_people_give_a_warning():
    few = verdicts({"all": [0.9] * 5, "hem": [0.1] * 4})
    assert few.auc is None
    assert few_people_words(few) == "Only 9 people: one of them moves these figures by 11%."
    assert "Only 4 of 12 people are not ALL blast" in few_people_words(verdicts({"all": [0.9] * 8, "hem": [0.1] * 4}))
    assert few_people_words(verdicts({"all": [0.9] * 5, "hem": [0.1] * 5})) == ""


def test_a_verdict_is_as_stable_as_an_enumeration_of_all_draws_says():
    people = pd.DataFrame({"cells": [9, 8], "called": [6, 1]})
    table = stability(people, 0.4)
    assert table["cells"].tolist() == list(range(1, 9))
    assert table["people"].tolist() == [2] * 8
    for drawn, stable in zip(table["cells"], table["stable"], strict=True):
        shares = []
        for size, called in people.to_numpy():
            draws = [sum(draw) >= 0.4 * drawn for draw in combinations(np.arange(size) < called, drawn)]
            shares.append(np.mean(draws) if called >= 0.4 * size else 1 - np.mean(draws))
        assert stable == np.mean(np.array(shares) >= LIKELY)


def test_the_cells_needed_are_those_from_which_on_verdicts_stay_stable():
    sure, torn = verdicts({"all": [1, 1], "hem": [0, 0]}), verdicts({"all": [1, 0.55], "hem": [0, 0]})
    assert sure.cells_needed == 1
    assert torn.curve.loc[torn.cells_needed - 2, "stable"] < LIKELY
    assert (torn.curve.loc[torn.cells_needed - 1 :, "stable"] >= LIKELY).all()
    assert cells_words(torn).startswith(f"From {torn.cells_needed} cells on")


def test_nobody_who_was_trained_or_tested_on_counts_as_held_out():
    cells = made_cells()
    seen = cells.assign(part=np.where(cells["part"] == "validation", "train", "test"), subject=cells["subject"] + "x")
    everyone = pd.concat([cells[cells["part"] == "test"], seen[seen["part"] == "train"]], ignore_index=True)
    run = made_run(cells=cells)
    assert compare_runs([run]).predictions["MobileNet"].validation_people.tolist() == [None] * 40
    # Cross-validation over the subjects of the training part: its answers are in predictions.csv as validation.
    answers = run.predictions
    answers.loc[answers["part"] == "validation", "subject"] += "x"
    answers.to_csv(run.path / "predictions.csv", index=False)
    everyone.to_csv(run.path / "split.csv", index=False)
    assert set(compare_runs([run]).predictions["MobileNet"].validation_people) == {f"{i}x" for i in range(7)}
    found = run_verdicts(run)
    assert (found.held_out, found.chosen) == ((4, 3), False)
    # The same subjects as validation images beside training images of theirs.
    files = everyone["file"].where(everyone["part"] == "test", "other-" + everyone["file"])
    everyone.assign(file=files).to_csv(run.path / "split.csv", index=False)
    assert run_verdicts(run).held_out == (0, 0)
    (run.path / "predictions.csv").unlink()
    assert run_verdicts(run) is None


def test_figures_show_the_people_the_threshold_and_who_is_wrong():
    own = verdicts({"all": [0.9] * 5, "hem": [0.1, 0.1, 0.2, 0.3, 0.6]})
    people = own.people.assign(title=own.people["label"], low=0.0, high=1.0)
    figure = people_figure(people, own.threshold, own.title, "run")
    assert "wrong for them4" in alt_text(figure)
    assert sum(len(trace.x) for trace in figure.data) == 10
    assert figure.layout.shapes[0].y0 == 0.5
    positive, share = own.people["positive"].to_numpy(), own.people["share"].to_numpy()
    roc = people_roc_figure({"run": (positive, share, own.threshold, "0.9")}, {})
    assert (roc.data[1].x[0], roc.data[1].y[0]) == (0.2, 1)
    assert (roc.data[0].x[-1], roc.data[0].y[-1]) == (1, 1)
    assert "run: 100% of 10 people with 20 cells" in alt_text(stability_figure({"run": own.curve}, {}, LIKELY))


def answers(called, cells, novel=0, name="{}.png"):
    rows = [
        {"position": i, "file": name.format(i), "run": "r", "class": "all" if i < called else "hem", "error": ""}
        for i in range(cells + novel)
    ]
    return pd.DataFrame(rows).assign(novelty=1.0, novel=np.arange(cells + novel) >= cells)


def test_an_upload_is_compared_with_the_threshold_for_a_person_and_the_cells_that_it_takes():
    own = {"r": verdicts({"all": [1] * 3, "hem": [0] * 3}, HELD_OUT)}
    head, line = person_words(answers(9, 12), own, {"r": "MobileNet"})
    assert head == "If all these cells are of one person:"
    assert line.startswith("9 of 12 cells are called ALL blast (75%, 95% interval 43% to 95%; too narrow if")
    assert "threshold for a person, 70% (chosen on 10 held-out people), is reached" in line
    assert "is not reached" in person_words(answers(8, 12), own, {"r": "MobileNet"})[1]
    torn = {"r": verdicts({"all": [1, 0.55], "hem": [0, 0]})}
    assert "too few cells for a stable verdict" in person_words(answers(9, 10), torn, {}, "a.zip")[1]
    assert "enough cells" in person_words(answers(9, 12), own, {})[1]
    assert person_words(answers(9, 9), own, {}) == []
    assert person_words(answers(9, 12), {}, {}) == []


def test_nothing_is_said_of_a_person_if_most_images_are_unlike_cells():
    words = person_words(answers(3, 5, novel=7), {}, {}, "a.zip")
    assert words == ["7 of 12 images in a.zip are unlike the training cells, so nothing is said of a person."]


def test_several_folders_or_smears_are_told_of_one_by_one():
    smear, folder, file = answers(1, 2, name="s.png, cell {}"), answers(1, 3, name="a/{}.png"), answers(1, 4)
    groups = person_groups(pd.concat([smear, folder, file], ignore_index=True), ["s.png", "a"])
    assert {name: len(table) for name, table in groups.items()} == {"s.png": 2, "a": 3, "": 4}
    assert set(person_groups(folder, ["a"])) == {""}
    assert set(person_groups(file, [])) == {""}


def shown_part():
    import streamlit as st

    from leukodash.app.classify.person_part import person_part

    table, run = st.session_state["given"]
    person_part(table, [run], [], {run.id: "MobileNet"}, "likeliest")


def test_the_classify_page_tells_of_each_folder_and_is_silent_about_few_cells():
    run = made_run()
    folders = pd.concat([answers(9, 12, name=f"{name}/{{}}.png") for name in "abcd"], ignore_index=True)
    folders = folders.assign(run=run.id, position=np.arange(48))
    at = AppTest.from_function(shown_part)
    at.session_state["given"] = folders, run
    at.run()
    assert [line.value.partition(":")[0] for line in at.markdown] == [
        f"If all these cells in {name} are of one person\\" for name in "abcd"
    ]
    assert at.expander[0].label == "If each folder is of one person (4)"
    assert "not a medical device" in at.caption[0].value
    at.session_state["given"] = folders[:9], run
    assert not at.run().markdown
    assert not at.exception


def test_the_verdicts_of_a_run_follow_its_decision_rule():
    run = made_run(bias=2.0)
    likeliest, chosen = (verdicts_of([run], rule)[run.id] for rule in ("likeliest", "validation"))
    assert chosen.people["called"].sum() < likeliest.people["called"].sum()


def test_the_intervals_by_person_hold_the_truth_and_a_chosen_threshold_helps_where_one_half_is_wrong():
    found = coverage((0.75, 0.75, 0.3), people=28, sets=100)["intervals"]
    assert found["people right: Clopper–Pearson (shown)"]["coverage"] >= 0.93
    assert found["AUC: Newcombe's method 5 (shown)"]["coverage"] >= 0.9
    assert found["AUC: DeLong"]["coverage"] < 0.9
    right = chosen_thresholds((0.97, 0.6, 0.08), sets=20)
    assert right["19 and 9 held out"] > right["one half"]
