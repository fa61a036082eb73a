import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_score, recall_score, roc_auc_score

from leukodash.evaluation.comparison import (
    Comparison,
    Predictions,
    average,
    few_subjects_warning,
    forest_rows,
    pairs,
    reliability_tables,
    results,
    summary,
    thresholds_by_rule,
)

CLASSES = ("all", "hem")


def make_comparison(count=2, n=120, subjects=12, skills=(1.5, 0.3, 0.8)):
    random = np.random.default_rng(3)
    who = np.arange(n) % subjects
    labels = np.where(who % 2 == 0, "all", "hem")
    cells = pd.DataFrame({"file": [f"{i}.png" for i in range(n)], "label": labels, "subject": who.astype(str)})
    answers = {}
    for name, skill in zip(("one", "two", "three")[:count], skills, strict=False):
        p = 1 / (1 + np.exp(-(random.normal(size=2 * n) + skill * np.where(np.tile(labels, 2) == "all", 1, -1) + 0.5)))
        both = np.stack([p, 1 - p], axis=1)
        answers[name] = Predictions(both[:n], "vgg16", both[n:], labels.astype(object))
    comparison = Comparison(cells, CLASSES, "all", {})
    for name, predictions in answers.items():
        comparison = comparison.with_predictions(name, predictions)
    return comparison


def test_the_results_table_agrees_with_scikit_learn():
    comparison = make_comparison()
    at = {"one": 0.6, "two": None}
    table = results(comparison, at).set_index("name")
    for name, threshold in (("one", 0.6), ("two", 0.5)):
        truth = comparison.labels
        called = np.where(comparison.scores(name) >= threshold, "all", "hem")
        row = table.loc[name]
        assert row["correct"] == (called == truth).sum()
        assert row["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, called))
        assert row["sensitivity"] == pytest.approx(recall_score(truth, called, pos_label="all"))
        assert row["specificity"] == pytest.approx(recall_score(truth, called, pos_label="hem"))
        assert row["precision"] == pytest.approx(precision_score(truth, called, pos_label="all"))
        assert row["f1_weighted"] == pytest.approx(f1_score(truth, called, average="weighted"))
        assert row["roc_auc"] == pytest.approx(roc_auc_score(truth == "all", comparison.scores(name)))
        assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]


def test_the_interval_by_subject_is_wider_than_wilsons_if_subjects_differ():
    comparison = make_comparison(1)
    hard = comparison.cells["subject"].isin(["0", "1", "2"]).to_numpy()
    p = np.where(comparison.is_positive != hard, 0.9, 0.1)
    comparison = Comparison(comparison.cells, CLASSES, "all", {})
    comparison = comparison.with_predictions("one", Predictions(np.stack([p, 1 - p], axis=1)))
    row = results(comparison, {"one": None}).iloc[0]
    assert row["accuracy_high"] - row["accuracy_low"] > 1.5 * (row["wilson_high"] - row["wilson_low"])


def test_a_sensitivity_threshold_reaches_its_target_on_validation_and_ignores_test_cells():
    comparison = make_comparison(1)
    at, problem = thresholds_by_rule(comparison, "sensitivity", 0.9)
    one = comparison.predictions["one"]
    detected = one.validation[:, 0][one.validation_labels == "all"] >= at["one"]
    assert detected.mean() >= 0.9
    assert problem == ""
    flipped = Predictions(1 - one.test, None, one.validation, one.validation_labels, {"x": 1})
    other = Comparison(comparison.cells, CLASSES, "all", {"one": flipped})
    assert thresholds_by_rule(other, "sensitivity", 0.9)[0] == at


def test_without_validation_cells_the_likeliest_class_is_used_and_reported():
    comparison = make_comparison(1)
    comparison = comparison.with_predictions("import", Predictions(comparison.predictions["one"].test))
    at, problem = thresholds_by_rule(comparison, "youden")
    assert at["import"] is None
    assert at["one"] is not None
    assert problem.startswith("import: no validation cells")


def test_fixed_and_likeliest_thresholds_are_the_same_for_all_runs():
    assert thresholds_by_rule(make_comparison(), "fixed", 0.3)[0] == {"one": 0.3, "two": 0.3}
    assert thresholds_by_rule(make_comparison(), "likeliest")[0] == {"one": None, "two": None}


def test_the_ensemble_averages_test_and_validation_probabilities():
    comparison = make_comparison(3)
    together = average(comparison, ["one", "two", "three"])
    each = list(comparison.predictions.values())
    assert np.allclose(together.test, sum(answers.test for answers in each) / 3)
    assert np.allclose(together.validation, sum(answers.validation for answers in each) / 3)


def test_an_ensemble_with_different_validation_cells_has_none():
    comparison = make_comparison(1)
    comparison = comparison.with_predictions("import", Predictions(comparison.predictions["one"].test))
    assert len(average(comparison, ["one", "import"]).validation_labels) == 0


def test_the_summary_gives_the_verdict_of_two_runs_and_the_numbers_of_one():
    two = summary(make_comparison(), {"one": None, "two": None})
    assert two.verdict.startswith("one has a higher accuracy than two by")
    assert "account for subjects" in two.interval
    one = summary(make_comparison(1), {"one": None})
    assert one.tests is None
    assert "of 120 test cells" in one.verdict
    assert one.table["rank"].tolist() == [1]


def test_three_runs_are_ranked_and_tested_in_three_pairs():
    three = summary(make_comparison(3), dict.fromkeys(("one", "two", "three")))
    assert len(three.tests) == 3
    assert three.table["rank"].iloc[0] == 1
    assert three.tests.equals(pairs(make_comparison(3), dict.fromkeys(("one", "two", "three"))))


def test_runs_are_ranked_and_compared_by_another_measure():
    comparison, at = make_comparison(3), dict.fromkeys(("one", "two", "three"))
    found = summary(comparison, at, "roc_auc")
    assert found.measure == "ROC AUC"
    assert "ROC AUC" in found.verdict
    areas = {name: roc_auc_score(comparison.is_positive, comparison.scores(name)) for name in at}
    assert found.table["name"].tolist() == sorted(areas, key=areas.get, reverse=True)
    assert found.tests.loc[0, "difference"] == pytest.approx(areas["one"] - areas["two"])
    found = summary(comparison, at, "specificity")
    of = found.table.set_index("name")["specificity"]
    assert found.tests.loc[0, "difference"] == pytest.approx(of["one"] - of["two"])
    assert found.tests["subjects"].tolist() == [12] * 3


def test_without_subjects_other_measures_are_tested_by_a_jackknife_over_cells():
    comparison = make_comparison()
    unknown = Comparison(comparison.cells.assign(subject=None), CLASSES, "all", comparison.predictions)
    at = {"one": None, "two": None}
    row = pairs(unknown, at, "sensitivity").iloc[0]
    called = [unknown.predicted(name, None)[unknown.is_positive] == "all" for name in at]
    difference = called[0].astype(float) - called[1]
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    assert row["difference"] == pytest.approx(difference.mean())
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * error, rel=0.05)
    assert row["subjects"] == 0


def test_runs_are_tested_only_by_measures_whose_classes_several_subjects_have():
    assert len(make_comparison().measures) == 6
    comparison = make_comparison(subjects=3)  # subjects 0 and 2 have blasts, 1 normal cells
    assert set(comparison.measures) == {"accuracy", "f1_weighted", "sensitivity"}


def test_means_over_subjects_stand_beside_those_over_cells():
    comparison, at = make_comparison(1, n=118), {"one": None}  # the first subjects have one cell more
    row = results(comparison, at).iloc[0]
    table = comparison.cells.assign(right=comparison.correct(at)["one"])
    shares = table.groupby("subject").agg(right=("right", "mean"), label=("label", "first"))
    assert row["subject_accuracy"] == pytest.approx(shares["right"].mean())
    assert row["subject_balanced_accuracy"] == pytest.approx(shares.groupby("label")["right"].mean().mean())
    assert row["subject_accuracy_low"] < row["subject_accuracy"] < row["subject_accuracy_high"]
    unknown = Comparison(comparison.cells.assign(subject=None), CLASSES, "all", comparison.predictions)
    assert np.isnan(results(unknown, at).loc[0, "subject_accuracy"])


def test_only_few_known_subjects_give_a_warning():
    assert "Only 6 test subjects" in few_subjects_warning(make_comparison(subjects=6))
    assert few_subjects_warning(make_comparison(subjects=12)) == ""
    comparison = make_comparison()
    unknown = Comparison(comparison.cells.assign(subject=None), CLASSES, "all", comparison.predictions)
    assert few_subjects_warning(unknown) == ""
    assert "The subjects are unknown" in summary(unknown, {"one": None, "two": None}).interval


def test_the_reliability_table_counts_every_cell_once():
    assert all(table["n"].sum() == 120 for table in reliability_tables(make_comparison()).values())


def test_the_forest_has_published_rows_of_the_same_backbones_only():
    rows = forest_rows(results(make_comparison(1), {"one": None}))
    assert rows["published"].tolist() == [False, True, True]
    assert set(rows["backbone"]) == {"vgg16"}
    printed = forest_rows()
    row = printed[printed["name"] == "VGG16, Dhuri & Guinde 2020"].iloc[0]
    assert (round(100 * row["low"], 1), round(100 * row["high"], 1)) == (84.3, 96.9)
