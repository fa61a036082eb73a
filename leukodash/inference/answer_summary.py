"""Summary of the answers of several runs: where they disagree, the display order, groups of cells, and sentences.

Does not import Keras. Tables are those of `classify_files.classify_files`.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from leukodash.data.dataset import label_title
from leukodash.inference.decision import AVERAGE, Decision, novel_positions

UNSURE = 0.75  # probability of the predicted class below which an answer counts as unsure


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
        tested = _count(known["position"].nunique(), "sample cell")
        correct = {str(run): int(count) for run, count in right.groupby(known["run"], sort=False).sum().items()}
        shares = ", ".join(f"{titles[run]} {count:,}" for run, count in correct.items())
        only = next(iter(correct.values()))
        sentences.append(f"Correct on {tested}: {shares}." if runs > 1 else f"{only:,} of {tested} correct.")
    return " ".join(sentences)


def probabilities(table: pd.DataFrame, calibrated: bool) -> pd.Series:
    """Return the shown probability of each row's class; that of an average is always calibrated, NaN for errors."""
    return pd.Series(
        [
            row.get(f"{'calibrated_' if calibrated or row['run'] == AVERAGE else 'p_'}{row['class']}", np.nan)
            for row in table.to_dict("records")
        ],
        index=table.index, dtype=float,
    )  # fmt: skip


def cell_groups(table: pd.DataFrame, truth: Mapping[int, str], calibrated: bool = True) -> dict[str, list[int]]:
    """Return the positions of all cells, and of those worth a look, in display order. Empty groups are left out.

    A cell is *wrong* or *unsure* if a run's answer is; a run that finds it unlike its training cells does not count.
    """
    order = display_order(table)
    fine = table[(table["error"] == "") & (table["run"] != AVERAGE) & ~table["novel"].astype(bool)]
    known = fine[fine["position"].isin(truth)]
    groups = {
        "all": set(order),
        "wrong": set(known.loc[known["class"] != known["position"].map(truth), "position"]),
        "unsure": set(fine.loc[probabilities(fine, calibrated) < UNSURE, "position"]),
        "runs disagree": disagreements(table),
        "unlike the training cells": novel_positions(table),
    }
    return {name: [cell for cell in order if cell in group] for name, group in groups.items() if group}


def guess_words(
    table: pd.DataFrame, guesses: Mapping[str, str], truth: Mapping[str, str], titles: Mapping[str, str]
) -> str:
    """Return how many of the guessed cells the visitor and each run got right.

    Args:
        guesses, truth: label by file; every guessed file is in the table and in `truth`.
        titles: name of each run, by its id.
    """
    right = {"You": sum(truth[file] == label for file, label in guesses.items())}
    guessed = table[table["file"].isin(list(guesses))]
    for run, title in titles.items():
        own = guessed[guessed["run"] == run]
        right[title] = int((own["class"] == own["file"].map(truth)).sum())
    return f"Right on {_count(len(guesses))}: {', '.join(f'{name} {count:,}' for name, count in right.items())}."


def decision_words(name: str, rule: Decision, calibrated: bool) -> str:
    """Return a sentence on how a run's probabilities become a class: its temperature and its threshold.

    If `calibrated` probabilities are shown, the threshold is a calibrated one too.
    """
    parts = [f"probabilities {rule.temperature.note}"] if calibrated and rule.temperature.note else []
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
