"""Verdicts by person: which class a person's cells call together, for how many people it is right, with how many cells.

A person is called positive (ALL blast, say) if the share of their cells that a run calls positive reaches a threshold,
which is chosen on held-out people. `benchmarks/people_coverage.py` measures how often the intervals cover the truth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from leukodash.data.dataset import label_title
from leukodash.errors import DataError
from leukodash.evaluation.comparison import Comparison, Predictions, Thresholds
from leukodash.evaluation.metrics import predicted
from leukodash.evaluation.statistics import ALPHA, FEW_SUBJECTS

EACH = 5  # people of each class that a chosen threshold, or an ROC curve, needs
HALF = 0.5  # the threshold without them
LIKELY = 0.95  # probability of the same verdict from some cells as from all, and share of people who reach it
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class PersonVerdicts:
    """The verdicts of one run on the people of a test part.

    Attributes:
        people: one row per person of one true class: person, label (str), positive (bool, the truth), cells, called
            (how many of them are called positive), share, verdict (bool), right (bool).
        left_out: number of people whose cells have several labels: they have no true class.
        positive: the positive class.
        threshold: share of cells from which a person is called positive, 0..1.
        held_out: number of held-out people who are positive, and who are not.
    """

    people: pd.DataFrame
    left_out: int
    positive: str
    threshold: float
    held_out: tuple[int, int]

    @property
    def title(self) -> str:
        """Displayed name of the positive class."""
        return label_title(self.positive)

    @property
    def chosen(self) -> bool:
        """Whether the threshold was chosen on held-out people; otherwise it is one half."""
        return min(self.held_out) >= EACH

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """The number of people who are right, and of all: "people", and "sensitivity" and "specificity" if defined."""
        right, positive = self.people["right"], self.people["positive"]
        of = {"people": right, "sensitivity": right[positive], "specificity": right[~positive]}
        return {name: (int(group.sum()), len(group)) for name, group in of.items() if len(group)}

    @cached_property
    def auc(self) -> tuple[float, float, float] | None:
        """ROC AUC of the share over people with its 95% interval; None with fewer than `EACH` people of a class."""
        positive = self.people["positive"].to_numpy()
        if min(positive.sum(), (~positive).sum()) < EACH:
            return None
        value = person_auc(positive, self.people["share"].to_numpy())
        return value, *auc_interval(value, int(positive.sum()), int((~positive).sum()))

    @cached_property
    def curve(self) -> pd.DataFrame:
        """How stable verdicts are by the number of cells: see `stability`."""
        return stability(self.people, self.threshold)

    @property
    def cells_needed(self) -> int | None:
        """The fewest cells from which on 95% of people get the verdict of all their cells; None if they do nowhere."""
        unstable = self.curve.loc[self.curve["stable"] < LIKELY, "cells"]
        first = int(unstable.max()) + 1 if len(unstable) else 1
        return first if len(self.curve) and first <= self.curve["cells"].max() else None


def clopper_pearson(k: int, n: int) -> tuple[float, float]:
    """Return the exact 95% interval of the proportion `k` / `n` (Clopper and Pearson 1934), each end in 0..1.

    It covers the true proportion in at least 95% of cases if the n are independent, as people are.

    Raises:
        DataError: if `n` is not positive or `k` is outside 0..n.
    """
    if n <= 0 or not 0 <= k <= n:
        raise DataError(f"An interval needs counts with 0 ≤ k ≤ n and n > 0; got k = {k} and n = {n}.")
    from scipy.stats import binomtest

    low, high = binomtest(k, n).proportion_ci(1 - ALPHA, "exact")
    return float(low), float(high)


def person_auc(is_positive: np.ndarray, score: np.ndarray) -> float:
    """Return the share of pairs of a positive and a negative person that the score ranks correctly, ties as one half.

    Args:
        is_positive: bool array of shape (n,), with both values.
        score: float array of shape (n,).
    """
    gaps = score[is_positive][:, None] - score[~is_positive]
    return float(np.mean((gaps > 0) + 0.5 * (gaps == 0)))


def auc_interval(auc: float, positives: int, negatives: int) -> tuple[float, float]:
    """Return the 95% interval of an ROC AUC, each end in 0..1, by method 5 of Newcombe (2006, Stat. Med. 25, 559–573).

    It holds every value whose own standard error (Hanley and McNeil 1982, with the mean of both counts) reaches the
    measured AUC. So, unlike DeLong's and the jackknife's, it has a width at an AUC of 1.

    Args:
        auc: the measured AUC, 0..1.
        positives, negatives: numbers of people, at least 1 each.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z, more = norm.ppf(1 - ALPHA / 2), (positives + negatives) / 2 - 1

    def beyond(value: float) -> float:
        spread = 1 + more * (1 - value) / (2 - value) + more * value / (1 + value)
        return (value - auc) ** 2 - z**2 * value * (1 - value) * spread / (positives * negatives)

    tiny = 1e-12
    low = brentq(beyond, tiny, auc - tiny) if auc > 2 * tiny else 0.0
    high = brentq(beyond, auc + tiny, 1 - tiny) if auc < 1 - 2 * tiny else 1.0
    return float(low), float(high)


def person_threshold(is_positive: np.ndarray, share: np.ndarray) -> float:
    """Return the share of cells from which a person is called positive, chosen on held-out people.

    It has the highest sensitivity + specificity over people (Youden 1950) among one half and the values halfway between
    two neighboring shares. Of equally good ones it is the nearest to one half, so that a few people do not move it far.
    With fewer than `EACH` people of a class it is one half.

    Args:
        is_positive: bool array of shape (n,).
        share: float array of shape (n,), 0..1.
    """
    is_positive, share = np.asarray(is_positive, dtype=bool), np.asarray(share, dtype=float)
    if min(is_positive.sum(), (~is_positive).sum()) < EACH:
        return HALF
    values = np.unique(share)
    candidates = np.append((values[1:] + values[:-1]) / 2, HALF)
    called = share >= candidates[:, None] - ROUNDING
    index = called[:, is_positive].mean(axis=1) - called[:, ~is_positive].mean(axis=1)
    best = candidates[index > index.max() - ROUNDING]
    return float(best[np.argmin(np.abs(best - HALF))])


def people_of(cells: pd.DataFrame, called: np.ndarray, positive: str) -> tuple[pd.DataFrame, int]:
    """Return one row for each person whose cells have one label, and the number of people whose cells have several.

    Args:
        cells: one row per cell: label, subject (None or NaN if unknown: such cells are left out).
        called: bool array of shape (n,): whether each cell is called positive.
        positive: the positive class.

    Returns:
        Columns person, label, positive, cells, called, share, in order of the share.
    """
    known = cells[["label", "subject"]].assign(called=np.asarray(called, dtype=bool)).dropna(subset=["subject"])
    by = known.groupby("subject")
    table = pd.DataFrame({"label": by["label"].first(), "cells": by.size(), "called": by["called"].sum()})
    one = by["label"].nunique() == 1
    table = table[one].rename_axis("person").reset_index()
    table = table.assign(positive=table["label"] == positive, share=table["called"] / table["cells"])
    order = ["person", "label", "positive", "cells", "called", "share"]
    return table[order].sort_values(["share", "person"], ignore_index=True), int((~one).sum())


def person_verdicts(comparison: Comparison, thresholds: Thresholds) -> dict[str, PersonVerdicts]:
    """Return the verdicts of each run on the people of a comparison, those that are right on most people first.

    Empty if no person has cells of one class.

    Args:
        comparison: the predictions.
        thresholds: the probability from which a cell is called positive, by name; None is the likeliest class.
    """
    found = {}
    for name, own in comparison.predictions.items():
        called = comparison.predicted(name, thresholds[name]) == comparison.positive
        people, left_out = people_of(comparison.cells, called, comparison.positive)
        if people.empty:
            continue
        held_out = _held_out_people(comparison, own, thresholds[name])
        ill = held_out["positive"].to_numpy(dtype=bool)
        at = person_threshold(ill, held_out["share"].to_numpy(dtype=float))
        verdict = is_called(people["called"], people["cells"], at)
        people = people.assign(verdict=verdict, right=verdict == people["positive"])
        counts = int(ill.sum()), int((~ill).sum())
        found[name] = PersonVerdicts(people, left_out, comparison.positive, at, counts)
    return dict(sorted(found.items(), key=lambda item: (item[1].counts["people"], item[1].auc or (0,)), reverse=True))


def _held_out_people(comparison: Comparison, own: Predictions, threshold: float | None) -> pd.DataFrame:
    """Return the people on whom a threshold can be chosen, as `people_of`; no rows if none are known."""
    if not len(own.validation_people):
        return people_of(pd.DataFrame({"label": [], "subject": []}), np.zeros(0), comparison.positive)[0]
    cells = pd.DataFrame({"label": own.validation_labels, "subject": own.validation_people})
    called = predicted(own.validation, comparison.classes, comparison.positive, threshold)
    return people_of(cells, called == comparison.positive, comparison.positive)[0]


def is_called(called: Any, cells: Any, threshold: float) -> Any:
    """Return whether a person with that many cells, of which so many are called positive, is called positive.

    `called` and `cells` are numbers, or arrays or columns of equal length, as is the result.
    """
    return called >= threshold * cells - ROUNDING


def stability(people: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Return for how many people some of their cells, drawn at random, give the verdict of all their cells.

    The probability is exact (hypergeometric). People with fewer cells than are drawn are left out, and the table ends
    with the number of cells that half of the people have.

    Args:
        people: columns cells and called.
        threshold: share of cells from which a person is called positive.

    Returns:
        One row per number of cells m = 1, 2, …: cells (m), people (who have as many), stable (the share of them whose m
        cells give the verdict of all with a probability of `LIKELY` or more).
    """
    from scipy.stats import hypergeom

    if people.empty:
        return pd.DataFrame({"cells": [], "people": [], "stable": []})
    size, called = people["cells"].to_numpy(), people["called"].to_numpy()
    drawn = np.arange(1, int(np.median(size)) + 1)[:, None]
    needed = np.ceil(threshold * drawn - ROUNDING)
    positive = hypergeom.sf(needed - 1, size, called, drawn)  # NaN where more are drawn than there are
    same = np.where(is_called(called, size, threshold), positive, 1 - positive)
    enough = size >= drawn
    stable = ((same >= LIKELY) & enough).sum(axis=1) / enough.sum(axis=1)
    return pd.DataFrame({"cells": drawn[:, 0], "people": enough.sum(axis=1), "stable": stable})


def verdict_words(verdicts: PersonVerdicts) -> str:
    """Return how many people are right, as a sentence: counts with Clopper–Pearson intervals, and the AUC if known."""
    right = dict(verdicts.counts)
    parts = [f"{_share_words(*right.pop('people'), 'people right')}"]
    parts += [f"{name} {_share_words(*count)}" for name, count in right.items()]
    if verdicts.auc:
        parts.append("ROC AUC over people {:.3f} (95% interval {:.3f} to {:.3f})".format(*verdicts.auc))
    return f"{'; '.join(parts)}."


def threshold_words(verdicts: PersonVerdicts) -> str:
    """Return from which share of cells a person is called positive, and on whom that was chosen, as a sentence."""
    title, (ill, others) = verdicts.title, verdicts.held_out
    called = f"A person is called {title} from {verdicts.threshold:.0%} of the cells"
    if verdicts.chosen:
        return f"{called}, a threshold chosen on {ill + others} held-out people ({ill} {title}, {others} not)."
    few = f"{ill + others} people were held out ({ill} {title})" if ill + others else "no people were held out"
    return f"{called}: {few}, and to choose another threshold takes {EACH} of each class."


def cells_words(verdicts: PersonVerdicts) -> str:
    """Return how many cells a person needs for a stable verdict, as a sentence."""
    curve, needed = verdicts.curve, verdicts.cells_needed
    row = curve.iloc[-1 if needed is None else needed - 1]
    people, cells = f"{row['people']:.0f} people who have as many", f"{row['cells']:,.0f}"
    verdict = f"the verdict of all their cells with a probability of {LIKELY:.0%}"
    if needed is None:
        return f"Even with {cells} cells, drawn at random, only {row['stable']:.0%} of the {people} get {verdict}."
    return f"From {cells} cells on, drawn at random, at least {LIKELY:.0%} of the {people} get {verdict}."


def person_sentences(verdicts: PersonVerdicts) -> list[str]:
    """Return all that is to be said of one run's verdicts by person, in sentences."""
    count = verdicts.left_out
    who = f"{count} person is" if count == 1 else f"{count} people are"
    left_out = [f"{who} left out, as their cells have several labels."] if count else []
    return [verdict_words(verdicts), threshold_words(verdicts), cells_words(verdicts), *left_out]


def person_table(verdicts: Mapping[str, PersonVerdicts]) -> pd.DataFrame:
    """Return one row per run, in words: counts with their intervals, threshold, and the number of cells needed.

    Columns: run, people right, sensitivity, specificity, ROC AUC, threshold, held-out people, cells needed.
    """
    rows = []
    for name, own in verdicts.items():
        counts, auc = own.counts, own.auc
        rows.append(
            {
                "run": name,
                "people right": _short(counts.get("people")),
                "sensitivity": _short(counts.get("sensitivity")),
                "specificity": _short(counts.get("specificity")),
                "ROC AUC": "{:.3f} ({:.3f}–{:.3f})".format(*auc) if auc else "",
                "threshold": f"{own.threshold:.0%}" + ("" if own.chosen else ", not chosen"),
                "held-out people": str(sum(own.held_out)),
                "cells needed": str(own.cells_needed or f"over {own.curve['cells'].max():.0f}"),
            }
        )
    return pd.DataFrame(rows)


def people_rows(verdicts: PersonVerdicts) -> pd.DataFrame:
    """Return the people as `people_charts.people_figure` expects them: with title, low and high of the share."""
    people = verdicts.people
    ends = [clopper_pearson(k, n) for k, n in zip(people["called"], people["cells"], strict=True)]
    low, high = np.transpose(ends)
    return people.assign(title=people["label"].map(label_title), low=low, high=high)


def roc_runs(verdicts: Mapping[str, PersonVerdicts]) -> dict[str, tuple[np.ndarray, np.ndarray, float, str]]:
    """Return the runs as `people_charts.people_roc_figure` expects them; none with too few people of a class."""
    runs = {}
    for name, own in verdicts.items():
        if own.auc:
            positive, share = own.people["positive"].to_numpy(), own.people["share"].to_numpy()
            runs[name] = positive, share, own.threshold, "{:.3f} ({:.3f}–{:.3f})".format(*own.auc)
    return runs


def few_people_words(verdicts: PersonVerdicts) -> str:
    """Return a warning if there are few people, or few of a class; "" otherwise."""
    ill, n = int(verdicts.people["positive"].sum()), len(verdicts.people)
    if n < FEW_SUBJECTS:
        return f"Only {n} {'person' if n == 1 else 'people'}: one of them moves these figures by {1 / n:.0%}."
    if (least := min(ill, n - ill)) < EACH:
        which = f"{least} of {n} people are {'' if ill == least else 'not '}{verdicts.title}"
        return f"Only {which}. An ROC curve over people takes {EACH} of each."
    return ""


def _share_words(k: int, n: int, word: str = "") -> str:
    low, high = clopper_pearson(k, n)
    return f"{k:,} of {n:,}{word and f' {word}'} ({k / n:.1%}, 95% interval {low:.1%} to {high:.1%})"


def _short(count: tuple[int, int] | None) -> str:
    if count is None:
        return ""
    low, high = clopper_pearson(*count)
    return f"{count[0]:,} of {count[1]:,} ({100 * low:.0f}–{100 * high:.0f}%)"
