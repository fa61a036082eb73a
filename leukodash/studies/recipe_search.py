"""The search for the best recipe: what each step brought on held-out subjects, and on the fold that no choice saw."""

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
        part: "validation" or "test"; by default the one that each run's numbers are about.

    Returns:
        Columns file, label, subject, and one of probabilities for each class.
    """
    columns = [f"p_{name}" for name in runs[0].metrics["classes"]]
    answers = [run.predictions for run in runs]
    answers = [rows[rows["part"] == (part or run.metrics["part"])] for rows, run in zip(answers, runs, strict=True)]
    how = {"label": "first", "subject": "first", **dict.fromkeys(columns, "mean")}
    return pd.concat(answers).groupby("file", as_index=False).agg(how)


def judged(cells: pd.DataFrame, run: Run) -> dict[str, Any]:
    """Return what `evaluate` finds in a table as `averaged` gives it; `run` is one of those behind it."""
    classes = run.metrics["classes"]
    probabilities = cells[[f"p_{name}" for name in classes]].to_numpy()
    subjects = cells["subject"].to_numpy() if cells["subject"].notna().any() else None
    return evaluate(cells["label"].to_numpy(), probabilities, classes, run.metrics["positive"], subjects=subjects)


def step_rows(done: Sequence[FinishedStudyRun]) -> list[dict[str, Any]]:
    """Return a row for each step and network, and one for each mean: of a step's networks, of a network's steps.

    Where there are more than three, the three that held-out subjects find best are averaged as well. Only steps that
    were taken on every fold of the study count: a mean over fewer would not be comparable.

    Returns:
        Rows of step, network, and ``validation`` and ``test``: a dict by test fold of what `evaluate` finds when the
        answers of all seeds stand below one another, so that a subject that is left out leaves all of them; and
        ``draws``: the same for the test cells with the mean of all seeds' answers. Of the validation cells there is
        none: what one seed holds out, another learns from.
    """
    folds = sorted({one.run.config.split.test_fold for one in done}, reverse=True)
    groups = _groups(done, folds)
    rows = {key: _row(*key, runs, folds) for key, runs in _with_means(groups).items()}
    best = sorted(groups, key=lambda key: held_out(rows[key]), reverse=True)[:BEST]
    if len(groups) > BEST:
        networks = ", ".join(dict.fromkeys(network for _, network in best))
        key = BEST_STEPS, networks
        rows[key] = _row(*key, [run for one in best for run in groups[one]], folds)
    return list(rows.values())


def _row(step: str, network: str, runs: Sequence[Run], folds: Sequence[int]) -> dict[str, Any]:
    by_fold = {fold: [run for run in runs if run.config.split.test_fold == fold] for fold in folds}
    found = {
        part: {fold: _evaluate(members, part) for fold, members in by_fold.items()} for part in ("validation", "test")
    }
    draws = {fold: judged(averaged(members, "test"), members[0]) for fold, members in by_fold.items()}
    return {"step": step, "network": network, **found, "draws": draws}


def held_out(row: dict[str, Any]) -> float:
    """The number by which a recipe is chosen: weighted F1 on validation subjects, the mean of the folds."""
    return sum(found["f1_weighted"] for found in row["validation"].values()) / len(row["validation"])


def steps_table(rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Return the words of a table of `step_rows`."""
    table = []
    for row in rows:
        words = {"step": row["step"], "network": row["network"]}
        words |= {f"held out, training without fold {fold}": _f1(found) for fold, found in row["validation"].items()}
        words |= {"held out, mean": f"{held_out(row):.3f}"}
        words |= {f"tested on fold {fold}": _f1(found) for fold, found in row["test"].items()}
        words |= {f"draws averaged, fold {fold}": f"{found['f1_weighted']:.3f}" for fold, found in row["draws"].items()}
        table.append(words)
    return table


def steps_words(rows: Sequence[dict[str, Any]]) -> str:
    """Say which recipe held-out subjects choose, what it reaches on the other fold, and what others have printed."""
    best = max(rows, key=held_out)
    alone = [row for row in rows if row["network"] != AVERAGED and row["step"] not in (EVERY_STEP, BEST_STEPS)]
    single = max(alone, key=held_out)
    words = [_reaches(single)]
    if best is not single:
        words.append(f"Means count as well: {_reaches(best)}")
    winner = [row for row in PUBLISHED if row.metric == "f1_weighted"]
    words.append(
        "The challenge's winner has "
        + " and ".join(f"{row.value:.3f} ({row.n:,} cells, {row.paper})" for row in winner)
        + ", on cells that are not in these folds and after training on all three."
    )
    return " ".join(words)


def _reaches(row: dict[str, Any]) -> str:
    tests, draws = (
        " and ".join(f"{_f1(found)} on fold {fold}" for fold, found in row[key].items()) for key in ("test", "draws")
    )
    return (
        f"Held-out subjects choose “{row['step']}”, {row['network']}: {held_out(row):.3f} there, and a weighted F1 of "
        f"{tests}; with the mean of its draws of training subjects, {draws}."
    )


def _groups(done: Sequence[FinishedStudyRun], folds: Sequence[int]) -> dict[tuple[str, str], list[Run]]:
    """Return the runs of each step and network that were tested on every fold."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for one in done:
        groups.setdefault((one.label, BACKBONES[one.run.config.backbone].title), []).append(one.run)
    return {key: runs for key, runs in groups.items() if {run.config.split.test_fold for run in runs} == set(folds)}


def _with_means(groups: dict[tuple[str, str], list[Run]]) -> dict[tuple[str, str], list[Run]]:
    """Add the networks of a step together, and the steps of a network."""
    means: dict[tuple[str, str], list[Run]] = {}
    for (step, network), runs in groups.items():
        for mean in ((step, AVERAGED), (EVERY_STEP, network)):
            means[mean] = [*means.get(mean, []), *runs]
    return groups | {mean: runs for mean, runs in means.items() if runs not in groups.values()}


def _evaluate(runs: Sequence[Run], part: str) -> dict[str, Any]:
    seeds = sorted({run.config.seed for run in runs})
    cells = pd.concat([averaged([run for run in runs if run.config.seed == seed], part) for seed in seeds])
    return judged(cells, runs[0])


def _f1(found: dict[str, Any]) -> str:
    interval = found["f1_weighted_interval"]
    return f"{found['f1_weighted']:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")
