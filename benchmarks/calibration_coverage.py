"""How often do the intervals of calibration hold the truth when cells come from few people?

Draws test sets like C-NMC's (see `coverage.py`), with 28 or 12 people. Each person's cells have logits of their own
place and spread, so that people differ in how sure the network is of them. The truth is that of a very large sample
of people. Asked are the intervals of what the compare page shows: by how much a temperature changes log loss and Brier
score, and slope and intercept of the calibration line. Takes about a quarter of an hour on one core.
"""

import json
from collections import defaultdict

import numpy as np

from benchmarks.coverage import draw_sizes
from benchmarks.harness import ROOT, Options
from leukodash.evaluation.calibration import Temperature, calibration_change, calibration_line

PEOPLE = (28, 12)
DIFFERENCES = ("log_loss", "brier")  # the calibration error has no interval
SETS = 1000
POPULATION = 20_000  # people whose mean is the truth
# name: factor by which the network is too sure, the temperature, and how much people differ (in logits)
SCENARIOS = {
    "too sure by 1.5, temperature 1.5": (1.5, 1.5, 0.5),
    "too sure by 2, temperature 1.3": (2.0, 1.3, 0.5),
    "as sure as it should be, temperature 1.2": (1.0, 1.2, 0.5),
    "too sure by 1.5, temperature 1.5, people differ more": (1.5, 1.5, 0.8),
}


def draw_answers(
    rng: np.random.Generator, people: int, sure: float, apart: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw probabilities of two classes, float (n, 2), codes of the true classes and people, int (n,) each.

    A cell's logit is that of two normal distributions, one for each class, for which the logistic model holds; each
    person's cells are moved by a number of their own with the standard deviation `apart`; all is multiplied by `sure`.
    """
    ill, sizes = draw_sizes(rng, people)
    person = np.repeat(np.arange(people), sizes)
    codes = (~ill)[person].astype(int)
    place = rng.normal(0, apart, people)[person]
    logit = sure * (np.where(codes == 0, 1.6, -1.6) + place + rng.normal(0, 1.4, len(person)))
    p = 1 / (1 + np.exp(-logit))
    return np.stack([p, 1 - p], axis=1).round(6), codes, person


def coverage(
    scenario: tuple[float, float, float], people: int, sets: int, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Return how many intervals hold the truth, and their mean width, by measure."""
    sure, value, apart = scenario
    rng, temperature = np.random.default_rng(seed), Temperature(value)
    p, codes, _ = draw_answers(np.random.default_rng(seed + 1), POPULATION, sure, apart)
    truth = (
        calibration_change(p, codes, temperature).set_index("measure").loc[list(DIFFERENCES), "difference"].to_dict()
    )
    line = calibration_line(p[:, 0], codes == 0)
    truth |= {"slope": line["slope"], "intercept": line["intercept"]}
    held, width, missing = defaultdict(list), defaultdict(list), 0
    for _ in range(sets):
        p, codes, person = draw_answers(rng, people, sure, apart)
        if np.ptp(codes) == 0:
            missing += 1
            continue
        rows = calibration_change(p, codes, temperature, person).set_index("measure")
        found = calibration_line(p[:, 0], codes == 0, person)
        ends = {name: tuple(rows.loc[name, ["low", "high"]]) for name in DIFFERENCES}
        ends |= {name: (found[f"{name}_low"], found[f"{name}_high"]) for name in ("slope", "intercept")}
        for name, (low, high) in ends.items():
            if np.isfinite(low):
                held[name].append(low <= truth[name] <= high)
                width[name].append(high - low)
    return {
        name: {
            "truth": truth[name],
            "coverage": float(np.mean(held[name])),
            "width": float(np.mean(width[name])),
            "given": len(held[name]) / (sets - missing),
        }
        for name in truth
    }


def measure(options: Options) -> dict:
    """Run all simulations; a full measurement also writes the figures to ``docs/calibration_coverage.json``."""
    sets = SETS // 10 if options.quick else SETS
    results: dict = {"sets": sets}
    for people in PEOPLE:
        for name, scenario in SCENARIOS.items():
            found = coverage(scenario, people, sets)
            results.setdefault(str(people), {})[name] = found
            print(people, name, found, flush=True)
    if not options.quick:
        (ROOT / "docs" / "calibration_coverage.json").write_text(json.dumps(results, indent=1) + "\n")
    return results
