import re

import numpy as np
import pandas as pd
import pytest

from leukodash.cam.localization import HeatPlace, heat_place
from leukodash.inference.map_words import heat_words, many_heat_words, score_words, share_words

ON, MOST, PEAK, BOTH = HeatPlace(0.6, True), HeatPlace(0.2, True), HeatPlace(0.6, False), HeatPlace(0.2, False)
UNKNOWN = HeatPlace(np.nan, True)


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ({"A": ON, "B": UNKNOWN}, ""),
        ({"A": MOST}, "Most of this map lies beside the cell: it explains little of the cell itself."),
        ({"A": MOST, "B": ON}, "Most of the map of A lies beside the cell: it explains little of the cell itself."),
        ({"A": MOST, "B": MOST}, "Most of each map lies beside the cell: it explains little of the cell itself."),
        ({"A": PEAK}, "The hottest place of this map lies beside the cell."),
        (
            {"A": BOTH},
            "Most of this map, and its hottest place, lie beside the cell: it explains little of the cell itself.",
        ),
        (
            {"A": BOTH, "B": PEAK},
            "Most of the map of A lies beside the cell: it explains little of the cell itself. "
            "The hottest place of each map lies beside the cell.",
        ),
    ],
)
def test_a_map_whose_heat_or_hottest_place_lies_beside_the_cell_says_so(places, words):
    assert heat_words(places) == words


def test_the_maps_that_lie_beside_their_cells_are_counted():
    words = many_heat_words([MOST, BOTH, PEAK, ON, UNKNOWN])
    assert words.startswith("Of 4 maps, 2 have most of their heat, and 2 their hottest place, beside the cell")
    assert many_heat_words([ON, UNKNOWN]) == ""


def test_where_heat_lies_is_measured_on_the_cell():
    image = np.zeros((100, 100, 3), np.uint8)
    image[:, 25:75] = 200
    image[:10] = image[90:] = 0
    heat = np.zeros((10, 10), np.float32)
    heat[5, 5], heat[5, 0] = 1, 0.5
    place = heat_place(image, heat)
    assert place.share == pytest.approx(2 / 3, abs=0.03)
    assert place.peak_on_cell
    heat[5, 0] = 2
    assert not heat_place(image, heat).peak_on_cell
    assert np.isnan(heat_place(image, np.zeros((5, 5))).share)
    assert np.isnan(heat_place(np.full((50, 50, 3), 99, np.uint8), heat).share)  # no black ground, so no mask


@pytest.mark.parametrize(
    ("score", "shown", "words"),
    [
        (5.3, 5.3, "shows 100% of the score"),
        (5.3, -0.7, "shows −0.7 of a score of +5.3"),
        (5.3, np.nan, "of an earlier layer: no share of the score"),
        (np.nan, np.nan, ""),
    ],
)
def test_each_map_says_how_much_of_the_score_it_shows(score, shown, words):
    assert score_words(score, shown) == words


def test_the_share_over_many_cells_is_that_of_the_variance_and_does_not_depend_on_the_class():
    rng = np.random.default_rng(0)
    shown, rest = rng.normal(0, 1, 2000), rng.normal(0, 2, 2000)
    table = pd.DataFrame({"score": shown + rest, "score_shown": shown})
    words = share_words(table, "M")
    share = int(re.search(r"^M: these maps are of the last layer, which carries (\d+)%", words)[1])
    assert share == pytest.approx(100 / (1 + 4), abs=3)
    assert "of the scores of these 2,000 cells" in words
    flipped = table.mul(np.where(rng.random(2000) < 0.5, -1, 1), axis=0)
    assert share_words(flipped, "M") == words
    assert share_words(table.assign(score_shown=table["score"]), "M") == ""
    assert share_words(table.head(5), "M") == ""
    assert share_words(table.assign(score=np.nan), "M") == ""
