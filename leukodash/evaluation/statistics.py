"""Statistics of a comparison: intervals that account for subjects, paired tests, power and verdicts.

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
LONG = 200  # letters of a sentence that names every run
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
    margin = _t(effective) * np.sqrt((count - 1) / count * np.sum((logits - logits.mean()) ** 2))
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
    variance = _jackknife_covariance(correct[:, None], codes)[0, 0]
    return float(variance * len(correct) / (correct.mean() * (1 - correct.mean())))


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


def all_pairs(correct: pd.DataFrame, subjects: Subjects | None = None) -> pd.DataFrame:
    """Compare the accuracies of every two runs on the same images.

    With subjects, the interval and the p-value of a difference come from a jackknife over subjects, with Student's t as
    in `jackknife_interval`. Without, the interval is Agresti and Min's (2005) and the p-value that of the exact McNemar
    test.

    Args:
        correct: bool DataFrame of shape (n, R): one row per image, one column per run.
        subjects: the subject of each image, (n,), or None.

    Returns:
        One row for each of R(R−1)/2 pairs: a, b (names), n, subjects (0 = unknown), both_right, only_a, only_b,
        both_wrong, difference (accuracy of a − b, −1..1), low, high (95% interval), mcnemar (p-value), p (by subject,
        or McNemar's), p_holm (adjusted for all pairs), separated (p_holm < 0.05) and needed (subjects, or images if
        subjects are unknown, for a power of 80%; infinite without a difference).

    Raises:
        DataError: for fewer than two runs or no images.
    """
    n, runs = correct.shape
    if runs < 2 or n == 0:
        raise DataError(f"A comparison needs two runs on the same images; got {runs} on {n} images.")
    right = correct.to_numpy(dtype=float)
    i, j = np.triu_indices(runs, 1)
    both = np.rint(right.T @ right).astype(int)
    totals = np.diag(both)
    only_a, only_b = totals[i] - both[i, j], totals[j] - both[i, j]
    difference = (only_a - only_b) / n
    mcnemar = mcnemar_exact(only_a, only_b)

    codes, by_subject = groups(subjects, n)
    if by_subject:
        sizes = np.bincount(codes)
        covariance = _jackknife_covariance(right, codes)
        variance = np.diag(covariance)[i] + np.diag(covariance)[j] - 2 * covariance[i, j]
        margin, p = _by_subject(difference, np.sqrt(np.maximum(variance, 0)), sizes)
        center, count = difference, count_subjects(subjects)
        needed = np.ceil(count * _times_more(difference, variance))
    else:
        # Agresti and Min (2005): Wald's interval with half an image added to each of the four cells.
        center = (only_a - only_b) / (n + 2)
        variance = ((only_a + only_b + 1) / (n + 2) - center**2) / (n + 2)
        margin, p, count = scipy.stats.norm.ppf(1 - ALPHA / 2) * np.sqrt(variance), mcnemar, 0
        needed = cells_needed(difference, (only_a + only_b) / n)
    adjusted = holm(p)
    names = np.asarray(correct.columns)
    return pd.DataFrame(
        {
            "a": names[i],
            "b": names[j],
            "n": n,
            "subjects": count,
            "both_right": both[i, j],
            "only_a": only_a,
            "only_b": only_b,
            "both_wrong": n - both[i, j] - only_a - only_b,
            "difference": difference,
            "low": np.maximum(-1, center - margin),
            "high": np.minimum(1, center + margin),
            "mcnemar": mcnemar,
            "p": p,
            "p_holm": adjusted,
            "separated": adjusted < ALPHA,
            "needed": needed,
        }
    )


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values adjusted for multiple testing (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    # multipletests runs the garbage collector at each call, which takes 50 ms or more: skip it for a single pair.
    return multipletests(p, alpha=ALPHA, method="holm")[1] if len(p) > 1 else p


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


def ranks(accuracies: pd.Series, pairs: pd.DataFrame) -> pd.Series:
    """Return ranks, shared by runs that no test separates.

    A run's rank is one more than the number of runs that are significantly more accurate.

    Args:
        accuracies: float Series by run name.
        pairs: the table that `all_pairs` returns for the same runs.

    Returns:
        int Series with the index of `accuracies`.
    """
    behind = np.where(pairs["difference"] > 0, pairs["b"], pairs["a"])[pairs["separated"].to_numpy()]
    better = pd.Series(behind, dtype=object).value_counts()
    return better.reindex(accuracies.index, fill_value=0).rename("rank") + 1


def cells_needed(
    difference: np.ndarray | float, discordant: np.ndarray | float, power: float = 0.8, alpha: float = ALPHA
) -> np.ndarray:
    """Return how many independent images McNemar's test needs (Connor 1987, unconditional).

    n = (z₁₋α⸝₂ √ψ + z_power √(ψ − δ²))² / δ². For 65 against 64 correct of 70 (δ = 1/70) it depends on the pairing,
    which a table of accuracies hides: 548 if one run is correct wherever the other is, about 3,800 if 7 images are
    discordant, 4 to 3 (ψ = 0.1), 5,600 if the mistakes are independent.

    Args:
        difference: δ, the difference in accuracy, −1..1.
        discordant: ψ, the proportion of images that exactly one run classifies correctly, |δ|..1.
        power: probability of detecting the difference, 0..1.
        alpha: two-sided significance level, 0..1.

    Returns:
        float array, rounded up; infinite where the difference is 0.

    Raises:
        DataError: if the discordant proportion is smaller than the difference.
    """
    delta, psi = np.abs(np.asarray(difference, dtype=float)), np.asarray(discordant, dtype=float)
    if (psi < delta - NO_SPREAD).any() or (psi > 1).any():
        raise DataError("The proportion of discordant images must lie between the difference in accuracy and 1.")
    root = scipy.stats.norm.ppf(1 - alpha / 2) * np.sqrt(psi)
    root = root + scipy.stats.norm.ppf(power) * np.sqrt(np.maximum(psi - delta**2, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(delta > 0, np.ceil(root**2 / delta**2), np.inf)


def verdict(pair: pd.Series) -> str:
    """Return one row of `all_pairs` as a sentence."""
    a, b, n = quoted(pair["a"]), quoted(pair["b"]), f"{pair['n']:,} images"
    where = f"{n} of {pair['subjects']} subjects" if pair["subjects"] else n
    if pair["separated"]:
        low, high = pair["low"], pair["high"]
        if pair["difference"] < 0:
            a, b, low, high = b, a, -high, -low
        return (
            f"{a} is more accurate than {b} by {100 * abs(pair['difference']):.1f} points "
            f"({100 * low:.1f} to {100 * high:.1f}) on {where}."
        )
    if pair["only_a"] + pair["only_b"] == 0:
        return f"{a} and {b} are correct on the same images, out of {where}."
    if not np.isfinite(pair["needed"]):
        return f"{a} and {b}: no difference in accuracy on {where}."
    more = "such subjects" if pair["subjects"] else "images"
    return f"{a} and {b}: no detectable difference on {where}; {_about(pair['needed'])} {more} would be needed."


def standings(places: pd.Series, tests: pd.DataFrame, n: int, subjects: int | None = None) -> str:
    """Return what the paired tests say of three or more runs, as a sentence.

    Args:
        places: the ranks of the runs, from `ranks`, the most accurate run first.
        tests: the table that `all_pairs` returns for the same runs.
        n: number of test images.
        subjects: number of test subjects, if known.
    """
    images = f"these {n:,} images" + (f" of {subjects} subjects" if subjects else "")
    first = [str(name) for name in places.index[places == 1]]
    behind = _behind(tests)
    if len(first) == 1 and all(first[0] in behind[name] for name in places.index[places > 1]):
        return f"{quoted(first[0])} is the most accurate on {images}."
    by: dict[tuple[str, ...], list[str]] = {}
    for name in places.index[places > 1]:
        by.setdefault(tuple(str(run) for run in places.index if run in behind[name]), []).append(str(name))
    sentences = [f"{words_list(first)} cannot be told apart on {images}"]
    if len(first) == 1:
        sentences = [f"On {images}, no run is shown to be better than {quoted(first[0])}"]
    for better, names in by.items():
        than = "" if set(better) >= set(first) else f" {words_list(better)}"
        sentences.append(f"{words_list(names)} fall{'s' if len(names) == 1 else ''} behind{than}")
    if sum(map(len, sentences)) > LONG:
        apart = f"the tests separate {int(tests['separated'].sum())} of {len(tests)} pairs of runs on {images}"
        sentences = [f"{words_list([str(places.index[0])])} is right most often", apart]
    return "; ".join(sentences) + "."


def _behind(tests: pd.DataFrame) -> dict[str, set[str]]:
    """Return by run the runs that are significantly more accurate, for runs that have such."""
    behind: dict[str, set[str]] = {}
    for _, pair in tests[tests["separated"]].iterrows():
        worse, better = (pair["b"], pair["a"]) if pair["difference"] > 0 else (pair["a"], pair["b"])
        behind.setdefault(worse, set()).add(better)
    return behind


def _jackknife_covariance(right: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the jackknife covariance of R accuracies: 0/1 floats (n, R) and group codes (n,) → (R, R)."""
    by_group = pd.DataFrame(right).groupby(codes).sum().to_numpy()
    sizes = np.bincount(codes)[:, None]
    left_out = (by_group.sum(axis=0) - by_group) / (sizes.sum() - sizes)
    centered = left_out - left_out.mean(axis=0)
    return (len(sizes) - 1) / len(sizes) * centered.T @ centered


def _by_subject(difference: np.ndarray, error: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the margin (half the interval's width) and the p-value of each difference, (P,) each."""
    effective = effective_count(sizes)
    spread = error > NO_SPREAD
    t = np.abs(difference) / np.where(spread, error, 1)
    # If no subject changes the difference: Wilson's bound for 0 of the effective subjects, and the sign test.
    flat_margin = wilson(0, effective)[1]
    flat_p = np.where(difference == 0, 1, mcnemar_exact(len(sizes), 0))
    margin = np.where(spread, _t(effective) * error, flat_margin)
    return margin, np.where(spread, 2 * scipy.stats.t.sf(t, _freedom(effective)), flat_p)


def _times_more(difference: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return how many times the present subjects a power of 80% needs, (P,); infinite without a difference."""
    z = scipy.stats.norm.ppf(1 - ALPHA / 2) + scipy.stats.norm.ppf(0.8)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(difference != 0, z**2 * np.maximum(variance, 0) / difference**2, np.inf)


def _logit(rate: np.ndarray | float, n: np.ndarray | float) -> np.ndarray:
    rate = np.asarray(rate, dtype=float)
    return np.log((rate * n + 0.5) / ((1 - rate) * n + 0.5))


def _freedom(effective: float) -> float:
    return max(effective - 1, 1)


def _t(effective: float) -> float:
    return float(scipy.special.stdtrit(_freedom(effective), 1 - ALPHA / 2))


def _about(number: float) -> str:
    """Round to two digits: 3844 → "about 3,800"."""
    return f"about {float(f'{number:.2g}'):,.0f}"


def quoted(name: str) -> str:
    """Return a name in quotation marks if it has a comma or starts with a small letter."""
    return f"“{name}”" if "," in name or (" " in name and name[0].islower()) else name


def words_list(names: Sequence[str]) -> str:
    """Return names as "A", "A and B", or "A, B and C", those that are phrases in quotation marks."""
    names = [quoted(name) for name in names]
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
