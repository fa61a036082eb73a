"""Finished runs as one table: what the compare page and the command line list."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from leukodash.evaluation.metrics import wilson
from leukodash.runs.folder import Run


def leaderboard(runs: Sequence[Run]) -> pd.DataFrame:
    """Return a row a finished run, best accuracy first.

    Columns: run (id), title, backbone, owner, part (which cells were tested), n, correct, subjects, accuracy with
    Wilson's low and high, sensitivity, specificity, f1 (of the positive class), f1_weighted, roc_auc, area_auc (of
    cell area alone, on the same cells), parameters, trained_parameters, seconds (of the whole run), epochs,
    best_epoch, split, leaks, random_start, generated, test_set (equal for runs tested on the same cells), marks
    (what a reader must know, in words).
    """
    rows = [_row(run) for run in runs if run.metrics]
    table = pd.DataFrame(rows)
    return table.sort_values("accuracy", ascending=False, ignore_index=True) if rows else table


def marks(metrics: dict[str, Any]) -> str:
    """Return what a reader of these numbers must know, in a few words; empty where nothing is odd."""
    said = []
    if metrics.get("generated"):
        said.append("generated cells")
    if metrics.get("random_start"):
        said.append("random start")
    if metrics.get("part") == "validation":
        said.append("no test part: validation cells")
    if metrics.get("leaks"):
        said.append(f"{metrics['leaks']} leaks between parts")
    area, own = metrics.get("area_auc"), metrics.get("roc_auc")
    if area is not None and own is not None and own <= area:
        said.append("no better than cell area alone")
    return ", ".join(said)


def _row(run: Run) -> dict[str, Any]:
    metrics, config, about = run.metrics, run.config, run.about
    low, high = wilson(metrics["correct"], metrics["n"])
    same = ("accuracy", "n", "correct", "subjects", "sensitivity", "specificity", "f1", "f1_weighted", "roc_auc")
    more = ("area_auc", "parameters", "trained_parameters", "epochs", "best_epoch", "split", "leaks", "part")
    return {
        "run": run.id,
        "title": run.title,
        "backbone": config.backbone,
        "owner": about["owner"],
        **{name: metrics.get(name) for name in (*same, *more)},
        "low": low,
        "high": high,
        "seconds": sum(metrics.get("seconds", {}).values()),
        "random_start": bool(metrics.get("random_start")),
        "generated": bool(metrics.get("generated")),
        "test_set": run.test_set,
        "marks": marks(metrics),
    }
