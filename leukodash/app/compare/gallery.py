"""Cell gallery of the compare page: the cells of a matrix entry, the worst mistakes, the disagreements."""

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
from leukodash.evaluation.mistakes import confusion_cells, disagreements, worst_mistakes
from leukodash.figures.cell_pictures import brighten
from leukodash.figures.heat_overlay import overlay
from leukodash.runs.imported_predictions import is_import
from leukodash.runs.leaderboard import image_paths, run_names
from leukodash.runs.run_folder import Run

SHOWN, MORE, WIDTH, DECODED = 14, 56, 132, 224
NAMED = 4  # runs whose probability is shown under each cell
KINDS = ("Matrix entry", "Worst mistakes", "Disagreements")


def open_square(name: str, titles: dict[str, str]) -> None:
    """Show the cells of a clicked entry of a confusion matrix in the gallery."""
    points = st.session_state[f"confusion-{name}"].selection.points
    if points:
        truth, predicted = points[0]["customdata"]
        st.session_state["cells"] = KINDS[0]
        st.session_state["cells-run"] = name
        st.session_state["cells-truth"], st.session_state["cells-called"] = titles[truth], titles[predicted]


def gallery_part(comparison: Comparison, at: Thresholds, chosen: list[Run]) -> None:
    """Let the user choose which cells to see, and show them with each run's probability."""
    names = list(comparison.predictions)
    kind = st.segmented_control("Cells", KINDS, default=KINDS[0], required=True, key="cells")
    if kind == KINDS[0]:
        rows, title = _matrix_entry(comparison, at, names)
    elif kind == KINDS[1]:
        name = st.selectbox("Mistakes of", ["any run", *names], key="mistakes-run")
        rows = worst_mistakes(comparison, at, names if name == "any run" else [name])
        title = "misclassified cells, most confident first"
    else:
        rows, title = disagreements(comparison, at), "cells on which the runs disagree, largest difference first"
    count = len(rows)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{count:,} {title}**" + (f" (first {SHOWN} shown)" if count > SHOWN else ""))
        more = count > SHOWN and st.toggle(f"Show {min(count, MORE)}", key="cells-more")
    rows = rows.head(MORE if more else SHOWN)
    if rows.empty:
        return
    paths = image_paths(chosen, list(rows["file"]))
    missing = rows[~rows["file"].isin(list(paths))]
    if len(missing):
        images = f"{len(missing)} of these {len(rows)} images are not on this machine"
        with st.expander(f"{images}: their names", icon=":material/image_not_supported:"):
            named = missing.assign(label=missing["label"].map(label_title))[["file", "label", "subject", "score"]]
            heads = {"file": "File", "label": "True class", "subject": "Subject", "score": "Score"}
            st.dataframe(named, hide_index=True, key="cell-names", column_config=heads)
    rows = rows.drop(missing.index)
    if rows.empty:
        return
    maps = _maps(chosen, [str(paths[file]) for file in rows["file"]])
    with st.container(horizontal=True, gap="small"):
        for number, (position, (_, row)) in enumerate(zip(rows.index, rows.iterrows(), strict=True)):
            _cell(comparison, int(position), row, paths[row["file"]], maps[number] if maps else None)


def _matrix_entry(comparison: Comparison, at: Thresholds, names: list[str]) -> tuple[pd.DataFrame, str]:
    """Return the cells of the clicked or selected matrix entry, by default the false negatives, and a title."""
    p = comparison.classes.index(comparison.positive)
    first = {"cells-run": names[0], "cells-truth": comparison.positive, "cells-called": comparison.classes[p - 1]}
    options = {"cells-run": names, "cells-truth": comparison.classes, "cells-called": comparison.classes}
    for key, value in first.items():
        if st.session_state.get(key) not in options[key]:
            st.session_state[key] = value
    left, middle, right = st.columns(3)
    name = left.selectbox("Run", names, key="cells-run")
    truth = middle.selectbox("True class", comparison.classes, format_func=label_title, key="cells-truth")
    predicted = right.selectbox("Predicted class", comparison.classes, format_func=label_title, key="cells-called")
    title = f"{plain(label_title(truth))} cells that {plain(name)} predicts as {plain(label_title(predicted))}"
    return confusion_cells(comparison, at, name, truth, predicted), f"{title}, most confident first"


def _cell(comparison: Comparison, position: int, row: pd.Series, path: Path, heat: np.ndarray | None) -> None:
    """Show one cell with each run's probability."""
    positive = plain(label_title(comparison.positive))
    scores = [f"{plain(name)} {comparison.scores(name)[position]:.2f}" for name in list(comparison.predictions)[:NAMED]]
    subject = f", subject {plain(row['subject'])}" if isinstance(row["subject"], str) else ""
    try:
        image = thumbnail(str(path))
    except ImageError as error:
        st.warning(plain(str(error)), width=2 * WIDTH)
        return
    if heat is not None:
        image = overlay(image, heat, 0.45)
    words = f"{plain(label_title(row['label']))}{subject}"
    png = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    with st.container(width=WIDTH, gap="xsmall"):
        st.image(png, width=WIDTH, alt=f"Cell, {words}")
        st.caption("  \n".join([words, f"{positive}:", *scores]))


@st.cache_data(max_entries=200, show_spinner=False)  # 150 kB each
def thumbnail(path: str) -> np.ndarray:
    """Return a cell, padded to a square and brightened, uint8 (DECODED, DECODED, 3). Raises ImageError."""
    return brighten(square(read_image(Path(path)), DECODED))


@st.cache_data(max_entries=64, show_spinner="Computing heat maps …")
def _heat(path: str, files: tuple[str, ...]) -> list[np.ndarray]:
    images = [read_image(Path(file)) for file in files]
    return list(classifier(path).classify_with_maps(images)[1])


def _maps(chosen: list[Run], files: list[str]) -> list[np.ndarray] | None:
    """Return heat maps of the run that the user chooses; None without a choice or after an error."""
    runs = {name: run for name, run in run_names(chosen).items() if not is_import(run)}
    name = st.selectbox(
        "Heat map of", list(runs), index=None, key="heat", placeholder="No heat map",
        help="Grad-CAM for the predicted class. Loads TensorFlow on first use.",
    )  # fmt: skip
    if name is None:
        return None
    try:
        return _heat(str(runs[name].path), tuple(files))
    except LeukoDashError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return None
