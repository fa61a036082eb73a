"""The cell-area baseline: a network that does not outperform it has learned nothing beyond cell size."""

import numpy as np

from leukodash.models.pooling import BLACK_LEVEL


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
