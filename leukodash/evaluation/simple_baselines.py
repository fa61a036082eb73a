"""Simple classifiers that a network should outperform: cell area, color histogram, SVM and k-NN on frozen features.

All are scikit-learn estimators fitted on the training cells. Dhuri and Guinde (2020) cite a comparison of a network
with a support vector machine and k-nearest neighbors on extracted features. Cell area shows how much of a result is
size.
"""

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from leukodash.evaluation.cell_area import cell_area
from leukodash.models.pooling import BLACK_LEVEL

BINS = 16
COMPONENTS = 64  # principal components of the frozen features; keeps kernel distances meaningful and fitting fast
NEIGHBORS = 15

AREA, HISTOGRAM, SVM, KNN = "Cell area alone", "Color histogram", "SVM on frozen features", "k-NN on frozen features"


def color_histogram(images: np.ndarray) -> np.ndarray:
    """Return the histogram of each color channel over the pixels of the cell, without the black background.

    Args:
        images: uint8 array of shape (n, h, w, 3), RGB.

    Returns:
        float array of shape (n, 48): 16 bins per channel, each channel summing to one (zero for a black image).
    """
    histograms = np.zeros((len(images), 3, BINS))
    for row, image in enumerate(images):
        pixels = image[image.max(axis=2) > BLACK_LEVEL] // (256 // BINS)
        for channel in range(3):
            histograms[row, channel] = np.bincount(pixels[:, channel], minlength=BINS) / max(1, len(pixels))
    return histograms.reshape(len(images), 3 * BINS)


def area(images: np.ndarray) -> np.ndarray:
    """Return `cell_area` as a fraction of the image: float array of shape (n, 1).

    Args:
        images: uint8 array of shape (n, h, w, 3), RGB.
    """
    return cell_area(images)[:, None] / np.prod(np.shape(images)[1:3])


def classifier(name: str, features: int) -> ClassifierMixin:
    """Return the unfitted classifier of a baseline.

    Args:
        name: `AREA`, `HISTOGRAM`, `SVM` or `KNN`.
        features: upper bound of the number of principal components for `SVM` and `KNN`.
    """
    if name in (AREA, HISTOGRAM):
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    # The SVM gets probabilities from Platt scaling, fitted by cross-validation.
    last = (
        CalibratedClassifierCV(SVC(), ensemble=False)
        if name == SVM
        else KNeighborsClassifier(NEIGHBORS, weights="distance")
    )
    return make_pipeline(StandardScaler(), PCA(min(COMPONENTS, features), random_state=0), last)


def baseline(
    name: str, features: np.ndarray, labels: np.ndarray, train: np.ndarray, classes: tuple[str, ...]
) -> np.ndarray:
    """Fit a baseline on the training cells and return its probabilities for all cells.

    Args:
        name: as in `classifier`.
        features: float array of shape (n, f), one row per cell.
        labels: true classes, (n,).
        train: bool array of shape (n,): the training cells, at least one of every class.
        classes: the order of the returned columns.

    Returns:
        float array of shape (n, K), 0..1, rows summing to one.
    """
    features = np.asarray(features, dtype=float)
    fitted = classifier(name, min(features.shape[1], int(train.sum()))).fit(features[train], labels[train])
    return fitted.predict_proba(features)[:, [list(fitted.classes_).index(label) for label in classes]]
