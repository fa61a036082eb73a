import numpy as np
import pytest
from scipy.special import softmax

from leukodash.evaluation.calibration import BOUNDS, MIN_CELLS, Temperature, fit_temperature
from leukodash.evaluation.metrics import calibration_error


def draw_predictions(n, temperature, classes=2, seed=0):
    """Return probabilities that are overconfident by this temperature, and true classes."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 2
    chances = softmax(logits, axis=1)
    codes = (chances.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return softmax(logits * temperature, axis=1), codes


@pytest.mark.parametrize(("temperature", "classes"), [(0.6, 2), (3.0, 4)])
def test_the_temperature_of_generated_predictions_is_recovered(temperature, classes):
    probabilities, codes = draw_predictions(20_000, temperature, classes)
    found = fit_temperature(probabilities, codes)
    assert found.value == pytest.approx(temperature, rel=0.05)
    assert found.note == ""


def test_no_other_temperature_has_a_lower_loss():
    probabilities, codes = draw_predictions(200, 1.7, seed=3)
    found = fit_temperature(probabilities, codes).value

    def loss(temperature):
        return -np.log(softmax(np.log(probabilities) / temperature, axis=1)[np.arange(200), codes]).mean()

    assert loss(found) < min(loss(found * 1.01), loss(found / 1.01), loss(1.0))


def test_calibration_reduces_the_calibration_error_on_other_cells():
    probabilities, codes = draw_predictions(4000, 3.0)
    found = fit_temperature(probabilities[:2000], codes[:2000])
    rest, truth = probabilities[2000:], codes[2000:]

    def error(p):
        return calibration_error(p.max(axis=1), p.argmax(axis=1) == truth)

    assert error(found.scale(rest)) < error(rest) / 3


def test_scaling_keeps_the_ranking_and_handles_probabilities_of_zero():
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [1.0, 0.0], [0.2, 0.8]])
    scaled = Temperature(2.0).scale(probabilities)
    np.testing.assert_array_equal(scaled[:, 0].argsort(), probabilities[:, 0].argsort())
    np.testing.assert_allclose(scaled.sum(axis=1), 1)
    assert scaled[0, 0] == pytest.approx(3 / 4)  # odds of 9 to the power 1/2
    assert 0 < scaled[2, 1] < 0.001
    np.testing.assert_array_equal(Temperature().scale(probabilities), probabilities)


def test_too_few_or_only_correct_cells_leave_the_temperature_at_one_with_a_note():
    probabilities, codes = draw_predictions(MIN_CELLS - 1, 2.0)
    few = fit_temperature(probabilities, codes)
    assert (few.value, few.note) == (1.0, f"only {MIN_CELLS - 1} validation cells, too few to calibrate on")
    perfect = fit_temperature(np.tile([[0.8, 0.2], [0.3, 0.7]], (50, 1)), np.tile([0, 1], 50))
    assert perfect.value == 1.0
    assert "all 100 validation cells are correct" in perfect.note
    assert fit_temperature(np.zeros((0, 2)), np.zeros(0)).value == 1.0


def test_the_temperature_of_extreme_networks_stops_at_a_bound():
    sure = np.tile([[0.99, 0.01]], (100, 1))
    wrong = fit_temperature(sure, np.ones(100, int))
    assert (wrong.value, "chance" in wrong.note) == (BOUNDS[1], True)
    timid = np.tile([[0.51, 0.49]], (100, 1))
    timid[0] = 0.4999, 0.5001
    right = fit_temperature(timid, np.zeros(100, int))
    assert (right.value, "bound" in right.note) == (BOUNDS[0], True)
