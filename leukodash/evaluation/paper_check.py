"""What a published result says: its interval, what it could be told apart from, and what is known of its split.

The user types a result as a paper states it. The sentences are made from it and from what LeukoDash's own runs measured
(`Measured`): how much cells of one subject resemble each other, and how much a split by image inflates.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, isnan, sqrt
from statistics import NormalDist, median

import numpy as np
import pandas as pd
import scipy  # which imports its parts on first use

from leukodash.errors import DataError
from leukodash.evaluation.published import LEAK_ALARM, Published
from leukodash.evaluation.statistics import ALPHA, Subjects, design_effect, effective_count, wilson

POWER = 0.8
MOST = 10**9  # test cells of a result
BY_IMAGE, BY_FOLD, BY_SUBJECT, UNKNOWN = SPLITS = ("by image", "by fold", "by subject", "unknown")
PROPORTIONS = {"accuracy": "accuracy", "sensitivity": "sensitivity", "specificity": "specificity"}
METRICS = {
    **PROPORTIONS,
    "f1_weighted": "weighted F1",
    "balanced_accuracy": "balanced accuracy",
    "roc_auc": "ROC AUC",
}
_TYPED = re.compile(r"\s*([\d.,]+)\s*(%?)\s*(?:of|/|on|,|;|\s)\s*(?:n\s*=)?\s*([\d,]+)\D*", re.IGNORECASE)

Interval = tuple[float, float]


@dataclass(frozen=True)
class Result:
    """A result as a paper states it.

    Attributes:
        value: 0..1.
        n: number of test cells; of sensitivity, those of the positive class, of specificity, the others.
        metric: a key of `METRICS`.
        split: one of `SPLITS`.
        subjects: number of test subjects, or None if it is not stated.
        digit: unit of the last digit of a share, for example 0.001 for 91.4 %; 0 for a count.
    """

    value: float
    n: int
    metric: str = "accuracy"
    split: str = UNKNOWN
    subjects: int | None = None
    digit: float = 0.0

    @property
    def k(self) -> int:
        """The number of correct cells, of a metric in `PROPORTIONS`."""
        return round(self.value * self.n)

    @property
    def counted(self) -> bool:
        """Whether the metric is a proportion of cells."""
        return self.metric in PROPORTIONS


@dataclass(frozen=True)
class Resemblance:
    """How much the cells of one subject resemble each other, as measured on runs.

    Attributes:
        correlation: intraclass correlation of being classified correctly, 0..1, the median of the runs.
        evenness: effective number of subjects divided by their number, 0..1, the median of the runs.
        runs: their number.
        split: one of `SPLITS`.
    """

    correlation: float
    evenness: float
    runs: int
    split: str


@dataclass(frozen=True)
class Measured:
    """What LeukoDash's runs measured.

    Attributes:
        resemblance: by split.
        inflation: a row for each network that was tested on the same cells with both splits: network, difference, low,
            high (−1..1), n, subjects, frozen (bool: whether only its head was trained).
        shared: share of the test subjects of runs by image that are also in training, 0..1, or None.
    """

    resemblance: Mapping[str, Resemblance] = field(default_factory=dict)
    inflation: pd.DataFrame = field(default_factory=pd.DataFrame)
    shared: float | None = None


def parse_result(text: str, metric: str = "accuracy", split: str = UNKNOWN, subjects: int | None = None) -> Result:
    """Return a typed result: "64 of 70", "91.4 % of 70", "0.914 of 70" or "64/70".

    Raises:
        DataError: it is none of these, or is impossible.
    """
    match = _TYPED.fullmatch(text)
    digits, percent, cells = match.groups() if match else ("", "", "")
    number, n = digits.replace(",", ""), int(cells.replace(",", "") or 0)
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", number) or not 0 < n <= MOST:
        raise DataError(f"Expected a result such as '64 of 70' or '91.4 % of 70', not '{text[:40]}'.")
    decimals = number.partition(".")[2]
    share = bool(percent or "." in number)
    value = float(number) / (100 if percent else 1 if share else n)
    if value > 1:
        raise DataError(f"'{text[:40]}' is more than all of {n:,} cells. Write a share as '91.4 % of 70'.")
    if subjects is not None and subjects > n:
        raise DataError(f"{n:,} cells cannot come from {subjects:,} subjects. Enter {n:,} subjects or fewer.")
    digit = 10.0 ** -len(decimals) / (100 if percent else 1) if share else 0.0
    return Result(value, n, metric, split, subjects, digit)


def resemblance(runs: Sequence[tuple[np.ndarray, Subjects]], split: str) -> Resemblance | None:
    """Return how much cells of one subject resemble each other, from which cells runs classified correctly.

    The design effect D of a run gives its intraclass correlation ρ by D = 1 + (m̄ − 1) ρ, where m̄ = Σm² / Σm is the
    mean size of the subject of a cell (Kish 1965). Unlike D, ρ does not depend on how many cells a subject has.

    Args:
        runs: of each, a bool array of shape (n,), and the subject of each cell, (n,).
        split: one of `SPLITS`.

    Returns:
        The medians of the runs, or None if no run has a design effect.
    """
    found = []
    for correct, subjects in runs:
        sizes = pd.Series(np.asarray(subjects, dtype=object)).value_counts().to_numpy()
        effect = design_effect(correct, subjects)
        if effect is not None and sizes.max() > 1:
            correlation = (effect - 1) / ((sizes**2).sum() / sizes.sum() - 1)
            found.append((min(1.0, max(0.0, correlation)), effective_count(sizes) / len(sizes)))
    if not found:
        return None
    correlations, evenness = zip(*found, strict=True)
    return Resemblance(median(correlations), median(evenness), len(found), split)


def expected_design_effect(n: int, subjects: int, like: Resemblance) -> float:
    """Return the design effect, 1 or more, of `n` cells of so many subjects that resemble `like` (Kish 1965)."""
    return 1 + max(0.0, n / max(1.0, subjects * like.evenness) - 1) * like.correlation


def effective_cells(n: int, subjects: int, like: Resemblance) -> float:
    """Return how many independent cells say as much about new subjects as `n` cells of so many subjects.

    n over the expected design effect, times (z / t)², with Student's t for the effective number of subjects less one:
    few subjects make it uncertain (Korn and Graubard 1998).
    """
    freedom = max(1.0, subjects * like.evenness - 1)
    t = scipy.special.stdtrit(freedom, 1 - ALPHA / 2)
    return float(n / expected_design_effect(n, subjects, like) * (NormalDist().inv_cdf(1 - ALPHA / 2) / t) ** 2)


def difference_interval(a: float, of_a: Interval, b: float, of_b: Interval) -> Interval:
    """Return the 95% interval of a − b from those of two independent results (Zou and Donner 2008).

    With Wilson's intervals it is Newcombe's (1998, method 10).
    """
    low = a - b - sqrt((a - of_a[0]) ** 2 + (of_b[1] - b) ** 2)
    high = a - b + sqrt((of_a[1] - a) ** 2 + (b - of_b[0]) ** 2)
    return low, high


def detectable(value: float, n: float) -> tuple[float | None, float | None]:
    """Return the nearest results, below and above, that would be told apart with a power of 80%.

    They are those of another test on as many independent cells, by the two-sided test of two proportions at 5%, without
    continuity correction (Fleiss, Levin and Paik 2003, section 4.2).

    Args:
        value: the proportion, 0..1.
        n: the (effective) number of cells of each test.

    Returns:
        Two values in 0..1; None where even 0 or 1 is too close.
    """
    z, z_power = NormalDist().inv_cdf(1 - ALPHA / 2), NormalDist().inv_cdf(POWER)

    def lacking(other: float) -> float:
        mean = (value + other) / 2
        spread = value * (1 - value) + other * (1 - other)
        return z * sqrt(2 * mean * (1 - mean)) + z_power * sqrt(spread) - abs(other - value) * sqrt(n)

    def nearest(end: float) -> float | None:
        if lacking(end) >= 0:
            return None
        return float(scipy.optimize.brentq(lacking, value, end))

    return nearest(0.0), nearest(1.0)


def likeness(result: Result, measured: Measured) -> Resemblance | None:
    """Return the resemblance that a result is judged by: that of its split, or the largest if its split is unknown."""
    known = measured.resemblance
    largest = max(known.values(), key=lambda each: each.correlation, default=None)
    return known.get(result.split, largest)


def intervals(result: Result, measured: Measured) -> tuple[Interval, Interval | None]:
    """Return the 95% interval as if cells were independent, and that by subject, None if that is not known.

    Args:
        result: of a metric in `PROPORTIONS`.
        measured: from LeukoDash's runs.
    """
    alone, like = wilson(result.k, result.n), likeness(result, measured)
    if like is None or result.subjects is None or result.subjects < 2:
        return alone, None
    effective = effective_cells(result.n, result.subjects, like)
    return alone, wilson(result.k / result.n * effective, effective)


def printed_intervals(row: Published, measured: Measured) -> tuple[Interval, Interval | None] | tuple[None, None]:
    """Return the same two intervals of a published result; None if it has no count."""
    if row.k is None or row.n is None:
        return None, None
    return intervals(Result(row.value, row.n, row.metric, row.split, row.subjects), measured)


def headline(result: Result, measured: Measured) -> str:
    """Return what a result says, in one sentence."""
    name = METRICS[result.metric]
    if not result.counted:
        return f"{_start(name)} {result.value:.3f} on {result.n:,} cells"
    alone, by_subject = intervals(result, measured)
    return f"{result.k:,} of {result.n:,}: the {name} may be anything from {_span(by_subject or alone)}"


def interval_words(result: Result, measured: Measured) -> str:
    """Return both intervals of a result and where they come from; of a share, also whether a count can give it."""
    name, like = METRICS[result.metric], likeness(result, measured)
    if not result.counted:
        return f"{_start(name)} is not a share of cells, so the number of cells alone gives no interval for it."
    alone, by_subject = intervals(result, measured)
    words = f"{_impossible(result)}As if every cell were independent, the 95% interval is {_span(alone)} (Wilson)."
    if by_subject and like and result.subjects:
        effect = expected_design_effect(result.n, result.subjects, like)
        return (
            f"{words} But cells of one subject resemble each other. With {result.subjects:,} subjects it is "
            f"**{_span(by_subject)}**: {result.n:,} cells say as much as about {result.n / effect:,.0f} independent "
            f"ones (design effect {effect:.1f}), and few subjects make even that uncertain. This rests on an "
            f"intraclass correlation of {like.correlation:.2f}, the median of {like.runs} runs of LeukoDash on C-NMC, "
            f"split {like.split}."
        )
    if result.subjects == 1:
        return f"{words} All cells are of one subject, so they say nothing about another one."
    return f"{words} Cells of one subject resemble each other, so it is too narrow; enter the number of subjects."


def detectable_words(result: Result, measured: Measured) -> str:
    """Return the smallest difference to another such result that could be detected; "" if that is not known."""
    if not result.counted:
        return ""
    like, by_subject = likeness(result, measured), intervals(result, measured)[1]
    others, n = f"{result.n:,} other cells", float(result.n)
    if by_subject and like and result.subjects:
        others, n = f"{others} of {result.subjects:,} other subjects", effective_cells(result.n, result.subjects, like)
    value = result.k / result.n
    below, above = detectable(value, n)
    ends = [
        f"{words} {end:.1%} ({100 * abs(end - value):.1f} points)"
        for words, end in (("at most", below), ("at least", above))
        if end is not None
    ]
    if not ends:
        return f"No other result on {others} could be told apart from it with 80% power."
    only = "" if above is not None else ". None above could be" if below is not None else ""
    return f"To be told apart from it with 80% power, a result on {others} must be {' or '.join(ends)}{only}."


def title(row: Published) -> str:
    """Return the name of a published result, for example "VGG16, Mamaev 2023"."""
    return ", ".join(filter(None, (row.network, f"{row.paper} {row.year}")))


def comparison_words(result: Result, other: Published, measured: Measured) -> str:
    """Return whether a result can be told apart from a published one, as results on different cells."""
    name = title(other)
    if isnan(other.value):
        return f"No figure of {name} is known here."
    if other.metric != result.metric:
        return f"{name} states {METRICS[other.metric]}, not {METRICS[result.metric]}: the two cannot be compared."
    their_alone, their_by_subject = printed_intervals(other, measured)
    if not result.counted or their_alone is None:
        return (
            f"{name} states {METRICS[other.metric]} {other.value:.3f}, against {result.value:.3f} here. Without the "
            "number of correct cells of both, there is no test."
        )
    alone, by_subject = intervals(result, measured)
    value = result.k / result.n
    low, high = difference_interval(value, by_subject or alone, other.value, their_by_subject or their_alone)
    can = "can" if low > 0 or high < 0 else "cannot"
    independent = "" if by_subject and their_by_subject else " Where subjects are unknown, cells count as independent."
    return (
        f"It **{can} be told apart** from {name}, {other.k:,} of {other.n:,}: the difference is "
        f"{100 * (value - other.value):+.1f} points, {100 * low:+.1f} to {100 * high:+.1f} (two independent "
        f"proportions).{independent}"
    )


def leakage_words(result: Result, measured: Measured, published: Sequence[Published]) -> list[str]:
    """Return what is known of leaks in the split of a result on C-NMC.

    Args:
        result: as typed.
        measured: from LeukoDash's runs.
        published: other results: how they were split says what is usual.
    """
    if result.split == UNKNOWN:
        splits = {(row.paper, row.year): row.split for row in published}
        by_image = sum(split == BY_IMAGE for split in splits.values())
        return [
            f"The split is not stated. {by_image} of the {len(splits)} sources below split by image: expect the same "
            "where a paper mentions no subjects.",
            *_by_image(measured),
        ]
    if result.split == BY_IMAGE:
        return _by_image(measured)
    where = "in different folds" if result.split == BY_FOLD else "as two subjects"
    return [
        "New people are tested only if each name is one person. In C-NMC some people have two names: nearly identical "
        f"cells occur {where}. Ask whether such subjects were kept together; the Data page finds them.",
        *_alarm(result, measured, published),
    ]


def _by_image(measured: Measured) -> list[str]:
    words = ["By image, cells of the same people are in training and test: the result does not hold for new people."]
    if measured.shared is not None:
        words[0] += f" In LeukoDash's runs by image, {measured.shared:.0%} of the test subjects are also in training."
    if len(measured.inflation):
        words.append(inflation_words(measured.inflation))
    return [*words, "Albzour 2026 (arXiv 2606.24944) reports that a split by image inflates the ROC AUC by 0.04."]


def inflation_words(rows: pd.DataFrame) -> str:
    """Return how much a split by image inflates the accuracy, in a sentence or two; `rows` as in `Measured`."""
    words = []
    for frozen, kind in ((True, "frozen"), (False, "fine-tuned")):
        kinds = rows[rows["frozen"] == frozen].sort_values("difference")
        if len(kinds):
            least, most = kinds.iloc[0], kinds.iloc[-1]
            sure = int((kinds["low"] > 0).sum())
            span = _points(most) if len(kinds) == 1 else f"{_points(least)} to {_points(most)}"
            words.append(
                f"On the same {most['n']:,} cells of {most['subjects']} subjects, a split by image changes the "
                f"accuracy of {_networks(len(kinds), kind)} by {span}; for {sure} of {len(kinds)} the interval is "
                "above 0."
            )
    if rows["frozen"].all():
        words.append("Only heads were trained: a network that is trained as a whole can learn more of a person.")
    return " ".join(words)


def _networks(count: int, kind: str) -> str:
    return f"{count} {kind} network{'s' if count > 1 else ''}"


def _alarm(result: Result, measured: Measured, published: Sequence[Published]) -> list[str]:
    """Return a warning about a result above all that are known on unseen people."""
    if result.value <= LEAK_ALARM or result.metric not in ("accuracy", "f1_weighted", "balanced_accuracy"):
        return []
    best = max(row.value for row in published if row.split == BY_SUBJECT and row.metric == "f1_weighted")
    words = (
        f"**Look for a leak.** The best weighted F1 below on people not seen in training is {best:.3f}; above "
        f"{LEAK_ALARM}, a leak is more likely than a better network."
    )
    if result.counted:
        alone, by_subject = intervals(result, measured)
        if (low := (by_subject or alone)[0]) <= LEAK_ALARM:
            words += f" Chance may explain it too: the interval begins at {low:.1%}."
    return [words]


def _impossible(result: Result) -> str:
    """Return a sentence if no number of cells gives the printed share (Brown and Heathers 2017, the GRIM test)."""
    if not result.digit or abs(result.k / result.n - result.value) <= result.digit / 2 + 1e-9:
        return ""
    decimals = max(0, round(-np.log10(result.digit)) - 2)
    near = [
        f"{k:,} would be {k / result.n:.{decimals}%}"
        for k in sorted({floor(result.value * result.n), ceil(result.value * result.n)})
    ]
    return f"No number of {result.n:,} cells rounds to {result.value:.{decimals}%}: {', '.join(near)}. "


def _points(row: pd.Series) -> str:
    return f"{100 * row['difference']:+.1f} points ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"


def _span(interval: Interval) -> str:
    return f"{interval[0]:.1%} to {interval[1]:.1%}"


def _start(words: str) -> str:
    return words[0].upper() + words[1:]
