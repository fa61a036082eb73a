import numpy as np
import pandas as pd
import pytest

from leukodash.evaluation.comparison import Comparison, Predictions
from leukodash.evaluation.mistakes import confusion_cells, disagreements, worst_mistakes


@pytest.fixture
def comparison():
    cells = pd.DataFrame({"file": list("abcd"), "label": ["all", "all", "hem", "hem"], "subject": list("1122")})
    first, second = np.array([0.9, 0.2, 0.7, 0.1]), np.array([0.8, 0.4, 0.3, 0.6])
    answers = {name: Predictions(np.stack([p, 1 - p], axis=1)) for name, p in (("one", first), ("two", second))}
    return Comparison(cells, ("all", "hem"), "all", answers)


def test_an_entry_of_the_confusion_matrix_gives_the_cells_counted_in_it(comparison):
    at = {"one": None, "two": None}
    assert list(confusion_cells(comparison, at, "one", "all", "hem")["file"]) == ["b"]
    assert list(confusion_cells(comparison, at, "one", "all", "all")["file"]) == ["a"]
    assert confusion_cells(comparison, at, "two", "hem", "all")["score"].tolist() == [0.6]


def test_a_threshold_moves_cells_between_entries(comparison):
    at = {"one": 0.05, "two": None}
    assert list(confusion_cells(comparison, at, "one", "hem", "all")["file"]) == ["c", "d"]


def test_the_most_confident_mistake_comes_first(comparison):
    at = {"one": None, "two": None}
    rows = worst_mistakes(comparison, at, ["one"])
    assert list(rows["file"]) == ["b", "c"]
    assert rows["score"].tolist() == pytest.approx([0.8, 0.7])
    assert list(worst_mistakes(comparison, at, ["one", "two"])["file"]) == ["b", "c", "d"]


def test_disagreements_are_sorted_by_the_difference_in_probability(comparison):
    rows = disagreements(comparison, {"one": None, "two": None})
    assert list(rows["file"]) == ["d", "c"]
    assert rows["score"].tolist() == pytest.approx([0.5, 0.4])


def test_mistakes_do_not_depend_on_the_order_of_the_classes(comparison):
    reordered = Comparison(
        comparison.cells,
        ("hem", "all"),
        "all",
        {name: Predictions(answers.test[:, ::-1]) for name, answers in comparison.predictions.items()},
    )
    at = {"one": None, "two": None}
    assert list(worst_mistakes(reordered, at, ["one"])["file"]) == ["b", "c"]
