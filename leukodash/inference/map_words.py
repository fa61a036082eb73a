"""What a heat map shows, in words: where its heat lies, and how much of the score. Does not import Keras."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from leukodash.cam.localization import HeatPlace

FEW = 8  # cells below which no share over all of them is given


def heat_words(places: Mapping[str, HeatPlace]) -> str:
    """Return a warning if most heat, or the hottest place, lies beside the cell; "" otherwise.

    Args:
        places: by the name of the run, where its map's heat lies; a share is NaN where unknown.
    """
    beside = [name for name, place in places.items() if place.share < 0.5]
    peaks = [name for name, place in places.items() if not place.peak_on_cell]
    words = []
    if beside:
        which = _which(beside, places)
        both = ", and its hottest place," if beside == peaks and len(beside) == 1 else ""
        verb = "lie" if both else "lies"
        words.append(f"Most of {which}{both} {verb} beside the cell: it explains little of the cell itself.")
    if peaks and not (beside == peaks and len(peaks) == 1):
        words.append(f"The hottest place of {_which(peaks, places)} lies beside the cell.")
    return " ".join(words)


def many_heat_words(places: Sequence[HeatPlace]) -> str:
    """Return in how many of these maps most heat, or the hottest place, lies beside the cell; "" if in none."""
    known = [place for place in places if not np.isnan(place.share)]
    beside, peaks = sum(place.share < 0.5 for place in known), sum(not place.peak_on_cell for place in known)
    if not beside and not peaks:
        return ""
    return (
        f"Of {len(known):,} maps, {beside:,} have most of their heat, and {peaks:,} their hottest place, beside the "
        "cell: these explain little of it."
    )


def score_words(score: float, shown: float) -> str:
    """Return how much of a cell's score its map shows, in a few words; see `classifier.Answer`."""
    if np.isnan(score):
        return ""
    if np.isnan(shown):
        return "of an earlier layer: no share of the score"
    if np.isclose(score, shown, rtol=1e-4, atol=1e-4):
        return "shows 100% of the score"
    return f"shows {_signed(shown)} of a score of {_signed(score)}"


def share_words(answers: pd.DataFrame, name: str) -> str:
    """Return which share of a run's scores its maps show, over the cells at hand; "" where all is shown or unknown.

    The share is Σ shown · score / Σ score². As scores are measured from the mean training cell, it is close to the
    share of their variance, and does not depend on which class a score is for.

    Args:
        answers: rows of one run: columns score and score_shown, as `classify_files.classify_files` returns.
        name: of the run.
    """
    score, shown = answers.dropna(subset=["score", "score_shown"])[["score", "score_shown"]].to_numpy(dtype=float).T
    if len(score) < FEW or np.allclose(score, shown, rtol=1e-4, atol=1e-4):
        return ""
    share = (score * shown).sum() / (score**2).sum()
    return (
        f"{name}: these maps are of the last layer, which carries {share:.0%} of the scores of these {len(score):,} "
        "cells; earlier layers carry the rest. *Evidence* shows all layers."
    )


def _which(names: Sequence[str], all_names: Mapping[str, HeatPlace]) -> str:
    if len(names) == len(all_names):
        return "this map" if len(names) == 1 else "each map"
    return f"the map{'s' if len(names) > 1 else ''} of {' and '.join(names)}"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")
