"""How far cell area alone separates the classes, and what a network adds to it: its ROC AUC among cells of equal area.

Blasts are larger, so a network can do well by size. Among cells of the same size it cannot.
"""

import numpy as np
import scipy

from leukodash.evaluation.statistics import jackknife_interval
from leukodash.models.pooling import BLACK_LEVEL

STRATA = 20  # of equally many cells; within them, area is nearly equal


def cell_area(images: np.ndarray) -> np.ndarray:
    """Return the area of each cell: the number of pixels brighter than `BLACK_LEVEL` in at least one channel.

    Args:
        images: uint8 array of shape (n, h, w, 3), RGB.

    Returns:
        int array of shape (n,), pixels.
    """
    return np.array([np.count_nonzero(image.max(axis=2) > BLACK_LEVEL) for image in images], dtype=int)


def area_auc(areas: np.ndarray, is_positive: np.ndarray) -> float | None:
    """Return the ROC AUC of the area as a score for the positive class; None if one of the classes is missing.

    Args:
        areas: array of shape (n,), pixels.
        is_positive: bool array of shape (n,).
    """
    is_positive = np.asarray(is_positive, dtype=bool)
    if is_positive.all() or not is_positive.any():
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(is_positive, areas))


def stratified_auc(
    areas: np.ndarray, scores: np.ndarray, is_positive: np.ndarray, group: np.ndarray
) -> tuple[float | None, tuple[float, float] | None]:
    """Return the ROC AUC of a score among cells of equal area, and its 95% jackknife interval.

    The cells are sorted by area into 20 strata; only pairs of a positive and a negative cell of the same stratum count
    (van Elteren 1960, weighted by the number of pairs). 0.5 is chance: the score orders such pairs no better than size.

    Args:
        areas: array of shape (n,), pixels. Cells of the same area are in the same stratum.
        scores: float array of shape (n,): the higher, the more positive.
        is_positive: bool array of shape (n,).
        group: int array of shape (n,) with values 0..G−1, from `statistics.groups`.

    Returns:
        The area under the curve, 0..1, None without such a pair; and (low, high), or None as in `jackknife_interval`.
    """
    is_positive = np.asarray(is_positive, dtype=bool)
    place = (scipy.stats.rankdata(areas) - 0.5) / len(areas)
    stratum = np.minimum((place * STRATA).astype(int), STRATA - 1)
    count = int(group.max()) + 1

    def won_and_all(key: np.ndarray) -> np.ndarray:
        """Return how many pairs of cells of one key each group takes part in, won (ties half) and all: (2, G)."""
        won, all_ = _pairs(key, scores, is_positive)
        return np.array([np.bincount(group, weights=values, minlength=count) for values in (won, all_)])

    mine, own = won_and_all(stratum), won_and_all(stratum * count + group)
    # Each pair is counted for both of its cells; one within a group belongs to this group alone.
    won, all_ = mine.sum(axis=1) / 2
    if not all_:
        return None, None
    left_out = np.array([won, all_])[:, None] - mine + own / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        value, without = float(won / all_), left_out[0] / left_out[1]
    return value, jackknife_interval(value, without, np.bincount(group))


def _pairs(key: np.ndarray, scores: np.ndarray, is_positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each cell with how many cells of the other class and the same key it is in order, and their number."""
    key = np.unique(key, return_inverse=True)[1]
    level = np.unique(scores, return_inverse=True)[1]

    def below(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return for each cell how many of its part are below it, ties half, itself included; and the part's size."""
        size = np.bincount(part)
        before = np.concatenate([[0], np.cumsum(size)[:-1]])
        return scipy.stats.rankdata(part * (level.max() + 1) + level) - before[part], size[part]

    rank, size = below(key)
    own_rank, own_size = below(2 * key + is_positive)
    others = size - own_size
    return np.where(is_positive, rank - own_rank, others - (rank - own_rank)), others
