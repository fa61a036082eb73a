"""What paired tests say of runs, in sentences."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from leukodash.evaluation.differences import MEASURES

LONG = 200  # letters of a sentence that names every run


def verdict(pair: pd.Series) -> str:
    """Return one row of `all_pairs` as a sentence."""
    a, b, n = quoted(pair["a"]), quoted(pair["b"]), f"{pair['n']:,} images"
    where = f"{n} of {pair['subjects']} subjects" if pair["subjects"] else n
    measure = MEASURES[pair["measure"]]
    if pair["separated"]:
        low, high = pair["low"], pair["high"]
        if pair["difference"] < 0:
            a, b, low, high = b, a, -high, -low
        return (
            f"{a} has a higher {measure} than {b} by {points(abs(pair['difference']))} "
            f"({100 * low:.1f} to {100 * high:.1f}) on {where}."
        )
    if pair["measure"] == "accuracy" and pair["only_a"] + pair["only_b"] == 0:
        return f"{a} and {b} are correct on the same images, out of {where}."
    if not np.isfinite(pair["detectable"]):
        return f"{a} and {b}: no difference in {measure} on {where}."
    return (
        f"{a} and {b}: no detectable difference in {measure} on {where}. "
        f"A difference of {points(pair['detectable'])} would be found in 4 of 5 such tests."
    )


def points(difference: float) -> str:
    """Return a difference of measures in words, in points: hundredths."""
    return f"{100 * difference:.1f} points"


def standings(places: pd.Series, tests: pd.DataFrame, n: int, subjects: int | None = None) -> str:
    """Return what the paired tests say of three or more runs, as a sentence.

    Args:
        places: the ranks of the runs, from `ranks`, the best run first.
        tests: the table that `all_pairs` returns for the same runs.
        n: number of test images.
        subjects: number of test subjects, if known.
    """
    images = f"these {n:,} images" + (f" of {subjects} subjects" if subjects else "")
    measure = MEASURES[tests["measure"].iloc[0]]
    first = [str(name) for name in places.index[places == 1]]
    behind = _behind(tests)
    if len(first) == 1 and all(first[0] in behind[name] for name in places.index[places > 1]):
        return f"{quoted(first[0])} has the highest {measure} on {images}."
    by: dict[tuple[str, ...], list[str]] = {}
    for name in places.index[places > 1]:
        by.setdefault(tuple(str(run) for run in places.index if run in behind[name]), []).append(str(name))
    sentences = [f"{words_list(first)} cannot be told apart by {measure} on {images}"]
    if len(first) == 1:
        sentences = [f"On {images}, no run is shown to have a higher {measure} than {quoted(first[0])}"]
    for better, names in by.items():
        than = "" if set(better) >= set(first) else f" {words_list(better)}"
        sentences.append(f"{words_list(names)} fall{'s' if len(names) == 1 else ''} behind{than}")
    if sum(map(len, sentences)) > LONG:
        apart = f"the tests separate {int(tests['separated'].sum())} of {len(tests)} pairs of runs on {images}"
        sentences = [f"{words_list([str(places.index[0])])} has the highest {measure}", apart]
    return "; ".join(sentences) + "."


def _behind(tests: pd.DataFrame) -> dict[str, set[str]]:
    """Return by run the runs that are significantly better, for runs that have such."""
    behind: dict[str, set[str]] = {}
    for _, pair in tests[tests["separated"]].iterrows():
        worse, better = (pair["b"], pair["a"]) if pair["difference"] > 0 else (pair["a"], pair["b"])
        behind.setdefault(worse, set()).add(better)
    return behind


def quoted(name: str) -> str:
    """Return a name in quotation marks if it has a comma or starts with a small letter."""
    return f"“{name}”" if "," in name or (" " in name and name[0].islower()) else name


def words_list(names: Sequence[str]) -> str:
    """Return names as "A", "A and B", or "A, B and C", those that are phrases in quotation marks."""
    names = [quoted(name) for name in names]
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
