"""The results of a heat map's checks in words, and the verdict on it. Does not import Keras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leukodash.cam.localization import heat_fraction_inside, ideal_map

if TYPE_CHECKING:
    from leukodash.explain.sanity_checks import DeletionInsertion, Randomization

COARSE = 5  # pixels a side, below which a map cannot resolve a part of a cell
SIMILAR = 0.5  # rank correlation above which two maps count as the same


@dataclass(frozen=True)
class Check:
    """Result of a check: whether the map passed (None if it could not be checked), and a sentence."""

    passed: bool | None
    words: str


def judge_localization(heat: np.ndarray, cell: np.ndarray | None, nucleus: np.ndarray | None = None) -> Check:
    """Judge whether the heat lies on the cell.

    A map passes if it reaches the midpoint between a uniform map and the ideal map of the same resolution: no map of
    3 × 3 pixels can keep its heat on a small cell.

    Args:
        heat: float (h, w), 0 to 1, with some heat.
        cell, nucleus: bool (H, W), from `cell_mask` or `generated_masks`; None where unknown.
    """
    if cell is None:
        return Check(None, "The image has no black background, so the outline of the cell is unknown.")
    share, even = heat_fraction_inside(heat, cell), float(cell.mean())
    best = heat_fraction_inside(ideal_map(cell, heat.shape), cell)
    words = f"{share:.0%} of the heat lies on the cell, which fills {even:.0%} of the image"
    if nucleus is not None:
        words += f"; {heat_fraction_inside(heat, nucleus):.0%} lies on the nucleus, which fills {nucleus.mean():.0%}"
    height, width = heat.shape
    words += f". A map of {height} × {width} pixels could reach {best:.0%}."
    passed = share >= (even + best) / 2
    if not passed and max(heat.shape) < COARSE:
        words += " A run with a larger input size has finer maps."
    return Check(passed, words)


def judge_deletion(curves: DeletionInsertion) -> Check:
    """Judge deletion and insertion: a map passes if its gain exceeds that of every random order."""
    gain, others = curves.gain, curves.random_gains
    numbers = f"area between the curves {_number(gain)}; in random orders {_number(float(np.mean(others)))} on average"
    numbers += f", {_number(max(others))} at best"
    if gain > max(others):
        return Check(True, f"The hottest regions change the answer before {len(others)} random orders do ({numbers}).")
    return Check(False, f"Random regions of the cell change the answer as soon as the hottest ones ({numbers}).")


def judge_randomization(randomized: Randomization) -> Check:
    """Judge the maps of random weights: a map passes if their rank correlation with the run's own is below one half."""
    similarity = {"the trained layers": randomized.untrained_similarity, "all layers": randomized.random_similarity}
    known = [(what, value) for what, value in similarity.items() if value is not None]
    numbers = ", ".join(f"{_number(value)} after randomizing {what}" for what, value in known)
    if max(value for _, value in known) < SIMILAR:
        return Check(True, f"The map changes with random weights (rank correlation {numbers}; 1: the same map).")
    words = f"The map hardly changes with random weights (rank correlation {numbers}; 1 means the same map)."
    return Check(False, words)


def verdict(findings: Sequence[Check]) -> tuple[str, str]:
    """Return ("good", "partly" or "bad", a sentence) for the checks that were made; "partly" means that one failed."""
    results = [finding.passed for finding in findings if finding.passed is not None]
    failed = results.count(False)
    if not failed:
        passes = "its only check" if len(results) == 1 else f"all {len(results)} checks"
        return "good", f"This map passes {passes}: within its resolution it can be trusted."
    level, advice = ("partly", "Treat this map with caution") if failed == 1 else ("bad", "Do not trust this map")
    return level, f"{advice}: it fails {failed} of {len(results)} checks."


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
