"""The search for the best recipe: the effect of each step on held-out subjects and on the test fold."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from leukodash.evaluation.metrics import evaluate
from leukodash.evaluation.published import PUBLISHED
from leukodash.models.backbones import BACKBONES
from leukodash.runs.run_folder import Run
from leukodash.studies.catalogue import FinishedStudyRun

AVERAGED = "all averaged"
EVERY_STEP = "all steps, averaged"
BEST_STEPS = "the three best, averaged"
BEST = 3


def averaged(runs: Sequence[Run], part: str = "") -> pd.DataFrame:
    """Return the cells of one part of several runs, each once, with the mean of the runs' probabilities.

    Args:
        runs: of the same classes.
        part: "validation" or "test"; by default the part that each run reports.

    Returns:
        Columns file, label, subject, and one of probabilities for each class.

    Raises:
        RunError: a run is damaged.
    """
    for run in runs:
        run.check()
    columns = [f"p_{name}" for name in runs[0].metrics["classes"]]
    answers = [run.predictions for run in runs]
    answers = [rows[rows["part"] == (part or run.metrics["part"])] for rows, run in zip(answers, runs, strict=True)]
    how = {"label": "first", "subject": "first", **dict.fromkeys(columns, "mean")}
    return pd.concat(answers).groupby("file", as_index=False).agg(how)


def evaluate_averaged(cells: pd.DataFrame, run: Run) -> dict[str, Any]:
    """Return the metrics of a table from `averaged`; `run` is one of the averaged runs."""
    classes = run.metrics["classes"]
    probabilities = cells[[f"p_{name}" for name in classes]].to_numpy()
    subjects = cells["subject"].tolist() if cells["subject"].notna().any() else None
    return evaluate(cells["label"].tolist(), probabilities, classes, run.metrics["positive"], subjects=subjects)


def step_rows(done: Sequence[FinishedStudyRun]) -> list[dict[str, Any]]:
    """Return a row for each step and network, for each step averaged over networks and each network over steps.

    If there are more than three, the three best on held-out subjects are averaged as well. Steps that were not
    tested on every fold of the study are left out, since their means would not be comparable.

    Returns:
        Rows of step, network, and ``validation`` and ``test``: a dict of metrics by test fold, computed on the
        concatenated predictions of all seeds, so that an interval that leaves out a subject leaves it out of all
        seeds.
    """
    folds = sorted({row.run.config.split.test_fold or 0 for row in done}, reverse=True)
    groups = _groups(done, folds)
    rows = {key: _row(*key, runs, folds) for key, runs in _with_means(groups).items()}
    best = sorted(groups, key=lambda key: held_out(rows[key]), reverse=True)[:BEST]
    if len(groups) > BEST:
        networks = ", ".join(dict.fromkeys(network for _, network in best))
        key = BEST_STEPS, networks
        rows[key] = _row(*key, [run for name in best for run in groups[name]], folds)
    return list(rows.values())


def _row(step: str, network: str, runs: Sequence[Run], folds: Sequence[int]) -> dict[str, Any]:
    by_fold = {fold: [run for run in runs if run.config.split.test_fold == fold] for fold in folds}
    metrics = {
        part: {fold: _evaluate(members, part) for fold, members in by_fold.items()} for part in ("validation", "test")
    }
    return {"step": step, "network": network, **metrics}


def held_out(row: dict[str, Any]) -> float:
    """Return the score that recipes are chosen by: weighted F1 on validation subjects, averaged over the folds."""
    return sum(metrics["f1_weighted"] for metrics in row["validation"].values()) / len(row["validation"])


def steps_table(rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Return `step_rows` as the text of a table."""
    table = []
    for row in rows:
        words = {"step": row["step"], "network": row["network"]}
        words |= {f"held out, trained without fold {fold}": _f1(metrics) for fold, metrics in row["validation"].items()}
        words |= {"held out, mean": f"{held_out(row):.3f}"}
        words |= {f"tested on fold {fold}": _f1(metrics) for fold, metrics in row["test"].items()}
        table.append(words)
    return table


def steps_words(rows: Sequence[dict[str, Any]]) -> str:
    """Return sentences: the recipe chosen on held-out subjects, its test results, and the challenge winner's."""
    best = max(rows, key=held_out)
    alone = [row for row in rows if row["network"] != AVERAGED and row["step"] not in (EVERY_STEP, BEST_STEPS)]
    single = max(alone, key=held_out)
    words = [_reaches("The best recipe on held-out subjects is", single)]
    if best is not single:
        words.append(_reaches("With averages, the best there is", best))
    winner = [row for row in PUBLISHED if row.metric == "f1_weighted"]
    printed = " and ".join(f"{row.value:.3f} ({row.n:,} cells, {row.paper})" for row in winner)
    words.append(
        f"The winner of the challenge reached {printed}, on cells that are not in these folds, trained on all three."
    )
    return " ".join(words)


def _reaches(start: str, row: dict[str, Any]) -> str:
    tests = " and ".join(f"{_f1(metrics)} on fold {fold}" for fold, metrics in row["test"].items())
    name, there = f"“{row['step']}”, {row['network']}", f"a weighted F1 of {held_out(row):.3f} there"
    return f"{start} {name}: {there} and, as a test, of {tests}."


def _groups(done: Sequence[FinishedStudyRun], folds: Sequence[int]) -> dict[tuple[str, str], list[Run]]:
    """Return the runs of each step and network that were tested on every fold."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for row in done:
        groups.setdefault((row.label, BACKBONES[row.run.config.backbone].title), []).append(row.run)
    return {key: runs for key, runs in groups.items() if {run.config.split.test_fold for run in runs} == set(folds)}


def _with_means(groups: dict[tuple[str, str], list[Run]]) -> dict[tuple[str, str], list[Run]]:
    """Add a group of each step's networks and of each network's steps."""
    means: dict[tuple[str, str], list[Run]] = {}
    for (step, network), runs in groups.items():
        for mean in ((step, AVERAGED), (EVERY_STEP, network)):
            means[mean] = [*means.get(mean, []), *runs]
    return groups | {mean: runs for mean, runs in means.items() if runs not in groups.values()}


def _evaluate(runs: Sequence[Run], part: str) -> dict[str, Any]:
    seeds = sorted({run.config.seed for run in runs})
    cells = pd.concat([averaged([run for run in runs if run.config.seed == seed], part) for seed in seeds])
    return evaluate_averaged(cells, runs[0])


def _f1(metrics: dict[str, Any]) -> str:
    interval = metrics["f1_weighted_interval"]
    return f"{metrics['f1_weighted']:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")
