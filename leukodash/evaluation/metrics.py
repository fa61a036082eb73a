"""How good a set of predictions is: labels and probabilities in, plain JSON-ready numbers out.

Rates come from the confusion matrices of the subjects, so that a page that moves a threshold recomputes nothing
else; areas under curves come from scikit-learn, Wilson intervals from statsmodels.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from statsmodels.stats.proportion import proportion_confint

from leukodash.errors import DataError
from leukodash.evaluation.statistics import groups, jackknife_interval

CALIBRATION_BINS = 10


def wilson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share, `k` out of `n` (Wilson 1927), each in 0..1.

    It takes the images for independent, which cells of one subject are not: see
    `statistics.accuracy_interval`.

    Raises:
        DataError: where `n` is not positive or `k` lies outside 0..n.
    """
    if n <= 0 or not 0 <= k <= n:
        raise DataError(f"An interval needs counts with 0 ≤ k ≤ n and n > 0; got k = {k} and n = {n}.")
    low, high = proportion_confint(k, n, alpha=1 - level, method="wilson")
    return max(0.0, float(low)), min(1.0, float(high))


def predicted(
    probabilities: np.ndarray, classes: Sequence[str], positive: str, threshold: float | None = None
) -> np.ndarray:
    """The class that each row of probabilities stands for.

    Args:
        probabilities: float array of shape (n, K), one column a class in the order of `classes`.
        classes: the K class labels.
        positive: the class that a threshold is about.
        threshold: None takes the likeliest class. A number, for two classes only, takes the positive class
            where its probability is at least this.

    Returns:
        str array of shape (n,).

    Raises:
        DataError: for a threshold with more than two classes, or classes that do not fit the columns.
    """
    return np.asarray(classes)[_predicted_codes(probabilities, classes, positive, threshold)]


def confusions(
    labels: Sequence[str], predictions: Sequence[str], classes: Sequence[str], group: np.ndarray
) -> np.ndarray:
    """A confusion matrix for each group of images, as `rates` takes them; their sum is that of all images.

    Args:
        labels: the true class of each image, (n,).
        predictions: what `predicted` gives, (n,).
        classes: the K class labels.
        group: int array of shape (n,), what `statistics.groups` gives.

    Returns:
        int array of shape (G, K, K), rows = truth, both in the order of `classes`.
    """
    return _count(_codes(labels, classes), _codes(predictions, classes), len(classes), group)


def rates(by_group: np.ndarray, classes: Sequence[str], positive: str, by_subject: bool = False) -> dict[str, Any]:
    """Everything that follows from confusion matrices alone, each number with its 95 % interval.

    Sensitivity, specificity, precision and F1 take the positive class against all the rest. Weighted and
    macro F1 average over the classes that occur in the truth or the predictions, balanced accuracy over
    those in the truth, as scikit-learn does. What is undefined (no positive image, say) is None, never NaN.

    Args:
        by_group: int array of shape (G, K, K): the confusion matrix of each group of images, rows = truth.
        classes: the K class labels in the order of the rows.
        positive: the class whose sensitivity is reported.
        by_subject: the groups are subjects, so every interval leaves them out one at a time. Otherwise
            plain shares have Wilson's interval, and only the others leave groups out.

    Returns:
        `n`, `correct`, `confusion`, and for each rate its value under its name and `…_interval`; for
        accuracy, sensitivity, specificity and precision also `…_wilson`, and what they are shares of: `…_n`.
    """
    by_group = np.asarray(by_group)
    p = list(classes).index(positive)
    total = by_group.sum(axis=0)
    value, left_out = _ratios(total, p), _ratios(total - by_group, p)
    images, positives, said = by_group.sum(axis=(1, 2)), by_group[:, p].sum(axis=1), by_group[:, :, p].sum(axis=1)
    of = {"accuracy": images, "sensitivity": positives, "specificity": images - positives, "precision": said}
    result = {"n": int(images.sum()), "correct": int(np.trace(total)), "confusion": total.tolist()}
    for name, number in value.items():
        sizes = of.get(name, images)
        result[name] = float(number) if np.isfinite(number) else None
        result[f"{name}_interval"] = _interval(result[name], left_out[name], sizes)
        if name in of:
            n = int(sizes.sum())
            result[f"{name}_n"] = n
            result[f"{name}_wilson"] = list(wilson(round(number * n), n)) if n else None
            if not by_subject:
                result[f"{name}_interval"] = result[f"{name}_wilson"]
    return result


def evaluate(
    labels: Sequence[str],
    probabilities: np.ndarray,
    classes: Sequence[str],
    positive: str,
    threshold: float | None = None,
    *,
    subjects: Sequence[str | None] | None = None,
) -> dict[str, Any]:
    """All the numbers of one run on one set of images, ready for `json.dumps`.

    Args:
        labels: the true class of each image, (n,).
        probabilities: float array of shape (n, K), 0..1, columns in the order of `classes`.
        classes: the K class labels, two or more.
        positive: the class whose sensitivity is reported.
        threshold: see `predicted`.
        subjects: who each image is from, (n,), or None where nobody knows.

    Returns:
        What `rates` gives, and `classes`, `positive`, `threshold`, `subjects` (how many, 0 where unknown),
        `interval_by` ("subject" or "image": what the intervals take for independent), and with intervals
        `roc_auc` and `average_precision` (more than two classes: one against the rest, averaged without
        weights; None where a class is missing) and `brier` (squared error of the probabilities, halved so
        that it lies in 0..1 and is the usual one for two classes; Brier 1950). `calibration_error` has no
        interval: it is biased upward in small samples, and no interval tried for it held the truth.

    Raises:
        DataError: for no images, an unknown label, or probabilities of another shape or not finite.
    """
    probabilities = np.asarray(probabilities, dtype=float)
    truth, k = _codes(labels, classes), len(classes)
    if len(truth) == 0:
        raise DataError("There are no images to evaluate: choose a split with a test part that is not empty.")
    if len(truth) != len(probabilities):
        raise DataError(f"Each label needs its probabilities; got {len(truth)} and {len(probabilities)}.")
    if subjects is not None and len(subjects) != len(truth):
        raise DataError(f"Each label needs its subject; got {len(truth)} and {len(subjects)}.")
    codes = _predicted_codes(probabilities, classes, positive, threshold)
    group, by_subject = groups(subjects, len(truth))
    sizes = np.bincount(group)
    result = {
        "classes": list(classes),
        "positive": positive,
        "threshold": threshold,
        "subjects": int(pd.Series(subjects, dtype=object).nunique()) if subjects is not None else 0,
        "interval_by": "subject" if by_subject else "image",
        **rates(_count(truth, codes, k, group), classes, positive, by_subject),
    }

    one_hot = np.eye(k)[truth]
    columns = [list(classes).index(positive)] if k == 2 else range(k)
    for name, score in (("roc_auc", roc_auc_score), ("average_precision", average_precision_score)):
        value = _mean_area(score, one_hot, probabilities, columns)
        left_out = [
            np.nan if value is None else _mean_area(score, one_hot[kept], probabilities[kept], columns)
            for kept in (group != g for g in range(len(sizes)))
        ]
        result[name] = value
        result[f"{name}_interval"] = _interval(value, np.array(left_out, dtype=float), sizes)

    errors = np.sum((probabilities - one_hot) ** 2, axis=1) / 2
    left_out = (errors.sum() - np.bincount(group, weights=errors)) / np.maximum(len(truth) - sizes, 1)
    result["brier"] = float(errors.mean())
    result["brier_interval"] = _interval(result["brier"], left_out, sizes)
    result["calibration_error"] = calibration_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth)
    return result


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = CALIBRATION_BINS) -> pd.DataFrame:
    """How often the network is right where it is this sure: the table behind a reliability diagram.

    Args:
        confidence: float array of shape (n,), 0..1: the probability of the likeliest class.
        correct: bool array of shape (n,): whether that class is the true one.
        bins: how many bins of equal width, each open below and closed above.

    Returns:
        One row for each bin that holds an image: low, high, n, confidence (mean), accuracy, and the Wilson
        interval of the accuracy as accuracy_low and accuracy_high.
    """
    edges = np.linspace(0, 1, bins + 1)
    where = np.digitize(confidence, edges[1:-1], right=True)
    n = np.bincount(where, minlength=bins)
    held = np.flatnonzero(n)
    right = np.bincount(where, weights=correct, minlength=bins)[held].astype(int)
    low, high = proportion_confint(right, n[held], method="wilson")
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
    """Expected calibration error: Σ over bins of (bin's images / n) · |accuracy − mean confidence|.

    Equal-width bins on the likeliest class's probability (Guo et al. 2017, equation 3), so a threshold does
    not change it. Arguments as in `reliability`.
    """
    where = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    surplus = np.bincount(where, weights=np.asarray(correct, dtype=float) - confidence)
    return float(np.abs(surplus).sum() / len(where))


def threshold_for(
    is_positive: np.ndarray, p: np.ndarray, how: Literal["youden", "sensitivity"] = "youden", target: float = 0.95
) -> float:
    """A threshold for the positive class, to be chosen on validation images and used on test images.

    It lies half-way between two observed probabilities, so that rounding in a file changes no decision.

    Args:
        is_positive: bool array of shape (n,).
        p: float array of shape (n,), 0..1: the positive class's probability.
        how: "youden" maximises sensitivity + specificity − 1 (Youden 1950); "sensitivity" takes the highest
            threshold whose sensitivity reaches `target`.
        target: the wanted sensitivity, 0..1.

    Raises:
        DataError: where the images are all of one class.
    """
    is_positive, p = np.asarray(is_positive, dtype=bool), np.asarray(p, dtype=float)
    if is_positive.all() or not is_positive.any():
        raise DataError("A threshold needs validation images of both classes; these are all of one. Use a larger part.")
    # The first point, dropped here, calls no image positive.
    false_rate, true_rate, scores = (v[1:] for v in roc_curve(is_positive, p, drop_intermediate=False))
    best = np.argmax(true_rate - false_rate) if how == "youden" else np.argmax(true_rate >= target)
    below = scores[best + 1] if best + 1 < len(scores) else scores[best]
    return float((scores[best] + below) / 2)


def net_benefit(is_positive: np.ndarray, p: np.ndarray) -> pd.DataFrame:
    """What acting on a network's word is worth: the table behind a decision curve (Vickers and Elkin 2006).

    Net benefit = TP / n − FP / n · t / (1 − t) at threshold t, with these images' share of positives, which in
    a test set is rarely that of a clinic.

    Args:
        is_positive: bool array of shape (n,).
        p: float array of shape (n,), 0..1: the positive class's probability.

    Returns:
        99 rows: threshold (0.01..0.99), net_benefit, everyone (of calling every image positive; calling none
        is worth 0).
    """
    is_positive = np.asarray(is_positive, dtype=bool)
    thresholds = np.linspace(0.01, 0.99, 99)
    odds, n = thresholds / (1 - thresholds), len(is_positive)

    def called(of: np.ndarray) -> np.ndarray:
        return len(of) - np.searchsorted(np.sort(of), thresholds, side="left")

    benefit = (called(np.asarray(p)[is_positive]) - odds * called(np.asarray(p)[~is_positive])) / n
    everyone = is_positive.mean() - odds * (1 - is_positive.mean())
    return pd.DataFrame({"threshold": thresholds, "net_benefit": benefit, "everyone": everyone})


def _codes(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    labels = np.asarray(labels)
    codes = np.full(len(labels), -1)
    for place, name in enumerate(classes):
        codes[labels == name] = place
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
        raise DataError(f"Two or more classes are needed, {positive!r} among them; got {', '.join(classes)}.")
    if probabilities.ndim != 2 or probabilities.shape[1] != len(classes):
        raise DataError(
            f"Probabilities need a column for each of {len(classes)} classes; got shape {probabilities.shape}."
        )
    if not np.isfinite(probabilities).all():
        raise DataError("Probabilities must be numbers; some are missing or infinite. Did the run diverge?")
    if threshold is None:
        return probabilities.argmax(axis=1)
    if len(classes) != 2:
        raise DataError(f"A threshold needs two classes; these are {len(classes)}. Leave the threshold out.")
    p = list(classes).index(positive)
    return np.where(probabilities[:, p] >= threshold, p, 1 - p)


def _count(truth: np.ndarray, codes: np.ndarray, k: int, group: np.ndarray) -> np.ndarray:
    """Confusion matrices of shape (G, K, K)."""
    count = int(group.max()) + 1
    return np.bincount((group * k + truth) * k + codes, minlength=count * k * k).reshape(count, k, k)


def _ratios(confusion: np.ndarray, p: int) -> dict[str, np.ndarray]:
    """The rates of confusion matrices (…, K, K), NaN where undefined; `p` is the positive class's row."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    truth, said, total = confusion.sum(axis=-1), confusion.sum(axis=-2), confusion.sum(axis=(-2, -1))
    false_positive, negatives = said[..., p] - hits[..., p], total - truth[..., p]
    with np.errstate(divide="ignore", invalid="ignore"):
        recall, f1 = hits / truth, 2 * hits / (truth + said)
        return {
            "accuracy": hits.sum(axis=-1) / total,
            "balanced_accuracy": np.nansum(recall, axis=-1) / (truth > 0).sum(axis=-1),
            "sensitivity": recall[..., p],
            "specificity": (negatives - false_positive) / negatives,
            "precision": hits[..., p] / said[..., p],
            "f1": f1[..., p],
            "f1_weighted": np.nansum(f1 * truth, axis=-1) / total,
            "f1_macro": np.nansum(f1, axis=-1) / (truth + said > 0).sum(axis=-1),
        }


def _interval(value: float | None, left_out: np.ndarray, sizes: np.ndarray) -> list[float] | None:
    interval = None if value is None else jackknife_interval(value, left_out, sizes)
    return None if interval is None else list(interval)


def _mean_area(
    score: Callable[..., float], one_hot: np.ndarray, probabilities: np.ndarray, columns: Sequence[int]
) -> float | None:
    """The area under a curve, averaged over these classes; None where one of all the classes is missing."""
    if not one_hot.any(axis=0).all():
        return None
    return float(np.mean([score(one_hot[:, c], probabilities[:, c]) for c in columns]))
