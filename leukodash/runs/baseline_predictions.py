"""The simple baselines on the cells of a run: fitted on its training part, tested on its test part."""

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pandas as pd

from leukodash import settings
from leukodash.data.dataset import load_dataset
from leukodash.data.images import cell_store
from leukodash.errors import DataError
from leukodash.evaluation.comparison import Answers
from leukodash.evaluation.simple_baselines import AREA, HISTOGRAM, KNN, SVM, area, baseline, color_histogram
from leukodash.runs.run_folder import Run

CHUNK = 256
Progress = Callable[[float, str], None]


def baseline_answers(run: Run, tested: pd.Series, progress: Progress | None = None) -> dict[str, Answers]:
    """Fit every baseline that can be had and let it answer for the cells that a run was tested on.

    Support vector machine and k-NN need the frozen features that the run left in the cache.

    Args:
        run: a run on this machine's data.
        tested: the test cells' files, in the order that the answers are wanted in.
        progress: hears the share that is done.

    Raises:
        DataError: the data set is gone or has changed since the run.
    """
    dataset = load_dataset(run.config.data)
    split = run.split.set_index("file")
    if not set(split.index) <= set(dataset.cells["file"]):
        raise DataError(f"'{dataset.root}' has changed since {run.title}: its cells are no longer all there.")
    if set(split.loc[split["part"] == "train", "label"]) != set(run.metrics["classes"]):
        raise DataError(f"The split of {run.title} has no training cells of every class to fit them on.")
    where = pd.Series(np.arange(len(dataset.cells)), index=dataset.cells["file"])
    rows = where[split.index].to_numpy()
    report = progress or (lambda fraction, words: None)

    images = cell_store(dataset, run.config.input_size)
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    areas, histograms = [], []
    for number, chunk in enumerate(chunks):
        report(0.6 * number / len(chunks), "looking at the cells")
        cells = np.asarray(images[chunk])
        areas.append(area(cells))
        histograms.append(color_histogram(cells))
    tables = {AREA: np.concatenate(areas), HISTOGRAM: np.concatenate(histograms)}
    frozen = frozen_features(run)
    if frozen is not None and len(frozen) == len(dataset.cells):
        tables |= {SVM: frozen[rows], KNN: frozen[rows]}

    labels, part = split["label"].to_numpy(dtype=object), split["part"].to_numpy(dtype=object)
    answers = {}
    place = pd.Series(np.arange(len(split)), index=split.index)
    asked, validation = place[tested].to_numpy(), part == "validation"
    for number, (name, table) in enumerate(tables.items()):
        report(0.6 + 0.4 * number / len(tables), name)
        p = baseline(name, table, labels, part == "train", tuple(run.metrics["classes"]))
        answers[name] = Answers(p[asked], None, p[validation], labels[validation])
    return answers


def frozen_features(run: Run) -> np.ndarray | None:
    """The pooled outputs of the run's frozen layers, float32 (cells of the data set, f); None where they are gone."""
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
