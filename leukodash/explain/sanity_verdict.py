"""What the checks of a heat map found, in words, and whether the map can be trusted. Light: no Keras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leukodash.cam.localization import cell_map, heat_fraction_inside

if TYPE_CHECKING:
    from leukodash.explain.sanity_checks import Curves, Forgetting

COARSE = 5  # places a side below which a map can hardly show a part of a cell
ALIKE = 0.5  # rank correlation from which on two maps say the same


@dataclass(frozen=True)
class Finding:
    """What a check found: whether the map passed (None where it could not be made), and a sentence about it."""

    passed: bool | None
    words: str


def judge_place(heat: np.ndarray, cell: np.ndarray | None, nucleus: np.ndarray | None = None) -> Finding:
    """Judge where the heat lies.

    It passes from halfway on between a map that is even and one of as many places that is hot exactly where cell is:
    no map of 3 × 3 places can keep its heat on a small cell.

    Args:
        heat: float (h, w), 0 to 1, with some heat.
        cell, nucleus: bool (H, W), from `cell_mask` or `generated_masks`; None where unknown.
    """
    if cell is None:
        return Finding(None, "The picture has no black ground, so where the cell ends is not known.")
    share, even = heat_fraction_inside(heat, cell), float(cell.mean())
    best = heat_fraction_inside(cell_map(cell, heat.shape), cell)
    words = f"{share:.0%} of the heat lies on the cell, which fills {even:.0%} of the picture"
    if nucleus is not None:
        words += f"; {heat_fraction_inside(heat, nucleus):.0%} lies on the nucleus, which fills {nucleus.mean():.0%}"
    height, width = heat.shape
    words += f". A map of {height} × {width} places could reach {best:.0%}."
    passed = share >= (even + best) / 2
    if not passed and max(heat.shape) < COARSE:
        words += " A run on larger pictures has finer maps."
    return Finding(passed, words)


def judge_hiding(curves: Curves) -> Finding:
    """Judge deletion and insertion: it passes if the map's order gains more than every random one."""
    gain, others = curves.gain, curves.random_gains
    numbers = f"area between the curves {_number(gain)}; in random orders {_number(np.mean(others))} on average"
    numbers += f", {_number(max(others))} at best"
    if gain > max(others):
        return Finding(True, f"The hottest places decide sooner than {len(others)} random orders do ({numbers}).")
    return Finding(False, f"Random places of the cell decide as soon as the hottest ones ({numbers}).")


def judge_forgetting(randomized: Forgetting) -> Finding:
    """Judge the maps of random weights: it passes if they are less than half like the run's own."""
    likeness = [
        ("what it was trained on here", randomized.untrained_likeness),
        ("everything", randomized.random_likeness),
    ]
    known = [(what, value) for what, value in likeness if value is not None]
    numbers = ", ".join(f"{_number(value)} after randomized {what}" for what, value in known)
    if max(value for _, value in known) < ALIKE:
        return Finding(True, f"The map changes when the network forgets (likeness {numbers}; 1 is the same map).")
    return Finding(False, f"The map stays when the network forgets (likeness {numbers}; 1 is the same map).")


def verdict(findings: Sequence[Finding]) -> tuple[str, str]:
    """Return ("good", "partly" or "bad", a sentence) for the checks that were made; "partly" is one that failed."""
    made = [finding.passed for finding in findings if finding.passed is not None]
    failed = made.count(False)
    if not failed:
        return "good", f"This map passes {_all_of(len(made))}: it can be trusted, as coarse as it is."
    level, advice = ("partly", "Take this map with care") if failed == 1 else ("bad", "Do not trust this map")
    return level, f"{advice}: it fails {failed} of {len(made)} checks."


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _all_of(count: int) -> str:
    return "its one check" if count == 1 else f"all {count} checks"
