import json
import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as sk

from leukodash.errors import DataError
from leukodash.evaluation.metrics import (
    _areas,
    calibration_error,
    confusions,
    evaluate,
    leave_one_out,
    net_benefit,
    predicted,
    predictive_values,
    rates,
    reliability,
    threshold_for,
)
from leukodash.evaluation.statistics import groups, jackknife_interval, wilson

CLASSES = ("all", "hem")
THREE = ("early", "pre", "pro")


@pytest.fixture
def binary():
    """300 noisy predictions of 12 subjects: labels, probabilities (300, 2), subjects."""
    rng = np.random.default_rng(1)
    positive = rng.random(300) < 0.6
    p = np.clip(rng.normal(0.35 + 0.3 * positive, 0.2), 0, 1)
    return np.where(positive, "all", "hem"), np.column_stack([p, 1 - p]), rng.integers(0, 12, 300).astype(str)


@pytest.fixture
def three():
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 3, 200)
    scores = rng.random((200, 3)) + 0.6 * np.eye(3)[codes]
    return np.array(THREE)[codes], scores / scores.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("k", "low", "high"), [(65, 84.3, 96.9), (64, 82.5, 96.0), (36, 40.0, 62.8)])
def test_wilson_gives_the_intervals_of_the_papers_70_images(k, low, high):
    assert [round(100 * end, 1) for end in wilson(k, 70)] == [low, high]


@pytest.mark.parametrize(("k", "n", "level"), [(0, 5, 0.9), (5, 5, 0.95), (1, 70, 0.9), (1613, 1867, 0.95)])
def test_wilson_agrees_with_scipy(k, n, level):
    interval = binomtest(k, n).proportion_ci(level, method="wilson")
    assert wilson(k, n, level) == pytest.approx((interval.low, interval.high), abs=1e-9)


@pytest.mark.parametrize(("k", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_impossible_counts(k, n):
    with pytest.raises(DataError, match="0 ≤ k ≤ n"):
        wilson(k, n)


def test_metrics_agree_with_scikit_learn(binary, three):
    for classes, positive, (labels, probabilities, *_) in ((CLASSES, "all", binary), (THREE, "pre", three)):
        result = evaluate(labels, probabilities, classes, positive)
        predictions = np.array(classes)[probabilities.argmax(axis=1)]
        truth, called, p = labels == positive, predictions == positive, probabilities[:, classes.index(positive)]
        ranked = (truth, p) if len(classes) == 2 else (labels, probabilities)
        expected = {
            "n": len(labels),
            "correct": sk.accuracy_score(labels, predictions, normalize=False),
            "accuracy": sk.accuracy_score(labels, predictions),
            "balanced_accuracy": sk.balanced_accuracy_score(labels, predictions),
            "sensitivity": sk.recall_score(truth, called),
            "specificity": sk.recall_score(~truth, ~called),
            "precision": sk.precision_score(truth, called),
            "f1": sk.f1_score(truth, called),
            "f1_weighted": sk.f1_score(labels, predictions, average="weighted"),
            "f1_macro": sk.f1_score(labels, predictions, average="macro"),
            "roc_auc": sk.roc_auc_score(*ranked, multi_class="ovr"),
            "brier": sk.brier_score_loss(labels, probabilities, labels=classes, scale_by_half=True),
        }
        if len(classes) == 2:
            expected["average_precision"] = sk.average_precision_score(truth, p)
            assert expected["brier"] == pytest.approx(sk.brier_score_loss(truth, p))
        assert {name: result[name] for name in expected} == pytest.approx(expected)
        assert result["confusion"] == sk.confusion_matrix(labels, predictions, labels=classes).tolist()
        assert result["sensitivity_n"] == truth.sum()
        assert result["sensitivity_wilson"] == pytest.approx(wilson(int(called[truth].sum()), int(truth.sum())))


def test_a_threshold_changes_rates_but_not_areas(binary):
    labels, probabilities, subjects = binary
    usual = evaluate(labels, probabilities, CLASSES, "all", subjects=subjects)
    low = evaluate(labels, probabilities, CLASSES, "all", 0.2, subjects=subjects)
    predictions = np.where(probabilities[:, 0] >= 0.2, "all", "hem")
    assert low["sensitivity"] == pytest.approx(sk.recall_score(labels, predictions, pos_label="all"))
    assert low["sensitivity"] > usual["sensitivity"]
    assert low["specificity"] < usual["specificity"]
    assert low["roc_auc"] == usual["roc_auc"]
    assert low["calibration_error"] == usual["calibration_error"]


def test_confusions_and_rates_agree_with_evaluate(binary):
    labels, probabilities, subjects = binary
    whole = evaluate(labels, probabilities, CLASSES, "all", 0.4, subjects=subjects)
    group, by_subject = groups(subjects, len(labels))
    by_group = confusions(labels, predicted(probabilities, CLASSES, "all", 0.4), CLASSES, group)
    assert by_group.shape == (12, 2, 2)
    moved = rates(by_group, CLASSES, "all", by_subject)
    assert moved == {name: whole[name] for name in moved}


def test_intervals_contain_their_metric_and_are_wider_by_subject(binary):
    labels, probabilities, _ = binary
    # Five copies of one image per subject: 300 images, but only 60 independent ones.
    subjects = np.repeat(np.arange(60), 5).astype(str)
    once = np.repeat(np.arange(0, 300, 5), 5)
    result = evaluate(labels[once], probabilities[once], CLASSES, "all", subjects=subjects)
    assert (result["subjects"], result["interval_by"]) == (60, "subject")
    named = [name.removesuffix("_interval") for name in result if name.endswith("_interval")]
    assert set(named) >= {"accuracy", "sensitivity", "specificity", "precision", "f1", "f1_weighted", "f1_macro"}
    assert set(named) >= {"balanced_accuracy", "roc_auc", "average_precision", "brier"}
    for name in named:
        low, high = result[f"{name}_interval"]
        assert 0 <= low <= result[name] <= high <= 1, name
    width = np.diff(result["accuracy_interval"])[0]
    assert width > 2 * np.diff(result["accuracy_wilson"])[0]
    independent = np.diff(wilson(round(60 * result["accuracy"]), 60))[0]
    assert width == pytest.approx(independent, rel=0.15)


def test_without_subjects_proportions_have_wilsons_interval(binary):
    labels, probabilities, _ = binary
    result = evaluate(labels, probabilities, CLASSES, "all", subjects=[None] * 300)
    assert (result["subjects"], result["interval_by"]) == (0, "image")
    assert result["accuracy_interval"] == result["accuracy_wilson"]
    assert result["specificity_interval"] == result["specificity_wilson"]
    low, high = result["roc_auc_interval"]
    # Hanley and McNeil (1982), equations 1 and 2, for an independent order of magnitude.
    a, m, n = result["roc_auc"], result["sensitivity_n"], result["specificity_n"]
    q1, q2 = a / (2 - a), 2 * a**2 / (1 + a)
    error = math.sqrt((a * (1 - a) + (m - 1) * (q1 - a**2) + (n - 1) * (q2 - a**2)) / (m * n))
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.2)


@pytest.mark.parametrize("label", CLASSES)
def test_undefined_metrics_of_a_one_class_test_set_are_none(label):
    result = evaluate([label] * 5, np.full((5, 2), 0.5), CLASSES, "all", subjects=["1", "1", "2", "3", "3"])
    assert result["roc_auc"] is None
    assert result["roc_auc_interval"] is None
    assert result["average_precision"] is None
    missing = "specificity" if label == "all" else "sensitivity"
    assert (result[missing], result[f"{missing}_wilson"], result[f"{missing}_interval"]) == (None, None, None)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_one_image_is_evaluated_without_a_warning():
    result = evaluate(["all"], [[0.8, 0.2]], CLASSES, "all", subjects=["1"])
    assert (result["accuracy"], result["f1_macro"], result["f1"]) == (1, 1, 1)
    assert result["brier_interval"] is None
    json.dumps(result, allow_nan=False)
    # A class that neither occurs nor is predicted has no F1.
    assert evaluate(["hem"], [[0.2, 0.8]], CLASSES, "all")["f1"] is None


@pytest.mark.parametrize(
    ("labels", "probabilities", "classes", "options", "sentence"),
    [
        ([], np.empty((0, 2)), CLASSES, {}, "no images"),
        (["all", "ALL"], [[0.5, 0.5]] * 2, CLASSES, {}, "found ALL"),
        (["all"], [[0.5, 0.5]] * 2, CLASSES, {}, "1 labels and 2 rows"),
        (["all"], [[0.5, 0.2, 0.3]], CLASSES, {}, "a column for each"),
        (["all"], [[np.nan, 0.5]], CLASSES, {}, "missing or infinite"),
        (["early"], [[0.5, 0.2, 0.3]], THREE, {"threshold": 0.5}, "threshold needs two classes"),
        (["all"], [[1.0]], ("all",), {}, "Two or more classes"),
        (["all", "hem"], [[0.5, 0.5]] * 2, CLASSES, {"subjects": ["1"]}, "2 labels and 1 subjects"),
    ],
)
def test_input_that_cannot_be_evaluated_is_refused(labels, probabilities, classes, options, sentence):
    with pytest.raises(DataError, match=sentence):
        evaluate(labels, np.asarray(probabilities), classes, classes[0], **options)


def test_the_threshold_itself_counts_as_positive():
    probabilities = np.array([[0.3, 0.7], [0.29, 0.71], [0.6, 0.4]])
    assert predicted(probabilities, CLASSES, "all", 0.3).tolist() == ["all", "hem", "all"]
    assert predicted(probabilities, CLASSES, "all").tolist() == ["hem", "hem", "all"]
    assert predicted(probabilities, CLASSES, "hem", 0.7).tolist() == ["hem", "hem", "all"]


def test_calibration_error_by_hand():
    # Bin (0.5, 0.6]: confidence 0.6, accuracy 0.5, gap 0.1. Bin (0.9, 1]: confidence 0.95, accuracy 1, gap 0.05.
    confidence, correct = np.array([0.6, 0.6, 0.95, 0.95]), np.array([True, False, True, True])
    assert calibration_error(confidence, correct) == pytest.approx(0.5 * 0.1 + 0.5 * 0.05)
    table = reliability(confidence, correct)
    assert table[["low", "high", "n", "confidence", "accuracy"]].to_numpy().tolist() == [
        pytest.approx([0.5, 0.6, 2, 0.6, 0.5]),
        pytest.approx([0.9, 1.0, 2, 0.95, 1.0]),
    ]
    assert table.loc[0, ["accuracy_low", "accuracy_high"]].tolist() == pytest.approx(wilson(1, 2))
    # The edge of a bin belongs to the bin below.
    confidence, correct = np.array([0.8, 0.85]), np.array([True, False])
    assert calibration_error(confidence, correct, bins=10) == pytest.approx((0.2 + 0.85) / 2)
    assert reliability(confidence, correct, bins=10)["high"].tolist() == pytest.approx([0.8, 0.9])


def test_calibration_error_is_the_weighted_gap_of_the_reliability_table(binary):
    labels, probabilities, _ = binary
    confidence = probabilities.max(axis=1)
    correct = np.array(CLASSES)[probabilities.argmax(axis=1)] == labels
    table = reliability(confidence, correct)
    gap = np.average((table["accuracy"] - table["confidence"]).abs(), weights=table["n"])
    assert calibration_error(confidence, correct) == pytest.approx(gap)


def test_youdens_threshold_is_optimal(binary):
    labels, probabilities, _ = binary
    truth, p = labels == "all", probabilities[:, 0]

    def index(threshold):
        return (p[truth] >= threshold).mean() + (p[~truth] < threshold).mean() - 1

    best = threshold_for(truth, p)
    assert index(best) == pytest.approx(max(index(t) for t in np.linspace(0, 1, 2001)))
    assert best not in p  # between two probabilities, so that rounding in a file changes nothing


@pytest.mark.parametrize("target", [0.8, 1.0])
def test_the_sensitivity_threshold_is_the_highest_that_reaches_the_target(binary, target):
    labels, probabilities, _ = binary
    truth, p = labels == "all", probabilities[:, 0]
    threshold = threshold_for(truth, p, "sensitivity", target)
    assert (p[truth] >= threshold).mean() >= target
    next_higher = p[p > threshold].min() + 1e-9
    assert (p[truth] >= next_higher).mean() < target


def test_net_benefit_by_hand():
    # At 0.5 two of two blasts and one of two normal cells are positive: 2/4 − 1/4 · 1.
    table = net_benefit(np.array([True, True, False, False]), np.array([0.9, 0.5, 0.6, 0.1]))
    row = table[table["threshold"].round(2) == 0.5].iloc[0]
    assert (row["net_benefit"], row["everyone"]) == pytest.approx((0.25, 0.0))
    row = table[table["threshold"].round(2) == 0.2].iloc[0]
    assert (row["net_benefit"], row["everyone"]) == pytest.approx((0.5 - 0.25 * 0.25, 0.5 - 0.5 * 0.25))


def test_a_threshold_lies_halfway_between_two_probabilities_or_on_the_lowest_and_needs_both_classes():
    for positive, negative, sensitive, youden in (
        ([0.4, 0.4], [0.2, 0.2], 0.3, 0.3),
        ([0.9], [0.5, 0.4, 0.2], 0.7, 0.7),
        ([0.9, 0.2], [0.5], 0.2, 0.7),
    ):
        is_positive = [True] * len(positive) + [False] * len(negative)
        assert threshold_for(is_positive, [*positive, *negative]) == pytest.approx(youden)
        assert threshold_for(is_positive, [*positive, *negative], "sensitivity", 1.0) == pytest.approx(sensitive)
    with pytest.raises(DataError, match="both classes"):
        threshold_for(np.array([True, True]), np.array([0.2, 0.9]))


def test_the_interval_of_the_brier_score_leaves_out_one_subject_at_a_time():
    random = np.random.default_rng(0)
    truth = np.array(["all", "hem"] * 20)
    p = random.random(40)
    subjects = np.repeat(np.arange(5), 8)
    result = evaluate(truth, np.column_stack([p, 1 - p]), ("all", "hem"), "all", subjects=subjects)
    errors = (p - (truth == "all")) ** 2
    left_out = np.array([errors[subjects != subject].mean() for subject in range(5)])
    assert result["brier"] == pytest.approx(errors.mean())
    assert result["brier_interval"] == pytest.approx(jackknife_interval(errors.mean(), left_out, np.full(5, 8)))


def test_areas_without_each_subject_agree_with_scikit_learn_even_if_many_scores_are_equal():
    rng = np.random.default_rng(5)
    positive, group = rng.random(400) < 0.3, rng.integers(0, 9, 400)
    scores = np.round(np.clip(rng.normal(0.4 + 0.2 * positive, 0.2), 0, 1), 1)
    group[positive & (group == 8)] = 7
    group[np.flatnonzero(positive)[:1]] = 8
    whole, *left_out = _areas(positive, scores, group)
    for kept, areas in [(np.full(400, True), whole), *((group != g, left_out[g]) for g in range(9))]:
        assert areas[0] == pytest.approx(sk.roc_auc_score(positive[kept], scores[kept]), abs=1e-12)
        assert areas[1] == pytest.approx(sk.average_precision_score(positive[kept], scores[kept]), abs=1e-12)


def test_areas_are_unknown_without_a_class():
    without_first = _areas(np.array([True, False, False]), np.array([0.9, 0.5, 0.1]), np.array([0, 1, 2]))
    assert np.isnan(without_first[1]).all()
    assert without_first[0].tolist() == [1, 1]


@pytest.mark.parametrize("measure", ["accuracy", "roc_auc", "f1_weighted", "balanced_accuracy", "specificity"])
def test_a_measure_without_each_group_is_that_of_the_other_images(binary, measure):
    labels, probabilities, subjects = binary
    group, _ = groups(subjects, 300)
    whole, *left_out = leave_one_out(measure, labels, probabilities, CLASSES, "all", 0.4, group)
    assert whole == pytest.approx(evaluate(labels, probabilities, CLASSES, "all", 0.4)[measure])
    others = group != 3
    assert left_out[3] == pytest.approx(evaluate(labels[others], probabilities[others], CLASSES, "all", 0.4)[measure])
    assert len(left_out) == 12


RATES_BY_HAND = {
    "sensitivity": 0.9, "sensitivity_low": 0.8, "sensitivity_high": 0.95,
    "specificity": 0.8, "specificity_low": 0.6, "specificity_high": 0.9,
}  # fmt: skip


def test_predictive_values_follow_bayes_rule_and_their_intervals_donner_and_zou():
    # At 60 %: of 100 cells, 54 blasts and 8 normal cells are called blasts; 32 normal cells and 6 blasts are not.
    values = predictive_values(RATES_BY_HAND, 0.6)
    assert values["ppv"][0] == pytest.approx(54 / 62)
    assert values["npv"][0] == pytest.approx(32 / 38)
    a, b = (0.2, 0.1, 0.4), (0.9, 0.8, 0.95)  # false positives, sensitivity: Donner and Zou (2012), equation 9
    high = (a[0] * b[0] + math.sqrt((a[0] * b[0]) ** 2 - a[2] * b[1] * (2 * a[0] - a[2]) * (2 * b[0] - b[1]))) / (
        b[1] * (2 * b[0] - b[1])
    )
    low = (a[0] * b[0] - math.sqrt((a[0] * b[0]) ** 2 - a[1] * b[2] * (2 * a[0] - a[1]) * (2 * b[0] - b[2]))) / (
        b[2] * (2 * b[0] - b[2])
    )
    assert values["ppv"][1:] == pytest.approx((0.6 / (0.6 + 0.4 * high), 0.6 / (0.6 + 0.4 * low)))


def test_predictive_values_have_limits_where_a_rate_is_zero_or_one_or_unknown():
    perfect = RATES_BY_HAND | {"specificity": 1.0, "specificity_low": 0.9, "specificity_high": 1.0}
    value, low, high = predictive_values(perfect, 0.1)["ppv"]
    assert (value, high) == (1, 1)
    assert 0.4 < low < 0.6  # one false alarm in ten normal cells, and a tenth of blasts
    blind = RATES_BY_HAND | {"sensitivity": 0.0, "sensitivity_low": 0.0, "sensitivity_high": 0.3}
    assert predictive_values(blind, 0.1)["ppv"][:2] == (0, 0)
    unknown = RATES_BY_HAND | {"sensitivity_low": math.nan, "sensitivity_high": math.nan}
    value, *ends = predictive_values(unknown, 0.1)["ppv"]
    assert value == pytest.approx(0.09 / (0.09 + 0.18))
    assert np.isnan(ends).all()


def test_a_decision_curve_at_the_share_of_the_test_set_is_the_usual_one_and_follows_another_share():
    is_positive, p = np.array([True, True, True, False]), np.array([0.9, 0.6, 0.2, 0.4])
    usual = net_benefit(is_positive, p).set_index("threshold")
    assert usual.equals(net_benefit(is_positive, p, 0.75).set_index("threshold"))
    row = net_benefit(is_positive, p, 0.5).set_index("threshold").loc[0.3]
    odds = 0.3 / 0.7
    assert row["net_benefit"] == pytest.approx(0.5 * 2 / 3 - 0.5 * odds)
    assert row["everyone"] == pytest.approx(0.5 - 0.5 * odds)
