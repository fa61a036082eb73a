"""What several pages show: the choice of a data set, of finished runs, and the marks beside a run's numbers."""

import gc
import os
import re
from collections.abc import Iterator
from pathlib import Path

import streamlit as st

from leukodash import settings
from leukodash.data.dataset import Dataset, find_datasets, load_dataset, printable
from leukodash.data.demo_cells import make_demo
from leukodash.errors import LeukoDashError
from leukodash.evaluation.metrics import wilson
from leukodash.runs.run_folder import Run, finished, list_runs


@st.cache_resource(show_spinner=False)
def libraries_loaded(which: str) -> None:
    """Hide what has been imported so far from the garbage collector, once for each set of libraries.

    Streamlit collects all garbage after each run of a script or fragment. Libraries are a million objects that live
    as long as the server: out of sight, a poll of the train page takes half the time.
    """
    gc.freeze()


@st.cache_resource(show_spinner="Drawing the demo cells, once (about 10 seconds) …")
def demo_folder() -> Path:
    """Return the folder of the generated demo cells, made on first use."""
    try:
        return make_demo(settings.data_root() / "demo")
    except (LeukoDashError, OSError):  # a data root of others, or one that cannot be written
        return make_demo(settings.cache() / "demo")


def dataset_folders() -> list[Path]:
    """Return the data sets that can be chosen, the user's own before the generated one."""
    demo = demo_folder()
    own = [folder for folder in find_datasets(settings.data_root()) if folder.resolve() != demo.resolve()]
    return [*own, demo]


DEPTH = 3  # of folders in a data set: C-NMC training set, fold, class

_folders_seen: dict[Path, tuple[tuple[Path, int], ...]] = {}  # by data set: its folders, and when each was changed


@st.cache_resource(max_entries=8, show_spinner="Reading the data set …")
def _dataset(folder: str, stamp: tuple[tuple[Path, int], ...]) -> Dataset:
    return load_dataset(folder)


def dataset(folder: Path | str) -> Dataset:
    """Return a data set, read anew only when a folder in it has changed. Raises DataError.

    Its folders are listed again only when one of them has changed. Every page and every estimate comes here: a look at
    each of 10,000 files would take longer than all else, and thirty sessions would wait for each other at each look.
    """
    folder = Path(folder)
    stamp = _folders_seen.get(folder, ())
    if not stamp or any(_changed(path) != when for path, when in stamp):
        stamp = _folders_seen[folder] = tuple((path, _changed(path)) for path in sorted(_folders(folder, DEPTH)))
    return _dataset(str(folder), stamp)


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    yield folder
    if depth and folder.is_dir():
        for entry in os.scandir(folder):
            if entry.is_dir():
                yield from _folders(Path(entry.path), depth - 1)


def _changed(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def dataset_title(folder: Path) -> str:
    """Words for a data set's folder: generated cells are always called so."""
    return "Demo cells (generated)" if (folder / "generated.json").is_file() else folder.name


def choose_dataset(key: str = "data") -> Dataset:
    """Let the user choose a data set, remembered in the page's address; stops the page where it cannot be used."""
    folders = dataset_folders()
    names = [folder.name for folder in folders]
    asked = st.query_params.get(key) or st.session_state.get(f"last-{key}")
    if asked and asked not in names:
        place = settings.data_root()
        st.warning(f"There is no data set '{printable(asked)}' in {place}. Choose another, or put its folder there.")
    start = names.index(asked) if asked in names else 0
    folder = st.selectbox("Data set", folders, index=start, format_func=dataset_title, key=f"choose-{key}")
    st.query_params[key] = st.session_state[f"last-{key}"] = folder.name
    try:
        return dataset(folder)
    except LeukoDashError as error:
        st.error(str(error), icon=":material/error:")
        st.stop()


MAX_MODELS = 4  # in memory at once


@st.cache_resource(max_entries=MAX_MODELS, show_spinner=False)
def classifier(path: str):  # noqa: ANN201  (its class would import TensorFlow)
    """Return a finished run, ready to classify, shared by all sessions. Raises LeukoDashError."""
    from leukodash.inference.classifier import load

    return load(Run(Path(path)))


def finished_runs() -> list[Run]:
    """Return the runs that have results, newest first."""
    return finished(list_runs())


def run_label(run: Run) -> str:
    """One line for choosing a run: its title, its test accuracy, and what is odd about it."""
    metrics = run.metrics
    marks = [f"{metrics['accuracy']:.1%} of {metrics['n']}"] if metrics else []
    marks += ["random start"] if metrics.get("random_start") else []
    return " · ".join([run.title, *marks])


def badges(run: Run) -> str:
    """Return the marks of a run as Markdown badges: split, leaks, averaged views, generated data, random start."""
    metrics, model = run.metrics, run.model
    marks = [f":blue-badge[:material/call_split: {metrics['split']}]"] if metrics.get("split") else []
    if metrics.get("leaks"):
        marks.append(f":red-badge[:material/warning: {metrics['leaks']} leaks between parts]")
    if metrics.get("part") == "validation":
        marks.append(":orange-badge[:material/warning: no test part: validation cells]")
    if (views := model.get("views", 1)) > 1:
        marks.append(f":gray-badge[:material/flip: mean of {views} views]")
    if model.get("generated"):
        marks.append(":violet-badge[:material/draw: generated cells]")
    if model.get("random_start"):
        marks.append(":orange-badge[:material/casino: random start]")
    return " ".join(marks)


def accuracy_words(metrics: dict) -> str:
    """Return for example ``"91.4 % (64 of 70; 82.5–96.0 %)"``: accuracy, counts, and its Wilson interval."""
    low, high = wilson(metrics["correct"], metrics["n"])
    return f"{metrics['accuracy']:.1%} ({metrics['correct']} of {metrics['n']}; {low:.1%}–{high:.1%})"


def plain(text: str) -> str:
    """Escape text of other people for a place that reads Markdown: no links, pictures, formulas or HTML come of it."""
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~:$&])", r"\\\1", text)
