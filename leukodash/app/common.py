"""Parts shared by several pages: choosing a data set and finished runs, and the badges of a run."""

from __future__ import annotations

import gc
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from leukodash import settings
from leukodash.app.sign_in import current_actor
from leukodash.byte_cache import ByteCache
from leukodash.data.dataset import Dataset, find_datasets, label_title, load_dataset, printable
from leukodash.data.demo_cells import make_demo
from leukodash.errors import LeukoDashError
from leukodash.jobs.estimate import duration_words
from leukodash.runs.access import built_in, visible
from leukodash.runs.leaderboard import diverged
from leukodash.runs.published_runs import published_folders
from leukodash.runs.run_cells import leaks_of
from leukodash.runs.run_folder import Run, all_runs, damaged_runs, file_stamp, finished

if TYPE_CHECKING:
    from leukodash.inference.classifier import Classifier

T = TypeVar("T")
CNMC_CREDIT = "C-NMC 2019, Gupta & Gupta, CC BY 3.0."


def page_head(title: str, sentence: str) -> None:
    """Begin a page: its title, and one sentence (Markdown) on what it is for. Every page begins with this."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title(title, anchor=False, width="stretch")
        if settings.class_mode():
            from leukodash.app.sign_in_form import person_part

            person_part()
    st.markdown(sentence)


@st.cache_resource(show_spinner=False)
def libraries_loaded(which: str) -> None:
    """Exclude everything imported so far from garbage collection, once for each set of libraries.

    Streamlit collects all garbage after each run of a script or fragment. Libraries hold a million objects that live as
    long as the server; without them, a poll of the train page takes half the time.
    """
    gc.freeze()


@st.cache_resource(show_spinner="Generating the demo cells once (about 10 seconds) …")
def demo_folder() -> Path:
    """Return the folder of the generated demo cells, created on first use."""
    try:
        return make_demo(settings.data_root() / "demo")
    except (LeukoDashError, OSError):  # the data root is read-only, or holds another data set of that name
        return make_demo(settings.cache() / "demo")


def dataset_folders() -> list[Path]:
    """Return the available data sets: the user's own, then the generated one, then the sample cells.

    A public demo offers only those that come with LeukoDash.
    """
    demo = demo_folder()
    own = [folder for folder in find_datasets(settings.data_root()) if folder.resolve() != demo.resolve()]
    own = [folder for folder in own if built_in(folder)] if settings.public() else own
    return [*own, demo, settings.asset("cells")]


DEPTH = 3  # folder levels of a data set: C-NMC training set, fold, class

_folder_times: dict[Path, tuple[tuple[Path, int], ...]] = {}  # by data set: its folders and their modification times


@st.cache_resource(max_entries=8, show_spinner="Reading the data set …")
def _dataset(folder: str, stamp: tuple[tuple[Path, int], ...]) -> Dataset:
    return load_dataset(folder)


def dataset(folder: Path | str) -> Dataset:
    """Return a data set, reading it again only when one of its folders has changed. Raises DataError.

    Every page and every estimate calls this: checking each of 10,000 files would dominate the response time, and thirty
    sessions would wait for each other.
    """
    folder = Path(folder)
    stamp = _folder_times.get(folder, ())
    if not stamp or any(file_stamp(path)[0] != time for path, time in stamp):
        stamp = _folder_times[folder] = tuple((path, file_stamp(path)[0]) for path in sorted(_folders(folder, DEPTH)))
    return _dataset(str(folder), stamp)


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    yield folder
    try:
        inside = [entry.path for entry in os.scandir(folder) if entry.is_dir()] if depth else []
    except OSError:  # gone, unreadable, or with a link to itself: `load_dataset` says so
        return
    for path in inside:
        yield from _folders(Path(path), depth - 1)


def dataset_title(folder: Path) -> str:
    """Return the display name of a data set; generated cells are always marked as such."""
    if folder == settings.asset("cells"):
        return "Sample cells (48 of C-NMC)"
    if (folder / "generated.json").is_file():
        return "Demo cells (generated)" if folder == demo_folder() else f"{folder.name} (generated)"
    return folder.name


def choose_dataset(key: str = "data") -> Dataset:
    """Let the user choose a data set, stored in the URL unless it is the first; stops the page if it cannot be used."""
    folders = dataset_folders()
    names = [folder.name for folder in folders]
    requested = st.query_params.get(key) or st.session_state.get(f"last-{key}")
    if requested and requested not in names:
        where = "here. Choose another" if settings.shared() else f"in {settings.data_root()}. Choose another, or add it"
        st.warning(plain(f"There is no data set '{printable(requested)}' {where}."))
    start = names.index(requested) if requested in names else 0
    folder = st.selectbox("Data set", folders, index=start, format_func=dataset_title, key=f"choose-{key}")
    st.session_state[f"last-{key}"] = folder.name
    if key in st.query_params or folder != folders[0]:  # a page that nobody has touched stays one step of the history
        st.query_params[key] = folder.name
    try:
        return dataset(folder)
    except LeukoDashError as error:
        st.error(plain(str(error)), icon=":material/error:")
        st.stop()


def dataset_line(dataset: Dataset) -> str:
    """Summarize the data set, and mark it as real or generated."""
    cells = dataset.cells
    counts = [f"{(cells['label'] == label).sum():,} {plain(label_title(label))}" for label in dataset.classes]
    subjects = f"{cells['subject'].nunique():,} subjects" if dataset.has_subjects else "subjects unknown"
    mark = ":violet-badge[:material/draw: generated]" if dataset.generated else ":green-badge[:material/biotech: real]"
    return f"{mark} {len(cells):,} cells · {' · '.join(counts)} · {subjects}"


MAX_MODELS = 4  # that a user can choose at once


@st.cache_resource(show_spinner=False)
def _classifiers() -> ByteCache:
    return ByteCache(settings.model_limit_bytes, lambda loaded: loaded.size_bytes)


def classifier(path: str) -> Classifier:
    """Return the classifier of a finished run, shared by all sessions. Raises LeukoDashError."""
    from leukodash.inference.classifier import load

    return _classifiers().remember(path, lambda: load(Run(Path(path))))


def finished_runs() -> list[Run]:
    """Return the runs that have results and that this session may see, and the published ones, newest first.

    Shows a warning for each archive of published runs that cannot be read.
    """
    for problem in published_folders()[1]:
        st.warning(plain(problem), icon=":material/inventory_2:")
    return finished(visible(current_actor(), all_runs()))


def without_damaged(chosen: list[Run], asked: str) -> list[Run]:
    """Return the chosen runs that are whole; says what is wrong with the others and with those of a link.

    Args:
        chosen: runs.
        asked: the ids of a link, with commas between them.
    """
    damaged = visible(current_actor(), damaged_runs())
    for run in dict.fromkeys([*chosen, *(run for run in damaged if run.id in asked.split(","))]):
        if problem := run.full_problem:
            st.warning(plain(problem), icon=":material/broken_image:")
    if count := sum(run.id not in asked.split(",") for run in damaged):
        st.caption(f"{count} damaged run{'s are' if count > 1 else ' is'} left out: the Train page lists your own.")
    return [run for run in chosen if not run.full_problem]


def run_label(run: Run) -> str:
    """Return a label for choosing a run: title, test accuracy, and whether it started from random weights."""
    metrics = run.metrics
    marks = [f"{metrics['accuracy']:.1%} of {metrics['n']:,}"] if metrics else []
    marks += ["random start"] if metrics.get("random_start") else []
    return " · ".join([run.title, *marks])


def choose_one(label: str, options: Mapping[T, str], key: str, place: DeltaGenerator | None = None, **more: Any) -> T:
    """Let the user choose one of the options, shown by their titles (Markdown); the first one is the default."""
    return (place or st).segmented_control(
        label, list(options), default=next(iter(options)), required=True, format_func=options.__getitem__, key=key,
        **more,
    )  # fmt: skip


def unique_labels(labels: dict[str, str], suffix: Callable[[str], str]) -> dict[str, str]:
    """Add a suffix, made from the key, to labels that occur twice: Streamlit identifies options by their labels."""
    count = Counter(labels.values())
    return {key: f"{label} · {suffix(key)}" if count[label] > 1 else label for key, label in labels.items()}


def badges(run: Run) -> str:
    """Return the badges of a run as Markdown: published, split, leaks, averaged views, generated, random start."""
    return " ".join(badge_list(run))


def badge_list(run: Run) -> list[str]:
    """Return the badges of a run, each as Markdown."""
    metrics, model = run.metrics, run.model
    marks = [":green-badge[:material/menu_book: published]"] if run.published else []
    marks += [f":blue-badge[:material/call_split: {plain(metrics['split'])}]"] if metrics.get("split") else []
    if metrics and (leaks := leaks_of(run)):
        marks.append(f":red-badge[:material/warning: {leaks:,} leaks between parts]")
    if metrics and diverged(metrics):
        marks.append(":red-badge[:material/warning: training diverged]")
    if metrics.get("part") == "validation":
        marks.append(":orange-badge[:material/warning: no test part: measured on validation cells]")
    trained = run.trained if model else None  # imported predictions have no settings
    if trained and (views := trained.answer_views) > 1:
        marks.append(f":gray-badge[:material/flip: mean of {views} views]")
    if model.get("generated"):
        marks.append(":violet-badge[:material/draw: generated cells]")
    if trained and trained.weights == "random":
        marks.append(":orange-badge[:material/casino: random start]")
    return marks


def accuracy_words(metrics: dict) -> str:
    """Return accuracy, counts and Compare's interval, such as ``"91.4% (64 of 70; 95% interval 82.5%–96.0%)"``."""
    known = metrics.get("accuracy_interval")
    interval = f"; 95% interval {known[0]:.1%}–{known[1]:.1%}" if known else ""
    return f"{metrics['accuracy']:.1%} ({metrics['correct']:,} of {metrics['n']:,}{interval})"


def progress_bar(slot: DeltaGenerator) -> Callable[[float, str], None]:
    """Return a progress callback that draws a bar with the time left in `slot`, after half a second."""
    since = time.monotonic()

    def report(fraction: float, words: str) -> None:
        elapsed = time.monotonic() - since
        if elapsed > 0.5:  # for fast tasks, a bar would flicker
            left = f" · about {duration_words(elapsed / fraction - elapsed)} left" if fraction > 0.02 else ""
            slot.progress(min(1.0, fraction), plain(words) + left)

    return report


def plain(text: str) -> str:
    """Escape untrusted text for Markdown, so that it cannot become a link, image, formula or HTML.

    Where people share the server, the places of its folders are left out.
    """
    text = settings.without_paths(text) if settings.shared() else text
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~:$&])", r"\\\1", text)
