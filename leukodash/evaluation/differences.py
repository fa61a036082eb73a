"""Paired tests of runs on the same images: differences, their intervals and p-values, and ranks.

`benchmarks/coverage.py` measures how often the intervals cover the true difference, and how often the tests find one
that does not exist.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy

from leukodash.errors import DataError
from leukodash.evaluation.statistics import (
    ALPHA,
    NO_SPREAD,
    Subjects,
    count_subjects,
    effective_count,
    freedom,
    groups,
    jackknife_interval,
    t_quantile,
    wilson,
)

MEASURES = {  # that runs are tested by
    "accuracy": "accuracy",
    "roc_auc": "ROC AUC",
    "f1_weighted": "weighted F1",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}
POWER = 0.8


@dataclass(frozen=True, eq=False)
class Measured:
    """A measure of R runs on the same images: of all images, and without each of their G groups.

    Attributes:
        name: a key of `MEASURES`.
        values: float array of shape (R,), 0..1.
        left_out: float array of shape (G, R).
        sizes: int array of shape (G,): how many images of each group the measure counts.
    """

    name: str
    values: np.ndarray
    left_out: np.ndarray
    sizes: np.ndarray


def all_pairs(
    correct: pd.DataFrame, subjects: Subjects | None = None, measured: Measured | None = None
) -> pd.DataFrame:
    """Compare every two runs on the same images.

    With subjects, the standard error of a difference comes from a jackknife over subjects, with Student's t as in
    `jackknife_interval`. ROC AUCs near 1 vary less than lower ones, so the interval of their difference is put together
    from those of both (Zou 2007). Without subjects, the interval of a difference in accuracy is Agresti and Min's
    (2005) and its p-value that of the exact McNemar test; for other measures, groups of images are left out.

    Args:
        correct: bool DataFrame of shape (n, R): one row per image, one column per run.
        subjects: the subject of each image, (n,), or None.
        measured: the measure to compare, for the same runs and the groups of `statistics.groups`; by default accuracy.

    Returns:
        One row for each of R(R−1)/2 pairs: a, b (names), measure (a key of `MEASURES`), n, subjects (0 = unknown),
        both_right, only_a, only_b, both_wrong, difference (measure of a − b, −1..1), low, high (95% interval), mcnemar
        (p-value), p (by subject, or McNemar's), p_holm (adjusted for all pairs), separated (p_holm < 0.05) and
        detectable: the smallest true difference that such a test, alone, finds with a power of 80% (Bloom 1995), 0..1,
        NaN if the standard error is 0.

    Raises:
        DataError: for fewer than two runs, no images, or a measure that is undefined without some group.
    """
    n, runs = correct.shape
    if runs < 2 or n == 0:
        raise DataError(f"A comparison needs two runs on the same images; got {runs} on {n} images.")
    right = correct.to_numpy(dtype=float)
    i, j = np.triu_indices(runs, 1)
    both = np.rint(right.T @ right).astype(int)
    totals = np.diag(both)
    only_a, only_b = totals[i] - both[i, j], totals[j] - both[i, j]
    mcnemar = mcnemar_exact(only_a, only_b)

    codes, by_subject = groups(subjects, n)
    measured = measured or _accuracy(right, codes)
    difference = measured.values[i] - measured.values[j]
    if measured.name == "roc_auc":
        low, high, p, error, effective = _from_both(measured, i, j)
    elif by_subject or measured.name != "accuracy":
        low, high, p, error, effective = _from_jackknife(measured, i, j)
    else:
        # Agresti and Min (2005): Wald's interval with half an image added to each of the four cells.
        center = (only_a - only_b) / (n + 2)
        error = np.sqrt(((only_a + only_b + 1) / (n + 2) - center**2) / (n + 2))
        margin = scipy.stats.norm.ppf(1 - ALPHA / 2) * error
        low, high, p, effective = center - margin, center + margin, mcnemar, np.inf
    adjusted = holm(p)
    names = np.asarray(correct.columns)
    return pd.DataFrame(
        {
            "a": names[i],
            "b": names[j],
            "measure": measured.name,
            "n": n,
            "subjects": count_subjects(subjects) if by_subject else 0,
            "both_right": both[i, j],
            "only_a": only_a,
            "only_b": only_b,
            "both_wrong": n - both[i, j] - only_a - only_b,
            "difference": difference,
            "low": np.maximum(-1, low),
            "high": np.minimum(1, high),
            "mcnemar": mcnemar,
            "p": p,
            "p_holm": adjusted,
            "separated": adjusted < ALPHA,
            "detectable": np.where(
                error > NO_SPREAD, np.minimum(1, (t_quantile(effective) + t_quantile(effective, POWER)) * error), np.nan
            ),
        }
    )


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values adjusted for multiple testing (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    # multipletests runs the garbage collector at each call, which takes 50 ms or more: skip it for a single pair.
    return multipletests(p, alpha=ALPHA, method="holm")[1] if len(p) > 1 else p


def mcnemar_exact(only_a: np.ndarray | int, only_b: np.ndarray | int) -> np.ndarray:
    """Return the exact two-sided McNemar p-value, from the images that only one of two runs classifies correctly.

    It assumes independent images (McNemar 1947), so with several cells per subject it finds differences that do not
    exist.

    Args:
        only_a: number of images that only the first run classifies correctly, an int or int array.
        only_b: the same for the second run.
    """
    only_a, only_b = np.asarray(only_a), np.asarray(only_b)
    return np.minimum(1, 2 * scipy.stats.binom.cdf(np.minimum(only_a, only_b), only_a + only_b, 0.5))


def cochran_q(correct: pd.DataFrame) -> tuple[float, float]:
    """Return Cochran's Q and its p-value for the hypothesis that all accuracies are equal (Cochran 1950).

    It assumes independent images.

    Args:
        correct: bool DataFrame of shape (n, R). If the runs agree on every image, Q is 0 and p is 1.
    """
    right = correct.to_numpy(dtype=int)
    if (right == right[:, :1]).all():
        return 0.0, 1.0
    from statsmodels.stats.contingency_tables import cochrans_q

    result = cochrans_q(right)
    return float(result.statistic), float(result.pvalue)


def ranks(values: pd.Series, pairs: pd.DataFrame) -> pd.Series:
    """Return ranks, shared by runs that no test separates.

    A run's rank is one more than the number of runs that are significantly better.

    Args:
        values: float Series by run name: the measure that was tested.
        pairs: the table that `all_pairs` returns for the same runs.

    Returns:
        int Series with the index of `values`.
    """
    behind = np.where(pairs["difference"] > 0, pairs["b"], pairs["a"])[pairs["separated"].to_numpy()]
    better = pd.Series(behind, dtype=object).value_counts()
    return better.reindex(values.index, fill_value=0).rename("rank") + 1


def _accuracy(right: np.ndarray, codes: np.ndarray) -> Measured:
    """Return the accuracies of runs, from 0/1 floats (n, R) and group codes (n,)."""
    by_group = pd.DataFrame(right).groupby(codes).sum().to_numpy()
    sizes = np.bincount(codes)
    with np.errstate(invalid="ignore"):  # of a single group, which is none of subjects
        left_out = (by_group.sum(axis=0) - by_group) / (len(right) - sizes)[:, None]
    return Measured("accuracy", right.mean(axis=0), left_out, sizes)


Ends = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]  # low, high, p, standard error; effective count


def _counted(measured: Measured) -> tuple[np.ndarray, np.ndarray, float]:
    """Return `left_out` and `sizes` of the groups that count, and how many equal groups these are worth."""
    counted = measured.sizes > 0
    left_out, sizes = measured.left_out[counted], measured.sizes[counted]
    if len(sizes) < 2 or not np.isfinite(left_out).all():
        raise DataError(
            f"Runs cannot be tested by {MEASURES[measured.name]} on these images: it needs every class in two groups "
            "of images or more. Choose another measure."
        )
    return left_out, sizes, effective_count(sizes)


def _from_jackknife(measured: Measured, i: np.ndarray, j: np.ndarray) -> Ends:
    """Test differences by their jackknife standard error and Student's t."""
    left_out, sizes, effective = _counted(measured)
    difference = measured.values[i] - measured.values[j]
    error = _error(left_out, i, j)
    spread = error > NO_SPREAD
    t = np.abs(difference) / np.where(spread, error, 1)
    # If no subject changes the difference: Wilson's bound for 0 of the effective subjects, and the sign test.
    margin = np.where(spread, t_quantile(effective) * error, wilson(0, effective)[1])
    flat = np.where(difference == 0, 1, mcnemar_exact(len(sizes), 0))
    p = np.where(spread, 2 * scipy.stats.t.sf(t, freedom(effective)), flat)
    return difference - margin, difference + margin, p, error, effective


def _error(left_out: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Return the jackknife standard error of each difference, (P,)."""
    return np.sqrt((len(left_out) - 1) * (left_out[:, i] - left_out[:, j]).var(axis=0))


def _from_both(measured: Measured, i: np.ndarray, j: np.ndarray) -> Ends:
    """Test differences by the intervals of both runs and the correlation of their jackknife values (Zou 2007).

    The p-value comes from the end of the interval that is nearer to zero, so that it is below 0.05 where the interval
    excludes zero.
    """
    left_out, sizes, effective = _counted(measured)
    values, difference = measured.values, measured.values[i] - measured.values[j]
    ends = [jackknife_interval(value, without, sizes) for value, without in zip(values, left_out.T, strict=True)]
    low, high = np.array(ends, dtype=float).T
    centered = left_out - left_out.mean(axis=0)
    length = np.linalg.norm(centered, axis=0)
    correlation = np.sum(centered[:, i] * centered[:, j], axis=0) / np.maximum(length[i] * length[j], NO_SPREAD**2)

    def reach(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(first**2 + second**2 - 2 * correlation * first * second, 0))

    below = reach(values[i] - low[i], high[j] - values[j])
    above = reach(high[i] - values[i], values[j] - low[j])
    nearer = np.where(difference > 0, below, above)
    quantile = t_quantile(effective)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(difference == 0, 0, np.abs(difference) * quantile / nearer)
    p = 2 * scipy.stats.t.sf(t, freedom(effective))
    return difference - below, difference + above, p, _error(left_out, i, j), effective
