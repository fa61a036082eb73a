"""Write ``docs/results.md``: tables of the studies' runs with n, intervals and splits. No number is typed by hand."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from leukodash.config.presets import PRESETS
from leukodash.evaluation.differences import all_pairs
from leukodash.evaluation.published import PUBLISHED, Published
from leukodash.evaluation.statistics import accuracy_interval
from leukodash.figures.svg_charts import Line, forest_svg
from leukodash.jobs.estimate import duration_words
from leukodash.models.backbones import BACKBONES, HEAD
from leukodash.runs.leaderboard import marks
from leukodash.runs.run_folder import Run
from leukodash.studies import answers
from leukodash.studies.catalogue import STUDIES, FinishedStudyRun, Study
from leukodash.studies.recipe_search import (
    AVERAGED,
    BEST_STEPS,
    EVERY_STEP,
    averaged,
    evaluate_averaged,
    held_out,
    step_rows,
    steps_table,
    steps_words,
)

BY_IMAGE, SUBJECTS_APART = "by image", "five folds of subjects"  # labels of the study "honest"
PAPERS = {"dhuri-guinde": "Dhuri & Guinde", "resnet50": "Dhuri & Guinde", "mamaev": "Mamaev"}
TERMS = """How to read the tables: “fold 0 → fold 1” means trained on fold 0 of C-NMC and tested on fold 1. “Five folds
of subjects” are five parts of all cells, made by LeukoDash, each tested once by a network trained on the other four.
“Every block” pools the feature maps of all blocks of the network rather than of the last one alone, “over the cell”
their mean and standard deviation without the black around it. “Trained” means a new layer on them that is trained for
60 epochs, “solved” a logistic regression whose penalty is chosen on held-out subjects; its epochs are the strengths
that were tried. Subjects who share a cell count as one. Runs in a row differ in their seed, in which cells or subjects
they hold out, or in the part they are tested on."""
LIMITS = """Cells of one subject resemble each other, so intervals are computed by leaving out whole subjects, and few
subjects make them wide. C-NMC is one collection from one laboratory: these results do not show how a network performs
with another microscope, stain or segmentation. A split by image has cells of the same people in training and test. Its
results answer no clinical question; they are here because both papers used such a split. Networks that are compared
share their test cells, so there can be a difference even if their intervals overlap; the compare page tests pairs on
the same cells."""

COLUMNS = (
    *("network", "recipe", "runs", "training cells", "epochs", "test cells", "accuracy", "interval"),
    *("lowest to highest", "weighted F1", "ROC AUC", "split", "time"),
)
ALSO_AVERAGED = {
    "honest": ("fold 0 → fold 1", "fold 1 → fold 0"),
    "best": ("classes as they come", "mean over eight views, every block, rate 0.003"),
}  # recipes whose networks are also averaged


@dataclass(frozen=True)
class Row:
    """A row of a study's table, as text by column, and the line of the figure with the same numbers.

    Attributes:
        label: the recipe's name in the study, "" for rows of no recipe.
        one_class: whether every test cell got the same answer.
    """

    line: Line
    words: Mapping[str, str] = field(default_factory=dict)
    label: str = ""
    one_class: bool = False


def results_page(done: Mapping[str, Sequence[FinishedStudyRun]], folder: str = "results") -> tuple[str, dict[str, str]]:
    """Return the page as Markdown, and its figures as SVG by file name.

    Args:
        done: the finished runs of each study, from `catalogue.done`.
        folder: folder of the figures relative to the page.
    """
    parts = ["# Results", _intro([row.run for rows in done.values() for row in rows]), TERMS]
    figures = {}
    for name, runs in done.items():
        study = STUDIES[name]
        own = recipe_rows(runs)
        rows = [*own, *_together(runs, ALSO_AVERAGED.get(name, ())), *_theirs(runs, PAPERS.get(name))]
        figures[f"{name}.svg"] = forest_svg([row.line for row in rows], f"{study.title}: accuracy on test cells")
        picture = f"![{study.title}: the accuracies of the table below, with their intervals]({folder}/{name}.svg)"
        table = _markdown([row.words for row in rows], COLUMNS)
        question = study.question
        if len(runs) < len(study.runs):
            question += f" {len(runs)} of its {len(study.runs)} runs have finished."
        inflation = inflation_rows(runs) if name == "honest" else pd.DataFrame()
        steps = step_rows(runs) if name == "best" else []
        said = _answer(name, own, inflation, steps)
        lead, dot, more = said.partition(". ")
        parts += [f"## {study.title}", question, said and f"**{lead}{dot.strip()}** {more}".strip(), picture, table]
        parts += [taken_back(runs), _differences(study), _inflation(inflation), _steps(steps)]
        took = duration_words(sum(_seconds(row.run) for row in runs))
        parts.append(f"Training and testing took {took} in all, on a machine that was also used for other work.")
    missing = [study.title for name, study in STUDIES.items() if name not in done]
    parts += ["## What these results do not show", LIMITS]
    if missing:
        parts.append(f"Studies without results yet: {'; '.join(missing)}.")
    page = "\n\n".join(part for part in parts if part) + "\n"
    return page, figures


def study_answer(name: str, done: Sequence[FinishedStudyRun]) -> str:
    """Return the answer of a study, made from its finished runs; "" if they do not decide it.

    Raises RunError for a damaged run.
    """
    inflation = inflation_rows(done) if name == "honest" else pd.DataFrame()
    rows = recipe_rows(done) if name in PAPERS else []
    return _answer(name, rows, inflation, step_rows(done) if name == "best" else [])


def _answer(name: str, rows: Sequence[Row], inflation: pd.DataFrame, steps: Sequence[dict[str, Any]]) -> str:
    printed = [row for row in PUBLISHED if row.paper == PAPERS.get(name)]
    if name == "dhuri-guinde":
        return answers.repeated(_numbers(rows), printed)
    if name == "mamaev":
        return answers.mamaev(_numbers(rows), printed)
    if name == "resnet50":
        return answers.resnet50(_numbers(rows))
    if name == "honest":
        return answers.honest(inflation)
    alone = [row for row in steps if row["network"] != AVERAGED and row["step"] not in (EVERY_STEP, BEST_STEPS)]
    if not alone:
        return ""
    chosen = max(alone, key=held_out)
    tests = {
        fold: (metrics["f1_weighted"], metrics["f1_weighted_interval"]) for fold, metrics in chosen["test"].items()
    }
    return answers.best(
        chosen["step"], chosen["network"], tests, [row for row in PUBLISHED if row.metric == "f1_weighted"]
    )


def _numbers(rows: Sequence[Row]) -> pd.DataFrame:
    """Return the numbers of `recipe_rows` as `answers` reads them; rows without an interval decide nothing."""
    numbers = [
        {
            "network": row.words["network"], "backbone": line.backbone, "label": row.label, "accuracy": line.value,
            "low": line.low, "high": line.high, "runs": max(1, len(line.others)), "one_class": row.one_class,
            "lowest": min(line.others, default=line.value), "highest": max(line.others, default=line.value),
        }
        for row, line in ((row, row.line) for row in rows)
    ]  # fmt: skip
    return pd.DataFrame(numbers).dropna(subset=["low", "high"])


def tested(run: Run) -> pd.DataFrame:
    """Return the cells that a run was tested on: file, subject, answer (class), right (bool: predicted correctly).

    Raises RunError for a damaged run.
    """
    run.check()
    rows = run.predictions[run.predictions["part"] == run.metrics["part"]]
    classes = run.metrics["classes"]
    likeliest = rows[[f"p_{name}" for name in classes]].to_numpy().argmax(axis=1)
    said = np.asarray(classes)[likeliest]
    return rows[["file", "subject"]].assign(answer=said, right=said == rows["label"]).reset_index(drop=True)


def together(runs: Sequence[Run]) -> pd.DataFrame:
    """Return the test cells of several runs, each once: file, subject, answer (the first run's), right (a share)."""
    rows = pd.concat([tested(run) for run in runs])
    return rows.groupby("file", as_index=False).agg(
        subject=("subject", "first"), answer=("answer", "first"), right=("right", "mean")
    )


def _intro(runs: Sequence[Run]) -> str:
    cells = {run.config.fingerprint for run in runs}
    newest = max((run.status.get("ended", 0) for run in runs), default=0)
    when = time.strftime("%Y-%m-%d", time.gmtime(newest)) if newest else "no date"
    devices = sorted({run.status.get("device", "") for run in runs} - {""})
    kind = "generated" if any(run.metrics.get("generated") for run in runs) else "real"
    summary = f"{len({run.id for run in runs})} runs on {kind} cells, the last of {when}, on {', '.join(devices)}."
    if len(cells) > 1:
        summary += f" They use {len(cells)} sets of cells."
    return (
        f"{summary} `python -m leukodash study --write FILE` made this page from the run folders, and "
        "`python -m leukodash study --data DIR` trained the runs. All intervals are 95 % intervals. They are computed "
        "by subject if two or more subjects are known."
    )


def recipe_rows(done: Sequence[FinishedStudyRun]) -> list[Row]:
    """Return a row for each recipe of a study: runs that differ only in seed or test part share a row."""
    rows = []
    for (backbone, label), members in _grouped(done).items():
        runs = [member.run for member in members]
        cells = together(runs)
        interval = accuracy_interval(cells["right"].to_numpy(), cells["subject"].tolist())
        shares = [run.metrics["accuracy"] for run in runs]
        split = runs[0].metrics["split"]
        split = split if len(runs) == 1 else split.partition(" · ")[0]
        mark = _marks([run.metrics for run in runs])
        title, others = BACKBONES[backbone].title, shares if len(runs) > 1 else ()
        low, high = interval or (None, None)
        line = Line(f"{title}, {label}", backbone, cells["right"].mean(), low, high, others=others)
        words = {
            "network": title,
            "recipe": label + (" (reduced on CPU)" if any(member.cpu_overrides for member in members) else ""),
            "runs": str(len(runs)),
            "training cells": _span([int((run.split["part"] == "train").sum()) for run in runs]),
            "epochs": _span([run.metrics["epochs"] for run in runs]),
            "test cells": _tested_words(cells),
            "lowest to highest": f"{min(shares):.1%} to {max(shares):.1%}" if others else "",
            "weighted F1": f"{_mean(runs, 'f1_weighted'):.3f}",
            "ROC AUC": f"{_mean(runs, 'roc_auc'):.3f}",
            "split": split + (f" ({mark})" if mark else ""),
            "time": duration_words(sum(map(_seconds, runs))),
        }
        rows.append(Row(line, words | _line_words(line), label, cells["answer"].nunique() == 1))
    return rows


def _marks(numbers: Sequence[Mapping[str, Any]]) -> str:
    """Return the `marks` of several runs, each once, with one range for all counts of leaks."""
    leaks = _span([metrics["leaks"] for metrics in numbers])
    marked = [marks(dict(metrics)).replace(f"{metrics['leaks']} leaks", f"{leaks} leaks") for metrics in numbers]
    return ", ".join(dict.fromkeys(mark for each in marked for mark in each.split(", ") if mark))


def _together(done: Sequence[FinishedStudyRun], labels: Sequence[str]) -> list[Row]:
    """Return a row with the mean of all networks' probabilities for each label that two or more networks have."""
    rows = []
    for label in labels:
        runs = [row.run for row in done if row.label == label]
        if len({run.config.backbone for run in runs}) < 2:
            continue
        cells = averaged(runs)
        metrics = evaluate_averaged(cells, runs[0])
        line = Line(f"all averaged, {label}", None, metrics["accuracy"], *metrics["accuracy_interval"])
        words = {
            "network": "all networks, averaged",
            "recipe": label,
            "runs": str(len(runs)),
            "test cells": _tested_words(cells),
            "weighted F1": f"{metrics['f1_weighted']:.3f}",
            "ROC AUC": f"{metrics['roc_auc']:.3f}",
            "split": runs[0].metrics["split"].partition(" · ")[0],
        }
        rows.append(Row(line, words | _line_words(line)))
    return rows


def _theirs(done: Sequence[FinishedStudyRun], paper: str | None) -> list[Row]:
    backbones = {row.run.config.backbone for row in done}
    return [_printed(row) for row in PUBLISHED if row.paper == paper and row.backbone in backbones]


def _printed(row: Published) -> Row:
    low, high = row.interval or (None, None)
    line = Line(f"{row.network}, printed", row.backbone, row.value, low, high, published=True)
    words = {
        "network": row.network,
        "recipe": f"**printed by {row.paper} ({row.year})**",
        "test cells": f"{row.n:,} cells",
        "split": row.split,
    }
    return Row(line, words | _line_words(line))


def _line_words(line: Line) -> dict[str, str]:
    interval = "none" if line.low is None or line.high is None else f"{line.low:.1%} to {line.high:.1%}"
    return {"accuracy": f"{line.value:.1%}", "interval": interval}


def _tested_words(cells: pd.DataFrame) -> str:
    subjects = cells["subject"].nunique()
    return f"{len(cells):,} cells" + (f" of {subjects} subjects" if subjects else "")


def _grouped(done: Sequence[FinishedStudyRun]) -> dict[tuple[str, str], list[FinishedStudyRun]]:
    groups: dict[tuple[str, str], list[FinishedStudyRun]] = {}
    for row in done:
        groups.setdefault((row.run.config.backbone, row.label), []).append(row)
    return groups


def taken_back(done: Sequence[FinishedStudyRun]) -> str:
    """Return the settings that were reduced on CPU as a list: one line for all recipes of a network that share them."""
    recipes: dict[tuple[str, str], list[str]] = {}
    for row in done:
        changes = [
            f"{_words(name)} {_value(used)}, not {_value(requested)}"
            for name, (requested, used) in row.cpu_overrides.items()
        ]
        if changes:
            recipes.setdefault((BACKBONES[row.run.config.backbone].title, "; ".join(changes)), []).append(row.label)
    lines = [
        f"- {network}, {' · '.join(dict.fromkeys(labels))}: {changes}."
        for (network, changes), labels in recipes.items()
    ]
    return "Reduced on CPU:\n\n" + "\n".join(lines) if lines else ""


def _differences(study: Study) -> str:
    """Return what the recipe of a repeated paper leaves open or what differs here; empty for other studies."""
    preset = PRESETS[study.runs[0].preset]
    if preset.title != study.title:
        return ""
    return "Left open by the paper, or different here:\n\n" + "\n".join(f"- {line}" for line in preset.differences)


def inflation_rows(done: Sequence[FinishedStudyRun]) -> pd.DataFrame:
    """Return how much a split by image inflates the accuracy, on the cells tested with both splits.

    Returns:
        A row for each network with both: network, by_image, apart (accuracies), difference, low, high (95% interval,
        −1..1), n, subjects, frozen (bool: whether only its head was trained).
    """
    groups, rows = _grouped(done), []
    for backbone in dict.fromkeys(backbone for backbone, _ in groups):
        sides = [groups.get((backbone, label), []) for label in (BY_IMAGE, SUBJECTS_APART)]
        if not all(sides):
            continue
        first, apart = (pd.concat([tested(row.run) for row in side]).drop_duplicates("file") for side in sides)
        both = first.merge(apart, on="file", suffixes=("", "_apart"))
        if both.empty:
            continue
        pair = all_pairs(both[["right", "right_apart"]].astype(bool), both["subject"].tolist()).iloc[0]
        frozen = all(row.run.trained.train_from == HEAD for side in sides for row in side)
        rows.append(
            {
                "network": BACKBONES[backbone].title,
                "by_image": both["right"].mean(),
                "apart": both["right_apart"].mean(),
                **pair[["difference", "low", "high", "n", "subjects"]].to_dict(),
                "frozen": frozen,
            }
        )
    return pd.DataFrame(rows)


def _inflation(rows: pd.DataFrame) -> str:
    """Return `inflation_rows` as a table."""
    if rows.empty:
        return ""
    table = [
        {
            "network": row["network"],
            "by image": f"{row['by_image']:.1%}",
            "subjects apart": f"{row['apart']:.1%}",
            "inflated by": f"{100 * row['difference']:+.1f} points",
            "interval": f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}",
            "cells": f"{row['n']:,} of {row['subjects']} subjects",
        }
        for _, row in rows.iterrows()
    ]
    return (
        "The same cells, tested by networks that were trained on other cells of their subjects (by image) and by "
        f"networks that were not (subjects apart):\n\n{_markdown(table, list(table[0]))}"
    )


def _steps(rows: Sequence[dict[str, Any]]) -> str:
    """Return the weighted F1 of each step, on the held-out subjects and on the test fold."""
    if not rows:
        return ""
    table = steps_table(rows)
    return (
        "Weighted F1 of each step: on subjects held out of the training fold, which are used to choose the recipe, and "
        "on the other fold, which is not. A head that is solved answers all subjects of its training fold, each while "
        "it is held out; a head that is trained answers those of its validation part. If intervals overlap, the "
        "difference between two steps may be chance.\n\n"
        f"{_markdown(table, list(table[0]))}\n\n{steps_words(rows)}"
    )


def _mean(runs: Sequence[Run], name: str) -> float:
    values = [run.metrics[name] for run in runs if run.metrics.get(name) is not None]
    return sum(values) / len(values) if values else float("nan")


def _seconds(run: Run) -> float:
    return sum(run.metrics["seconds"].values())


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _words(name: str) -> str:
    return {"split.counts": "cells in training, validation and test"}.get(name, name.replace("_", " "))


def _value(value: object) -> str:
    return " / ".join(f"{number:,}" for number in value) if isinstance(value, list) else str(value)


def _markdown(rows: Sequence[Mapping[str, str]], head: Sequence[str]) -> str:
    lines = [head, ["---"] * len(head), *([row.get(name, "") for name in head] for row in rows)]
    return "\n".join(f"| {' | '.join(word.replace('|', '/') for word in line)} |" for line in lines)
