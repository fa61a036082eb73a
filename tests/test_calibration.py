import numpy as np
import pytest
from scipy.special import expit, logit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from leukodash.evaluation.calibration import (
    MIN_CELLS,
    TEMPERATURES,
    Temperature,
    calibration_change,
    calibration_line,
    fit_temperature,
)
from leukodash.evaluation.metrics import calibration_error


def draw_predictions(n, temperature, classes=2, seed=0):
    """Return probabilities that are overconfident by this temperature, true classes, and ten subjects."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 2
    chances = softmax(logits, axis=1)
    codes = (chances.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return softmax(logits * temperature, axis=1), codes, np.arange(n) % 10


@pytest.mark.parametrize(("temperature", "classes"), [(1.5, 2), (3.0, 4)])
@pytest.mark.parametrize("known", [True, False])
def test_the_temperature_of_generated_predictions_is_recovered(temperature, classes, known):
    probabilities, codes, subjects = draw_predictions(20_000, temperature, classes)
    found = fit_temperature(probabilities, codes, subjects if known else None)
    assert found.value == pytest.approx(temperature, rel=0.05)
    units = "each of 10 subjects" if known else "a part of the cells"
    assert f"calibrated by a temperature of {found.value:.2f}" in found.note
    assert f"on 20,000 validation cells, with {units} held out in turn" in found.note


def test_no_other_temperature_that_is_tried_has_a_lower_loss():
    probabilities, codes, subjects = draw_predictions(200, 1.7, seed=3)
    losses = [log_loss(codes, softmax(np.log(probabilities) / value, axis=1)) for value in TEMPERATURES]
    assert fit_temperature(probabilities, codes, subjects).value == TEMPERATURES[np.argmin(losses)] > 1.1


def test_a_network_is_never_made_surer():
    probabilities, codes, subjects = draw_predictions(20_000, 0.6)
    timid = fit_temperature(probabilities, codes, subjects)
    assert (timid.value, timid.note) == (1.0, "left as they are: not overconfident on 20,000 validation cells")
    perfect = fit_temperature(np.tile([[0.8, 0.2], [0.3, 0.7]], (50, 1)), np.tile([0, 1], 50))
    assert perfect.value == 1.0


def test_a_temperature_that_one_subject_asks_for_is_not_used_as_it_does_not_help_the_others():
    probabilities = np.tile([[0.8, 0.2]], (300, 1))
    codes, subjects = np.zeros(300, int), np.arange(300) // 50
    codes[:250:5] = 1  # five subjects for whom 80% is right
    codes[250:] = 1  # one whose cells are all mistaken
    together = fit_temperature(probabilities, codes)
    by_subject = fit_temperature(probabilities, codes, subjects)
    assert together.value > 1 == by_subject.value
    assert "a temperature would not help (log loss" in by_subject.note
    assert "with each of 6 subjects held out in turn" in by_subject.note


@pytest.mark.parametrize(
    ("cells", "subjects", "note"),
    [
        (0, 10, "not calibrated: 0 validation cells"),
        (MIN_CELLS - 1, 10, f"not calibrated: {MIN_CELLS - 1} validation cells, of {MIN_CELLS} that it takes"),
        (500, 1, "not calibrated: all validation cells are of one subject"),
    ],
)
def test_too_few_cells_or_subjects_leave_the_temperature_at_one_with_a_note(cells, subjects, note):
    probabilities, codes, own = draw_predictions(500, 2.0)
    found = fit_temperature(probabilities[:cells], codes[:cells], own[:cells] % subjects)
    assert found.value == 1
    assert found.note.startswith(note)


def test_scaling_keeps_the_ranking_and_handles_probabilities_of_zero():
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [1.0, 0.0], [0.2, 0.8]])
    scaled = Temperature(2.0).scale(probabilities)
    np.testing.assert_array_equal(scaled[:, 0].argsort(), probabilities[:, 0].argsort())
    np.testing.assert_allclose(scaled.sum(axis=1), 1)
    assert scaled[0, 0] == pytest.approx(3 / 4)  # odds of 9 to the power 1/2
    assert 0 < scaled[2, 1] < 0.001
    np.testing.assert_array_equal(Temperature().scale(probabilities), probabilities)


def test_the_change_of_calibration_is_that_of_scikit_learns_measures_with_a_jackknife_over_subjects():
    probabilities, codes, _ = draw_predictions(400, 2.5, seed=1)
    subjects, chosen = np.repeat(["A", "B", "C", "D"], [40, 60, 100, 200]), Temperature(2.0)
    table = calibration_change(probabilities, codes, chosen, subjects).set_index("measure")
    scaled = chosen.scale(probabilities)
    for measure, of in (("log_loss", log_loss), ("brier", brier_score_loss)):
        row = table.loc[measure]
        assert row["before"] == pytest.approx(of(codes, probabilities[:, 1]))
        assert row["after"] == pytest.approx(of(codes, scaled[:, 1]))
        kept = [subjects != own for own in "ABCD"]
        left_out = np.array([of(codes[k], scaled[k, 1]) - of(codes[k], probabilities[k, 1]) for k in kept])
        error = np.sqrt(3 / 4 * ((left_out - left_out.mean()) ** 2).sum())
        half = (row["high"] - row["low"]) / 2
        assert row["difference"] == pytest.approx(row["after"] - row["before"]) == pytest.approx(row["low"] + half)
        assert 3.18 * error < half < 12.8 * error  # Student's t with 3 to 1 degrees of freedom
    error = table.loc["calibration_error"]
    assert error["after"] == pytest.approx(calibration_error(scaled.max(axis=1), scaled.argmax(axis=1) == codes))
    assert error["after"] < error["before"] / 2
    assert np.isnan(error["low"])


def test_without_a_temperature_or_a_second_subject_no_interval_is_given():
    probabilities, codes, subjects = draw_predictions(400, 2.5)
    same = calibration_change(probabilities, codes, Temperature(), subjects)
    assert (same["difference"] == 0).all()
    assert same["low"].isna().all()
    one = calibration_change(probabilities[:1], codes[:1], Temperature(2.0))
    assert one["low"].isna().all()


def test_the_calibration_line_is_that_of_a_logistic_regression_and_a_temperature_multiplies_its_slope():
    probabilities, codes, subjects = draw_predictions(2000, 2.0, seed=2)
    p, truth = probabilities[:, 1], codes == 1
    line = calibration_line(p, truth, subjects)
    model = LogisticRegression(C=np.inf, tol=1e-8).fit(logit(p)[:, None], truth)
    assert (line["slope"], line["intercept"]) == pytest.approx((model.coef_.item(), model.intercept_.item()), rel=1e-3)
    assert line["slope_low"] < 0.5 < line["slope_high"]
    after = calibration_line(expit(logit(p) / 2), truth, subjects)
    assert (after["slope"], after["intercept"]) == pytest.approx((2 * line["slope"], line["intercept"]), rel=1e-4)


def test_classes_that_a_threshold_separates_have_no_calibration_line():
    p = np.linspace(0.01, 0.99, 100)
    assert np.isnan(list(calibration_line(p, p > 0.5).values())).all()
    assert np.isnan(list(calibration_line(p, np.ones(100, bool)).values())).all()
