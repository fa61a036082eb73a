"""The compare page's cells: what lies behind a square of a matrix, the worst mistakes, the disagreements."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import streamlit as st

from leukodash.app.common import classifier, plain
from leukodash.data.dataset import label_title
from leukodash.data.images import read_image, square
from leukodash.errors import ImageError, LeukoDashError
from leukodash.evaluation.comparison import Comparison, Thresholds
from leukodash.evaluation.mistakes import disagreements, square_cells, worst_mistakes
from leukodash.figures.cell_pictures import lift
from leukodash.figures.heat_overlay import overlay
from leukodash.runs.leaderboard import image_root, is_import, run_names
from leukodash.runs.run_folder import Run

SHOWN, MORE, WIDTH, DECODED = 14, 56, 132, 224
NAMED = 4  # runs whose word stands under each cell
KINDS = ("A square", "Worst mistakes", "Disagreements")


def open_square(name: str, titles: dict[str, str]) -> None:
    """Answer a click on a confusion matrix: the gallery shows the cells behind the square."""
    points = st.session_state[f"confusion-{name}"].selection.points
    if points:
        truth, called = points[0]["customdata"]
        st.session_state["cells"] = KINDS[0]
        st.session_state["cells-run"] = name
        st.session_state["cells-truth"], st.session_state["cells-called"] = titles[truth], titles[called]


def gallery_part(comparison: Comparison, at: Thresholds, chosen: list[Run]) -> None:
    """Choose which cells to look at, and show them with what each run says."""
    names = list(comparison.answers)
    kind = st.segmented_control("Cells to look at", KINDS, default=KINDS[0], required=True, key="cells")
    if kind == KINDS[0]:
        rows, said = _square(comparison, at, names)
    elif kind == KINDS[1]:
        name = st.selectbox("Mistakes of", ["any of them", *names], key="mistakes-run")
        rows = worst_mistakes(comparison, at, names if name == "any of them" else [name])
        said = "wrongly called, the surest mistakes first"
    else:
        rows, said = disagreements(comparison, at), "on which the runs disagree, the widest apart first"
    count = len(rows)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{count:,} cells {said}**" + (f", the first {SHOWN}" if count > SHOWN else ""))
        more = count > SHOWN and st.toggle(f"Show {min(count, MORE)}", key="cells-more")
    rows = rows.head(MORE if more else SHOWN)
    if rows.empty:
        return
    root = image_root(chosen, rows["file"].iloc[0])
    if root is None:
        st.caption("Their images are not on this machine, so here are their names.")
        st.dataframe(rows[["file", "label", "subject", "score"]], hide_index=True, key="cell-names")
        return
    maps = _maps(chosen, root, list(rows["file"]))
    with st.container(horizontal=True, gap="small"):
        for number, (position, row) in enumerate(rows.iterrows()):
            _cell(comparison, position, row, root, maps[number] if maps else None)


def _square(comparison: Comparison, at: Thresholds, names: list[str]) -> tuple[pd.DataFrame, str]:
    """The square that was clicked, or chosen in the three boxes; at first the positive cells that were missed."""
    p = comparison.classes.index(comparison.positive)
    first = {"cells-run": names[0], "cells-truth": comparison.positive, "cells-called": comparison.classes[p - 1]}
    options = {"cells-run": names, "cells-truth": comparison.classes, "cells-called": comparison.classes}
    for key, value in first.items():
        if st.session_state.get(key) not in options[key]:
            st.session_state[key] = value
    left, middle, right = st.columns(3)
    name = left.selectbox("Run", names, key="cells-run")
    truth = middle.selectbox("Truth", comparison.classes, format_func=label_title, key="cells-truth")
    called = right.selectbox("Called", comparison.classes, format_func=label_title, key="cells-called")
    words = f"of {plain(label_title(truth))} that {plain(name)} calls {plain(label_title(called))}, the surest first"
    return square_cells(comparison, at, name, truth, called), words


def _cell(comparison: Comparison, position: int, row: pd.Series, root: Path, heat: np.ndarray | None) -> None:
    """One cell, and what each run says of it."""
    positive = plain(label_title(comparison.positive))
    says = [f"{plain(name)} {comparison.scores(name)[position]:.2f}" for name in list(comparison.answers)[:NAMED]]
    who = f", subject {plain(row['subject'])}" if isinstance(row["subject"], str) else ""
    try:
        image = thumbnail(str(root / row["file"]))
    except ImageError as error:
        st.warning(plain(str(error)), width=2 * WIDTH)
        return
    if heat is not None:
        image = overlay(image, heat, 0.45)
    words = f"{plain(label_title(row['label']))}{who}"
    png = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    with st.container(width=WIDTH, gap="xsmall"):
        st.image(png, width=WIDTH, alt=f"Cell, {words}")
        st.caption("  \n".join([words, f"{positive}:", *says]))


@st.cache_data(max_entries=1000, show_spinner=False)
def thumbnail(path: str) -> np.ndarray:
    """A cell, squared and brightened for the eye, uint8 (DECODED, DECODED, 3). Raises ImageError."""
    return lift(square(read_image(Path(path)), DECODED))


@st.cache_data(max_entries=64, show_spinner="Looking at the cells …")
def _heat(path: str, files: tuple[str, ...]) -> list[np.ndarray]:
    images = [read_image(Path(file)) for file in files]
    return list(classifier(path).classify_with_maps(images)[1])


def _maps(chosen: list[Run], root: Path, files: list[str]) -> list[np.ndarray] | None:
    """Heat maps of a run that the user asks for; None where nobody asked or it cannot be had."""
    runs = {name: run for name, run in run_names(chosen).items() if not is_import(run)}
    name = st.selectbox(
        "Show where a run looked", list(runs), index=None, key="heat", placeholder="No heat map",
        help="Grad-CAM for the class that the run chose. Loads TensorFlow, once.",
    )  # fmt: skip
    if name is None:
        return None
    try:
        return _heat(str(runs[name].path), tuple(str(root / file) for file in files))
    except LeukoDashError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return None
