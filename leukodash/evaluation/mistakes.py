"""Which test cells to look at: those behind a square of a confusion matrix, the worst mistakes, the disagreements.

Each function returns rows of `Comparison.cells` (index: the cell's position), the most telling first, with a column
``score`` that they are sorted by.
"""

import numpy as np
import pandas as pd

from leukodash.evaluation.comparison import Comparison, Thresholds


def square_cells(comparison: Comparison, at: Thresholds, name: str, truth: str, called: str) -> pd.DataFrame:
    """The cells of one class that an answer calls another (or the same), the surest first.

    Args:
        comparison: the answers.
        at: their thresholds.
        name: of the answer.
        truth: the true class's label.
        called: the label that the answer gives. ``score`` is its probability.
    """
    score = comparison.answers[name].test[:, comparison.classes.index(called)]
    held = (comparison.labels == truth) & (comparison.called(name, at[name]) == called)
    return _rows(comparison, held, score)


def worst_mistakes(comparison: Comparison, at: Thresholds, names: list[str]) -> pd.DataFrame:
    """The cells that any of these answers is wrong about, the surest mistake first.

    ``score`` is the probability that they give to what the cell is not, averaged.
    """
    truth = np.searchsorted(comparison.classes, comparison.labels.astype(str), sorter=np.argsort(comparison.classes))
    truth = np.argsort(comparison.classes)[truth]
    wrong = ~comparison.right(at)[names].all(axis=1).to_numpy()
    score = np.mean([1 - comparison.answers[name].test[np.arange(comparison.n), truth] for name in names], axis=0)
    return _rows(comparison, wrong, score)


def disagreements(comparison: Comparison, at: Thresholds) -> pd.DataFrame:
    """The cells that answers put into different classes, the widest apart first.

    ``score`` is the distance between the highest and the lowest probability of the positive class.
    """
    called = np.array([comparison.called(name, at[name]) for name in comparison.answers])
    scores = np.array([comparison.scores(name) for name in comparison.answers])
    return _rows(comparison, (called != called[0]).any(axis=0), np.ptp(scores, axis=0))


def _rows(comparison: Comparison, held: np.ndarray, score: np.ndarray) -> pd.DataFrame:
    rows = comparison.cells.assign(score=score)[held]
    return rows.sort_values(["score", "file"], ascending=[False, True])
