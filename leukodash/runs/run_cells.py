"""Where the cells of a run are on this machine: in the run's own data folder, or in another copy of its data set."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import pandas as pd

from leukodash import settings
from leukodash.data.dataset import cnmc_name, find_datasets, layout_stamp, list_cells, load_dataset
from leukodash.data.near_duplicates import kept_folder, known_pairs, merged_subjects, picture_numbers
from leukodash.data.split import find_leaks
from leukodash.errors import LeukoDashError
from leukodash.runs.run_folder import Run, file_stamp


def data_of(run: Run) -> Path | None:
    """Return the folder of the run's data set on this machine; None if it is not here.

    That is the folder that the run was trained on, or else the data set in the data root with the most of its cells.
    """
    return _located(run)[0]


def cell_paths(run: Run, files: Iterable[str]) -> dict[str, Path]:
    """Return the images of a run's cells by the run's file names, without the cells that are not on this machine.

    Cells of C-NMC that are nowhere else may be among the sample cells that come with LeukoDash.
    """
    root, names = _located(run)
    if root is not None and names is None:
        return {file: root / file for file in files}
    folder = settings.asset("cells")
    samples = {} if run.metrics.get("generated") else _cells_by_name(folder, layout_stamp(folder))
    paths = {}
    for file in files:
        if root is not None and names is not None and file in names:
            paths[file] = root / names[file]
        elif sample := samples.get(cnmc_name(file) or ""):
            paths[file] = folder / sample
    return paths


def cell_identities(cells: pd.DataFrame) -> pd.Series:
    """Return what tells each cell from all others, the same in every copy of a data set.

    Args:
        cells: columns file, sha256.

    Returns:
        C-NMC's name of the cell (subject, image, cell number, class), whatever the image format; the SHA-256 of the
        file where its name is not of that form.
    """
    pairs = zip(cells["file"], cells["sha256"], strict=True)
    return pd.Series([cnmc_name(file) or sha256 for file, sha256 in pairs], index=cells.index, dtype=object)


def leaks_of(run: Run) -> int | None:
    """Return how many subjects and cells are in more than one part of a run; None for imports, whose split is unknown.

    Subjects who share a cell are one person. Runs of older versions took them for several, so a user's runs are counted
    anew where the near-duplicates of their cells are known on this machine.
    """
    said = run.metrics.get("leaks")
    if run.published or run.imported:
        return said
    counted = _counted_leaks(run, file_stamp(run.path / "split.csv"), file_stamp(kept_folder()))
    return said if counted is None else counted


@lru_cache(maxsize=1024)
def _counted_leaks(run: Run, *_stamps: object) -> int | None:
    cells = run.split
    hashes = cells["sha256"].tolist()
    pairs = known_pairs(hashes)
    if pairs is None:
        return None
    cells["picture"] = picture_numbers(hashes, pairs)
    if cells["subject"].notna().all():
        cells["subject"] = merged_subjects(cells["subject"].tolist(), cells["picture"].to_numpy())
    return len(find_leaks(cells, cells["part"]))


def _located(run: Run) -> tuple[Path | None, Mapping[str, str] | None]:
    """Return a run's data folder, and the names of its cells there by the run's names; None where they are the same."""
    own = Path(run.config.data)
    if not run.published and own.is_dir():  # a published run has the name of its data set alone
        return own, None
    generated = bool(run.metrics.get("generated"))
    split = run.split
    by_name = not generated and len(split) > 0 and all(map(cnmc_name, split["file"]))
    keys = split["file"].map(cnmc_name) if by_name else split["sha256"]
    best: tuple[Path | None, dict[str, str]] = None, {}
    for folder in find_datasets(settings.data_root()):
        if (folder / "generated.json").is_file() == generated:
            try:
                there = (_cells_by_name if by_name else _cells_by_content)(folder, layout_stamp(folder))
            except (LeukoDashError, OSError):  # it cannot be read: the data page says why
                continue
            names = {file: there[key] for file, key in zip(split["file"], keys, strict=True) if key in there}
            if len(names) > len(best[1]):
                best = folder, names
    return best


@lru_cache(maxsize=8)
def _cells_by_name(folder: Path, _stamp: object) -> dict[str, str]:
    """Return the files of a data set by C-NMC's name of the cell. Opens no image."""
    return {name: file for file in list_cells(folder) if (name := cnmc_name(file))}


@lru_cache(maxsize=8)
def _cells_by_content(folder: Path, _stamp: object) -> dict[str, str]:
    """Return the files of a data set by their SHA-256."""
    cells = load_dataset(folder).cells
    return dict(zip(cells["sha256"], cells["file"], strict=True))
