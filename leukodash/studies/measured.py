"""What the finished runs of the study of splits measured, for the paper checker."""

from collections.abc import Sequence

import pandas as pd

from leukodash.evaluation.paper_check import BY_FOLD, BY_IMAGE, BY_SUBJECT, Measured, resemblance
from leukodash.studies.catalogue import FinishedStudyRun, done
from leukodash.studies.results_page import inflation_rows, tested

STUDY = "honest"


def measured() -> Measured:
    """Return what the runs of the study measured: nothing if there are none.

    Raises RunError for a damaged run.
    """
    rows = done().get(STUDY, [])
    by_split: dict[str, list[FinishedStudyRun]] = {}
    for row in rows:
        by_split.setdefault(_split(row), []).append(row)
    found = {split: resemblance(_answers(members), split) for split, members in by_split.items()}
    return Measured(
        {split: like for split, like in found.items() if like},
        inflation_rows(rows),
        _shared(by_split.get(BY_IMAGE, [])),
    )


def _split(row: FinishedStudyRun) -> str:
    kinds = {"image": BY_IMAGE, "fold": BY_FOLD}
    return kinds.get(row.run.trained.split.kind, BY_SUBJECT)


def _answers(rows: Sequence[FinishedStudyRun]) -> list[tuple]:
    """Return which cells each network classified correctly, with its test parts together, and the cells' subjects."""
    tables: dict[tuple, list[pd.DataFrame]] = {}
    for row in rows:
        key = row.run.config.backbone, row.label, row.run.config.seed
        tables.setdefault(key, []).append(tested(row.run))
    joined = [pd.concat(parts) for parts in tables.values()]
    return [(cells["right"].to_numpy(), cells["subject"].tolist()) for cells in joined]


def _shared(rows: Sequence[FinishedStudyRun]) -> float | None:
    """Return the share of the runs' test subjects that are also in training; None without runs or subjects."""
    subjects = both = 0
    for row in rows:
        split = row.run.split
        test, train = (set(split.loc[split["part"] == part, "subject"].dropna()) for part in ("test", "train"))
        subjects, both = subjects + len(test), both + len(test & train)
    return both / subjects if subjects else None
