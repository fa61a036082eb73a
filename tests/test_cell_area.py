import numpy as np
import pytest

from leukodash.data.images import read_image
from leukodash.evaluation.cell_area import STRATA, area_auc, cell_area, stratified_auc
from leukodash.evaluation.statistics import jackknife_interval


def test_cell_area_counts_pixels_brighter_than_black():
    images = np.zeros((2, 8, 8, 3), np.uint8)
    images[0, :2, :3] = 5  # still background
    images[0, 4, :5, 2] = 6  # one channel is enough
    images[1] = 200
    assert cell_area(images).tolist() == [5, 64]


def test_area_auc_is_the_share_of_correctly_ordered_pairs():
    areas, blast = np.array([10, 30, 20, 20]), np.array([False, True, True, False])
    assert area_auc(areas, blast) == pytest.approx((1 + 1 + 1 + 0.5) / 4)
    assert area_auc(areas, np.ones(4, bool)) is None


@pytest.fixture
def cells():
    """400 cells of 7 subjects, all with cells of both classes, some of equal area or score: area, blast, subject."""
    rng = np.random.default_rng(0)
    blast = rng.random(400) < 0.6
    return rng.integers(0, 60, 400) + 20 * blast, blast, rng.integers(0, 7, 400)


def test_the_stratified_auc_counts_the_pairs_of_each_stratum_alone(cells):
    areas, blast, subject = cells
    scores = np.round(np.random.default_rng(1).normal(size=400) + 0.5 * blast, 1)
    areas = np.argsort(np.argsort(areas, kind="stable"))  # all differ
    stratum = areas // (400 // STRATA)

    def by_hand(kept):
        won = pairs = 0.0
        for number in range(STRATA):
            high, low = (scores[kept & (stratum == number) & (blast == side)] for side in (True, False))
            won += (high[:, None] > low).sum() + (high[:, None] == low).sum() / 2
            pairs += len(high) * len(low)
        return won / pairs

    value, interval = stratified_auc(areas, scores, blast, subject)
    assert value == pytest.approx(by_hand(np.ones(400, bool)))
    left_out = np.array([by_hand(subject != number) for number in range(7)])
    assert interval == pytest.approx(jackknife_interval(value, left_out, np.bincount(subject)))


def test_size_is_worth_nothing_among_cells_of_equal_size_and_ties_are_halves(cells):
    areas, blast, subject = cells
    assert area_auc(areas, blast) > 0.7
    value, (low, high) = stratified_auc(areas, areas + np.random.default_rng(2).normal(0, 20, 400), blast, subject)
    assert low < 0.5 < high
    assert value == pytest.approx(0.5, abs=0.1)
    assert stratified_auc(areas, np.zeros(400), blast, subject)[0] == 0.5
    assert stratified_auc(areas, blast, blast, subject)[0] == 1
    assert stratified_auc(areas, areas, np.ones(400, bool), subject) == (None, None)
    assert stratified_auc(areas, areas, blast, np.zeros(400, int))[1] is None


@pytest.mark.real
def test_area_alone_separates_real_cells(real_cnmc):
    files = sorted(real_cnmc.glob("fold_1/*/*.webp"))[::5]
    areas = np.array([cell_area(read_image(file)[None])[0] for file in files])
    assert area_auc(areas, np.array([file.parent.name == "all" for file in files])) == pytest.approx(0.868, abs=0.02)
