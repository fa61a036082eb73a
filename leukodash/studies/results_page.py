"""``docs/results.md``: the studies' runs as tables with n, intervals and splits. No number in it is typed by hand."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from leukodash.config.presets import PRESETS
from leukodash.evaluation.published import PUBLISHED, Published
from leukodash.evaluation.statistics import accuracy_interval, all_pairs
from leukodash.figures.svg_charts import Line, forest_svg
from leukodash.jobs.estimate import duration_words
from leukodash.models.backbones import BACKBONES
from leukodash.runs.leaderboard import marks
from leukodash.runs.run_folder import Run
from leukodash.studies.catalogue import AS_PUBLISHED, STUDIES, FinishedStudyRun, Study
from leukodash.studies.recipe_search import averaged, judged, step_rows, steps_table, steps_words

PAPERS = {"dhuri-guinde": "Dhuri & Guinde", "resnet50": "Dhuri & Guinde", "mamaev": "Mamaev"}
LIMITS = """Cells of one subject are alike, so intervals leave out whole subjects, and few subjects make them wide.
C-NMC is one collection from one laboratory: nothing here says how a network does on another microscope, stain or
segmentation. A split by image has cells of the same people in training and test: its numbers answer no question that
a clinic would ask, and stand here because both papers asked it. Networks that are compared share their data, so
intervals that overlap can still hide a difference; the compare page tests pairs on the same cells."""


HEAD = ("network", "what", "runs", "trained on", "epochs", "tested on", "right", "interval", "lowest to highest")
HEAD += ("weighted F1", "ROC AUC", "split", "time")
ALSO_AVERAGED = {
    "honest": ("fold 0 → fold 1", "fold 1 → fold 0"),
    "best": ("classes as they come", "mean over eight views, every block, rate 0.003"),
}  # tables that also show what all networks say together


@dataclass(frozen=True)
class Row:
    """A line of a study's table and of its figure: what stands in the table's cells, and the numbers behind."""

    line: Line
    words: Mapping[str, str] = field(default_factory=dict)


def results_page(done: Mapping[str, Sequence[FinishedStudyRun]], folder: str = "results") -> tuple[str, dict[str, str]]:
    """Return the page as Markdown, and its figures as SVG by file name.

    Args:
        done: the finished runs of each study, as `studies.done` finds them.
        folder: of the figures, as the page names it.
    """
    parts = ["# Results", _intro([one.run for runs in done.values() for one in runs])]
    figures = {}
    for name, runs in done.items():
        study = STUDIES[name]
        rows = [*recipe_rows(runs), *_together(runs, ALSO_AVERAGED.get(name, ())), *_theirs(runs, PAPERS.get(name))]
        figures[f"{name}.svg"] = forest_svg([row.line for row in rows], f"{study.title}: share of test cells right")
        picture = f"![{study.title}: the shares right of the table below, with their intervals]({folder}/{name}.svg)"
        table = _markdown([row.words for row in rows], HEAD)
        question = study.question
        if len(runs) < len(study.asked):
            question += f" {len(runs)} of the {len(study.asked)} runs that this takes are there."
        parts += [f"## {study.title}", question, picture, table, taken_back(runs), _otherwise(study)]
        if name == "honest":
            parts.append(_inflation(runs))
        if name == "best":
            parts.append(_steps(runs))
        took = duration_words(sum(_seconds(one.run) for one in runs))
        parts.append(f"All of it took {took} of training and testing, on a machine that also did other things.")
    missing = [study.title for name, study in STUDIES.items() if name not in done]
    parts += ["## What these results do not show", LIMITS]
    if missing:
        parts.append(f"Not run yet: {'; '.join(missing)}.")
    page = "\n\n".join(part for part in parts if part) + "\n"
    return page, figures


def tested(run: Run) -> pd.DataFrame:
    """Return the cells that a run's numbers are about: file, subject, right (bool)."""
    rows = run.predictions[run.predictions["part"] == run.metrics["part"]]
    classes = run.metrics["classes"]
    likeliest = rows[[f"p_{name}" for name in classes]].to_numpy().argmax(axis=1)
    right = [classes[code] == label for code, label in zip(likeliest, rows["label"], strict=True)]
    return pd.DataFrame({"file": rows["file"].to_numpy(), "subject": rows["subject"].to_numpy(), "right": right})


def together(runs: Sequence[Run]) -> pd.DataFrame:
    """Return the cells of several runs, each once: file, subject, right (share of the runs that were)."""
    rows = pd.concat([tested(run) for run in runs])
    return rows.groupby("file", as_index=False).agg(subject=("subject", "first"), right=("right", "mean"))


def _intro(runs: Sequence[Run]) -> str:
    cells = {run.config.fingerprint for run in runs}
    newest = max((run.status.get("ended", 0) for run in runs), default=0)
    when = time.strftime("%Y-%m-%d", time.gmtime(newest)) if newest else "no date"
    devices = sorted({run.status.get("device", "") for run in runs} - {""})
    kind = "generated" if any(run.metrics.get("generated") for run in runs) else "real"
    said = f"{len({run.id for run in runs})} runs on {kind} cells, the last of {when}, on {', '.join(devices)}."
    if len(cells) > 1:
        said += f" They are about {len(cells)} sets of cells."
    return (
        f"{said} Made from the run folders by `python -m leukodash study --write FILE`; the runs themselves by "
        "`python -m leukodash study --data DIR`. Every interval is of 95 %, and by subject where two or more are known."
    )


def recipe_rows(done: Sequence[FinishedStudyRun]) -> list[Row]:
    """A row for each recipe of a study; runs that differ in their seed, draw or part stand in one row."""
    rows = []
    for (backbone, label), members in _grouped(done).items():
        runs = [one.run for one in members]
        cells = together(runs)
        interval = accuracy_interval(cells["right"].to_numpy(), cells["subject"].to_numpy())
        shares = [run.metrics["accuracy"] for run in runs]
        split = runs[0].metrics["split"]
        split = split if len(runs) == 1 else split.partition(" · ")[0]
        mark = _marks([run.metrics for run in runs])
        title, others = BACKBONES[backbone].title, shares if len(runs) > 1 else ()
        line = Line(f"{title}, {label}", backbone, cells["right"].mean(), *(interval or ()), others=others)
        words = {
            "network": title,
            "what": label + (" (smaller, see below)" if any(one.cpu_overrides for one in members) else ""),
            "runs": str(len(runs)),
            "trained on": _span([int((run.split["part"] == "train").sum()) for run in runs]),
            "epochs": _span([run.metrics["epochs"] for run in runs]),
            "tested on": _tested_words(cells),
            "lowest to highest": f"{min(shares):.1%} to {max(shares):.1%}" if others else "",
            "weighted F1": f"{_mean(runs, 'f1_weighted'):.3f}",
            "ROC AUC": f"{_mean(runs, 'roc_auc'):.3f}",
            "split": split + (f" ({mark})" if mark else ""),
            "time": duration_words(sum(map(_seconds, runs))),
        }
        rows.append(Row(line, words | _line_words(line)))
    return rows


def _marks(numbers: Sequence[Mapping[str, Any]]) -> str:
    """What must be said beside the numbers of several runs: `marks`, with one count of leaks for all."""
    leaks = _span([one["leaks"] for one in numbers])
    said = [marks(one).replace(f"{one['leaks']} leaks", f"{leaks} leaks") for one in numbers]
    return ", ".join(dict.fromkeys(words for one in said for words in one.split(", ") if words))


def _together(done: Sequence[FinishedStudyRun], labels: Sequence[str]) -> list[Row]:
    """A row for the mean of all networks' probabilities, for each label that two networks or more have."""
    rows = []
    for label in labels:
        runs = [one.run for one in done if one.label == label]
        if len({run.config.backbone for run in runs}) < 2:
            continue
        cells = averaged(runs)
        found = judged(cells, runs[0])
        line = Line(f"all averaged, {label}", None, found["accuracy"], *found["accuracy_interval"])
        words = {
            "network": "all of these, averaged",
            "what": label,
            "runs": str(len(runs)),
            "tested on": _tested_words(cells),
            "weighted F1": f"{found['f1_weighted']:.3f}",
            "ROC AUC": f"{found['roc_auc']:.3f}",
            "split": runs[0].metrics["split"].partition(" · ")[0],
        }
        rows.append(Row(line, words | _line_words(line)))
    return rows


def _theirs(done: Sequence[FinishedStudyRun], paper: str | None) -> list[Row]:
    backbones = {one.run.config.backbone for one in done}
    return [_printed(row) for row in PUBLISHED if row.paper == paper and row.backbone in backbones]


def _printed(row: Published) -> Row:
    line = Line(f"{row.network}, printed", row.backbone, row.value, *(row.interval or ()), published=True)
    words = {
        "network": row.network,
        "what": f"**printed by {row.paper} ({row.year})**",
        "tested on": f"{row.n:,} cells",
        "split": row.split,
    }
    return Row(line, words | _line_words(line))


def _line_words(line: Line) -> dict[str, str]:
    interval = "none" if line.low is None else f"{line.low:.1%} to {line.high:.1%}"
    return {"right": f"{line.value:.1%}", "interval": interval}


def _tested_words(cells: pd.DataFrame) -> str:
    subjects = cells["subject"].nunique()
    return f"{len(cells):,} cells" + (f" of {subjects} subjects" if subjects else "")


def _grouped(done: Sequence[FinishedStudyRun]) -> dict[tuple[str, str], list[FinishedStudyRun]]:
    groups: dict[tuple[str, str], list[FinishedStudyRun]] = {}
    for one in done:
        groups.setdefault((one.run.config.backbone, one.label), []).append(one)
    return groups


def taken_back(done: Sequence[FinishedStudyRun]) -> str:
    """Say what was taken back for want of a GPU, in a line for all recipes of a network that share it."""
    recipes: dict[tuple[str, str], list[str]] = {}
    for one in done:
        changes = [
            f"{_words(name)} {_value(ours)}, not {_value(asked)}" for name, (asked, ours) in one.cpu_overrides.items()
        ]
        if changes:
            recipes.setdefault((BACKBONES[one.run.config.backbone].title, "; ".join(changes)), []).append(one.label)
    lines = [
        f"- {network}, {' · '.join(dict.fromkeys(labels))}: {changes}."
        for (network, changes), labels in recipes.items()
    ]
    return "Taken back, for want of a GPU:\n\n" + "\n".join(lines) if lines else ""


def _otherwise(study: Study) -> str:
    """Say what a paper's recipe leaves open, and what is done otherwise here, where the study repeats a paper."""
    (preset, *others) = dict.fromkeys(asked.preset for asked in study.asked)
    lines = PRESETS[preset].differences
    if others or not lines or any(asked.label != AS_PUBLISHED for asked in study.asked):
        return ""
    return "Left open by the paper, or done otherwise here:\n\n" + "\n".join(f"- {line}" for line in lines)


def _inflation(done: Sequence[FinishedStudyRun]) -> str:
    """By how many points a split by image flatters, on the cells that both ways have tested."""
    groups, rows = _grouped(done), []
    for backbone in dict.fromkeys(backbone for backbone, _ in groups):
        sides = [groups.get((backbone, label), []) for label in ("by image", "five folds of subjects")]
        if not all(sides):
            continue
        first, apart = (pd.concat([tested(one.run) for one in side]).drop_duplicates("file") for side in sides)
        both = first.merge(apart, on="file", suffixes=("", "_apart"))
        pair = all_pairs(both[["right", "right_apart"]].astype(bool), both["subject"].to_numpy()).iloc[0]
        rows.append(
            {
                "network": BACKBONES[backbone].title,
                "by image": f"{both['right'].mean():.1%}",
                "subjects apart": f"{both['right_apart'].mean():.1%}",
                "flattered by": f"{100 * pair['difference']:+.1f} points",
                "interval": f"{100 * pair['low']:+.1f} to {100 * pair['high']:+.1f}",
                "cells": f"{pair['n']:,} of {pair['subjects']} subjects",
            }
        )
    if not rows:
        return ""
    return "The same cells, tested once by networks that knew their subjects and once by networks that did not:\n\n" + (
        _markdown(rows, list(rows[0]))
    )


def _steps(done: Sequence[FinishedStudyRun]) -> str:
    """Weighted F1 of each step, on the subjects that may choose and on those that may not."""
    rows = step_rows(done)
    if not rows:
        return ""
    table = steps_table(rows)
    return (
        "Weighted F1 of each step: on subjects held out of the training fold, which choose the recipe, and on the "
        "other fold, which chooses nothing. Where intervals overlap, a step may have been luck. The last columns are "
        "of the mean of all draws of training subjects: what one draw holds out another learns from, so they choose "
        "nothing either.\n\n"
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
