import csv
import io

import pandas as pd
import pytest

from leukodash.csv_text import csv_text, no_formula, original_text


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+cmd",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        " =1",
        '=HYPERLINK("http://x","y")',
        "＝1+1",
        "-rf.png",
        "\n=1",
    ],
)
def test_a_formula_gets_an_apostrophe_that_can_be_removed(text):
    assert no_formula(text) == f"'{text}"
    assert original_text(no_formula(text)) == text


@pytest.mark.parametrize("text", ["a.png", "-1.5", "+2", "1e-5", "-3e+4", "'quoted", "", "a=b", "vgg-16", "'"])
def test_other_texts_and_numbers_stay(text):
    assert no_formula(text) == original_text(text) == text


def test_no_cell_and_no_column_name_of_a_csv_is_a_formula():
    table = pd.DataFrame({"=title": ["@a", "b", None], "loss": [-0.5, 1.0, float("nan")], "n": [-1, 2, 3]})
    rows = list(csv.reader(io.StringIO(csv_text(table))))
    assert rows == [["'=title", "loss", "n"], ["'@a", "-0.5", "-1"], ["b", "1.0", "2"], ["", "", "3"]]
    assert list(table.columns) == ["=title", "loss", "n"]
