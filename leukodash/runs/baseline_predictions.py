"""The simple baselines on the cells of a run: fitted on its training part, tested on its test part."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pandas as pd

from leukodash import settings
from leukodash.data.dataset import load_dataset
from leukodash.data.images import cell_store
from leukodash.errors import DataError
from leukodash.evaluation.comparison import Predictions
from leukodash.evaluation.simple_baselines import AREA, HISTOGRAM, KNN, SVM, area, baseline, color_histogram
from leukodash.progress import Progress
from leukodash.runs.run_cells import cell_paths, data_of
from leukodash.runs.run_folder import Run

CHUNK = 256


def predict_baselines(run: Run, tested: pd.Series, progress: Progress | None = None) -> dict[str, Predictions]:
    """Return the probabilities that each baseline gives the test cells of a run, fitted on its training cells.

    Support vector machine and k-NN need the frozen features that the run left in the cache.

    Args:
        run: a finished run whose data set is on this machine.
        tested: the files of the test cells, in the order of the answers.
        progress: called with the share that is done.

    Raises:
        DataError: the data set is not on this machine, or has changed since the run.
    """
    root, split = data_of(run), run.split.set_index("file")
    if root is None:
        raise DataError(f"The data set of {run.title} is not on this machine. Put it into '{settings.data_root()}'.")
    dataset, paths = load_dataset(root), cell_paths(run, split.index)
    where = pd.Series(np.arange(len(dataset.cells)), index=[root / file for file in dataset.cells["file"]])
    here = where.reindex([paths.get(file) for file in split.index])
    if here.isna().any():
        raise DataError(f"'{dataset.root}' has changed since {run.title}: {here.isna().sum():,} of its cells are gone.")
    if set(split.loc[split["part"] == "train", "label"]) != set(run.metrics["classes"]):
        raise DataError(f"The split of {run.title} has no training cells of every class.")
    rows = here.to_numpy(dtype=int)
    report = progress or (lambda fraction, message: None)

    images = cell_store(dataset, run.config.input_size)
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    areas, histograms = [], []
    for number, chunk in enumerate(chunks):
        report(0.6 * number / len(chunks), "reading cells")
        cells = np.asarray(images[chunk])
        areas.append(area(cells))
        histograms.append(color_histogram(cells))
    tables = {AREA: np.concatenate(areas), HISTOGRAM: np.concatenate(histograms)}
    frozen = frozen_features(run)
    if frozen is not None and len(frozen) == len(dataset.cells) and dataset.fingerprint == run.config.fingerprint:
        tables |= {SVM: frozen[rows], KNN: frozen[rows]}

    labels, part = split["label"].to_numpy(dtype=object), split["part"].to_numpy(dtype=object)
    subjects = split["subject"].astype(object).where(split["subject"].notna(), None).to_numpy()
    answers = {}
    place = pd.Series(np.arange(len(split)), index=split.index)
    test_rows, validation = place[tested].to_numpy(), part == "validation"
    for number, (name, table) in enumerate(tables.items()):
        report(0.6 + 0.4 * number / len(tables), name)
        p = baseline(name, table, labels, part == "train", tuple(run.metrics["classes"]))
        answers[name] = Predictions(
            p[test_rows], None, p[validation], labels[validation], validation_subjects=subjects[validation]
        )
    return answers


def frozen_features(run: Run) -> np.ndarray | None:
    """Return the pooled outputs of the run's frozen layers, float32 (cells, features); None if the cache has none."""
    name = run.model.get("features")
    folder = settings.cache() / "features" / Path(str(name)).name
    tensors = sorted(folder.glob("view0-*.npy"), key=lambda path: int(path.stem.partition("-")[2])) if name else []
    return np.concatenate([_pooled(path) for path in tensors], axis=1) if tensors else None


def _pooled(path: Path) -> np.ndarray:
    stored = np.load(path, mmap_mode="r")
    stored = stored.view(ml_dtypes.bfloat16) if stored.dtype == np.uint16 else stored
    if stored.ndim == 2:
        return np.asarray(stored, dtype=np.float32)
    pooled = [np.asarray(stored[start : start + CHUNK], np.float32) for start in range(0, len(stored), CHUNK)]
    return np.concatenate([chunk.mean(axis=tuple(range(1, chunk.ndim - 1))) for chunk in pooled])
