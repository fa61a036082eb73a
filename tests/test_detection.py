"""Whole smears: told from other pictures, their white cells found and set on black, corrected on the page."""

import cv2
import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from leukodash.data.demo_cells import IMAGE_SIZE, demo_cell, make_demo, subject_stain
from leukodash.data.images import read_image
from leukodash.figures.smear_boxes import drawn_box, smear_figure, smear_jpeg
from leukodash.figures.theme import alt_text
from leukodash.inference.smear_summary import UNLIKE, cell_name, count_cells, smear_words
from leukodash.smears import segmentation as white_cells
from leukodash.smears.detection import FILLS, Box, cut_out, cut_outs, find_white_cells, looks_like_smear, overlap

RED_CELL = 60  # pixels
LIGHT = (222, 216, 226)
RED_DENSITY, VIOLET, PALE = (0.12, 0.45, 0.45), (0.6, 0.95, 0.25), (0.08, 0.25, 0.1)  # in R, G, B


def stained(image, center, radius, density):
    """Darken a disk with a soft edge, as a stain of that density does."""
    reach = int(radius) + 20
    left, top = max(0, int(center[0]) - reach), max(0, int(center[1]) - reach)
    here = image[top : int(center[1]) + reach, left : int(center[0]) + reach]
    y, x = np.ogrid[top : top + here.shape[0], left : left + here.shape[1]]
    edge = (np.hypot(x - center[0], y - center[1]) - radius) / 1.5
    here *= np.exp(-(1 / (1 + np.exp(edge)))[..., None] * np.array(density))


def smear(cells, size=(640, 800), red_cells=70, seed=0, extras=()):
    """Draw a smear: generated cells at the given centers, red cells wherever there is room.

    extras: (center, radius, density) of further disks. Returns the image and the boxes of the cells.
    """
    rng = np.random.default_rng(seed)
    image = np.full((*size, 3), LIGHT, np.float64)
    taken = [(center, 1.5) for center in cells] + [(center, 2.2) for center, _, _ in extras]
    for _ in range(20 * red_cells):
        center = rng.uniform(0, size[1]), rng.uniform(0, size[0])
        if len(taken) < red_cells and all(np.hypot(*np.subtract(center, at)) > gap * RED_CELL for at, gap in taken):
            taken.append((center, 0.95))
            stained(image, center, RED_CELL / 2, RED_DENSITY)
    for extra in extras:
        stained(image, *extra)
    stain, boxes, side = subject_stain(rng), [], round(3.2 * RED_CELL)
    for x, y in cells:
        cell, _, inside = demo_cell(rng, blast=True, stain=stain)
        cell = cv2.resize(cell, (side, side), interpolation=cv2.INTER_AREA)
        rows, columns = np.nonzero(cv2.resize(inside.astype(np.uint8), (side, side)))
        down, right = rows + round(y) - side // 2, columns + round(x) - side // 2
        seen = (down >= 0) & (right >= 0) & (down < size[0]) & (right < size[1])
        image[down[seen], right[seen]] = cell[rows[seen], columns[seen]]
        corners = right[seen].min(), down[seen].min(), right[seen].max() + 1, down[seen].max() + 1
        boxes.append(Box(*map(int, corners)))
    image = cv2.GaussianBlur(image, None, 0.8) + rng.normal(0, 2, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), boxes


def assert_same_cells(found, boxes, least=0.7):
    assert len(found) == len(boxes)
    assert all(max(overlap(box, other) for other in found) > least for box in boxes)


@pytest.fixture(scope="module")
def some():
    """A smear with four white cells, the last two cut by its border."""
    return smear([(200, 150), (600, 420), (3, 500), (420, 632)])


def test_the_white_cells_of_a_smear_are_found_also_at_its_border(some):
    assert_same_cells(find_white_cells(some[0]), some[1], least=0.85)


@pytest.mark.parametrize("scale", [0.4, 2.5])
def test_magnification_does_not_matter(some, scale):
    image = cv2.resize(some[0], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else 1)
    boxes = [Box(*(round(side * scale) for side in box)) for box in some[1]]
    assert_same_cells(find_white_cells(image), boxes)


def test_neither_darker_nor_warmer_light_matters(some):
    image = (some[0] * np.array([0.75, 0.7, 0.6])).astype(np.uint8)
    assert_same_cells(find_white_cells(image), some[1])


@pytest.mark.parametrize("apart", [80, 90])
def test_touching_cells_come_apart(apart):
    image, boxes = smear([(200, 200), (200 + apart, 210), (550, 400), (555, 400 + apart)])
    assert_same_cells(find_white_cells(image), boxes, least=0.6)


def test_a_nucleus_of_three_lobes_is_one_cell():
    lobes = [((385, 290), 20, VIOLET), ((425, 300), 20, VIOLET), ((395, 340), 20, VIOLET)]
    image, _ = smear([], extras=[((400, 310), 65, PALE), *lobes])
    assert_same_cells(find_white_cells(image), [Box(335, 245, 465, 375)])


def test_platelets_are_no_cells():
    image, boxes = smear([(200, 150)], extras=[((500, 300), 10, VIOLET), ((650, 500), 12, VIOLET)])
    assert_same_cells(find_white_cells(image), boxes)


def test_a_smear_without_white_cells_is_one_in_which_none_is_found():
    image, _ = smear([])
    assert looks_like_smear(image)
    assert find_white_cells(image) == []


def test_a_large_photograph_is_searched_in_a_small_copy(some):
    image = cv2.resize(some[0], (3200, 2560))
    labels, red_cell, scale = white_cells.label_white_cells(image)
    assert labels.size <= white_cells.WORKING_PIXELS * 1.01
    assert red_cell / scale == pytest.approx(4 * RED_CELL, rel=0.35)
    assert_same_cells(find_white_cells(image), [Box(*(4 * side for side in box)) for box in some[1]])


def test_cells_on_black_and_other_pictures_are_no_smears(some, tmp_path):
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


def test_photographs_of_other_things_are_no_smears():
    data = pytest.importorskip("skimage.data")
    assert not [name for name in ("astronaut", "chelsea", "coffee") if looks_like_smear(getattr(data, name)())]


def test_a_cut_out_is_the_cell_alone_in_the_middle_of_black(some):
    image, boxes = some
    found = find_white_cells(image)
    for box, cell in zip(found, cut_outs(image, found), strict=True):
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
        assert np.array_equal(cell, cut_out(image, box))
    assert max(overlap(found[0], box) for box in boxes) > 0.85


def test_the_squares_of_a_slide_keep_the_sizes_of_its_cells(some):
    whole = cut_outs(some[0], [box for box in find_white_cells(some[0]) if box.left > 0 and box.bottom < 640])
    assert len({len(cell) for cell in whole}) == 1
    assert len(whole[0]) == pytest.approx(3.2 * RED_CELL, rel=0.35)
    assert len(whole[0]) != IMAGE_SIZE  # the smear's own resolution, not the generated cell's


def test_a_box_drawn_where_no_cell_was_found_gives_its_ellipse(some):
    box = Box(700, 40, 780, 100)
    assert max(overlap(box, other) for other in find_white_cells(some[0])) == 0
    kept = cut_out(some[0], box).max(axis=2) > 0
    assert kept.sum() == pytest.approx(np.pi / 4 * 80 * 60, rel=0.05)


def test_the_figure_has_a_marker_a_box_and_says_in_words_what_it_shows(some):
    image, boxes = some
    figure = smear_figure(smear_jpeg(image), 800, 640, boxes, "one.jpg")
    marks = figure.data[-1]
    assert list(marks.text) == ["1", "2", "3", "4"]
    assert [*zip(marks.x, marks.y, strict=True)] == [(box.left, box.top) for box in boxes]
    assert alt_text(figure) == "Smear one.jpg with 4 white cells in numbered boxes."
    assert figure.layout.yaxis.range == (640, 0)  # rows count downwards
    assert len(smear_jpeg(cv2.resize(image, (6400, 5120)))) < 600_000


@pytest.mark.parametrize(
    ("x", "y", "box"),
    [
        ([10.4, 99.6], [20, 80], (10, 20, 100, 80)),
        ([99.6, 10.4], [80, 20], (10, 20, 100, 80)),  # dragged from right to left
        ([-30, 50], [600, 700], (0, 600, 50, 640)),
        ([10, 12], [20, 80], None),  # a click that slipped
        ([-50, -10], [20, 80], None),
    ],
)
def test_a_dragged_box_comes_out_in_pixels_of_the_smear(x, y, box):
    assert drawn_box({"x": x, "y": y}, 800, 640) == box


def test_a_slide_is_summed_up_by_the_average_of_its_runs_without_what_is_no_cell():
    rows = [
        ("a.jpg, cell 1", "one", "all", False),
        ("a.jpg, cell 1", "average", "hem", False),
        ("a.jpg, cell 2", "average", "all", False),
        ("a.jpg, cell 3", "average", "all", True),
        ("b.jpg, cell 1", "average", "all", False),
        ("single.png", "average", "all", False),
    ]
    table = pd.DataFrame(rows, columns=["file", "run", "class", "novel"]).assign(p_all=0.5, p_hem=0.5, error="")
    counts = count_cells(table, ["a.jpg", "b.jpg", "none.jpg"])
    assert counts["white cells"].to_list() == [3, 1, 0]
    assert counts["ALL blast"].to_list() == [1, 1, 0]
    assert counts["normal"].to_list() == [1, 0, 0]
    assert counts[UNLIKE].to_list() == [1, 0, 0]
    assert smear_words(counts) == "3 white cells: 1 ALL blast · 1 normal · 1 unlike the training cells"
    assert smear_words(counts[1:]) == "1 white cell: 1 ALL blast"
    assert cell_name("a.jpg", 3) == "a.jpg, cell 3"


def page():
    import streamlit as st

    from leukodash.app.classify.smear_part import cells_of_smears

    sources, truth, names = cells_of_smears(st.session_state["files"], st.session_state["truth"])
    st.session_state["answer"] = sources, truth, names


@pytest.fixture
def shown(some):
    """The page's part with a labelled cell, two smears of one name, a file that is no image, and a labelled cell."""
    png = cv2.imencode(".png", some[0][..., ::-1])[1].tobytes()
    other = cv2.imencode(".png", smear([(300, 300)])[0][..., ::-1])[1].tobytes()
    at = AppTest.from_function(page, default_timeout=60)
    at.session_state["files"] = [("x.png", png), ("s.png", png), ("s.png", other), ("bad.png", b"no"), ("y.png", b"")]
    at.session_state["truth"] = {0: "hem", 4: "all"}  # labelled ones are single cells, whatever they look like
    return at.run()


def test_each_smear_gives_way_to_its_cells_and_labels_move_along(shown):
    assert not shown.exception
    sources, truth, names = shown.session_state["answer"]
    cells = [f"s.png, cell {number}" for number in range(1, 5)]
    assert [name for name, _ in sources] == ["x.png", *cells, "s.png (2), cell 1", "bad.png", "y.png"]
    assert truth == {0: "hem", 7: "all"}
    assert names == ["s.png", "s.png (2)"]
    assert all(read_image(data).max(axis=2)[0, 0] == 0 for name, data in sources[1:6])
    assert "2 whole smears with 5 white cells" in shown.markdown[0].value


def test_corrections_belong_to_the_smear_and_can_be_taken_back(shown):
    sha = next(iter(shown.session_state["smears"]))
    shown.session_state["smears"][sha] |= {"boxes": [Box(10, 10, 60, 60)], "edits": 1}
    shown.run()
    assert [name for name, _ in shown.session_state["answer"][0][1:3]] == ["s.png, cell 1", "s.png (2), cell 1"]
    shown.button[0].click().run()
    assert len(shown.session_state["answer"][0]) == 8


def test_what_is_no_smear_can_be_taken_as_one_cell(shown):
    shown.toggle[0].set_value(True).run()
    sources, truth, names = shown.session_state["answer"]
    assert [name for name, _ in sources] == ["x.png", "s.png", "s.png (2), cell 1", "bad.png", "y.png"]
    assert truth == {0: "hem", 4: "all"}
    assert names == ["s.png (2)"]
    shown.toggle[0].set_value(False).run()
    assert len(shown.session_state["answer"][0]) == 8


@pytest.mark.real
def test_real_single_cells_are_no_smears(real_cnmc):
    paths = sorted(real_cnmc.rglob("*.webp"))[::70]
    assert not [path for path in paths if looks_like_smear(read_image(path))]


@pytest.mark.real
def test_real_smears_are_recognized_and_their_cells_found(real_cnmc):
    from benchmarks.smear import TUNED, measure

    paths = sorted((real_cnmc.parent / "bccd" / "images").glob("*.jpg"))
    assert all(looks_like_smear(read_image(path)) for path in paths)
    for part in (paths[:TUNED], paths[TUNED:]):
        result = measure(part)
        assert result["as labelled"]["recall"] >= 0.95
        assert result["with unlabelled cells"]["precision"] >= 0.90
