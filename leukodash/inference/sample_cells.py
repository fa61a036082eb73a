"""Held-out cells for trying finished runs. Does not import Keras."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from leukodash.runs.run_folder import Run


def unseen_cells(runs: Sequence[Run]) -> pd.DataFrame:
    """Return the cells that all runs were tested on and none was trained on.

    A run without a test part was tested on its validation part. Cells with the same bytes as a training cell
    of any run are left out, whatever their file name.

    Returns:
        Columns path (Path), file, label, subject, sha256; empty if the runs share no such cell, or their data
        set is not on this machine.
    """
    cells = None
    seen: set[str] = set()
    for run in runs:
        split, tested = run.split, run.metrics.get("part", "test")
        seen |= set(split.loc[split["part"].isin(["train", "validation"]) & (split["part"] != tested), "sha256"])
        part = split[split["part"] == tested]
        cells = part if cells is None else cells[cells["sha256"].isin(part["sha256"])]
    if cells is None:
        return pd.DataFrame(columns=["path", "file", "label", "subject", "sha256"])
    root = Path(runs[0].config.data)
    cells = cells[~cells["sha256"].isin(seen)] if root.is_dir() else cells.iloc[:0]
    cells = cells.drop_duplicates("sha256")[["file", "label", "subject", "sha256"]]
    return cells.assign(path=[root / file for file in cells["file"]]).reset_index(drop=True)


def draw_samples(cells: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """Draw random cells, alternating between classes; reproducible by seed. Rows as in `unseen_cells`."""
    rng = np.random.default_rng(seed)
    mixed = cells.iloc[rng.permutation(len(cells))]
    turn = mixed.groupby("label").cumcount()
    return mixed.assign(turn=turn).sort_values(["turn", "label"], kind="stable").drop(columns="turn").head(count)
