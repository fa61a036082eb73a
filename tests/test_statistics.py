from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import SquareTable, mcnemar

from benchmarks.coverage import SCENARIOS, coverage, false_alarms
from leukodash.errors import DataError
from leukodash.evaluation import statistics
from leukodash.evaluation.statistics import (
    accuracy_interval,
    all_pairs,
    cells_needed,
    cochran_q,
    count_subjects,
    design_effect,
    effective_count,
    groups,
    holm,
    jackknife_interval,
    mcnemar_exact,
    ranks,
    standings,
    verdict,
    wilson,
)


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


def test_images_of_unknown_subject_are_groups_of_their_own_and_so_is_every_image_of_fewer_than_two_subjects():
    codes, by_subject = groups(["1", None, "1", "2", np.nan], 5)
    assert by_subject
    assert codes[0] == codes[2]
    assert len(set(codes)) == 4
    for subjects in (None, ["1"] * 4, [None] * 4):
        codes, by_subject = groups(subjects, 4)
        assert not by_subject
        assert sorted(codes) == [0, 1, 2, 3]


def test_many_subjects_are_merged_reproducibly_into_a_hundred_groups():
    subjects = [str(i // 2) for i in range(1000)]
    codes, by_subject = groups(subjects, 1000)
    assert by_subject
    assert len(set(codes)) == 100
    assert all(codes[2 * i] == codes[2 * i + 1] for i in range(500))
    assert (codes == groups(subjects, 1000)[0]).all()


def test_effective_count_by_hand():
    assert effective_count([10, 10, 10]) == pytest.approx(3)
    assert effective_count([8, 1, 1]) == pytest.approx(100 / 66)


def test_the_interval_of_equal_subjects_is_students_t_on_the_logit_scale():
    # For equal, similar subjects the jackknife error equals the standard error of the mean subject accuracy.
    rng = np.random.default_rng(0)
    right = rng.integers(700, 900, 12)
    correct = np.concatenate([np.arange(1000) < k for k in right])
    low, high = accuracy_interval(correct, np.repeat(np.arange(12), 1000))
    mean, error = right.mean() / 1000, stats.sem(right / 1000)
    center, margin = np.log(mean / (1 - mean)), stats.t.ppf(0.975, 11) * error / (mean * (1 - mean))
    assert (low, high) == pytest.approx(tuple(1 / (1 + np.exp(-(center + s * margin))) for s in (-1, 1)), abs=2e-3)


def test_the_jackknife_error_agrees_with_a_bootstrap_over_subjects(clustered):
    correct, subjects = clustered
    right, codes = correct["c"].to_numpy(dtype=float), groups(subjects, len(subjects))[0]
    sizes, hits = np.bincount(codes), np.bincount(codes, weights=right)
    drawn = np.random.default_rng(0).multinomial(20, np.full(20, 0.05), size=20_000)
    error = np.std((drawn @ hits) / (drawn @ sizes))
    effect = design_effect(right, subjects)
    assert np.sqrt(effect * right.mean() * (1 - right.mean()) / len(right)) == pytest.approx(error, rel=0.1)


def test_the_design_effect_of_independent_cells_is_about_one_and_of_copies_their_number():
    rng = np.random.default_rng(0)
    one = rng.random(60) < 0.7
    subjects = np.repeat(np.arange(60), 10)
    assert design_effect(np.repeat(one, 10), subjects) == pytest.approx(10, rel=0.05)
    assert design_effect(rng.random(600) < 0.7, subjects) == pytest.approx(1, abs=0.4)
    assert design_effect(np.ones(600, bool), subjects) is None
    assert design_effect(one, [None] * 60) is None
    assert design_effect(np.zeros(6, bool), ["1", "1", "2", "2", "3", "3"]) is None


def test_accuracy_has_wilsons_interval_of_the_images_without_subjects_and_of_the_subjects_if_perfect():
    for subjects in (None, ["1"] * 70):
        assert accuracy_interval(np.arange(70) < 65, subjects) == pytest.approx(wilson(65, 70))
    assert accuracy_interval(np.ones(700, bool), np.repeat(np.arange(7), 100)) == pytest.approx(wilson(7, 7))
    assert accuracy_interval(np.ones(3), None)[1] == 1.0
    assert accuracy_interval([], None) is None


def test_a_metric_that_depends_on_one_subject_has_no_interval():
    assert jackknife_interval(0.9, np.array([0.9, 0.9]), np.array([10, 0])) is None
    assert jackknife_interval(0.9, np.array([0.9, np.nan]), np.array([10, 10])) is None


@pytest.mark.parametrize(("scenario", "subjects"), [("accuracy 0.97", 28), ("accuracy 0.85, subjects differ more", 7)])
def test_the_leading_interval_holds_the_truth_where_wilsons_does_not(scenario, subjects):
    intervals = coverage(SCENARIOS[scenario], subjects, sets=150)["intervals"]
    # 150 sets: three standard errors of 95% are 5.3 points. docs/coverage.json has 2,000 sets.
    assert 0.89 <= intervals["by subject (leads)"]["coverage"] <= 1
    assert intervals["Wilson"]["coverage"] < 0.7


def test_the_test_by_subject_has_fewer_false_positives_than_mcnemar():
    alarms = false_alarms(28, sets=150)
    assert alarms["by subject (leads)"] < 0.12
    assert alarms["McNemar"] > 0.2


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
        kept = ["both_right", "only_a", "only_b", "both_wrong", "difference", "low", "high", "mcnemar", "p", "needed"]
        assert row[kept].tolist() == pytest.approx(alone[kept].tolist())
    assert table["p_holm"].tolist() == pytest.approx(holm(table["p"].to_numpy()).tolist())


def test_a_run_is_not_separated_from_a_copy_of_itself():
    correct = make_runs(50, 0, 0, 20)
    for subjects in (None, np.repeat(np.arange(7), 10)):
        row = all_pairs(correct, subjects).iloc[0]
        assert (row["difference"], row["p"], row["needed"]) == (0, 1, np.inf)
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
    expected = f"a and b cannot be told apart on these {len(correct):,} images of 20 subjects; c falls behind."
    assert standings(places, pairs, len(correct), 20) == expected
    tied = pd.Series(1, index=["a", "b", "c"])
    assert standings(tied, pairs.assign(separated=False), 70) == "a, b and c cannot be told apart on these 70 images."


def test_standings_of_the_papers_table():
    right = {"VGG16": 65, "MobileNet": 64, "ResNet50": 36}
    correct = pd.DataFrame({name: np.arange(70) < k for name, k in right.items()})
    pairs = all_pairs(correct)
    places = ranks(correct.mean(), pairs)
    both = "VGG16 and MobileNet cannot be told apart on these 70 images"
    assert standings(places, pairs, 70) == f"{both}; ResNet50 falls behind."
    one = pairs["a"].eq("VGG16") & pairs["b"].eq("ResNet50")
    best = "VGG16 is the most accurate on these 70 images."
    assert standings(places[["VGG16", "ResNet50"]], pairs[one], 70) == best


@pytest.mark.parametrize(
    ("separated", "words"),
    [
        ({"AC"}, "A and B cannot be told apart on these 70 images; C falls behind A."),
        ({"AC", "BC"}, "A and B cannot be told apart on these 70 images; C falls behind."),
        ({"AC", "AB"}, "A is the most accurate on these 70 images."),
        ({"AB", "BC"}, "On these 70 images, no run is shown to be better than A; B falls behind; C falls behind B."),
    ],
)
def test_a_run_falls_behind_only_those_that_tests_separate_it_from(separated, words):
    tests = pd.DataFrame({"a": ["A", "A", "B"], "b": ["B", "C", "C"], "difference": 0.1})
    tests["separated"] = [f"{row.a}{row.b}" in separated for row in tests.itertuples()]
    places = ranks(pd.Series([0.9, 0.8, 0.7], index=["A", "B", "C"]), tests)
    assert standings(places, tests, 70) == words


def test_many_runs_are_not_named_one_by_one():
    names = [f"last block only, learning rate {number}" for number in range(8)]
    correct = pd.DataFrame({name: np.arange(700) < 600 - 3 * number for number, name in enumerate(names)})
    pairs = all_pairs(correct)
    words = standings(ranks(correct.mean(), pairs), pairs, 700)
    apart = f"the tests separate {pairs['separated'].sum()} of 28 pairs of runs on these 700 images."
    assert words == f"“{names[0]}” is right most often; {apart}"


def test_a_verdict_names_the_better_run_or_the_number_of_images_or_subjects_needed(clustered):
    row = all_pairs(make_runs(61, 4, 3, 2)).iloc[0]
    assert verdict(row) == "a and b: no detectable difference on 70 images; about 3,800 images would be needed."
    row = all_pairs(make_runs(30, 2, 30, 8)).iloc[0]
    low, high = -100 * row["high"], -100 * row["low"]
    assert 0 < low < 40 < high
    assert verdict(row).startswith(f"b is more accurate than a by 40.0 points ({low:.1f} to {high:.1f}) on ")
    correct, subjects = clustered
    words = verdict(all_pairs(correct, subjects).iloc[0])
    assert words.endswith("such subjects would be needed.")
    assert f"{len(correct):,} images of 20 subjects" in words


@pytest.mark.parametrize(("discordant", "cells"), [(1 / 70, 548), (7 / 70, 3844), (0.144898, 5571)])
def test_the_cells_needed_for_one_image_of_70_depend_on_the_pairing(discordant, cells):
    # One network correct wherever the other is; 4 against 3; independent mistakes: 65/70·6/70 + 64/70·5/70.
    assert cells_needed(1 / 70, discordant) == pytest.approx(cells, abs=1)


def test_the_cells_needed_detect_the_difference_in_80_percent_of_samples():
    n = int(cells_needed(0.05, 0.2))
    tables = np.random.default_rng(0).multinomial(n, [0.125, 0.075, 0.8], size=4000)
    z = (tables[:, 0] - tables[:, 1]) / np.sqrt(tables[:, 0] + tables[:, 1])
    assert np.mean(np.abs(z) > stats.norm.ppf(0.975)) == pytest.approx(0.8, abs=0.025)


def test_more_power_and_smaller_differences_need_more_cells_and_impossible_ones_are_refused():
    assert all(a < b for a, b in pairwise(cells_needed(np.array([0.1, 0.05, 0.02, 0]), 0.1)))
    assert cells_needed(0.05, 0.2, power=0.9) > cells_needed(0.05, 0.2)
    assert cells_needed(-0.05, 0.2) == cells_needed(0.05, 0.2)
    with pytest.raises(DataError, match="between the difference in accuracy and 1"):
        cells_needed(0.2, 0.1)


def test_the_logit_adds_half_a_cell_to_each_side():
    assert statistics._logit(0.25, 4) == pytest.approx(np.log(1.5 / 3.5))


def test_eighty_percent_power_takes_as_many_more_subjects_as_lehrs_constant_says():
    times = statistics._times_more(np.array([0.1, 0.0]), np.array([0.01, 0.01]))
    assert times[0] == pytest.approx(7.849, abs=1e-3)  # (1.960 + 0.842)² · 0.01 / 0.1²
    assert times[1] == np.inf


def test_two_p_values_are_corrected_and_a_single_one_is_not():
    np.testing.assert_allclose(holm(np.array([0.03, 0.04])), [0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.03])), [0.03])


def test_a_subject_of_one_image_counts_and_one_without_does_not():
    interval = jackknife_interval(0.6, np.array([0.5, 0.75]), np.array([1, 4]))
    assert interval is not None
    assert jackknife_interval(0.6, np.array([0.5, 0.75, 0.6]), np.array([1, 4, 0])) == interval
    assert jackknife_interval(0.6, np.array([0.5, 0.75]), np.array([0, 4])) is None


def test_no_subjects_are_none_and_unknown_ones_are_not_counted():
    assert count_subjects(None) == 0
    assert count_subjects(["1", "2", None, "1"]) == 2
    assert len(set(groups([str(k) for k in range(100)], 100)[0])) == 100  # none is merged
