import numpy as np
import pytest
from scipy import stats

from benchmarks.coverage import SCENARIOS, coverage
from leukodash.evaluation import statistics
from leukodash.evaluation.statistics import (
    accuracy_interval,
    count_subjects,
    design_effect,
    effective_count,
    groups,
    jackknife_interval,
    mean_over_subjects,
    wilson,
)


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


def test_the_jackknife_error_agrees_with_a_bootstrap_over_subjects():
    rng = np.random.default_rng(3)
    subjects = np.repeat(np.arange(20), rng.integers(5, 60, 20))
    right = (rng.normal(0, 0.7, 20)[subjects] + rng.normal(0, 1, len(subjects)) < 0).astype(float)
    sizes, hits = np.bincount(subjects), np.bincount(subjects, weights=right)
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


def test_the_logit_adds_half_a_cell_to_each_side():
    assert statistics._logit(0.25, 4) == pytest.approx(np.log(1.5 / 3.5))


def test_a_subject_of_one_image_counts_and_one_without_does_not():
    interval = jackknife_interval(0.6, np.array([0.5, 0.75]), np.array([1, 4]))
    assert interval is not None
    assert jackknife_interval(0.6, np.array([0.5, 0.75, 0.6]), np.array([1, 4, 0])) == interval
    assert jackknife_interval(0.6, np.array([0.5, 0.75]), np.array([0, 4])) is None


def test_no_subjects_are_none_and_unknown_ones_are_not_counted():
    assert count_subjects(None) == 0
    assert count_subjects(["1", "2", None, "1"]) == 2
    assert len(set(groups([str(k) for k in range(100)], 100)[0])) == 100  # none is merged


def test_each_subject_counts_the_same_in_the_mean_over_subjects_and_each_class_in_the_balanced_one():
    # Shares right: 1.0 of ten images, 0.5 of two, 0.0 of one; the last image has no subject.
    correct = np.array([True] * 10 + [True, False] + [False] + [True])
    subjects = np.array(["1"] * 10 + ["2"] * 2 + ["3"] + [None], dtype=object)
    mean, (low, high) = mean_over_subjects(correct, subjects)
    assert mean == pytest.approx(0.5)
    assert (low, high) == jackknife_interval(0.5, np.array([0.25, 0.5, 0.75]), np.full(3, 13 / 3))
    labels = np.array(["all"] * 10 + ["hem"] * 4)
    assert mean_over_subjects(correct, subjects, labels) == (pytest.approx((1.0 + 0.25) / 2), None)
    assert mean_over_subjects(correct, [None] * 14) == (None, None)
