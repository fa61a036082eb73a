import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_smears import PALE, RED_CELL, VIOLET, smear, smear_of_four

from leukodash.data.demo_cells import IMAGE_SIZE, make_demo
from leukodash.data.images import read_image
from leukodash.smears import detection
from leukodash.smears.detection import FILLS, Box, cut_outs, find_white_cells, looks_like_smear, overlap
from leukodash.smears.segmentation import WORKING_PIXELS, label_white_cells

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def some():
    return smear_of_four()


def assert_same_cells(found, boxes, least=0.7):
    assert len(found) == len(boxes)
    assert all(max(overlap(box, other) for other in found) > least for box in boxes)


def test_white_cells_are_found_including_those_at_the_border(some):
    assert_same_cells(find_white_cells(some[0]), some[1], least=0.85)


@pytest.mark.parametrize("scale", [0.4, 2.5])
def test_cells_are_found_at_any_magnification(some, scale):
    image = cv2.resize(some[0], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else 1)
    boxes = [Box(*(round(side * scale) for side in box)) for box in some[1]]
    assert_same_cells(find_white_cells(image), boxes)


def test_cells_are_found_in_darker_and_warmer_light(some):
    image = (some[0] * np.array([0.75, 0.7, 0.6])).astype(np.uint8)
    assert_same_cells(find_white_cells(image), some[1])


@pytest.mark.parametrize("apart", [80, 90])
def test_touching_cells_are_separated(apart):
    image, boxes = smear([(200, 200), (200 + apart, 210), (550, 400), (555, 400 + apart)])
    assert_same_cells(find_white_cells(image), boxes, least=0.6)


def test_a_cell_with_three_nuclear_lobes_is_one_cell():
    lobes = [((385, 290), 20, VIOLET), ((425, 300), 20, VIOLET), ((395, 340), 20, VIOLET)]
    image, _ = smear([], extras=[((400, 310), 65, PALE), *lobes])
    assert_same_cells(find_white_cells(image), [Box(335, 245, 465, 375)])


def test_platelets_are_not_cells():
    image, boxes = smear([(200, 150)], extras=[((500, 300), 10, VIOLET), ((650, 500), 12, VIOLET)])
    assert_same_cells(find_white_cells(image), boxes)


def test_no_cells_are_found_in_a_smear_without_white_cells():
    image, _ = smear([])
    assert looks_like_smear(image)
    assert find_white_cells(image) == []


def test_a_large_image_is_segmented_in_a_small_copy(some):
    image = cv2.resize(some[0], (3200, 2560))
    labels, red_cell, scale = label_white_cells(image)
    assert labels.size <= WORKING_PIXELS * 1.01
    assert red_cell / scale == pytest.approx(4 * RED_CELL, rel=0.35)
    assert_same_cells(find_white_cells(image), [Box(*(4 * side for side in box)) for box in some[1]])


def test_cells_on_black_and_other_images_are_not_smears(some, tmp_path):
    assert looks_like_smear(some[0])
    for path in make_demo(tmp_path / "demo", cells=30, subjects=6).rglob("*.png"):
        assert not looks_like_smear(read_image(path))
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:200, :300]
    others = {
        "noise": rng.integers(0, 256, (200, 300, 3)),
        "white": np.full((200, 300, 3), 255),
        "black": np.zeros((200, 300, 3)),
        "gray shapes": np.where((x // 40 + y // 40) % 2, 230, 120)[..., None].repeat(3, axis=2),
        "a sunset": np.stack([255 - y / 2, 160 - y / 2, 90 + x / 4], axis=2),
        "leaves": np.where(((x // 30 + y // 25) % 2)[..., None], (70, 140, 50), (225, 230, 235)),
        "coffee": np.where((np.hypot(x - 150, y - 100) < 70)[..., None], (90, 50, 20), (230, 225, 215)),
        "one pixel": np.full((1, 1, 3), 200),
        "a line": np.full((1, 5000, 3), 200),
    }
    assert [name for name, image in others.items() if looks_like_smear(image.astype(np.uint8))] == []
    assert all(find_white_cells(others[name].astype(np.uint8)) == [] for name in ("white", "black", "one pixel"))


def test_photographs_of_other_things_are_not_smears():
    data = pytest.importorskip("skimage.data")
    assert not [name for name in ("astronaut", "chelsea", "coffee") if looks_like_smear(getattr(data, name)())]


def test_a_cut_out_is_the_cell_centered_on_black(some):
    image, boxes = some
    found = find_white_cells(image)
    for box, cell in zip(found, list(cut_outs(image, found)), strict=True):
        rows, columns = np.nonzero(cell.max(axis=2))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert cell.shape[0] == cell.shape[1]
        assert FILLS[0] - 0.02 <= max(height, width) / len(cell) <= FILLS[1] + 0.02
        middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
        assert np.abs(np.array(middle) - len(cell) / 2).max() < 3
        crop = image[box.top : box.bottom, box.left : box.right]
        top, left = (len(cell) - len(crop)) // 2, (len(cell) - crop.shape[1]) // 2
        inside = cell[top : top + len(crop), left : left + crop.shape[1]]
        kept = inside.max(axis=2) > 0
        np.testing.assert_array_equal(inside[kept], crop[kept])
        assert 0.6 < kept.mean() < 0.9  # a round cell fills π/4 of its box
        assert not kept[[0, 0, -1], [0, -1, 0]].all()
        assert np.array_equal(cell, next(cut_outs(image, [box])))
    assert max(overlap(found[0], box) for box in boxes) > 0.85


def test_cut_outs_of_one_smear_have_the_same_size(some):
    whole = list(cut_outs(some[0], [box for box in find_white_cells(some[0]) if box.left > 0 and box.bottom < 640]))
    assert len({len(cell) for cell in whole}) == 1
    assert len(whole[0]) == pytest.approx(3.2 * RED_CELL, rel=0.35)
    assert len(whole[0]) != IMAGE_SIZE  # the smear's own resolution, not the generated cell's


def test_large_cut_outs_are_scaled_down_with_their_cells(some):
    image, boxes = cv2.resize(some[0], None, fx=2, fy=2), find_white_cells(cv2.resize(some[0], None, fx=2, fy=2))
    whole, small = list(cut_outs(image, boxes)), list(cut_outs(image, boxes, 4 * 100**2))
    for large, cell in zip(whole, small, strict=True):
        assert cell.shape == (100, 100, 3)
        shrunk = cv2.resize(large, (100, 100), interpolation=cv2.INTER_AREA)
        assert np.abs(cell.astype(int) - shrunk).mean() < 4
        assert (cell.max(axis=2) > 0).mean() == pytest.approx((large.max(axis=2) > 0).mean(), abs=0.02)
    everything = Box(0, 0, image.shape[1], image.shape[0])
    assert {cell.shape for cell in cut_outs(image, [everything] * 50, 50 * 30**2)} == {(30, 30, 3)}


WHOLE = """
import cv2, numpy as np
from pathlib import Path
from leukodash.smears.detection import Box, cut_outs

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024

smear = np.full((4_000, 4_000, 3), 200, np.uint8)
list(cut_outs(smear[:200, :200], [Box(0, 0, 200, 200)]))
before = peak()
for cell in cut_outs(smear, [Box(0, 0, 4_000, 4_000)] * 5):
    cv2.imencode(".png", cell)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux' /proc")
def test_boxes_around_the_whole_of_a_large_smear_need_a_limited_amount_of_memory():
    shown = subprocess.run([sys.executable, "-c", WHOLE], capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(shown.stdout) < 200e6  # the copy in which cells are found, and a cut-out of ten megabytes at a time


def test_of_very_many_cells_the_largest_are_returned(some, monkeypatch):
    found = find_white_cells(some[0])
    monkeypatch.setattr(detection, "MAX_CELLS", 2)
    largest = sorted(found, key=detection.area)[-2:]
    assert find_white_cells(some[0]) == sorted(largest, key=lambda box: (box.top, box.left))


def test_a_box_without_a_cell_gives_its_ellipse(some):
    box = Box(700, 40, 780, 100)
    assert max(overlap(box, other) for other in find_white_cells(some[0])) == 0
    kept = next(cut_outs(some[0], [box])).max(axis=2) > 0
    assert kept.sum() == pytest.approx(np.pi / 4 * 80 * 60, rel=0.05)


@pytest.mark.real
def test_real_single_cells_are_not_smears(real_cnmc):
    paths = sorted(real_cnmc.rglob("*.webp"))[::70]
    assert not [path for path in paths if looks_like_smear(read_image(path))]


@pytest.mark.real
def test_real_smears_are_recognized_and_their_cells_found(real_cnmc):
    from benchmarks.smear import TUNED, detection

    paths = sorted((real_cnmc.parent / "bccd" / "images").glob("*.jpg"))
    assert all(looks_like_smear(read_image(path)) for path in paths)
    for part in (paths[:TUNED], paths[TUNED:]):
        result = detection(part)
        assert result["as labelled"]["recall"] >= 0.95
        assert result["with unlabelled cells"]["precision"] >= 0.90
