"""The questions of the compare page, and the finished runs that answer each of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from leukodash.evaluation.statistics import accuracy_interval
from leukodash.models.backbones import BACKBONES
from leukodash.runs.leaderboard import default_runs, first_group, held_out, test_groups
from leukodash.runs.run_folder import Run
from leukodash.studies.catalogue import FinishedStudyRun, done
from leukodash.studies.results_page import BY_IMAGE, SUBJECTS_APART, study_answer, together

SPLITS = {BY_IMAGE: "split by image", SUBJECTS_APART: "split by subject"}
ANSWERED = {"split": "honest", "resnet50": "resnet50"}  # questions that a study answers in a sentence


@dataclass(frozen=True)
class Question:
    """A question, and the runs that answer it: of one `TestGroup`, except where runs of two splits are compared."""

    title: str
    runs: tuple[Run, ...]


def questions(runs: Sequence[Run]) -> dict[str, Question]:
    """Return by key the questions that these finished runs, newest first, can answer; that of the user's runs first."""
    studies = done()
    asked = {
        "own": Question("My runs", _first([run for run in runs if not run.published])),
        "network": Question("Which network?", _first([run for run in runs if run.published])),
        "split": Question("Does splitting by image flatter?", tuple(row.run for row in _of_both_splits(studies))),
        "resnet50": Question("Why did ResNet50 fail?", _largest(row.run for row in studies.get("resnet50", ()))),
        "recipe": Question("Which recipe is best?", _recipes(studies.get("best", ()))),
    }
    return {
        key: question for key, question in asked.items() if len(question.runs) > 1 or (key == "own" and question.runs)
    }


def split_rows() -> pd.DataFrame:
    """Return a row for each network and split: every test cell once, with the share of runs that were right about it.

    Columns: name, backbone, split, accuracy, low, high (0..1), n, subjects, published (False).
    """
    rows = _of_both_splits(done())
    found = []
    for backbone in dict.fromkeys(row.run.config.backbone for row in rows):
        for label, words in SPLITS.items():
            cells = together([row.run for row in rows if (row.run.config.backbone, row.label) == (backbone, label)])
            low, high = accuracy_interval(cells["right"].to_numpy(), cells["subject"].tolist()) or (None, None)
            found.append(
                {
                    "name": f"{BACKBONES[backbone].title}, {words}", "backbone": backbone, "split": words,
                    "accuracy": cells["right"].mean(), "low": low, "high": high, "n": len(cells),
                    "subjects": cells["subject"].nunique(), "published": False,
                }
            )  # fmt: skip
    return pd.DataFrame(found)


def answer(question: str) -> str:
    """Return the sentence that answers a question, made from the runs of its study; "" if no study decides it.

    Raises RunError for a damaged run.
    """
    name = ANSWERED.get(question, "")
    rows = done().get(name, [])
    return study_answer(name, rows) if rows else ""


def best_recipe(runs: Sequence[Run]) -> Run | None:
    """Return the run, of those that the question about recipes compares, whose recipe is best on held-out cells.

    None if these runs are of other cells, or among them.
    """
    rows = done().get("best", ())
    kinds: dict[tuple[str, str], list[Run]] = {}
    for row in rows:
        kinds.setdefault((row.run.config.backbone, row.label), []).append(row.run)
    best = max(kinds.values(), key=held_out, default=[])
    same = [run for run in best if run.test_set == runs[0].test_set]
    run = min(same, key=lambda run: run.config.seed, default=None)
    return None if run in runs else run


def _first(runs: Sequence[Run]) -> tuple[Run, ...]:
    return tuple(default_runs(first_group(test_groups(runs)).runs)) if runs else ()


def _of_both_splits(studies: dict[str, list[FinishedStudyRun]]) -> list[FinishedStudyRun]:
    """Return the runs of the networks that were tested with both splits."""
    rows = [row for row in studies.get("honest", ()) if row.label in SPLITS]
    tested = [{row.run.config.backbone for row in rows if row.label == label} for label in SPLITS]
    return [row for row in rows if all(row.run.config.backbone in backbones for backbones in tested)]


def _largest(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Return the runs of the largest test group; of equal ones, of that with the most subjects."""
    groups = test_groups(tuple(runs))
    return max(groups, key=lambda group: (len(group.runs), group.runs[0].metrics["subjects"])).runs if groups else ()


def _recipes(rows: Sequence[FinishedStudyRun]) -> tuple[Run, ...]:
    """Return the first run of each recipe of the network that most recipes were tried with, on the same cells."""
    same = set(_largest(row.run for row in rows))
    first: dict[str, dict[str, Run]] = {}
    for row in sorted((row for row in rows if row.run in same), key=lambda row: row.run.config.seed):
        first.setdefault(row.run.config.backbone, {}).setdefault(row.label, row.run)
    return tuple(max(first.values(), key=len, default={}).values())
