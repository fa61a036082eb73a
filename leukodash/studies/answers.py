"""The answer of each study in a few sentences, made from the numbers of its runs.

A printed result and one measured here are called different if the interval of their difference leaves out 0
(`paper_check.difference_interval`).
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from leukodash.evaluation.paper_check import difference_interval, inflation_words
from leukodash.evaluation.published import Published
from leukodash.studies.catalogue import AS_PUBLISHED, BATCHNORM, BOTH, LOWER_RATE, NATIVE

CHANCE = 0.5  # both classes have as many test cells
BEST_EPOCH = "best epoch"


def repeated(rows: pd.DataFrame, printed: Sequence[Published]) -> str:
    """Return how many of a paper's results come again as published, then each beside the rows of its network.

    Args:
        rows: of each recipe: network (title), backbone, label, accuracy, low, high (0..1), runs (how many), lowest,
            highest (accuracy of a single run), one_class (bool: every cell got the same answer).
        printed: the results of the paper.
    """
    again, parts = [], []
    for paper in printed:
        for _, row in rows[rows["backbone"] == paper.backbone].iterrows():
            same = _agrees(paper, row)
            parts.append(_beside(paper, row, same))
            if row["label"] == AS_PUBLISHED:
                again.append(same)
    if not again:
        return ""
    lead = "Yes" if all(again) else "In part" if any(again) else "No"
    return f"{lead}: {sum(again)} of {len(again)} results come again. {'; '.join(parts)}."


def mamaev(rows: pd.DataFrame, printed: Sequence[Published]) -> str:
    """Return whether the notebook's numbers come again, and why not. Arguments as of `repeated`."""
    parts = [repeated(rows[rows["label"] == AS_PUBLISHED], [row for row in printed if BEST_EPOCH not in row.network])]
    collapsed = set(rows.loc[rows["one_class"] & (rows["label"] == AS_PUBLISHED), "backbone"])
    for _, row in rows[rows["label"] == LOWER_RATE].iterrows():
        what = f"{row['network']} with {LOWER_RATE} reaches {_share(row)}"
        if row["one_class"]:
            parts.append(f"{what} and still calls every cell the same, so the rate alone is not the reason.")
        elif row["backbone"] in collapsed:
            parts.append(f"{what}, so the published rate is the reason that it learns nothing.")
        else:
            parts.append(f"{what}.")
    if "vgg16" in collapsed:
        parts.append(
            "VGG16's dense layers start from random numbers here and are pretrained in the notebook; no run tests that."
        )
    return " ".join(part for part in parts if part)


def resnet50(rows: pd.DataFrame) -> str:
    """Return which change of the recipe explains that ResNet50 was at chance. `rows` as of `repeated`."""
    found = {row["label"]: row for _, row in rows.iterrows()}
    if not {AS_PUBLISHED, NATIVE, BATCHNORM, BOTH} <= set(found):
        return ""
    if found[AS_PUBLISHED]["low"] > CHANCE:
        return f"As published, ResNet50 is better than chance here: {_share(found[AS_PUBLISHED])}."
    enough = [label for label in (NATIVE, BATCHNORM) if found[label]["low"] > CHANCE]
    if len(enough) == 2:
        said = "Either of two changes is enough to leave chance"
    elif enough:
        said = f"One change is enough to leave chance, {enough[0]}"
    elif found[BOTH]["low"] > CHANCE:
        said = "Neither change alone is enough to leave chance, but both are"
    else:
        said = "None of these changes is enough to leave chance"
    shares = ", ".join(f"{label} {_share(found[label])}" for label in (AS_PUBLISHED, NATIVE, BATCHNORM, BOTH))
    return f"{said}: {shares}."


def honest(inflation: pd.DataFrame) -> str:
    """Return whether a split by image flatters, and by how much; `inflation` as in `paper_check.Measured`."""
    if inflation.empty:
        return ""
    more, count = 100 * inflation["difference"], len(inflation)
    better = more[more > 0]
    if better.empty:
        return f"Splitting by image flatters none of these {count} networks. {inflation_words(inflation)}"
    every = "both networks look" if count == 2 else f"all {count} networks look"
    which = every if len(better) == count else f"{len(better)} of the {count} networks look"
    which = "the network looks" if count == 1 else which
    points = f"{better.min():.1f} to {better.max():.1f}" if len(better) > 1 else f"{better.max():.1f}"
    return f"Yes: split by image, {which} better, by {points} points. {inflation_words(inflation)}"


def best(
    step: str, network: str, tests: Mapping[int, tuple[float, tuple[float, float] | None]], winner: Sequence[Published]
) -> str:
    """Return what the recipe chosen on held-out subjects reaches, against the winner of the challenge.

    Args:
        step, network: the chosen recipe.
        tests: weighted F1 and its interval by test fold, 0..1.
        winner: its results.
    """
    reached = " and ".join(f"{_f1(*test)} on fold {fold}" for fold, test in tests.items())
    said = f"Chosen on held-out subjects alone, “{step}” with {network} reaches a weighted F1 of {reached}."
    known = {fold: interval for fold, (_, interval) in tests.items() if interval}
    for row in winner:
        if known:
            places = [f"{_place(row.value, interval)} the interval on fold {fold}" for fold, interval in known.items()]
            said += f" The {row.value:.3f} of the winner ({row.paper}) lies {' and '.join(places)}."
    return said


def _agrees(paper: Published, row: pd.Series) -> bool:
    """Return whether a printed result cannot be told apart from one found here.

    A network that gives every cell one answer is right about the share of that class, exactly.
    """
    assert paper.interval is not None  # both papers print counts or percentages of them
    found = (row["accuracy"],) * 2 if row["one_class"] else (row["low"], row["high"])
    low, high = difference_interval(paper.value, paper.interval, row["accuracy"], found)
    return low <= 0 <= high


def _beside(paper: Published, row: pd.Series, same: bool) -> str:
    name = row["network"] if row["label"] == AS_PUBLISHED else f"{row['network']}, {row['label']}"
    found = f"found {_share(row)}"
    if row["runs"] > 1:
        found += f", single draws {row['lowest']:.1%} to {row['highest']:.1%}"
    if row["one_class"]:
        found += ", the same answer for every cell"
    return f"{name}, printed {paper.value:.1%}, {found}: {'no difference shown' if same else 'different'}"


def _share(row: pd.Series) -> str:
    return f"{row['accuracy']:.1%} ({row['low']:.1%} to {row['high']:.1%})"


def _f1(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _place(value: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return "within" if low <= value <= high else "above" if value > high else "below"
