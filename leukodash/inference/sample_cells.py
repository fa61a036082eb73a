"""Cells for trying finished runs, held-out ones where there are any. Does not import Keras."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from leukodash import settings
from leukodash.data.dataset import load_dataset
from leukodash.runs.run_cells import cell_identities, cell_paths
from leukodash.runs.run_folder import Run

COLUMNS = ["path", "file", "label", "subject", "sha256"]


def unseen_cells(runs: Sequence[Run]) -> pd.DataFrame:
    """Return the cells that all runs were tested on and none was trained on, as far as they are on this machine.

    A run without a test part was tested on its validation part. A cell with the same bytes as a training cell of some
    run is left out, whatever its file is called.

    Returns:
        Columns path (Path), file, label, subject, sha256.
    """
    cells = None
    seen: set[str] = set()
    for run in runs:
        split, tested = run.split, run.metrics.get("part", "test")
        split = split.assign(identity=cell_identities(split))
        training = split[split["part"].isin(["train", "validation"]) & (split["part"] != tested)]
        seen |= {*training["identity"], *training["sha256"]}
        part = split[split["part"] == tested]
        cells = part if cells is None else cells[cells["identity"].isin(part["identity"])]
    if cells is None:
        return pd.DataFrame(columns=COLUMNS)
    paths = cells["file"].map(cell_paths(runs[0], cells["file"]))
    kept = ~cells["identity"].isin(seen) & ~cells["sha256"].isin(seen) & paths.notna()
    cells = cells.assign(path=paths)[kept].drop_duplicates("sha256")
    return cells[COLUMNS].reset_index(drop=True)


def sample_cells(runs: Sequence[Run]) -> tuple[pd.DataFrame, bool]:
    """Return `unseen_cells` and True, or, where there are none, the cells that come with LeukoDash and False."""
    if len(unseen := unseen_cells(runs)):
        return unseen, True
    shipped = load_dataset(settings.asset("cells"))
    return shipped.cells.assign(path=[shipped.root / file for file in shipped.cells["file"]])[COLUMNS], False


def draw_samples(cells: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """Draw random cells, alternating between classes; reproducible by seed. Rows as in `unseen_cells`."""
    rng = np.random.default_rng(seed)
    mixed = cells.iloc[rng.permutation(len(cells))]
    turn = mixed.groupby("label").cumcount()
    return mixed.assign(turn=turn).sort_values(["turn", "label"], kind="stable").drop(columns="turn").head(count)
