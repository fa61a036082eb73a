"""What the answers of several runs say together: where they disagree, in which order they are shown, and a sentence.

Light: no Keras. Tables are those of `predict.classify_files`.
"""

from collections.abc import Mapping

import pandas as pd

from leukodash.data.dataset import label_title
from leukodash.inference.decision import AVERAGE, Decision, novel


def disagreements(table: pd.DataFrame) -> set[int]:
    """Return the positions of the images that not all runs put into the same class.

    A run that finds an image unlike its training cells has no say in it.
    """
    say = table[(table["error"] == "") & (table["run"] != AVERAGE) & ~table["novel"].astype(bool)]
    kinds = say.groupby("position")["class"].nunique()
    return {int(position) for position in kinds.index[kinds > 1]}


def in_order(table: pd.DataFrame) -> list[int]:
    """Return the positions of the classified images: those where runs disagree first, those like no cell last."""
    apart, odd = disagreements(table), novel(table)
    positions = [int(position) for position in table.loc[table["error"] == "", "position"].unique()]
    return sorted(positions, key=lambda position: (position in odd, position not in apart, position))


def summary(table: pd.DataFrame, truth: Mapping[int, str], titles: Mapping[str, str]) -> str:
    """Say in a sentence or two what was found. Images unlike the training cells are counted apart.

    Args:
        table: with at least one classified image.
        truth: label by position, where it is known.
        titles: words for each run, by its id.
    """
    fine = table[(table["error"] == "") & (table["run"] != AVERAGE)]
    odd = novel(fine)
    fine = fine[~fine["position"].isin(odd)]
    cells, runs = fine["position"].nunique(), fine["run"].nunique()
    said = []
    if runs == 1:
        counts = fine["class"].value_counts()
        said = [f"{_count(cells)}: {', '.join(f'{n:,} {label_title(label)}' for label, n in counts.items())}."]
    elif runs > 1:
        apart = len(disagreements(fine))
        rest = cells - apart
        if apart == 0:
            said = [f"{_count(cells)}: all {runs} runs agree on {'it' if cells == 1 else 'each'}."]
        elif rest == 0:
            said = [f"{_count(cells)}: the {runs} runs disagree on {'it' if cells == 1 else 'each'}."]
        else:
            said = [f"{_count(cells)}: the {runs} runs disagree on {apart:,}, shown first, and agree on {rest:,}."]
    if odd:
        verb, last = "is" if len(odd) == 1 else "are", ", shown last" if cells else ""
        said.append(f"{_count(len(odd), 'image')} {verb} unlike the training cells: not counted{last}.")
    known = fine[fine["position"].isin(truth)]
    if len(known):
        right = known["class"] == known["position"].map(truth)
        tested = _count(known["position"].nunique(), "test cell")
        counts = right.groupby(known["run"], sort=False).sum()
        shares = ", ".join(f"{titles[run]} {count:,}" for run, count in counts.items())
        said.append(f"Of {tested}, right: {shares}." if runs > 1 else f"{counts.iloc[0]:,} of {tested} right.")
    return " ".join(said)


def decision_words(name: str, one: Decision, calibrated: bool) -> str:
    """Say in a sentence how a run's probabilities are read: its temperature and its threshold.

    Args:
        name: words for the run.
        one: see `decide.decision`.
        calibrated: whether calibrated probabilities are shown, so that the threshold is one of these.
    """
    heat = one.temperature
    parts = []
    if calibrated and len(one.validation):
        how = "surer than right" if heat.value > 1 else "less sure than right"
        parts.append(
            heat.note
            if heat.note
            else f"temperature {heat.value:.2f} ({how} on {len(one.validation):,} validation cells)"
        )
    if one.note:
        parts.append(one.note)
    elif one.threshold is not None:
        threshold = one.shown_threshold if calibrated else one.threshold
        parts.append(f"{label_title(one.positive)} from {percent(threshold)} on")
    return f"{name}: {'; '.join(parts)}." if parts else ""


def percent(share: float) -> str:
    """Return a probability in whole percent; no network is so sure that it could say 0 or 100."""
    return "<1 %" if share < 0.005 else ">99 %" if share >= 0.995 else f"{100 * share:.0f} %"


def _count(count: int, word: str = "cell") -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"
