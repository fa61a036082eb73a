import numpy as np
import pandas as pd
import pytest

from leukodash.evaluation.comparison import Answers, Comparison
from leukodash.evaluation.mistakes import disagreements, square_cells, worst_mistakes


@pytest.fixture
def comparison():
    cells = pd.DataFrame({"file": list("abcd"), "label": ["all", "all", "hem", "hem"], "subject": list("1122")})
    first, second = np.array([0.9, 0.2, 0.7, 0.1]), np.array([0.8, 0.4, 0.3, 0.6])
    answers = {name: Answers(np.stack([p, 1 - p], axis=1)) for name, p in (("one", first), ("two", second))}
    return Comparison(cells, ("all", "hem"), "all", answers)


def test_a_square_holds_the_cells_that_were_counted_in_it(comparison):
    at = {"one": None, "two": None}
    assert list(square_cells(comparison, at, "one", "all", "hem")["file"]) == ["b"]
    assert list(square_cells(comparison, at, "one", "all", "all")["file"]) == ["a"]
    assert square_cells(comparison, at, "two", "hem", "all")["score"].tolist() == [0.6]


def test_a_threshold_moves_cells_between_squares(comparison):
    at = {"one": 0.05, "two": None}
    assert list(square_cells(comparison, at, "one", "hem", "all")["file"]) == ["c", "d"]


def test_the_surest_mistake_comes_first(comparison):
    at = {"one": None, "two": None}
    rows = worst_mistakes(comparison, at, ["one"])
    assert list(rows["file"]) == ["b", "c"]
    assert rows["score"].tolist() == pytest.approx([0.8, 0.7])
    assert list(worst_mistakes(comparison, at, ["one", "two"])["file"]) == ["b", "c", "d"]


def test_disagreements_are_cells_put_into_different_classes_the_widest_apart_first(comparison):
    rows = disagreements(comparison, {"one": None, "two": None})
    assert list(rows["file"]) == ["d", "c"]
    assert rows["score"].tolist() == pytest.approx([0.5, 0.4])


def test_mistakes_do_not_depend_on_the_order_of_the_classes(comparison):
    turned = Comparison(
        comparison.cells,
        ("hem", "all"),
        "all",
        {name: Answers(answers.test[:, ::-1]) for name, answers in comparison.answers.items()},
    )
    at = {"one": None, "two": None}
    assert list(worst_mistakes(turned, at, ["one"])["file"]) == ["b", "c"]
