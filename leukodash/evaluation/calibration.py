"""Temperature scaling: one number that makes an overconfident network's probabilities fit (Guo et al. 2017).

Dividing all logits by one temperature above 1 makes a network less sure without changing how cells are ranked. It is
chosen on the validation cells, and used only where it also helps subjects that it was not chosen on. The log of a
probability equals its logit up to a constant, which the softmax cancels, so predictions.csv is enough and no network
has to run.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy

from leukodash.evaluation.metrics import calibration_error
from leukodash.evaluation.statistics import ALPHA, Subjects, count_subjects, effective_count, groups

MIN_CELLS = 30  # with fewer, a single mistake changes the temperature by a quarter or more
TEMPERATURES = np.geomspace(1, 10, 80)  # in steps of 3%, a third of the usual standard error
MIN_PROBABILITY = 1e-7  # the last digit of predictions.csv, which stores anything smaller as 0
MEASURES = {"log_loss": "log loss", "brier": "Brier score", "calibration_error": "calibration error"}


@dataclass(frozen=True)
class Temperature:
    """The number that a run's logits are divided by.

    Attributes:
        value: 1 or more; 1 changes nothing.
        note: why probabilities are calibrated or not, and how that was checked, as a clause.
    """

    value: float = 1.0
    note: str = ""

    def scale(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the probabilities at this temperature: float64 of shape (..., K), each row summing to one."""
        if self.value == 1:
            return np.asarray(probabilities, dtype=np.float64)
        return scipy.special.softmax(_log(probabilities) / self.value, axis=-1)


def fit_temperature(probabilities: np.ndarray, codes: np.ndarray, subjects: Subjects | None = None) -> Temperature:
    """Return the temperature with the lowest log loss on the validation cells, or 1 if it would not help new subjects.

    Whether it helps is measured by cross-validation: for each subject, the temperature is chosen without its cells
    (Guo et al. 2017, equation 9) and applied to them. Cells of few subjects often ask for a temperature by chance. A
    network is never made surer: with few mistakes on few subjects, temperatures below 1 do harm on new ones.

    Args:
        probabilities: float array of shape (n, K), 0..1, rows summing to one.
        codes: int array of shape (n,): the column of each cell's true class.
        subjects: the subject of each cell, (n,); if unknown, single cells are held out in place of subjects.
    """
    codes = np.asarray(codes, dtype=int)
    n = len(codes)
    if n < MIN_CELLS:
        return Temperature(note=f"not calibrated: {n} validation cells, of {MIN_CELLS} that it takes")
    if count_subjects(subjects) == 1:
        return Temperature(note="not calibrated: all validation cells are of one subject")
    group, by_subject = groups(subjects, n)
    logits = _log(probabilities)
    logits -= logits.max(axis=1, keepdims=True)
    own = logits[np.arange(n), codes]
    cells = [np.log(np.exp(logits / value).sum(axis=1)) - own / value for value in TEMPERATURES]
    losses = np.stack([np.bincount(group, weights=loss) for loss in cells], axis=1)  # by group and temperature
    total = losses.sum(axis=0)
    best = int(total.argmin())
    if best == 0:
        return Temperature(note=f"left as they are: not overconfident on {n:,} validation cells")
    chosen_without = (total - losses).argmin(axis=1)
    before, after = total[0] / n, losses[np.arange(len(losses)), chosen_without].sum() / n
    units = f"each of {count_subjects(subjects)} subjects" if by_subject else "a part of the cells"
    checked = (
        f"log loss {before:.3f} before, {after:.3f} after, on {n:,} validation cells, with {units} held out in turn"
    )
    if after >= before:
        return Temperature(note=f"left as they are: a temperature would not help ({checked})")
    return Temperature(
        float(TEMPERATURES[best]), f"calibrated by a temperature of {TEMPERATURES[best]:.2f} ({checked})"
    )


def calibration_change(
    probabilities: np.ndarray, codes: np.ndarray, temperature: Temperature, subjects: Subjects | None = None
) -> pd.DataFrame:
    """Return how a temperature changes calibration on test cells.

    The intervals are delete-one-group jackknives over subjects (Efron and Tibshirani 1993, equation 11.5). A few
    subjects with mistakes that the network is sure of make up most of the variance, so Student's t has as many degrees
    of freedom as subjects contribute to it (Kish's count of the squared deviations), less one. The calibration error
    has no interval, as in `metrics.evaluate`. `benchmarks/calibration_coverage.py` measures how often the intervals
    hold the true difference.

    Args:
        probabilities: float array of shape (n, K), 0..1, as the network gives them.
        codes: int array of shape (n,): the column of each cell's true class.
        temperature: from `fit_temperature`.
        subjects: the subject of each cell, (n,), or None.

    Returns:
        A row for each of `MEASURES`, lower is better for all: measure, before, after, difference (after − before), low
        and high (its 95% interval; NaN without one, for a temperature of 1, and for a single subject). The log loss is
        the mean negative log-likelihood; the Brier score is halved as in `metrics.evaluate`.
    """
    codes = np.asarray(codes, dtype=int)
    rows, one_hot = np.arange(len(codes)), np.eye(probabilities.shape[1])[codes]
    values, errors = [], []
    for p in (np.asarray(probabilities, dtype=np.float64), temperature.scale(probabilities)):
        errors.append([-_log(p)[rows, codes], ((p - one_hot) ** 2).sum(axis=1) / 2])
        values.append([*np.mean(errors[-1], axis=1), calibration_error(p.max(axis=1), p.argmax(axis=1) == codes)])
    table = pd.DataFrame({"measure": list(MEASURES), "before": values[0], "after": values[1]})
    group, _ = groups(subjects, len(codes))
    rest = len(codes) - np.bincount(group)
    change = np.subtract(errors[1], errors[0])
    left_out = np.array([(cells.sum() - np.bincount(group, cells)) / np.maximum(rest, 1) for cells in change])
    squared = (left_out - left_out.mean(axis=1, keepdims=True)) ** 2
    margin = np.array([*(_margin(own, effective_count(own)) if own.any() else np.nan for own in squared), np.nan])
    table["difference"] = table["after"] - table["before"]
    return table.assign(low=table["difference"] - margin, high=table["difference"] + margin)


def calibration_line(p: np.ndarray, is_positive: np.ndarray, subjects: Subjects | None = None) -> dict[str, float]:
    """Return slope and intercept of the calibration line of two classes, with jackknife intervals over subjects.

    The logistic regression of the class on the logit of its probability (Cox 1958): a slope below 1 means too sure, an
    intercept above 0 that the positive class is more frequent than predicted. Dividing logits by a temperature
    multiplies the slope by it and leaves the intercept as it is.

    Args:
        p: float array of shape (n,), 0..1: the positive class's probability.
        is_positive: bool array of shape (n,).
        subjects: the subject of each cell, (n,), or None.

    Returns:
        slope, slope_low, slope_high, intercept, intercept_low, intercept_high; NaN where undefined: for cells of one
        class, for classes that a threshold separates, and the intervals of a single subject.
    """
    p = np.asarray(p, dtype=np.float64)
    logit, truth = _log(p) - _log(1 - p), np.asarray(is_positive, dtype=np.float64)
    group, _ = groups(subjects, len(truth))
    line = _line(logit, truth, np.zeros(2))
    found: dict[str, float] = {}
    left_out = np.transpose([_line(logit[group != own], truth[group != own], line) for own in np.unique(group)])
    for name, value, others in zip(("intercept", "slope"), line, left_out, strict=True):
        margin = _margin((others - others.mean()) ** 2, effective_count(np.bincount(group)))
        found |= {name: float(value), f"{name}_low": float(value - margin), f"{name}_high": float(value + margin)}
    return found


def _line(logit: np.ndarray, truth: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return intercept and slope of a logistic regression by Newton's method; NaN if it does not converge."""
    line, columns = start, np.stack([np.ones_like(logit), logit])
    for _ in range(25):
        if not np.isfinite(line).all() or np.abs(line).max() > 100:
            break
        chance = scipy.special.expit(line @ columns)
        curvature = (columns * (chance * (1 - chance))) @ columns.T
        if np.linalg.det(curvature) < 1e-9:
            break
        step = np.linalg.solve(curvature, columns @ (truth - chance))
        line = line + step
        if np.abs(step).max() < 1e-6:
            return line
    return np.full(2, np.nan)


def _margin(squared: np.ndarray, effective: float) -> float:
    """Return half the width of a 95% jackknife interval.

    Args:
        squared: float array of shape (G,), the squared deviations of a measure without each group from their mean.
        effective: Student's t has this number of groups, less one, as degrees of freedom.
    """
    count = len(squared)
    error = np.sqrt((count - 1) / count * squared.sum())
    return float(scipy.special.stdtrit(max(effective - 1, 1), 1 - ALPHA / 2) * error) if count > 1 else np.nan


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), MIN_PROBABILITY))
