"""How often does each interval hold the truth when cells come from few subjects?

Draws test sets like C-NMC's: each has 28 subjects (as many as the challenge's preliminary test set), 12 or 7, whose
numbers of cells are drawn from the 28 subjects of fold 0, scaled to 1,867 cells for 28 subjects.

For accuracy alone, each subject has an accuracy of its own (beta distributed around the truth, with the given
intraclass correlation), so that 1,867 cells are worth about 100 to 200 independent ones. For all other measures, two
networks score each cell: by its class, its area, what subject and cell are like for both networks, and what they are
like for one of them; sensitivities of subjects are then logit-normal, nearly. Then it asks of 95 % intervals how often
they hold the value of the population, and of tests how often they find a difference. Takes half an hour on one core.
"""

import json
from collections import defaultdict

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit

from benchmarks.harness import ROOT, Options
from leukodash.evaluation.cell_area import stratified_auc
from leukodash.evaluation.comparison import AREAS, PEOPLE, RATES, Comparison, Predictions, pairs, results
from leukodash.evaluation.differences import all_pairs
from leukodash.evaluation.metrics import evaluate, predictive_values
from leukodash.evaluation.statistics import ALPHA, accuracy_interval, wilson
from leukodash.runs.leaderboard import CHANCE

# Cells of each subject in C-NMC's fold 0: blasts, then normal cells.
BLASTS = np.array([402, 268, 253, 246, 155, 142, 113, 112, 103, 99, 92, 92, 76, 74, 73, 58, 19, 11, 9])
NORMAL = np.array([404, 185, 162, 119, 108, 69, 47, 18, 18])
SHARE_BLASTS = len(BLASTS) / (len(BLASTS) + len(NORMAL))
SCALE = 1867 / (BLASTS.sum() + NORMAL.sum())
SUBJECTS, SUBJECTS_OF_MEASURES = (28, 7), (28, 12)
SETS, RESAMPLES, SETS_OF_MEASURES, POPULATION = 2000, 2000, 900, 200_000
CLASSES, LABELS = ("all", "hem"), np.array(["hem", "all"])
PREVALENCES = (0.1, 0.5)

# name: sensitivity, specificity, intraclass correlation
SCENARIOS = {
    "accuracy 0.85": (0.85, 0.85, 0.08),
    "accuracy 0.92": (0.92, 0.92, 0.08),
    "accuracy 0.97": (0.97, 0.97, 0.08),
    "sensitivity 0.92, specificity 0.75": (0.92, 0.75, 0.08),
    "accuracy 0.85, subjects differ more": (0.85, 0.85, 0.15),
}

# name: for two networks, how far the scores of each class lie from zero; how much subjects differ for both and for one
NETWORKS = {
    "equal": ((0.9, 0.9), 0.5, 0.3),
    "far apart": ((1.2, 0.6), 0.5, 0.3),
    "both good": ((1.6, 1.4), 0.6, 0.4),
}
SIZE_ALONE = (0.0, 0.0), 0.0, 0.0
Networks = tuple[tuple[float, float], float, float]


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


def draw_cells(
    rng: np.random.Generator, ill: np.ndarray, sizes: np.ndarray, networks: Networks
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Each cell's subject (int), whether it is a blast (bool), its area, and the scores of both networks (n, 2)."""
    signals, both, one = networks
    subject = np.repeat(np.arange(len(sizes)), sizes)
    n, side = len(subject), np.where(ill[subject], 1, -1)
    area = 0.8 * side + rng.normal(0, 0.5, len(sizes))[subject] + rng.normal(0, 0.9, n)
    shared = 0.5 * area + rng.normal(0, both, len(sizes))[subject] + rng.normal(0, 0.8, n)
    scores = [
        shared + signal * side + rng.normal(0, one, len(sizes))[subject] + rng.normal(0, 0.6, n) for signal in signals
    ]
    return subject, ill[subject], area, np.transpose(scores)


def truths(networks: Networks) -> list[dict[str, float]]:
    """Every measure of both networks, from many cells of as many subjects."""
    rng = np.random.default_rng(0)
    blasts, normal = BLASTS.mean() * SHARE_BLASTS, NORMAL.mean() * (1 - SHARE_BLASTS)
    ill = rng.random(POPULATION) < blasts / (blasts + normal)
    _, ill, area, scores = draw_cells(rng, ill, np.ones(POPULATION, int), networks)
    found = []
    for score in scores.T:
        p, one_group = expit(score), np.zeros(POPULATION, int)
        truth = evaluate(LABELS[ill.astype(int)], np.stack([p, 1 - p], axis=1), CLASSES, "all", subjects=one_group)
        rates = np.array([truth["sensitivity"], truth["specificity"]])
        truth["subject_accuracy"] = float(rates @ [SHARE_BLASTS, 1 - SHARE_BLASTS])
        truth["subject_balanced_accuracy"] = float(rates.mean())
        truth["stratified_auc"] = stratified_auc(area, score, ill, one_group)[0]
        row = {f"{name}{end}": truth[name] for name in ("sensitivity", "specificity") for end in ("", "_low", "_high")}
        for prevalence in PREVALENCES:
            for name, (value, *_) in predictive_values(row, prevalence).items():
                truth[f"{name} at {prevalence:.0%}"] = float(value)
        found.append(truth)
    return found


def coverage_of_measures(networks: Networks, subjects: int, sets: int) -> dict[str, dict]:
    """Coverage, median width and true value of every interval of the compare page, and in how many sets there is one.

    Of tests also how often they find a difference, and the median of the smallest one that they say they detect.
    """
    rng, truth = np.random.default_rng(1), truths(networks)
    held, width, said = defaultdict(list), defaultdict(list), defaultdict(list)

    def count(name: str, low: float, high: float, true: float) -> None:
        if np.isfinite(low + high):
            held[name].append(low <= true <= high)
            width[name].append(high - low)

    for _ in range(sets):
        ill, sizes = draw_sizes(rng, subjects)
        subject, blast, area, scores = draw_cells(rng, ill, sizes, networks)
        label = LABELS[blast.astype(int)]
        cells = pd.DataFrame({"file": subject.astype(str), "label": label, "subject": subject})
        comparison = Comparison(cells, CLASSES, "all", {})
        for name, p in zip("ab", expit(scores).T, strict=True):
            comparison = comparison.with_predictions(name, Predictions(np.stack([p, 1 - p], axis=1)))
        at = dict.fromkeys("ab")
        row = results(comparison, at).set_index("name").loc["a"]
        for name in (*RATES, *PEOPLE, *AREAS):
            count(name, row[f"{name}_low"], row[f"{name}_high"], truth[0][name])
        for prevalence in PREVALENCES:
            for name, (_, low, high) in predictive_values(row, prevalence).items():
                count(f"{name} at {prevalence:.0%}", low, high, truth[0][f"{name} at {prevalence:.0%}"])
        _, interval = stratified_auc(area, scores[:, 0], blast, subject)
        count("stratified_auc", *(interval or (np.nan, np.nan)), truth[0]["stratified_auc"])
        for name in comparison.measures:
            pair = pairs(comparison, at, name).iloc[0]
            count(f"difference in {name}", pair["low"], pair["high"], truth[0][name] - truth[1][name])
            said[f"difference in {name}"].append((pair["p"] < ALPHA, pair["detectable"]))
    found: dict[str, dict] = {}
    for name, right in held.items():
        one, two = (each.get(name.removeprefix("difference in ")) for each in truth)
        found[name] = {"coverage": float(np.mean(right)), "width": float(np.median(width[name])), "sets": len(right)}
        found[name]["truth"] = one - two if name.startswith("difference") else one
        if name in said:
            finds, detectable = np.transpose(said[name])
            found[name]["found"] = float(np.mean(finds))
            if np.isfinite(detectable).any():
                found[name]["detectable"] = float(np.nanmedian(detectable))
    return found


def beyond_size(subjects: int, sets: int) -> float:
    """How often a network that uses size alone is said to use more."""
    rng, said = np.random.default_rng(1), []
    for _ in range(sets):
        subject, blast, area, scores = draw_cells(rng, *draw_sizes(rng, subjects), SIZE_ALONE)
        _, interval = stratified_auc(area, scores[:, 0], blast, subject)
        if interval:
            said.append(interval[0] > CHANCE)
    return float(np.mean(said))


def measure(options: Options) -> dict:
    """Run all simulations; returns the numbers, which a full measurement also writes to ``docs/coverage.json``."""
    sets = SETS // 10 if options.quick else SETS
    found = {"sets": sets, "accuracy": {}, "equal_networks": {}, "measures": {}, "beyond_size": {}}
    for subjects in SUBJECTS:
        for name, scenario in SCENARIOS.items():
            result = coverage(scenario, subjects, sets)
            found["accuracy"].setdefault(str(subjects), {})[name] = result
            print(subjects, name, result, flush=True)
        found["equal_networks"][str(subjects)] = false_alarms(subjects, sets)
        print(subjects, "equal networks", found["equal_networks"][str(subjects)], flush=True)
    sets = SETS_OF_MEASURES // 20 if options.quick else SETS_OF_MEASURES
    for subjects in SUBJECTS_OF_MEASURES:
        found["beyond_size"][str(subjects)] = beyond_size(subjects, sets)
        for name, networks in NETWORKS.items():
            measures = coverage_of_measures(networks, subjects, sets)
            found["measures"].setdefault(str(subjects), {})[name] = measures
            print(subjects, name, measures, flush=True)
    if not options.quick:
        (ROOT / "docs" / "coverage.json").write_text(json.dumps(found, indent=1) + "\n")
    return found
