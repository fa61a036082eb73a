import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_score, recall_score, roc_auc_score

from leukodash.evaluation.comparison import (
    Answers,
    Comparison,
    average,
    by_subject,
    few_subjects_words,
    forest_rows,
    pairs,
    reliability_tables,
    results,
    summary,
    thresholds,
)

CLASSES = ("all", "hem")


def made(count=2, n=120, subjects=12, skills=(1.5, 0.3, 0.8)):
    random = np.random.default_rng(3)
    who = np.arange(n) % subjects
    labels = np.where(who % 2 == 0, "all", "hem")
    cells = pd.DataFrame({"file": [f"{i}.png" for i in range(n)], "label": labels, "subject": who.astype(str)})
    answers = {}
    for name, skill in zip(("one", "two", "three")[:count], skills, strict=False):
        p = 1 / (1 + np.exp(-(random.normal(size=2 * n) + skill * np.where(np.tile(labels, 2) == "all", 1, -1) + 0.5)))
        both = np.stack([p, 1 - p], axis=1)
        answers[name] = Answers(both[:n], "vgg16", both[n:], labels.astype(object))
    comparison = Comparison(cells, CLASSES, "all", {})
    for name, said in answers.items():
        comparison = comparison.with_answers(name, said)
    return comparison


def test_every_number_of_a_row_is_scikit_learns():
    comparison = made()
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


def test_the_interval_by_subject_is_wider_than_wilsons_where_subjects_differ():
    comparison = made(1)
    hard = comparison.cells["subject"].isin(["0", "1", "2"]).to_numpy()
    p = np.where(comparison.is_positive != hard, 0.9, 0.1)
    comparison = Comparison(comparison.cells, CLASSES, "all", {})
    comparison = comparison.with_answers("one", Answers(np.stack([p, 1 - p], axis=1)))
    row = results(comparison, {"one": None}).iloc[0]
    assert row["accuracy_high"] - row["accuracy_low"] > 1.5 * (row["wilson_high"] - row["wilson_low"])


def test_a_threshold_for_a_sensitivity_reaches_it_on_validation_and_looks_at_no_test_cell():
    comparison = made(1)
    at, problem = thresholds(comparison, "sensitivity", 0.9)
    said = comparison.answers["one"]
    found = said.validation[:, 0][said.validation_labels == "all"] >= at["one"]
    assert found.mean() >= 0.9
    assert problem == ""
    other = Comparison(
        comparison.cells,
        CLASSES,
        "all",
        {"one": Answers(1 - said.test, None, said.validation, said.validation_labels, {"x": 1})},
    )
    assert thresholds(other, "sensitivity", 0.9)[0] == at


def test_without_validation_cells_the_likeliest_class_is_taken_and_that_is_said():
    comparison = made(1)
    comparison = comparison.with_answers("import", Answers(comparison.answers["one"].test))
    at, problem = thresholds(comparison, "youden")
    assert at["import"] is None
    assert at["one"] is not None
    assert problem.startswith("import: no validation cells")


def test_one_threshold_is_the_same_for_all():
    assert thresholds(made(), "fixed", 0.3)[0] == {"one": 0.3, "two": 0.3}
    assert thresholds(made(), "likeliest")[0] == {"one": None, "two": None}


def test_the_average_is_the_mean_of_the_probabilities_on_test_and_on_validation():
    comparison = made(3)
    together = average(comparison, ["one", "two", "three"])
    each = list(comparison.answers.values())
    assert np.allclose(together.test, sum(answers.test for answers in each) / 3)
    assert np.allclose(together.validation, sum(answers.validation for answers in each) / 3)


def test_an_average_over_other_validation_cells_has_none():
    comparison = made(1)
    comparison = comparison.with_answers("import", Answers(comparison.answers["one"].test))
    assert len(average(comparison, ["one", "import"]).validation_labels) == 0


def test_the_summary_of_two_is_the_pairs_verdict_and_of_one_its_numbers():
    two = summary(made(), {"one": None, "two": None})
    assert two.verdict.startswith("one is more accurate than two by")
    assert "leave out one subject" in two.interval
    one = summary(made(1), {"one": None})
    assert one.tests is None
    assert "of 120 test cells" in one.verdict
    assert one.table["rank"].tolist() == [1]


def test_three_are_ranked_and_pairs_are_three():
    found = summary(made(3), dict.fromkeys(("one", "two", "three")))
    assert len(found.tests) == 3
    assert found.table["rank"].iloc[0] == 1
    assert found.tests.equals(pairs(made(3), dict.fromkeys(("one", "two", "three"))))


def test_few_subjects_are_warned_of_and_many_or_unknown_ones_are_not():
    assert "Only 6 subjects" in few_subjects_words(made(subjects=6))
    assert few_subjects_words(made(subjects=12)) == ""
    comparison = made()
    unknown = Comparison(comparison.cells.assign(subject=None), CLASSES, "all", comparison.answers)
    assert few_subjects_words(unknown) == ""
    assert "Nobody knows the subjects" in summary(unknown, {"one": None, "two": None}).interval


def test_accuracy_by_subject_adds_up_to_the_accuracy():
    comparison = made()
    at = {"one": None, "two": None}
    rows = by_subject(comparison, at)
    mean = rows.groupby("name").apply(lambda g: np.average(g["accuracy"], weights=g["n"]), include_groups=False)
    table = results(comparison, at).set_index("name")
    assert mean["one"] == pytest.approx(table.loc["one", "accuracy"])
    assert len(rows) == 24


def test_the_reliability_table_counts_every_cell_once():
    assert all(table["n"].sum() == 120 for table in reliability_tables(made()).values())


def test_the_forest_shows_published_rows_of_these_backbones_only_and_keeps_them_apart():
    rows = forest_rows(results(made(1), {"one": None}))
    assert rows["published"].tolist() == [False, True, True]
    assert set(rows["backbone"]) == {"vgg16"}
    printed = forest_rows()
    row = printed[printed["name"] == "VGG16, Dhuri & Guinde 2020"].iloc[0]
    assert (round(100 * row["low"], 1), round(100 * row["high"], 1)) == (84.3, 96.9)
