"""How often does each interval hold the truth when cells come from few subjects?

Draws test sets like C-NMC's: each has 28 subjects (as many as the challenge's preliminary test set) or 7, whose
numbers of cells are drawn from the 28 subjects of fold 0, scaled to 1,867 cells for 28 subjects. Each subject has
an accuracy of its own (beta distributed around the truth, with the given intraclass correlation), so that 1,867
cells are worth about 100 to 200 independent ones. Then it asks of 95 % intervals of the accuracy, and of tests of two
equally good networks, how often they are right. Takes about five minutes on one core.
"""

import json
from collections import defaultdict

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.harness import ROOT, Options
from leukodash.evaluation.statistics import ALPHA, accuracy_interval, all_pairs, wilson

# Cells of each subject in C-NMC's fold 0: blasts, then normal cells.
BLASTS = np.array([402, 268, 253, 246, 155, 142, 113, 112, 103, 99, 92, 92, 76, 74, 73, 58, 19, 11, 9])
NORMAL = np.array([404, 185, 162, 119, 108, 69, 47, 18, 18])
SHARE_BLASTS = len(BLASTS) / (len(BLASTS) + len(NORMAL))
SCALE = 1867 / (BLASTS.sum() + NORMAL.sum())
SUBJECTS = (28, 7)
SETS, RESAMPLES = 2000, 2000

# name: sensitivity, specificity, intraclass correlation
SCENARIOS = {
    "accuracy 0.85": (0.85, 0.85, 0.08),
    "accuracy 0.92": (0.92, 0.92, 0.08),
    "accuracy 0.97": (0.97, 0.97, 0.08),
    "sensitivity 0.92, specificity 0.75": (0.92, 0.75, 0.08),
    "accuracy 0.85, subjects differ more": (0.85, 0.85, 0.15),
}


def draw_sizes(rng: np.random.Generator, subjects: int) -> tuple[np.ndarray, np.ndarray]:
    """Which subjects have leukemia (bool) and how many cells each has (int), both of shape (subjects,)."""
    ill = rng.random(subjects) < SHARE_BLASTS
    cells = np.where(ill, rng.choice(BLASTS, subjects), rng.choice(NORMAL, subjects)) * SCALE
    return ill, np.maximum(1, np.rint(cells)).astype(int)


def true_accuracy(sensitivity: float, specificity: float) -> float:
    """The share of right cells over all subjects that could have been drawn."""
    cells = np.array([BLASTS.mean() * SHARE_BLASTS, NORMAL.mean() * (1 - SHARE_BLASTS)])
    return float(np.average([sensitivity, specificity], weights=cells))


def percentile_bootstrap(correct: np.ndarray, subject: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """The usual bootstrap: draw subjects with replacement, take the middle 95 % of the accuracies."""
    sizes, right = np.bincount(subject), np.bincount(subject, weights=correct)
    drawn = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=RESAMPLES)
    low, high = np.quantile((drawn @ right) / (drawn @ sizes), [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def plain_t(correct: np.ndarray, subject: np.ndarray) -> tuple[float, float]:
    """Accuracy ± Student's t (subjects − 1) · linearised standard error of a ratio."""
    sizes, right = np.bincount(subject), np.bincount(subject, weights=correct)
    count, accuracy = len(sizes), correct.mean()
    error = np.sqrt(count / (count - 1) * np.sum((right - accuracy * sizes) ** 2)) / sizes.sum()
    reach = stats.t.ppf(1 - ALPHA / 2, count - 1) * error
    return accuracy - reach, accuracy + reach


def coverage(scenario: tuple[float, float, float], subjects: int, sets: int, seed: int = 0) -> dict[str, dict]:
    """Share of test sets whose interval holds the truth, and its mean width, by method."""
    sensitivity, specificity, correlation = scenario
    rng, truth = np.random.default_rng(seed), true_accuracy(sensitivity, specificity)
    held, width, accuracies = defaultdict(list), defaultdict(list), []
    for _ in range(sets):
        ill, sizes = draw_sizes(rng, subjects)
        mean = np.where(ill, sensitivity, specificity)
        own = rng.beta(mean * (1 / correlation - 1), (1 - mean) * (1 / correlation - 1))
        subject = np.repeat(np.arange(subjects), sizes)
        correct = rng.random(len(subject)) < own[subject]
        accuracies.append(correct.mean())
        intervals = {
            "by subject (leads)": accuracy_interval(correct, subject),
            "Wilson": wilson(int(correct.sum()), len(correct)),
            "percentile bootstrap": percentile_bootstrap(correct, subject, rng),
            "plain t": plain_t(correct, subject),
        }
        for method, (low, high) in intervals.items():
            held[method].append(low <= truth <= high)
            width[method].append(high - low)
    return {
        "intervals": {
            method: {"coverage": float(np.mean(held[method])), "width": float(np.mean(width[method]))}
            for method in held
        },
        # As many independent images would make the accuracy vary as much.
        "effective_images": float(truth * (1 - truth) / np.var(accuracies)),
    }


def false_alarms(subjects: int, sets: int, seed: int = 0) -> dict[str, float]:
    """Two networks of equal accuracy: how often a test at 5 % says otherwise, and the interval's coverage.

    A cell is right where the sum of its own difficulty and its subject's, partly shared by both networks, is
    positive.
    """
    rng = np.random.default_rng(seed)
    rejects, held = defaultdict(list), []
    for _ in range(sets):
        _, sizes = draw_sizes(rng, subjects)
        subject = np.repeat(np.arange(subjects), sizes)
        shared = rng.normal(0, 0.8, subjects)[subject] + rng.normal(0, 1, len(subject))
        easy = stats.norm.ppf(0.88) * np.sqrt(0.8**2 + 0.4**2 + 1 + 1)
        correct = pd.DataFrame(
            {
                name: easy + shared + rng.normal(0, 0.4, subjects)[subject] + rng.normal(0, 1, len(subject)) > 0
                for name in ("first", "second")
            }
        )
        pair = all_pairs(correct, subject).iloc[0]
        rejects["by subject (leads)"].append(pair["p"] < ALPHA)
        rejects["McNemar"].append(pair["mcnemar"] < ALPHA)
        held.append(pair["low"] <= 0 <= pair["high"])
    return {name: float(np.mean(said)) for name, said in rejects.items()} | {"coverage": float(np.mean(held))}


def measure(options: Options) -> dict:
    """Run all simulations; returns the numbers, which a full measurement also writes to ``docs/coverage.json``."""
    sets = SETS // 10 if options.quick else SETS
    results = {"sets": sets, "accuracy": {}, "equal_networks": {}}
    for subjects in SUBJECTS:
        for name, scenario in SCENARIOS.items():
            result = coverage(scenario, subjects, sets)
            results["accuracy"].setdefault(str(subjects), {})[name] = result
            print(subjects, name, result, flush=True)
        results["equal_networks"][str(subjects)] = false_alarms(subjects, sets)
        print(subjects, "equal networks", results["equal_networks"][str(subjects)], flush=True)
    if not options.quick:
        (ROOT / "docs" / "coverage.json").write_text(json.dumps(results, indent=1) + "\n")
    return results
