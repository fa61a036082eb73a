"""Summary of the answers of several runs: where they disagree, the display order, and a sentence.

Does not import Keras. Tables are those of `classify_files.classify_files`.
"""

from collections.abc import Mapping

import pandas as pd

from leukodash.data.dataset import label_title
from leukodash.inference.decision import AVERAGE, Decision, novel_positions


def disagreements(table: pd.DataFrame) -> set[int]:
    """Return the positions of the images on which the runs disagree.

    A run that finds an image unlike its training cells is ignored for that image.
    """
    votes = table[(table["error"] == "") & (table["run"] != AVERAGE) & ~table["novel"].astype(bool)]
    kinds = votes.groupby("position")["class"].nunique()
    return {int(position) for position in kinds.index[kinds > 1]}


def display_order(table: pd.DataFrame) -> list[int]:
    """Return the positions of the classified images, disagreements first and novel images last."""
    apart, odd = disagreements(table), novel_positions(table)
    positions = [int(position) for position in table.loc[table["error"] == "", "position"].unique()]
    return sorted(positions, key=lambda position: (position in odd, position not in apart, position))


def summary(table: pd.DataFrame, truth: Mapping[int, str], titles: Mapping[str, str]) -> str:
    """Return the results in a sentence or two. Images unlike the training cells are counted separately.

    Args:
        table: with at least one classified image.
        truth: label by position, where known.
        titles: name of each run, by its id.
    """
    fine = table[(table["error"] == "") & (table["run"] != AVERAGE)]
    odd = novel_positions(fine)
    fine = fine[~fine["position"].isin(odd)]
    cells, runs = fine["position"].nunique(), fine["run"].nunique()
    sentences = []
    if runs == 1:
        classes = [f"{n:,} {label_title(str(label))}" for label, n in fine["class"].value_counts().items()]
        sentences = [f"{_count(cells)}: {', '.join(classes)}."]
    elif runs > 1:
        apart, each = len(disagreements(fine)), "it" if cells == 1 else "each"
        if apart == 0:
            sentences = [f"{_count(cells)}: all {runs} runs agree on {each}."]
        elif apart == cells:
            sentences = [f"{_count(cells)}: the {runs} runs disagree on {each}."]
        else:
            words = f"disagree on {apart:,} (shown first) and agree on {cells - apart:,}"
            sentences = [f"{_count(cells)}: the {runs} runs {words}."]
    if odd:
        verb, last = "is" if len(odd) == 1 else "are", ", shown last" if cells else ""
        sentences.append(f"{_count(len(odd), 'image')} {verb} unlike the training cells: not counted{last}.")
    known = fine[fine["position"].isin(truth)]
    if len(known):
        right = known["class"] == known["position"].map(truth)
        tested = _count(known["position"].nunique(), "test cell")
        correct = {str(run): int(count) for run, count in right.groupby(known["run"], sort=False).sum().items()}
        shares = ", ".join(f"{titles[run]} {count:,}" for run, count in correct.items())
        only = next(iter(correct.values()))
        sentences.append(f"Correct on {tested}: {shares}." if runs > 1 else f"{only:,} of {tested} correct.")
    return " ".join(sentences)


def decision_words(name: str, rule: Decision, calibrated: bool) -> str:
    """Return a sentence on how a run's probabilities become a class: its temperature and its threshold.

    If `calibrated` probabilities are shown, the threshold is a calibrated one too.
    """
    temperature = rule.temperature
    parts = []
    if calibrated and len(rule.validation):
        how = "overconfident" if temperature.value > 1 else "underconfident"
        fitted = f"temperature {temperature.value:.2f} ({how} on {len(rule.validation):,} validation cells)"
        parts.append(temperature.note or fitted)
    if rule.note:
        parts.append(rule.note)
    elif (threshold := rule.shown_threshold if calibrated else rule.threshold) is not None:
        parts.append(f"{label_title(rule.positive)} from {percent(threshold)}")
    return f"{name}: {'; '.join(parts)}." if parts else ""


def percent(share: float) -> str:
    """Return a probability in whole percent, never as 0% or 100%."""
    return "<1%" if share < 0.005 else ">99%" if share >= 0.995 else f"{share:.0%}"


def _count(count: int, word: str = "cell") -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"
