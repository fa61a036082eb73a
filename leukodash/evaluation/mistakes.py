"""Test cells worth looking at: those in an entry of a confusion matrix, the worst mistakes, the disagreements.

Each function returns rows of `Comparison.cells` (index: the cell's position), sorted by the added column ``score``,
highest first.
"""

import numpy as np
import pandas as pd

from leukodash.evaluation.comparison import Comparison, Thresholds


def confusion_cells(
    comparison: Comparison, thresholds: Thresholds, name: str, truth: str, predicted: str
) -> pd.DataFrame:
    """Return the cells in one entry of a confusion matrix.

    Args:
        comparison: the predictions.
        thresholds: the threshold of each.
        name: the run whose confusion matrix it is.
        truth: the true class.
        predicted: the predicted class; ``score`` is its probability.
    """
    score = comparison.predictions[name].test[:, comparison.classes.index(predicted)]
    inside = (comparison.labels == truth) & (comparison.predicted(name, thresholds[name]) == predicted)
    return _rows(comparison, inside, score)


def worst_mistakes(comparison: Comparison, thresholds: Thresholds, names: list[str]) -> pd.DataFrame:
    """Return the cells that at least one of these runs misclassifies.

    ``score`` is the probability of the wrong classes, averaged over the runs.
    """
    truth = pd.Index(comparison.classes).get_indexer(pd.Index(comparison.labels))
    wrong = ~comparison.correct(thresholds)[names].all(axis=1).to_numpy()
    score = np.mean([1 - comparison.predictions[name].test[np.arange(comparison.n), truth] for name in names], axis=0)
    return _rows(comparison, wrong, score)


def disagreements(comparison: Comparison, thresholds: Thresholds) -> pd.DataFrame:
    """Return the cells that the runs put into different classes.

    ``score`` is the difference between the highest and the lowest probability of the positive class.
    """
    predicted = np.array([comparison.predicted(name, thresholds[name]) for name in comparison.predictions])
    scores = np.array([comparison.scores(name) for name in comparison.predictions])
    return _rows(comparison, (predicted != predicted[0]).any(axis=0), np.ptp(scores, axis=0))


def _rows(comparison: Comparison, inside: np.ndarray, score: np.ndarray) -> pd.DataFrame:
    rows = comparison.cells.assign(score=score)[inside]
    return rows.sort_values(["score", "file"], ascending=[False, True])
