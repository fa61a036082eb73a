import cv2
import pytest
from made_smears import smear_of_four

from leukodash.figures.smear_boxes import drawn_box, smear_figure, smear_jpeg
from leukodash.figures.theme import alt_text


def test_the_figure_has_a_marker_per_box_and_alt_text():
    image, boxes = smear_of_four()
    figure = smear_figure(smear_jpeg(image), 800, 640, boxes, "one.jpg")
    marks = figure.data[-1]
    assert list(marks.text) == ["1", "2", "3", "4"]
    assert [*zip(marks.x, marks.y, strict=True)] == [(box.left, box.top) for box in boxes]
    assert alt_text(figure) == "Smear one.jpg with 4 white cells in numbered boxes."
    assert figure.layout.yaxis.range == (640, 0)  # rows count downwards
    assert len(smear_jpeg(cv2.resize(image, (6400, 5120)))) < 600_000


def test_on_a_phone_the_figure_is_as_tall_as_the_smear_and_leaves_no_space_below():
    picture = smear_jpeg(smear_of_four()[0])
    assert smear_figure(picture, 800, 640, [], "one.jpg", widest=328).layout.height == 28 + 300 * 640 / 800
    assert smear_figure(picture, 80, 6400, [], "tall.jpg", widest=328).layout.height == 520


@pytest.mark.parametrize(
    ("x", "y", "box"),
    [
        ([10.4, 99.6], [20, 80], (10, 20, 100, 80)),
        ([99.6, 10.4], [80, 20], (10, 20, 100, 80)),  # dragged from right to left
        ([-30, 50], [600, 700], (0, 600, 50, 640)),
        ([10, 12], [20, 80], None),  # an accidental click
        ([-50, -10], [20, 80], None),
    ],
)
def test_a_dragged_box_is_returned_in_pixels_of_the_smear(x, y, box):
    assert drawn_box({"x": x, "y": y}, 800, 640) == box
