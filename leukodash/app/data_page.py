"""Data: "can I trust what I train on?" Counts, a wall of cells, leaks and duplicates, and how to add a data set."""

from pathlib import Path

import cv2
import pandas as pd
import streamlit as st

from leukodash import settings
from leukodash.app.common import CNMC_CREDIT, choose_dataset, dataset_line, page_head, plain
from leukodash.app.order_panel import order_panel
from leukodash.app.picture_cache import pictures_of
from leukodash.config.form_schema import SPLIT_HELP
from leukodash.data.data_check import (
    describe_duplicates,
    describe_leak,
    describe_leaks,
    describe_left_out,
    pairs_to_show,
    problem_folders,
)
from leukodash.data.dataset import Dataset, label_title
from leukodash.data.images import read_image, square
from leukodash.data.split import PART_TITLES, Leak, Split, describe_split, find_leaks, make_split
from leukodash.errors import DataError, ImageError
from leukodash.figures.cell_pictures import brighten, parts_figure, subjects_figure
from leukodash.figures.theme import alt_text

WALL = 48  # cells per page
THUMBNAIL, SHOWN = 192, 82  # pixels a side: decoded (for the full-screen view), and on the page
PAIRS = 4
STRIP = 12  # cells above the controls
LAYOUT = """\
data/
├── my_cells/            a folder a class
│   ├── blast/           1.png  2.jpg …
│   ├── normal/          7.png  8.tif …
│   └── subjects.csv     file,subject
└── C-NMC_training_data/ as downloaded
    ├── fold_0/all/UID_1_1_1_all.bmp …
    └── fold_0/hem/UID_H1_1_1_hem.bmp …"""


def thumbnail(path: Path, sha256: str, bright: bool) -> tuple[bytes, int]:
    """Return a cell as PNG bytes, and its longer side in pixels. Raises ImageError. `sha256` is for the cache."""

    def draw() -> tuple[bytes, int]:
        image = read_image(path)
        side = max(image.shape[:2])
        small = square(image, min(THUMBNAIL, side))
        small = brighten(small) if bright else small
        return cv2.imencode(".png", small[..., ::-1])[1].tobytes(), side

    return pictures_of(path).remember(("data", sha256, bright), draw)


@st.cache_data(max_entries=32, show_spinner=False)
def split_cells(fingerprint: str, split: Split, _cells: pd.DataFrame) -> tuple[pd.Series, list[Leak]]:
    """Return the part of each cell, and the leaks. Raises DataError if the split is impossible."""
    part = make_split(_cells, split)
    return part, find_leaks(_cells, part)


def wall(dataset: Dataset, rows: pd.DataFrame, bright: bool, captions: bool = False) -> int:
    """Show cells side by side; returns the longest side among them, in pixels."""
    longest = 0
    with st.container(horizontal=True, gap="xsmall"):
        for file, sha256, subject, label in rows[["file", "sha256", "subject", "label"]].itertuples(index=False):
            subject_text = f"subject {subject}, " if pd.notna(subject) else ""
            try:
                png, side = thumbnail(dataset.root / file, sha256, bright)
            except ImageError as error:
                st.warning(plain(str(error)), width=2 * SHOWN)
                continue
            text = f"{subject_text}{label_title(label)}"
            st.image(png, width=SHOWN, caption=plain(text) if captions else None, alt=f"Cell, {text}")
            longest = max(longest, side)
    return longest


def choose_split(dataset: Dataset) -> Split:
    """Let the user choose the split."""
    kinds = ["subject"] * dataset.has_subjects + ["fold"] * dataset.has_folds + ["image"]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.segmented_control("Split by", kinds, default=kinds[0], required=True, help=SPLIT_HELP["kind"])
        seed = st.number_input("Seed of the split", 0, 2**32 - 1, 0, help=SPLIT_HELP["seed"], width=150)
    return Split(kind=kind, seed=seed)


def show_counts(dataset: Dataset, part: pd.Series, split: Split) -> None:
    """Show charts of the cells by part, class and subject."""
    titles = {label: label_title(label) for label in dataset.classes}
    charts = [parts_figure, subjects_figure] if dataset.has_subjects else [parts_figure]
    words = plain(describe_split(dataset.cells, part, split.kind))
    st.caption(f"{words}. Patterns show the class, colors the part.")
    if split.kind == "fold" and (left_out := describe_left_out(dataset.cells, part)):
        st.markdown(plain(left_out))
    for column, chart in zip(st.columns([2, 3][: len(charts)]), charts, strict=True):
        figure = chart(dataset.cells, part, titles)
        column.plotly_chart(figure, key=chart.__name__, config={"displayModeBar": False}, alt=alt_text(figure))


def show_leaks(dataset: Dataset, leaks: list[Leak], bright: bool) -> None:
    """Show the leaks of the split: sentences, then some pairs of images."""
    if not (sentences := describe_leaks(leaks)):
        st.success("No subject or image is in more than one part.", icon=":material/verified_user:")
        return
    st.error("  \n".join(map(plain, sentences)), icon=":material/warning:")
    cells = dataset.cells.set_index("file", drop=False)
    first = sorted(leaks, key=lambda leak: leak.kind)[:PAIRS]  # identical images before subjects
    for column, leak in zip(st.columns(PAIRS), first, strict=False):
        with column:
            st.markdown(plain(describe_leak(leak)))
            wall(dataset, cells.loc[[leak.files[0], leak.files[-1]]], bright)
    if len(leaks) > PAIRS:
        with st.expander(f"All {len(leaks):,} leaks"):
            st.dataframe([{"leak": describe_leak(leak), "files": ", ".join(leak.files[:6])} for leak in leaks])


def show_duplicates(dataset: Dataset, bright: bool) -> None:
    """Say which images show the same cell, and show some pairs side by side."""
    st.subheader("Duplicates")
    st.markdown("  \n".join(map(plain, describe_duplicates(dataset))) or "No two files show the same cell.")
    cells = dataset.cells.assign(subject=dataset.cells["named"]).set_index("file", drop=False)
    for column, pair in zip(st.columns(PAIRS), pairs_to_show(dataset, PAIRS), strict=False):
        with column:
            wall(dataset, cells.loc[list(pair)], bright, captions=True)


def show_wall(dataset: Dataset, part: pd.Series, bright: bool) -> None:
    """Show pages of cells, grouped by subject."""
    cells = dataset.cells.assign(part=part)
    number = cells["subject"].str.extract(r"([0-9]+)")[0] if dataset.has_subjects else 0
    cells["number"] = pd.to_numeric(number)
    cells = cells.sort_values(["label", "number", "subject", "file"])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        subjects = ["all subjects", *cells["subject"].dropna().unique()]
        subject = st.selectbox("Subject", subjects, width=220, disabled=len(subjects) == 1)
        titles = {"": "all classes"} | {label: label_title(label) for label in dataset.classes}
        label = st.selectbox("Class", list(titles), format_func=titles.__getitem__, width=170)
        chosen = cells[(cells["subject"] == subject) | (subject == "all subjects")]
        chosen = chosen[(chosen["label"] == label) | (not label)]
        pages = max(1, -(-len(chosen) // WALL))
        page = st.number_input(f"Page (of {pages:,})", 1, pages, 1, width=150, disabled=pages == 1)
    longest, rows = 0, chosen.iloc[(page - 1) * WALL : page * WALL]
    for (subject, label), group in rows.assign(subject=rows["subject"].fillna("")).groupby(
        ["subject", "label"], sort=False
    ):
        name = f"**Subject {plain(subject)}** · " if subject else ""
        parts = ", ".join(PART_TITLES[part] for part in dict.fromkeys(group["part"]))
        st.markdown(f"{name}{plain(label_title(label))} :small[{len(group)} shown · {parts}]")
        longest = max(longest, wall(dataset, group, bright))
    st.caption(f"Images of up to {longest} pixels a side, shown at {SHOWN} pixels. Point at one to enlarge it.")


def show_strip(dataset: Dataset) -> None:
    """Show some cells, each of another subject where subjects are known, half of them of each class."""
    cells = dataset.cells.sample(frac=1, random_state=0)
    cells = cells.drop_duplicates(["label", "subject"]) if dataset.has_subjects else cells
    cells = cells.groupby("label").head(STRIP // len(dataset.classes)).sort_values("label", kind="stable")
    wall(dataset, cells, bright=True, captions=True)
    st.caption(CNMC_CREDIT if dataset.root == settings.asset("cells") else "Brightened for display.")


def show() -> None:
    """Show the page."""
    page_head("Data", "See the cells that networks learn from, and check that nobody is on both sides of a test.")
    for sentence in [] if settings.public() else problem_folders(settings.data_root()):
        st.warning(plain(sentence), icon=":material/folder_off:")
    strip = st.container()
    dataset = choose_dataset()
    where = f"{dataset.root.parent.name}/{dataset.root.name}"  # not the whole path, which visitors should not see
    st.markdown(
        dataset_line(dataset),
        help=f"Folder {plain(where)}, fingerprint {dataset.fingerprint[:12]}: equal for equal cells.",
    )
    with strip:
        show_strip(dataset)
    split = choose_split(dataset)
    part = pd.Series("unused", index=dataset.cells.index)
    leaks: list[Leak] = []
    try:
        part, leaks = split_cells(dataset.fingerprint, split, dataset.cells)
        show_counts(dataset, part, split)
    except DataError as error:
        st.error(plain(str(error)), icon=":material/error:")
    bright = st.toggle("Brighten the cells (on this page only)", value=True)
    st.subheader("Leaks")
    show_leaks(dataset, leaks, bright)
    show_duplicates(dataset, bright)
    st.subheader("Cells")
    show_wall(dataset, part, bright)
    formats = "BMP, PNG, JPEG, TIFF or WebP, one cell an image. A split by subject needs subjects.csv."
    st.subheader("Add a data set", help=f"{formats} Reload the page afterwards.")
    st.code(LAYOUT, language=None, wrap_lines=True)  # the keyboard could not reach a scrolling block
    order_panel()
