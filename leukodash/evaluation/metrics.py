"""Metrics of a set of predictions: labels and probabilities in, JSON-ready numbers out.

Rates are computed from one confusion matrix per subject, so a page that moves a threshold recomputes only those.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from leukodash.errors import DataError
from leukodash.evaluation.statistics import Subjects, count_subjects, groups, jackknife_interval, wilson

Labels = Sequence[str] | np.ndarray

CALIBRATION_BINS = 10


def predicted(
    probabilities: np.ndarray, classes: Sequence[str], positive: str, threshold: float | None = None
) -> np.ndarray:
    """Return the predicted class of each row of probabilities.

    Args:
        probabilities: float array of shape (n, K), 0..1, columns in the order of `classes`.
        classes: the K class labels.
        positive: the class that the threshold applies to.
        threshold: None predicts the class of highest probability. A number (two classes only) predicts the positive
            class if its probability is at least this high.

    Returns:
        str array of shape (n,).

    Raises:
        DataError: for a threshold with more than two classes, or classes that do not match the columns.
    """
    return np.asarray(classes)[_predicted_codes(probabilities, classes, positive, threshold)]


def confusions(labels: Labels, predictions: Labels, classes: Sequence[str], group: np.ndarray) -> np.ndarray:
    """Return the confusion matrix of each group of images, for `rates`.

    Args:
        labels: the true class of each image, (n,).
        predictions: the predicted class of each image, (n,), from `predicted`.
        classes: the K class labels.
        group: int array of shape (n,), from `statistics.groups`.

    Returns:
        int array of shape (G, K, K), rows = truth, both in the order of `classes`.
    """
    return _count(_codes(labels, classes), _codes(predictions, classes), len(classes), group)


def rates(by_group: np.ndarray, classes: Sequence[str], positive: str, by_subject: bool = False) -> dict[str, Any]:
    """Return all metrics that follow from confusion matrices, each with its 95% interval.

    Sensitivity, specificity, precision and F1 treat the positive class against all others. Weighted and macro F1
    average over the classes that occur in the truth or the predictions, balanced accuracy over those in the truth, as
    in scikit-learn. An undefined metric (sensitivity without positive images, say) is None, never NaN.

    Args:
        by_group: int array of shape (G, K, K): the confusion matrix of each group of images, rows = truth.
        classes: the K class labels in the order of the rows.
        positive: the class whose sensitivity is reported.
        by_subject: the groups are subjects, so every interval is a jackknife over subjects. Otherwise accuracy,
            sensitivity, specificity and precision have Wilson's interval, and the other metrics a jackknife over
            groups.

    Returns:
        `n`, `correct`, `confusion`, and for each metric its value under its name and under `…_interval`; for accuracy,
        sensitivity, specificity and precision also `…_wilson` and their denominator `…_n`.
    """
    by_group = np.asarray(by_group)
    p = list(classes).index(positive)
    total = by_group.sum(axis=0)
    value, left_out = _ratios(total, p), _ratios(total - by_group, p)
    images, positives, called = by_group.sum(axis=(1, 2)), by_group[:, p].sum(axis=1), by_group[:, :, p].sum(axis=1)
    counted = {"accuracy": images, "sensitivity": positives, "specificity": images - positives, "precision": called}
    result: dict[str, Any] = {"n": int(images.sum()), "correct": int(np.trace(total)), "confusion": total.tolist()}
    for name, number in value.items():
        sizes = counted.get(name, images)
        result[name] = float(number) if np.isfinite(number) else None
        result[f"{name}_interval"] = _interval(result[name], left_out[name], sizes)
        if name in counted:
            n = int(sizes.sum())
            result[f"{name}_n"] = n
            result[f"{name}_wilson"] = list(wilson(round(float(number) * n), n)) if n else None
            if not by_subject:
                result[f"{name}_interval"] = result[f"{name}_wilson"]
    return result


def evaluate(
    labels: Labels,
    probabilities: np.ndarray,
    classes: Sequence[str],
    positive: str,
    threshold: float | None = None,
    *,
    subjects: Subjects | None = None,
) -> dict[str, Any]:
    """Return all metrics of one run on one set of images, ready for `json.dumps`.

    Args:
        labels: the true class of each image, (n,).
        probabilities: float array of shape (n, K), 0..1, columns in the order of `classes`.
        classes: the K class labels, two or more.
        positive: the class whose sensitivity is reported.
        threshold: see `predicted`.
        subjects: the subject of each image, (n,), or None if unknown.

    Returns:
        What `rates` returns, and `classes`, `positive`, `threshold`, `subjects` (their number, 0 if unknown),
        `interval_by` ("subject" or "image": the units that the intervals treat as independent), and with intervals
        `roc_auc` and `average_precision` (for more than two classes the unweighted mean over one-vs-rest; None if a
        class is missing) and `brier` (squared error of the probabilities, halved so that it lies in 0..1 and equals the
        usual score for two classes; Brier 1950). `calibration_error` has no interval: it is biased upward in small
        samples, and no interval that was tried covered the true value.

    Raises:
        DataError: for no images, an unknown label, or probabilities of the wrong shape or not finite.
    """
    probabilities = np.asarray(probabilities, dtype=float)
    truth, k = _codes(labels, classes), len(classes)
    if len(truth) == 0:
        raise DataError("There are no images to evaluate: choose a split with a test part that is not empty.")
    if len(truth) != len(probabilities):
        raise DataError(f"Got {len(truth)} labels and {len(probabilities)} rows of probabilities: give one row each.")
    if subjects is not None and len(subjects) != len(truth):
        raise DataError(f"Got {len(truth)} labels and {len(subjects)} subjects: give one subject each.")
    codes = _predicted_codes(probabilities, classes, positive, threshold)
    group, by_subject = groups(subjects, len(truth))
    sizes = np.bincount(group)
    result: dict[str, Any] = {
        "classes": list(classes),
        "positive": positive,
        "threshold": threshold,
        "subjects": count_subjects(subjects),
        "interval_by": "subject" if by_subject else "image",
        **rates(_count(truth, codes, k, group), classes, positive, by_subject),
    }

    one_hot = np.eye(k)[truth]
    areas = _mean_areas(truth, probabilities, list(classes).index(positive), group)
    for name, (whole, *left_out) in zip(("roc_auc", "average_precision"), areas.T, strict=True):
        result[name] = float(whole) if np.isfinite(whole) else None
        result[f"{name}_interval"] = _interval(result[name], np.array(left_out), sizes)

    errors = np.sum((probabilities - one_hot) ** 2, axis=1) / 2
    left_out = (errors.sum() - np.bincount(group, weights=errors)) / np.maximum(len(truth) - sizes, 1)
    result["brier"] = float(errors.mean())
    result["brier_interval"] = _interval(result["brier"], left_out, sizes)
    result["calibration_error"] = calibration_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth)
    return result


def leave_one_out(
    measure: str,
    labels: Labels,
    probabilities: np.ndarray,
    classes: Sequence[str],
    positive: str,
    threshold: float | None,
    group: np.ndarray,
) -> np.ndarray:
    """Return a measure of all images and, behind it, without each group: float array of shape (1 + G,).

    Args:
        measure: a key of `differences.MEASURES`.
        labels, probabilities, classes, positive, threshold: as in `evaluate`.
        group: int array of shape (n,), from `statistics.groups`.
    """
    truth, p = _codes(labels, classes), list(classes).index(positive)
    if measure == "roc_auc":
        return _mean_areas(truth, np.asarray(probabilities, dtype=float), p, group)[:, 0]
    by_group = _count(truth, _predicted_codes(probabilities, classes, positive, threshold), len(classes), group)
    total = by_group.sum(axis=0)
    return _ratios(np.concatenate([total[None], total - by_group]), p)[measure]


def predictive_values(rates: Mapping[str, Any] | pd.Series, prevalence: float) -> dict[str, tuple[float, float, float]]:
    """Return the predictive values of a run where a given share of the cells is positive.

    They follow from sensitivity and specificity by Bayes' rule. Their intervals are those of the likelihood ratios
    (Donner and Zou 2012), from the intervals of both, taken as independent: as they are where each subject has cells of
    one class.

    Args:
        rates: ``sensitivity`` and ``specificity``, 0..1, and the ends of their intervals, ``sensitivity_low`` and so
            on.
        prevalence: the share of positive cells, 0..1, neither end included.

    Returns:
        (value, low, high), each 0..1, NaN where undefined, under ``ppv`` (of the cells called positive, the share that
        is) and ``npv`` (of those called negative, the share that is).
    """

    def ends(name: str) -> tuple[float, float, float]:
        return rates[name], rates[f"{name}_low"], rates[f"{name}_high"]

    def missed(name: str) -> tuple[float, float, float]:
        value, low, high = ends(name)
        return 1 - value, 1 - high, 1 - low

    odds = prevalence / (1 - prevalence)
    false_to_true = np.array(_ratio(missed("specificity"), ends("sensitivity")))
    missed_to_right = np.array(_ratio(missed("sensitivity"), ends("specificity")))
    ppv, npv = 1 / (1 + false_to_true / odds), 1 / (1 + missed_to_right * odds)
    return {"ppv": (ppv[0], ppv[2], ppv[1]), "npv": (npv[0], npv[2], npv[1])}


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = CALIBRATION_BINS) -> pd.DataFrame:
    """Return the table behind a reliability diagram: accuracy by predicted confidence.

    Args:
        confidence: float array of shape (n,), 0..1: the probability of the predicted class.
        correct: bool array of shape (n,): whether the prediction is correct.
        bins: number of bins of equal width, each open below and closed above.

    Returns:
        One row per non-empty bin: low, high, n, confidence (mean), accuracy, and Wilson's interval of the accuracy as
        accuracy_low and accuracy_high.
    """
    edges = np.linspace(0, 1, bins + 1)
    where = np.digitize(confidence, edges[1:-1], right=True)
    n = np.bincount(where, minlength=bins)
    held = np.flatnonzero(n)  # the bins that are not empty
    right = np.bincount(where, weights=correct, minlength=bins)[held].astype(int)
    low, high = np.transpose([wilson(*counts) for counts in zip(right, n[held], strict=True)])
    return pd.DataFrame(
        {
            "low": edges[held],
            "high": edges[held + 1],
            "n": n[held],
            "confidence": np.bincount(where, weights=confidence, minlength=bins)[held] / n[held],
            "accuracy": right / n[held],
            "accuracy_low": np.clip(low, 0, 1),
            "accuracy_high": np.clip(high, 0, 1),
        }
    )


def calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """Return the expected calibration error: Σ over bins of (images in bin / n) · |accuracy − mean confidence|, 0..1.

    The bins are of equal width over the highest probability (Guo et al. 2017, equation 3), so a threshold does not
    change the result. Arguments as in `reliability`.
    """
    where = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    gaps = np.bincount(where, weights=np.asarray(correct, dtype=float) - confidence)
    return float(np.abs(gaps).sum() / len(where))


def threshold_for(
    is_positive: np.ndarray, p: np.ndarray, how: Literal["youden", "sensitivity"] = "youden", target: float = 0.95
) -> float:
    """Return a threshold for the positive class, to be chosen on validation images and applied to test images.

    It lies halfway between two observed probabilities, so that rounding in a file changes no prediction.

    Args:
        is_positive: bool array of shape (n,).
        p: float array of shape (n,), 0..1: the positive class's probability.
        how: "youden" maximizes sensitivity + specificity − 1 (Youden 1950); "sensitivity" takes the highest
            threshold whose sensitivity reaches `target`.
        target: the required sensitivity, 0..1.

    Raises:
        DataError: if all images are of one class.
    """
    is_positive, p = np.asarray(is_positive, dtype=bool), np.asarray(p, dtype=float)
    if is_positive.all() or not is_positive.any():
        raise DataError("A threshold needs validation images of both classes: use a larger validation part.")
    # The first point, dropped here, predicts no image as positive.
    from sklearn.metrics import roc_curve

    false_rate, true_rate, scores = (v[1:] for v in roc_curve(is_positive, p, drop_intermediate=False))
    best = np.argmax(true_rate - false_rate) if how == "youden" else np.argmax(true_rate >= target)
    below = scores[best + 1] if best + 1 < len(scores) else scores[best]
    return float((scores[best] + below) / 2)


def net_benefit(is_positive: np.ndarray, p: np.ndarray, prevalence: float | None = None) -> pd.DataFrame:
    """Return the table behind a decision curve (Vickers and Elkin 2006).

    Net benefit = sensitivity · prevalence − (1 − specificity) · (1 − prevalence) · t / (1 − t) at threshold t.

    Args:
        is_positive: bool array of shape (n,), with both classes.
        p: float array of shape (n,), 0..1: the positive class's probability.
        prevalence: the share of positive images, 0..1; by default that among these, which is rarely that of a clinic.

    Returns:
        99 rows: threshold (0.01..0.99), net_benefit, everyone (net benefit of predicting every image as positive;
        that of predicting none is 0).
    """
    is_positive = np.asarray(is_positive, dtype=bool)
    thresholds = np.linspace(0.01, 0.99, 99)
    odds, share = thresholds / (1 - thresholds), is_positive.mean() if prevalence is None else prevalence

    def called_positive(scores: np.ndarray) -> np.ndarray:
        return 1 - np.searchsorted(np.sort(scores), thresholds, side="left") / len(scores)

    p = np.asarray(p)
    benefit = share * called_positive(p[is_positive]) - odds * (1 - share) * called_positive(p[~is_positive])
    everyone = share - odds * (1 - share)
    return pd.DataFrame({"threshold": thresholds, "net_benefit": benefit, "everyone": everyone})


def _codes(labels: Labels, classes: Sequence[str]) -> np.ndarray:
    labels = np.asarray(labels)
    codes = np.full(len(labels), -1)
    for code, name in enumerate(classes):
        codes[labels == name] = code
    if (codes < 0).any():
        unknown = sorted({str(label) for label in labels[codes < 0]})
        raise DataError(
            f"Labels must be among {', '.join(classes)}; found {', '.join(unknown[:5])}. Correct these rows."
        )
    return codes


def _predicted_codes(
    probabilities: np.ndarray, classes: Sequence[str], positive: str, threshold: float | None
) -> np.ndarray:
    probabilities = np.asarray(probabilities, dtype=float)
    if len(classes) < 2 or positive not in classes:
        raise DataError(f"Two or more classes are needed, including {positive!r}; got {', '.join(classes)}.")
    if probabilities.ndim != 2 or probabilities.shape[1] != len(classes):
        raise DataError(
            f"Probabilities need a column for each of {len(classes)} classes; got shape {probabilities.shape}."
        )
    if not np.isfinite(probabilities).all():
        raise DataError("Some probabilities are missing or infinite: training may have diverged.")
    if threshold is None:
        return probabilities.argmax(axis=1)
    if len(classes) != 2:
        raise DataError(f"A threshold needs two classes; there are {len(classes)}. Use no threshold.")
    p = list(classes).index(positive)
    return np.where(probabilities[:, p] >= threshold, p, 1 - p)


def _count(truth: np.ndarray, codes: np.ndarray, k: int, group: np.ndarray) -> np.ndarray:
    """Return the confusion matrix of each group: int (G, K, K)."""
    count = int(group.max()) + 1
    return np.bincount((group * k + truth) * k + codes, minlength=count * k * k).reshape(count, k, k)


def _ratios(confusion: np.ndarray, p: int) -> dict[str, np.ndarray]:
    """Return the metrics of confusion matrices (…, K, K), NaN where undefined; `p` is the positive class's row."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    truth, called, total = confusion.sum(axis=-1), confusion.sum(axis=-2), confusion.sum(axis=(-2, -1))
    false_positive, negatives = called[..., p] - hits[..., p], total - truth[..., p]
    with np.errstate(divide="ignore", invalid="ignore"):
        recall, f1 = hits / truth, 2 * hits / (truth + called)
        return {
            "accuracy": hits.sum(axis=-1) / total,
            "balanced_accuracy": np.nansum(recall, axis=-1) / (truth > 0).sum(axis=-1),
            "sensitivity": recall[..., p],
            "specificity": (negatives - false_positive) / negatives,
            "precision": hits[..., p] / called[..., p],
            "f1": f1[..., p],
            "f1_weighted": np.nansum(f1 * truth, axis=-1) / total,
            "f1_macro": np.nansum(f1, axis=-1) / (truth + called > 0).sum(axis=-1),
        }


def _ratio(over: tuple[float, float, float], under: tuple[float, float, float]) -> tuple[float, float, float]:
    """Return the ratio of two independent numbers (value, low, high) with its interval (Donner and Zou 2012)."""
    (a, low_a, high_a), (b, low_b, high_b) = over, under
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = np.float64(a), np.float64(b)
        # The lower root in a form that is defined where the upper end of b is twice b.
        low = (
            low_a
            * (2 * a - low_a)
            / (a * b + np.sqrt((a * b) ** 2 - low_a * high_b * (2 * a - low_a) * (2 * b - high_b)))
        )
        root = np.sqrt((a * b) ** 2 - high_a * low_b * (2 * a - high_a) * (2 * b - low_b))
        high = np.inf if low_b == 0 else (a * b + root) / (low_b * (2 * b - low_b))
        return a / b, low if a else 0.0, high


def _mean_areas(truth: np.ndarray, probabilities: np.ndarray, p: int, group: np.ndarray) -> np.ndarray:
    """Return `_areas` of the positive class, or, for more than two classes, their mean over one-vs-rest."""
    columns = [p] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    return np.mean([_areas(truth == column, probabilities[:, column], group) for column in columns], axis=0)


def _interval(value: float | None, left_out: np.ndarray, sizes: np.ndarray) -> list[float] | None:
    interval = None if value is None else jackknife_interval(value, left_out, sizes)
    return None if interval is None else list(interval)


def _areas(is_positive: np.ndarray, scores: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return ROC AUC and average precision of all images and, a row for each, without each group; NaN if undefined.

    Equal to scikit-learn's, but images are sorted once, and only the positive ones are looked at for each group: of
    50 classes and 60,000 images, all areas take a second rather than minutes.
    """
    order = np.argsort(-scores, kind="stable")
    is_positive, group = is_positive[order], group[order]
    edges = np.flatnonzero(np.diff(scores[order], prepend=np.inf, append=-np.inf))  # where the score changes
    at = np.flatnonzero(is_positive)
    place = np.searchsorted(edges, at, side="right")
    ends = np.array([edges[place - 1], edges[place]])  # before and behind the images with the score of each positive
    hits = np.concatenate([[0], np.cumsum(is_positive)])[ends]
    areas = []
    for places in [order[:0], *np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])]:
        left_out = places[is_positive[places]]
        kept = np.isin(at, left_out, invert=True, assume_unique=True)
        called = (ends - np.searchsorted(places, ends))[:, kept]
        right = (hits - np.searchsorted(left_out, ends))[:, kept]
        negatives = len(order) - len(places) - right.shape[1]
        if not negatives or not right.shape[1]:
            areas.append((np.nan, np.nan))
        else:
            areas.append((1 - (called - right).mean() / negatives, (right[1] / called[1]).mean()))
    return np.array(areas)
