import numpy as np
import pytest

from leukodash.data.images import read_image
from leukodash.evaluation.cell_area import area_auc, cell_area


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


@pytest.mark.real
def test_area_alone_separates_real_cells(real_cnmc):
    files = sorted(real_cnmc.glob("fold_1/*/*.webp"))[::5]
    areas = np.array([cell_area(read_image(file)[None])[0] for file in files])
    assert area_auc(areas, np.array([file.parent.name == "all" for file in files])) == pytest.approx(0.868, abs=0.02)
