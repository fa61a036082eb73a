"""What a comparison can and cannot say: intervals that know about subjects, paired tests, power, verdicts.

Cells of one subject resemble each other, so a test set is a sample of subjects, not of cells. Everything here
that has subjects leaves out one subject at a time (the delete-one-group jackknife) and looks at how far the
result moves. `benchmarks/coverage.py` measures how often these intervals hold the truth.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit, stdtrit
from statsmodels.stats.contingency_tables import cochrans_q
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from leukodash.errors import DataError

LEVEL = 0.95
ALPHA = 1 - LEVEL
FEW_SUBJECTS = 10  # below this a page warns: the interval still holds, but it is wide and leans on each subject
MAX_GROUPS = 100
NO_SPREAD = 1e-12  # a standard error below this is rounding


def groups(subjects: Sequence[str | None] | None, n: int) -> tuple[np.ndarray, bool]:
    """Which group each of `n` images is left out with, and whether the groups are subjects.

    An image whose subject is missing is a subject of its own. Where nobody knows more than one subject, each
    image is. More than 100 are dealt at random, always alike, into 100 groups (Kott 2001, delete-a-group
    jackknife), which bounds the work.

    Returns:
        int array of shape (n,) with values 0..G−1, and True where two or more subjects are known.
    """
    known = pd.Series(subjects if subjects is not None else [None] * n, dtype=object)
    by_subject = known.nunique() > 1
    known = known.where(known.notna() & by_subject, pd.Series(np.arange(n)).astype(object))
    codes = pd.factorize(known)[0]
    count = int(codes.max()) + 1 if n else 0
    if count > MAX_GROUPS:
        codes = (np.random.default_rng(0).permutation(count) % MAX_GROUPS)[codes]
    return codes, bool(by_subject)


def effective_count(sizes: np.ndarray) -> float:
    """How many groups of equal size these uneven ones are worth: (Σm)² / Σm² (Kish 1965)."""
    sizes = np.asarray(sizes, dtype=float)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def jackknife_interval(value: float, left_out: np.ndarray, sizes: np.ndarray) -> tuple[float, float] | None:
    """A 95 % interval of any number in 0..1, from how it moves when each subject is left out.

    The jackknife's standard error (Efron and Tibshirani 1993, equation 11.5) is taken on the logit scale, half
    an image added on either side, and multiplied by Student's t with `effective_count` − 1 degrees of freedom,
    since a few large subjects carry most of the images. Where no subject moves the number (all images right),
    it is Wilson's interval with as many trials as there are effective subjects.

    Args:
        value: the number with all subjects, 0..1.
        left_out: float array of shape (G,), the number without each subject.
        sizes: float array of shape (G,), how many images of each subject the number rests on.

    Returns:
        (low, high), or None where fewer than two subjects carry the number or one of them carries it alone.
    """
    carry = np.asarray(sizes) > 0
    left_out, sizes = np.asarray(left_out, dtype=float)[carry], np.asarray(sizes, dtype=float)[carry]
    count, n = len(sizes), sizes.sum()
    if count < 2 or not np.isfinite(left_out).all():
        return None
    effective = effective_count(sizes)
    if np.ptp(np.append(left_out, value)) < NO_SPREAD:
        low, high = proportion_confint(value * effective, effective, alpha=ALPHA, method="wilson")
        return max(0.0, float(low)), min(1.0, float(high))
    moved = _logit(left_out, n - sizes)
    reach = _t(effective) * np.sqrt((count - 1) / count * np.sum((moved - moved.mean()) ** 2))
    low, high = expit(_logit(value, n) + np.array([-reach, reach]))
    return float(low), float(high)


def accuracy_interval(correct: np.ndarray, subjects: Sequence[str | None] | None) -> tuple[float, float] | None:
    """The interval of an accuracy that pages lead with: by subject where two or more are known, else Wilson.

    Args:
        correct: bool array of shape (n,).
        subjects: who each image is from, (n,), or None.

    Returns:
        (low, high) in 0..1, or None for no images.
    """
    correct = np.asarray(correct, dtype=float)
    n, right = len(correct), float(correct.sum())
    if not n:
        return None
    codes, by_subject = groups(subjects, n)
    if not by_subject:
        low, high = proportion_confint(right, n, alpha=ALPHA, method="wilson")
        return max(0.0, float(low)), min(1.0, float(high))
    sizes = np.bincount(codes)
    return jackknife_interval(right / n, (right - np.bincount(codes, weights=correct)) / (n - sizes), sizes)


def design_effect(correct: np.ndarray, subjects: Sequence[str | None]) -> float | None:
    """How many times more an accuracy varies than on as many independent images (Kish 1965).

    The images divided by it are the effective sample size. None where no spread can be seen.

    Args:
        correct: bool array of shape (n,).
        subjects: who each image is from, (n,).
    """
    correct = np.asarray(correct, dtype=float)
    codes, by_subject = groups(subjects, len(correct))
    if not by_subject or not 0 < correct.mean() < 1:
        return None
    variance = _jackknife_covariance(correct[:, None], codes)[0, 0]
    return float(variance * len(correct) / (correct.mean() * (1 - correct.mean())))


def mcnemar_exact(only_a: np.ndarray | int, only_b: np.ndarray | int) -> np.ndarray:
    """Exact two-sided McNemar p-value from the images that only one of two runs gets right (McNemar 1947).

    It takes images for independent, so with several cells a subject it finds differences that are not there.

    Args:
        only_a: how many only the first gets right, a number or int array.
        only_b: how many only the second does, likewise.
    """
    only_a, only_b = np.asarray(only_a), np.asarray(only_b)
    return np.minimum(1, 2 * stats.binom.cdf(np.minimum(only_a, only_b), only_a + only_b, 0.5))


def all_pairs(correct: pd.DataFrame, subjects: Sequence[str | None] | None = None) -> pd.DataFrame:
    """Every two runs on the same images, compared.

    With subjects, the interval and the p-value of a difference in accuracy come from leaving out subjects, with
    Student's t as in `jackknife_interval`. Without, the interval is Agresti and Min's (2005) and the p-value
    is the exact McNemar test.

    Args:
        correct: bool DataFrame of shape (n, R): one row an image, one column a run.
        subjects: who each image is from, (n,), or None.

    Returns:
        One row for each of R(R−1)/2 pairs: a, b (names), n, subjects (0 = unknown), both_right, only_a, only_b,
        both_wrong, difference (accuracy of a − b, −1..1), low, high (95 %), mcnemar (p), p (the leading
        p-value), p_holm (adjusted for all pairs), separated (p_holm < 0.05) and needed (subjects, or images
        where no subjects are known, for a power of 80 %; infinite where there is no difference).

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
        reach, p = _by_subject(difference, np.sqrt(np.maximum(variance, 0)), sizes)
        middle, count = difference, pd.Series(subjects, dtype=object).nunique()
        needed = np.ceil(count * _times_more(difference, variance))
    else:
        # Agresti and Min (2005): half an image in each of the four cells, then the plain interval.
        middle = (only_a - only_b) / (n + 2)
        variance = ((only_a + only_b + 1) / (n + 2) - middle**2) / (n + 2)
        reach, p, count = stats.norm.ppf(1 - ALPHA / 2) * np.sqrt(variance), mcnemar, 0
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
            "low": np.maximum(-1, middle - reach),
            "high": np.minimum(1, middle + reach),
            "mcnemar": mcnemar,
            "p": p,
            "p_holm": adjusted,
            "separated": adjusted < ALPHA,
            "needed": needed,
        }
    )


def holm(p: np.ndarray) -> np.ndarray:
    """p-values adjusted for having looked at all of them (Holm 1979)."""
    # multipletests collects garbage at each call, which costs 50 ms and more: not for the p-value of one pair.
    return multipletests(p, alpha=ALPHA, method="holm")[1] if len(p) > 1 else p


def cochran_q(correct: pd.DataFrame) -> tuple[float, float]:
    """Whether any run differs: Cochran's Q and its p-value (Cochran 1950), images taken for independent.

    Args:
        correct: bool DataFrame of shape (n, R). Where no image divides the runs, Q is 0 and p is 1.
    """
    right = correct.to_numpy(dtype=int)
    if (right == right[:, :1]).all():
        return 0.0, 1.0
    result = cochrans_q(right)
    return float(result.statistic), float(result.pvalue)


def ranks(accuracies: pd.Series, pairs: pd.DataFrame) -> pd.Series:
    """Ranks in which runs that no test separates share a place.

    A run's rank is one more than the number of runs that are more accurate and separated from it.

    Args:
        accuracies: float Series by run name.
        pairs: the table of `all_pairs` over the same runs.

    Returns:
        int Series with the index of `accuracies`.
    """
    behind = np.where(pairs["difference"] > 0, pairs["b"], pairs["a"])[pairs["separated"].to_numpy()]
    better = pd.Series(behind, dtype=object).value_counts()
    return better.reindex(accuracies.index, fill_value=0).rename("rank") + 1


def cells_needed(
    difference: np.ndarray | float, discordant: np.ndarray | float, power: float = 0.8, alpha: float = ALPHA
) -> np.ndarray:
    """How many independent images McNemar's test needs (Connor 1987, unconditional).

    n = (z₁₋α⸝₂ √ψ + z_power √(ψ − δ²))² / δ². For 65 against 64 right of 70 (δ = 1/70) it depends on the
    pairing, which a table of accuracies hides: 548 where one run is right wherever the other is, about 3,800
    where 7 images divide them 4 to 3 (ψ = 0.1), 5,600 where their mistakes are independent.

    Args:
        difference: δ, the difference in accuracy, −1..1.
        discordant: ψ, the share of images that exactly one run gets right, |δ|..1.
        power: chance of finding the difference, 0..1.
        alpha: two-sided level of the test, 0..1.

    Returns:
        float array, rounded up; infinite where the difference is 0.

    Raises:
        DataError: where fewer images divide the runs than the difference demands.
    """
    delta, psi = np.abs(np.asarray(difference, dtype=float)), np.asarray(discordant, dtype=float)
    if (psi < delta - NO_SPREAD).any() or (psi > 1).any():
        raise DataError("The share of images on which two runs differ must lie between their difference and 1.")
    reach = stats.norm.ppf(1 - alpha / 2) * np.sqrt(psi)
    reach = reach + stats.norm.ppf(power) * np.sqrt(np.maximum(psi - delta**2, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(delta > 0, np.ceil(reach**2 / delta**2), np.inf)


def verdict(pair: pd.Series) -> str:
    """One row of `all_pairs` in a sentence."""
    a, b, n = pair["a"], pair["b"], f"{pair['n']:,} images"
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
        return f"{a} and {b} are right and wrong on the same images, all {where}."
    if not np.isfinite(pair["needed"]):
        return f"{a} and {b}: no difference in accuracy on {where}."
    more = "such subjects" if pair["subjects"] else "images"
    return f"{a} and {b}: no detectable difference on {where}; {_about(pair['needed'])} {more} would be needed."


def standings(places: pd.Series, n: int, subjects: int | None = None) -> str:
    """The ranks of several runs in a sentence, for the head of a page.

    Args:
        places: what `ranks` gives, two runs or more.
        n: how many images they were tested on.
        subjects: of how many subjects, where that is known.
    """
    images = f"these {n:,} images" + (f" of {subjects} subjects" if subjects else "")
    first, rest = ([str(name) for name in places.index[where]] for where in (places == 1, places > 1))
    if len(first) == 1:
        return f"{first[0]} is the most accurate on {images}."
    together = f"{_list(first)} cannot be told apart on {images}"
    return f"{together}; {_list(rest)} fall{'s' if len(rest) == 1 else ''} behind." if rest else f"{together}."


def _jackknife_covariance(right: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Covariance of R accuracies by leaving out groups: (n, R) 0/1 floats and (n,) codes → (R, R)."""
    membership = pd.DataFrame(right).groupby(codes).sum().to_numpy()
    sizes = np.bincount(codes)[:, None]
    left_out = (membership.sum(axis=0) - membership) / (sizes.sum() - sizes)
    moved = left_out - left_out.mean(axis=0)
    return (len(sizes) - 1) / len(sizes) * moved.T @ moved


def _by_subject(difference: np.ndarray, error: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half the interval's width and the p-value of differences with these standard errors, (P,) each."""
    effective = effective_count(sizes)
    seen = error > NO_SPREAD
    t = np.abs(difference) / np.where(seen, error, 1)
    # Where no subject moves the difference: Wilson for none of the effective subjects, and the sign test.
    unseen_reach = proportion_confint(0, effective, alpha=ALPHA, method="wilson")[1]
    unseen_p = np.where(difference == 0, 1, mcnemar_exact(len(sizes), 0))
    reach = np.where(seen, _t(effective) * error, unseen_reach)
    return reach, np.where(seen, 2 * stats.t.sf(t, _freedom(effective)), unseen_p)


def _times_more(difference: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """How many times the subjects at hand a power of 80 % takes, (P,); infinite without a difference."""
    reach = stats.norm.ppf(1 - ALPHA / 2) + stats.norm.ppf(0.8)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(difference != 0, reach**2 * np.maximum(variance, 0) / difference**2, np.inf)


def _logit(share: np.ndarray | float, n: np.ndarray | float) -> np.ndarray:
    share = np.asarray(share, dtype=float)
    return np.log((share * n + 0.5) / ((1 - share) * n + 0.5))


def _freedom(effective: float) -> float:
    return max(effective - 1, 1)


def _t(effective: float) -> float:
    return float(stdtrit(_freedom(effective), 1 - ALPHA / 2))


def _about(number: float) -> str:
    """Two digits of a number, in words: 3844 → "about 3,800"."""
    return f"about {float(f'{number:.2g}'):,.0f}"


def _list(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
