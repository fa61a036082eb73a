import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import SquareTable, mcnemar

from benchmarks.coverage import NETWORKS, coverage_of_measures, false_alarms
from leukodash.errors import DataError
from leukodash.evaluation.differences import Measured, all_pairs, cochran_q, holm, mcnemar_exact, ranks
from leukodash.evaluation.statistics import groups, jackknife_interval
from leukodash.evaluation.verdicts import standings, verdict


def make_runs(both, only_a, only_b, neither):
    """Return the correctness of two runs, a and b, with these counts."""
    a = [True] * (both + only_a) + [False] * (only_b + neither)
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return pd.DataFrame({"a": a, "b": b})


@pytest.fixture
def clustered():
    """Three runs on 20 uneven subjects, one of them much worse; subjects (n,)."""
    rng = np.random.default_rng(3)
    sizes = rng.integers(5, 60, 20)
    subject = np.repeat(np.arange(20), sizes)
    hard = rng.normal(0, 0.7, 20)[subject] + rng.normal(0, 1, len(subject))
    right = {name: hard + rng.normal(0, 0.5, len(subject)) < cut for name, cut in [("a", 1.5), ("b", 1.45), ("c", 0)]}
    return pd.DataFrame(right), subject.astype(str)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (10, 2), (120, 90)])
def test_mcnemar_agrees_with_statsmodels_and_a_binomial_test(only_a, only_b):
    p = float(mcnemar_exact(only_a, only_b))
    assert p == pytest.approx(mcnemar([[5, only_a], [only_b, 5]], exact=True).pvalue)
    if only_a + only_b:
        assert p == pytest.approx(binomtest(only_a, only_a + only_b).pvalue)
    both = np.arange(59, 65)  # every table with 65 and 64 of 70 correct
    assert mcnemar_exact(65 - both, 64 - both).tolist() == [1.0] * 6


def test_a_pair_is_counted_correctly():
    row = all_pairs(make_runs(60, 5, 3, 2)).iloc[0]
    assert row[["n", "subjects", "both_right", "only_a", "only_b", "both_wrong"]].tolist() == [70, 0, 60, 5, 3, 2]
    assert row["difference"] == pytest.approx(2 / 70)
    assert row["p"] == row["mcnemar"] == pytest.approx(binomtest(5, 8).pvalue)


def test_without_subjects_the_difference_has_agresti_and_mins_interval():
    # By hand for 40 and 20 discordant of 200: half an image in each cell.
    row = all_pairs(make_runs(100, 40, 20, 40)).iloc[0]
    middle = 20 / 202
    error = np.sqrt((61 / 202 - middle**2) / 202)
    assert (row["low"], row["high"]) == pytest.approx((middle - 1.95996 * error, middle + 1.95996 * error), abs=1e-6)


def test_with_equal_subjects_the_difference_is_a_paired_t_test():
    rng = np.random.default_rng(4)
    correct = pd.DataFrame({"a": rng.random(400) < 0.9, "b": rng.random(400) < 0.8})
    subjects = np.repeat(np.arange(20), 20)
    row = all_pairs(correct, subjects).iloc[0]
    means = correct.groupby(subjects).mean()
    test = stats.ttest_rel(means["a"], means["b"])
    interval = test.confidence_interval()
    assert row["p"] == pytest.approx(test.pvalue)
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    assert row["subjects"] == 20


def test_all_pairs_together_equal_each_pair_alone_and_are_corrected_by_holm(clustered):
    assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])  # by hand
    correct, subjects = clustered
    table = all_pairs(correct, subjects)
    assert [(row["a"], row["b"]) for _, row in table.iterrows()] == [("a", "b"), ("a", "c"), ("b", "c")]
    for _, row in table.iterrows():
        alone = all_pairs(correct[[row["a"], row["b"]]], subjects).iloc[0]
        kept = [
            "both_right",
            "only_a",
            "only_b",
            "both_wrong",
            "difference",
            "low",
            "high",
            "mcnemar",
            "p",
            "detectable",
        ]
        assert row[kept].tolist() == pytest.approx(alone[kept].tolist())
    assert table["p_holm"].tolist() == pytest.approx(holm(table["p"].to_numpy()).tolist())


def test_a_run_is_not_separated_from_a_copy_of_itself():
    correct = make_runs(50, 0, 0, 20)
    for subjects in (None, np.repeat(np.arange(7), 10)):
        row = all_pairs(correct, subjects).iloc[0]
        assert (row["difference"], row["p"]) == (0, 1)
        assert row["low"] < 0 < row["high"]
        assert verdict(row).startswith("a and b are correct on the same images, out of 70 images")


def test_a_difference_that_every_subject_shares_is_judged_by_the_sign_of_subjects():
    # a is right and b wrong everywhere: no spread between subjects, so 5 of 5 subjects is all that is known.
    row = all_pairs(make_runs(0, 50, 0, 0), np.repeat(np.arange(5), 10)).iloc[0]
    assert row["p"] == pytest.approx(binomtest(5, 5).pvalue)
    assert (row["difference"], row["high"]) == (1, 1)
    assert row["low"] < 1


@pytest.mark.parametrize("correct", [pd.DataFrame({"a": [True, False]}), make_runs(0, 0, 0, 0)])
def test_a_comparison_needs_two_runs_and_an_image(correct):
    with pytest.raises(DataError, match="two runs on the same images"):
        all_pairs(correct)


def test_cochrans_q_follows_its_formula_and_is_mcnemars_for_two_runs_and_zero_if_all_agree(clustered):
    right = clustered[0].to_numpy(dtype=int)
    k, columns, rows = right.shape[1], right.sum(axis=0), right.sum(axis=1)
    q = (k - 1) * (k * (columns**2).sum() - right.sum() ** 2) / (k * right.sum() - (rows**2).sum())
    assert cochran_q(clustered[0]) == pytest.approx((q, stats.chi2.sf(q, k - 1)))
    symmetry = SquareTable(np.array([[100, 40], [20, 40]])).symmetry()
    assert cochran_q(make_runs(100, 40, 20, 40)) == pytest.approx((symmetry.statistic, symmetry.pvalue))
    assert cochran_q(make_runs(50, 0, 0, 20)) == (0.0, 1.0)


def test_runs_that_no_test_separates_share_a_rank(clustered):
    correct, subjects = clustered
    pairs = all_pairs(correct, subjects)
    assert pairs["separated"].tolist() == [False, True, True]
    places = ranks(correct.mean(), pairs)
    assert places.to_dict() == {"a": 1, "b": 1, "c": 3}
    expected = (
        f"a and b cannot be told apart by accuracy on these {len(correct):,} images of 20 subjects; c falls behind."
    )
    assert standings(places, pairs, len(correct), 20) == expected
    tied = pd.Series(1, index=["a", "b", "c"])
    assert (
        standings(tied, pairs.assign(separated=False), 70)
        == "a, b and c cannot be told apart by accuracy on these 70 images."
    )


def test_standings_of_the_papers_table():
    right = {"VGG16": 65, "MobileNet": 64, "ResNet50": 36}
    correct = pd.DataFrame({name: np.arange(70) < k for name, k in right.items()})
    pairs = all_pairs(correct)
    places = ranks(correct.mean(), pairs)
    both = "VGG16 and MobileNet cannot be told apart by accuracy on these 70 images"
    assert standings(places, pairs, 70) == f"{both}; ResNet50 falls behind."
    one = pairs["a"].eq("VGG16") & pairs["b"].eq("ResNet50")
    best = "VGG16 has the highest accuracy on these 70 images."
    assert standings(places[["VGG16", "ResNet50"]], pairs[one], 70) == best


@pytest.mark.parametrize(
    ("separated", "words"),
    [
        ({"AC"}, "A and B cannot be told apart by ROC AUC on these 70 images; C falls behind A."),
        ({"AC", "BC"}, "A and B cannot be told apart by ROC AUC on these 70 images; C falls behind."),
        ({"AC", "AB"}, "A has the highest ROC AUC on these 70 images."),
        (
            {"AB", "BC"},
            "On these 70 images, no run is shown to have a higher ROC AUC than A; B falls behind; C falls behind B.",
        ),
    ],
)
def test_a_run_falls_behind_only_those_that_tests_separate_it_from(separated, words):
    tests = pd.DataFrame({"a": ["A", "A", "B"], "b": ["B", "C", "C"], "difference": 0.1, "measure": "roc_auc"})
    tests["separated"] = [f"{row.a}{row.b}" in separated for row in tests.itertuples()]
    places = ranks(pd.Series([0.9, 0.8, 0.7], index=["A", "B", "C"]), tests)
    assert standings(places, tests, 70) == words


def test_many_runs_are_not_named_one_by_one():
    names = [f"last block only, learning rate {number}" for number in range(8)]
    correct = pd.DataFrame({name: np.arange(700) < 600 - 3 * number for number, name in enumerate(names)})
    pairs = all_pairs(correct)
    words = standings(ranks(correct.mean(), pairs), pairs, 700)
    apart = f"the tests separate {pairs['separated'].sum()} of 28 pairs of runs on these 700 images."
    assert words == f"“{names[0]}” has the highest accuracy; {apart}"


def test_a_verdict_names_the_better_run_or_the_difference_that_would_have_been_found(clustered):
    row = all_pairs(make_runs(61, 4, 3, 2)).iloc[0]
    assert verdict(row) == (
        "a and b: no detectable difference in accuracy on 70 images. "
        "A difference of 11.0 points would be found in 4 of 5 such tests."
    )
    row = all_pairs(make_runs(30, 2, 30, 8)).iloc[0]
    low, high = -100 * row["high"], -100 * row["low"]
    assert 0 < low < 40 < high
    assert verdict(row).startswith(f"b has a higher accuracy than a by 40.0 points ({low:.1f} to {high:.1f}) on ")
    correct, subjects = clustered
    assert f"{len(correct):,} images of 20 subjects. A difference" in verdict(all_pairs(correct, subjects).iloc[0])


def test_a_test_finds_the_smallest_detectable_difference_in_80_percent_of_samples():
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(15), 40)

    def tested(ease):
        shared = rng.normal(0, 0.5, (15, 1)).repeat(40, 1).ravel() + rng.normal(0, 1, 600)
        scores = {
            name: shared + rng.normal(0, 0.4, (15, 1)).repeat(40, 1).ravel() + rng.normal(0, 1, 600) + more
            for name, more in (("a", ease), ("b", 0))
        }
        row = all_pairs(pd.DataFrame(scores) > -1, subjects).iloc[0]
        return row["p"] < 0.05, row["difference"], row["detectable"]

    found, difference, detectable = np.transpose([tested(0.58) for _ in range(200)]).astype(float)
    assert difference.mean() == pytest.approx(detectable.mean(), rel=0.05)  # the ease was chosen so
    assert found.mean() == pytest.approx(0.8, abs=0.085)


@pytest.fixture
def measured(clustered):
    """ROC AUCs of three runs with and without each of 20 groups, made up."""
    correct, subjects = clustered
    rng, codes = np.random.default_rng(0), groups(subjects, len(subjects))[0]
    values = np.array([0.95, 0.93, 0.7])
    left_out = values + rng.normal(0, 0.003, (20, 1)) + rng.normal(0, 0.002, (20, 3))
    return correct, subjects, Measured("roc_auc", values, left_out, np.bincount(codes))


def test_the_difference_of_independent_areas_has_zou_and_donners_interval(measured):
    correct, subjects, areas = measured
    # Uncorrelated jackknife values of a and b: deviations that are orthogonal.
    wave = np.resize([1.0, -1.0], 20), np.resize([1.0, 1.0, -1.0, -1.0], 20)
    left_out = np.stack([0.95 + 0.004 * wave[0], 0.93 + 0.004 * wave[1]], axis=1)
    row = all_pairs(correct[["a", "b"]], subjects, Measured("roc_auc", areas.values[:2], left_out, areas.sizes)).iloc[0]
    (low_a, high_a), (low_b, high_b) = (
        jackknife_interval(value, without, areas.sizes)
        for value, without in zip(areas.values[:2], left_out.T, strict=True)
    )
    assert row["low"] == pytest.approx(0.02 - np.hypot(0.95 - low_a, high_b - 0.93))
    assert row["high"] == pytest.approx(0.02 + np.hypot(high_a - 0.95, 0.93 - low_b))
    assert (row["measure"], row["mcnemar"]) == ("roc_auc", all_pairs(correct, subjects).iloc[0]["mcnemar"])


def test_the_interval_of_a_difference_of_areas_excludes_zero_where_its_test_finds_one(measured):
    correct, subjects, areas = measured
    table = all_pairs(correct, subjects, areas)
    assert ((table["low"] > 0) | (table["high"] < 0)).tolist() == (table["p"] < 0.05).tolist() == [False, True, True]
    turned = all_pairs(
        correct[["c", "b", "a"]],
        subjects,
        Measured("roc_auc", areas.values[::-1], areas.left_out[:, ::-1], areas.sizes),
    )
    assert turned["p"].tolist() == pytest.approx(table["p"].tolist()[::-1])
    assert turned["low"].tolist() == pytest.approx((-table["high"]).tolist()[::-1])
    assert verdict(table.iloc[1]).startswith("a has a higher ROC AUC than c by 25.0 points (")


def test_a_measure_that_is_undefined_without_some_group_is_refused(measured):
    correct, subjects, areas = measured
    areas.left_out[3] = np.nan
    with pytest.raises(DataError, match="cannot be tested by ROC AUC"):
        all_pairs(correct, subjects, areas)


def test_the_test_by_subject_has_fewer_false_positives_than_mcnemar():
    alarms = false_alarms(28, sets=150)
    assert alarms["by subject (leads)"] < 0.12
    assert alarms["McNemar"] > 0.2


def test_intervals_of_differences_and_people_and_predictive_values_hold_the_truth(monkeypatch):
    monkeypatch.setattr("benchmarks.coverage.POPULATION", 20_000)
    found = coverage_of_measures(NETWORKS["far apart"], 28, sets=60)
    # 60 sets: three standard errors of 95% are 8.4 points. docs/coverage.json has 900 sets.
    assert {"subject_accuracy", "stratified_auc", "ppv at 10%", "difference in roc_auc"} <= set(found)
    assert all(each["coverage"] > 0.84 for each in found.values())
    assert found["difference in roc_auc"]["found"] > 0.5
