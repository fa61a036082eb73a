"""How often do the intervals by person hold the truth, and does a chosen threshold help?

Draws people as `benchmarks/coverage.py` draws subjects, 28 or 12 of them: the share of a person's cells that is called
blast is beta distributed around sensitivity or 1 − specificity, and each has as many cells as a subject of C-NMC. Then
it asks of 95% intervals of the share of people who are right, and of the ROC AUC over people where it is shown (with
five people of each class), how often they hold the truth. Last, it compares verdicts at one half with verdicts at a
threshold that was chosen on held-out people. Takes about a minute on one core.
"""

import json
from collections import defaultdict
from typing import NamedTuple

import numpy as np
from scipy import stats

from benchmarks.coverage import BLASTS, NORMAL, SCALE, SCENARIOS, draw_sizes
from benchmarks.harness import ROOT, Options
from leukodash.evaluation.person_verdicts import (
    EACH,
    HALF,
    auc_interval,
    clopper_pearson,
    is_called,
    person_auc,
    person_threshold,
)
from leukodash.evaluation.statistics import ALPHA, jackknife_interval, wilson

PEOPLE = (28, 12)
SETS = 2000
POPULATION = 200_000
HELD_OUT = ((19, 9), (8, 5))  # people with and without leukemia
MORE = {  # sensitivity, specificity, intraclass correlation: where verdicts are harder
    "sensitivity 0.97, specificity 0.60": (0.97, 0.60, 0.08),
    "accuracy 0.75, people differ much": (0.75, 0.75, 0.3),
}


class People(NamedTuple):
    """People who were drawn, and which of their cells are called blast.

    Attributes:
        ill: bool (n,).
        cells: int (n,).
        called: int (n,), how many of them are called blast.
    """

    ill: np.ndarray
    cells: np.ndarray
    called: np.ndarray

    @property
    def share(self) -> np.ndarray:
        """The share of each person's cells that is called blast, 0..1."""
        return self.called / self.cells

    def right(self, threshold: float) -> np.ndarray:
        """Whether each person's verdict at this threshold is right, bool (n,)."""
        return is_called(self.called, self.cells, threshold) == self.ill


def draw(scenario: tuple[float, float, float], rng: np.random.Generator, ill: np.ndarray, cells: np.ndarray) -> People:
    """Draw how many of each person's cells are called blast."""
    sensitivity, specificity, correlation = scenario
    mean, more = np.where(ill, sensitivity, 1 - specificity), 1 / correlation - 1
    return People(ill, cells, rng.binomial(cells, rng.beta(mean * more, (1 - mean) * more)))


def draw_of_each(scenario: tuple[float, float, float], rng: np.random.Generator, ill: int, well: int) -> People:
    """Draw that many people of each class."""
    cells = np.concatenate([rng.choice(BLASTS, ill), rng.choice(NORMAL, well)]) * SCALE
    return draw(scenario, rng, np.arange(ill + well) < ill, np.maximum(1, np.rint(cells)).astype(int))


def delong(ill: np.ndarray, share: np.ndarray) -> tuple[float, float]:
    """AUC ± z · standard error from each person's own placement (DeLong, DeLong and Clarke-Pearson 1988)."""
    gaps = share[ill][:, None] - share[~ill]
    ranked = (gaps > 0) + 0.5 * (gaps == 0)
    error = np.sqrt(sum(ranked.mean(axis=axis).var(ddof=1) / ranked.shape[1 - axis] for axis in (0, 1)))
    reach = stats.norm.ppf(1 - ALPHA / 2) * error
    return max(0.0, ranked.mean() - reach), min(1.0, ranked.mean() + reach)


def jackknife(ill: np.ndarray, share: np.ndarray) -> tuple[float, float]:
    """The interval of the AUC over cells, with a person in place of a cell."""
    others = ~np.eye(len(ill), dtype=bool)
    left_out = np.array([person_auc(ill[kept], share[kept]) for kept in others])
    return jackknife_interval(person_auc(ill, share), left_out, np.ones(len(ill))) or (0.0, 1.0)


def coverage(scenario: tuple[float, float, float], people: int, sets: int, seed: int = 0) -> dict[str, dict]:
    """Share of test sets whose interval holds the truth, and its mean width, by method."""
    rng = np.random.default_rng(seed)
    everyone = draw(scenario, rng, *draw_sizes(rng, POPULATION))
    right = float(everyone.right(HALF).mean())
    ranks = stats.rankdata(everyone.share)[everyone.ill]
    auc = float((ranks.mean() - (len(ranks) + 1) / 2) / (POPULATION - len(ranks)))
    held, width = defaultdict(list), defaultdict(list)
    for _ in range(sets):
        drawn = draw(scenario, rng, *draw_sizes(rng, people))
        k, ill = int(drawn.right(HALF).sum()), int(drawn.ill.sum())
        intervals = {
            "people right: Clopper–Pearson (shown)": (right, clopper_pearson(k, people)),
            "people right: Wilson": (right, wilson(k, people)),
        }
        if min(ill, people - ill) >= EACH:
            intervals["AUC: Newcombe's method 5 (shown)"] = (
                auc, auc_interval(person_auc(drawn.ill, drawn.share), ill, people - ill),
            )  # fmt: skip
            intervals["AUC: DeLong"] = auc, delong(drawn.ill, drawn.share)
            intervals["AUC: jackknife"] = auc, jackknife(drawn.ill, drawn.share)
        for method, (truth, (low, high)) in intervals.items():
            held[method].append(low <= truth <= high)
            width[method].append(high - low)
    return {
        "people_right": right,
        "auc": auc,
        "intervals": {
            method: {
                "sets": len(held[method]),
                "coverage": float(np.mean(held[method])),
                "width": float(np.mean(width[method])),
            }
            for method in held
        },
    }


def chosen_thresholds(scenario: tuple[float, float, float], sets: int, seed: int = 0) -> dict[str, float]:
    """The share of new people who are right at one half, and at a threshold that was chosen on held-out people."""
    rng = np.random.default_rng(seed)
    everyone = draw(scenario, rng, *draw_sizes(rng, POPULATION // 10))
    right = {"one half": float(everyone.right(HALF).mean())}
    for ill, well in HELD_OUT:
        held_out = [draw_of_each(scenario, rng, ill, well) for _ in range(sets)]
        at = [person_threshold(people.ill, people.share) for people in held_out]
        right[f"{ill} and {well} held out"] = float(np.mean([everyone.right(threshold).mean() for threshold in at]))
    return right


def measure(options: Options) -> dict:
    """Run all simulations; returns the numbers. A full measurement writes them to ``docs/people_coverage.json``."""
    sets = SETS // 10 if options.quick else SETS
    results: dict = {"sets": sets, "intervals": {}, "thresholds": {}}
    for people in PEOPLE:
        for name, scenario in (SCENARIOS | MORE).items():
            result = coverage(scenario, people, sets)
            results["intervals"].setdefault(str(people), {})[name] = result
            print(people, name, result, flush=True)
    for name, scenario in (SCENARIOS | MORE).items():
        results["thresholds"][name] = chosen_thresholds(scenario, sets // 10)
        print(name, results["thresholds"][name], flush=True)
    if not options.quick:
        (ROOT / "docs" / "people_coverage.json").write_text(json.dumps(results, indent=1) + "\n")
    return results
