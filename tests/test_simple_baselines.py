import numpy as np
import pytest

from leukodash.evaluation.simple_baselines import AREA, HISTOGRAM, KNN, SVM, area, baseline, color_histogram


def test_area_is_the_fraction_of_pixels_that_are_not_black():
    images = np.zeros((2, 10, 10, 3), np.uint8)
    images[0, :5] = 200
    assert area(images).tolist() == [[0.5], [0.0]]


def test_the_histogram_ignores_the_black_background():
    images = np.zeros((1, 4, 4, 3), np.uint8)
    images[0, 0, 0], images[0, 0, 1] = (255, 0, 17), (0, 128, 17)
    red, green, blue = color_histogram(images).reshape(3, 16)
    assert red[15] == red[0] == 0.5
    assert green[0] == green[8] == 0.5
    assert blue[1] == 1


def test_a_black_image_has_an_empty_histogram():
    assert color_histogram(np.zeros((1, 4, 4, 3), np.uint8)).sum() == 0


@pytest.mark.parametrize("name", [AREA, HISTOGRAM, SVM, KNN])
def test_a_baseline_separates_classes_and_keeps_their_order(name):
    random = np.random.default_rng(0)
    labels = np.array(["hem", "all"] * 100, dtype=object)
    features = random.normal(size=(200, 3)) + 4 * (labels == "all")[:, None]
    train = np.arange(200) < 120
    p = baseline(name, features, labels, train, ("hem", "all"))
    predicted = np.array(["hem", "all"], dtype=object)[p.argmax(axis=1)]
    assert (predicted == labels)[~train].mean() > 0.95
    assert p.sum(axis=1) == pytest.approx(1)
