"""Intervals of measures that account for subjects.

Cells of one subject resemble each other, so a test set is a sample of subjects, not of cells. Where subjects are known,
standard errors come from leaving out one subject at a time (the delete-one-group jackknife). `benchmarks/coverage.py`
measures how often these intervals cover the true value.
"""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

import numpy as np
import pandas as pd
import scipy  # which imports its parts on first use; together with statsmodels they take 90 MB and a second

from leukodash.errors import DataError

LEVEL = 0.95
ALPHA = 1 - LEVEL
FEW_SUBJECTS = 10  # below this a page warns: the interval is still valid, but wide and sensitive to each subject
MAX_GROUPS = 100
NO_SPREAD = 1e-12  # a standard error below this is a rounding error

Subjects = Sequence[str | None] | np.ndarray  # the subject of each image, None or NaN if unknown


def wilson(k: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Return Wilson's score interval of the proportion `k` / `n` (Wilson 1927), each end in 0..1.

    It assumes independent images, which cells of one subject are not: see `accuracy_interval`.

    Raises:
        DataError: if `n` is not positive or `k` is outside 0..n.
    """
    if n <= 0 or not 0 <= k <= n:
        raise DataError(f"An interval needs counts with 0 ≤ k ≤ n and n > 0; got k = {k} and n = {n}.")
    z = NormalDist().inv_cdf(1 - (1 - level) / 2)
    center, margin = k + z**2 / 2, z * sqrt(k * (n - k) / n + z**2 / 4)
    return max(0.0, (center - margin) / (n + z**2)), min(1.0, (center + margin) / (n + z**2))


def count_subjects(subjects: Subjects | None) -> int:
    """Return the number of different known subjects."""
    return 0 if subjects is None else int(pd.Series(np.asarray(subjects, dtype=object)).nunique())


def groups(subjects: Subjects | None, n: int) -> tuple[np.ndarray, bool]:
    """Return the jackknife group of each of `n` images, and whether the groups are subjects.

    An image of unknown subject is a group of its own. With fewer than two known subjects, every image is. More than 100
    groups are merged at random, but reproducibly, into 100 (Kott 2001, delete-a-group jackknife), which limits the
    work.

    Returns:
        int array of shape (n,) with values 0..G−1, and True if two or more subjects are known.
    """
    known = pd.Series(np.asarray(subjects, dtype=object) if subjects is not None else np.full(n, None))
    by_subject = known.nunique() > 1
    known = known.where(known.notna() & by_subject, pd.Series(np.arange(n)).astype(object))
    codes = pd.factorize(known)[0]
    count = int(codes.max()) + 1 if n else 0
    if count > MAX_GROUPS:
        codes = (np.random.default_rng(0).permutation(count) % MAX_GROUPS)[codes]
    return codes, bool(by_subject)


def effective_count(sizes: np.ndarray) -> float:
    """Return the number of equal groups that would carry as much information as these: (Σm)² / Σm² (Kish 1965)."""
    sizes = np.asarray(sizes, dtype=float)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def jackknife_interval(value: float, left_out: np.ndarray, sizes: np.ndarray) -> tuple[float, float] | None:
    """Return the 95% jackknife interval of a metric in 0..1.

    The jackknife standard error (Efron and Tibshirani 1993, equation 11.5) is computed on the logit scale, with half an
    image added to both counts, and multiplied by Student's t with `effective_count` − 1 degrees of freedom, since a few
    large subjects contribute most of the images. If leaving out a subject never changes the metric (all images
    correct), it is Wilson's interval with `effective_count` trials.

    Args:
        value: the metric over all subjects, 0..1.
        left_out: float array of shape (G,): the metric without each subject.
        sizes: float array of shape (G,): how many images of each subject the metric counts.

    Returns:
        (low, high), or None if fewer than two subjects contribute or the metric is undefined without one of them.
    """
    counted = np.asarray(sizes) > 0
    left_out, sizes = np.asarray(left_out, dtype=float)[counted], np.asarray(sizes, dtype=float)[counted]
    count, n = len(sizes), sizes.sum()
    if count < 2 or not np.isfinite(left_out).all():
        return None
    effective = effective_count(sizes)
    if np.ptp(np.append(left_out, value)) < NO_SPREAD:
        return wilson(value * effective, effective)
    logits = _logit(left_out, n - sizes)
    margin = t_quantile(effective) * np.sqrt((count - 1) / count * np.sum((logits - logits.mean()) ** 2))
    low, high = scipy.special.expit(_logit(value, n) + np.array([-margin, margin]))
    return float(low), float(high)


def accuracy_interval(correct: np.ndarray, subjects: Subjects | None) -> tuple[float, float] | None:
    """Return the 95% interval of an accuracy: by subject if two or more are known, else Wilson's.

    Args:
        correct: bool array of shape (n,).
        subjects: the subject of each image, (n,), or None.

    Returns:
        (low, high) in 0..1, or None for no images.
    """
    correct = np.asarray(correct, dtype=float)
    n, right = len(correct), float(correct.sum())
    if not n:
        return None
    codes, by_subject = groups(subjects, n)
    if not by_subject:
        return wilson(right, n)
    sizes = np.bincount(codes)
    return jackknife_interval(right / n, (right - np.bincount(codes, weights=correct)) / (n - sizes), sizes)


def design_effect(correct: np.ndarray, subjects: Subjects | None) -> float | None:
    """Return the variance of an accuracy relative to that on as many independent images (Kish 1965).

    The number of images divided by it is the effective sample size. None if the variance cannot be estimated.

    Args:
        correct: bool array of shape (n,).
        subjects: the subject of each image, (n,).
    """
    correct = np.asarray(correct, dtype=float)
    codes, by_subject = groups(subjects, len(correct))
    if not by_subject or not 0 < correct.mean() < 1:
        return None
    sizes, right = np.bincount(codes), np.bincount(codes, weights=correct)
    left_out = (right.sum() - right) / (len(correct) - sizes)
    variance = (len(sizes) - 1) * left_out.var()
    return float(variance * len(correct) / (correct.mean() * (1 - correct.mean())))


def mean_over_subjects(
    correct: np.ndarray, subjects: Subjects, labels: Sequence[str] | np.ndarray | None = None
) -> tuple[float | None, tuple[float, float] | None]:
    """Return the mean of the subjects' accuracies, each of which counts the same, and its 95% jackknife interval.

    Images of unknown subject are left out.

    Args:
        correct: bool array of shape (n,).
        subjects: the subject of each image, (n,).
        labels: the true class of each image, (n,), to average over the subjects of each class first and then over the
            classes, so that these count the same, too; or None.

    Returns:
        The mean, 0..1, None if no subject is known; and (low, high), or None if one class has a single subject.
    """
    known = pd.notna(pd.Series(np.asarray(subjects, dtype=object))).to_numpy()
    subject, people = pd.factorize(np.asarray(subjects, dtype=object)[known])
    label, classes = pd.factorize(np.zeros(len(subject)) if labels is None else np.asarray(labels)[known])
    if not len(people):
        return None, None
    place, shape = subject * len(classes) + label, (len(people), len(classes))
    images = np.bincount(place, minlength=shape[0] * shape[1]).reshape(shape)
    right = np.bincount(place, weights=np.asarray(correct, dtype=float)[known], minlength=images.size).reshape(shape)
    held, share = images > 0, right / np.maximum(images, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        left_out = ((share.sum(axis=0) - share) / (held.sum(axis=0) - held)).mean(axis=1)
    mean = float((share.sum(axis=0) / held.sum(axis=0)).mean())
    return mean, jackknife_interval(mean, left_out, np.full(len(people), len(subject) / len(people)))


def _logit(rate: np.ndarray | float, n: np.ndarray | float) -> np.ndarray:
    rate = np.asarray(rate, dtype=float)
    return np.log((rate * n + 0.5) / ((1 - rate) * n + 0.5))


def freedom(effective: float) -> float:
    """Return the degrees of freedom of a jackknife over as many equal groups, one or more."""
    return max(effective - 1, 1)


def t_quantile(effective: float, level: float = 1 - ALPHA / 2) -> float:
    """Return a quantile of Student's t with `freedom` degrees of freedom."""
    return float(scipy.special.stdtrit(freedom(effective), level))
