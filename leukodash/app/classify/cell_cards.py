"""Cards of the classify page: a cell, and beside it the class and heat map of each run."""

from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from leukodash.app.classify.answer_settings import Settings
from leukodash.app.common import plain
from leukodash.cam.overlay_files import draw_over
from leukodash.data.dataset import label_title
from leukodash.data.images import Source, read_image, square
from leukodash.figures.cell_pictures import brighten
from leukodash.inference.answer_summary import disagreements, display_order, percent
from leukodash.inference.decision import AVERAGE, novel_positions

CARDS = 12  # per page
DECODED = 300  # pixels a side, for the full-screen view
SHOWN = {1: 150, 2: 150, 3: 180, 4: 180}  # pixels a side by the number of runs, so that whole cards fill a row


@st.cache_data(max_entries=300, show_spinner=False)
def picture(data: bytes | str, stamp: float) -> tuple[np.ndarray, str]:
    """Return an image padded to a square, uint8 (DECODED, DECODED, 3), and its original size as text."""
    image = read_image(Path(data) if isinstance(data, str) else data)
    return square(image, DECODED), f"{image.shape[1]} × {image.shape[0]} pixels"


def results(
    files: list[Source], table: pd.DataFrame, maps: list, truth: dict[int, str], names: dict[str, str], chosen: Settings
) -> None:
    """Show the cells, disagreements first. Runs as a fragment: another page computes nothing."""
    order, apart, odd = display_order(table), disagreements(table), novel_positions(table)
    pages = max(1, -(-len(order) // CARDS))
    page = st.pagination(pages, key="card-page") if pages > 1 else 1
    by_position = dict(list(table.groupby("position")))
    side = SHOWN[len(names)]
    with st.container(horizontal=True):
        for position in order[(page - 1) * CARDS : page * CARDS]:
            rows, file = by_position[position], files[position]
            if isinstance(file, Path):
                (image, size), name = picture(str(file), file.stat().st_mtime), Path(rows["file"].iloc[0]).name
            else:
                (image, size), name = picture(file[1], 0.0), rows["file"].iloc[0]
            image = brighten(image) if chosen.style.bright else image
            known = truth.get(position)
            with st.container(border=True, width=(side + 16) * (len(names) + 1) + 20):
                st.markdown(f":small[{plain(name)}] {_marks(known, position in apart, position in odd)}")
                with st.container(horizontal=True):
                    with st.container(width=side, gap="xsmall"):
                        st.image(image, width=side, alt=f"Cell {name}")
                        st.caption(size)
                        for _, row in rows[rows["run"] == AVERAGE].iterrows():
                            _answer(row, "Average of the runs", known, chosen.calibrated)
                    answers = rows[rows["run"] != AVERAGE]
                    for number, (_, row) in zip(answers.index, answers.iterrows(), strict=True):
                        with st.container(width=side, gap="xsmall"):
                            label = label_title(chosen.target or row["class"])
                            heat, title = maps[number], names[row["run"]]
                            drawn = draw_over(image, heat, chosen.style, row["novel"])
                            st.image(drawn, width=side, alt=f"Heat map of {title}: evidence for {label}")
                            _answer(row, title, known, chosen.calibrated)
                            if not heat.any():
                                st.markdown(f":small[no evidence for {plain(label)}]")


def _marks(truth: str | None, apart: bool, odd: bool) -> str:
    known = f":gray-badge[truth: {plain(label_title(truth))}]" if truth else ""
    mark = ":orange-badge[:material/call_split: runs disagree]" if apart else ""
    return f"{known} {mark} {':orange-badge[:material/help: unlike the training cells]' if odd else ''}"


def _answer(row: pd.Series, title: str, truth: str | None, calibrated: bool) -> None:
    """Show the answer of one run, or of the average, for one cell."""
    prefix = "calibrated_" if calibrated or row["run"] == AVERAGE else "p_"
    columns = {str(name): share for name, share in row.items()}
    odds = {name.removeprefix(prefix): share for name, share in columns.items() if name.startswith(prefix)}
    odds = {label: share for label, share in odds.items() if pd.notna(share)}
    predicted, share = plain(label_title(row["class"])), odds[row["class"]]
    if row["novel"]:
        st.markdown(f":small[:gray[{plain(title)}]]  \n:gray[{predicted}?]")  # a probability would suggest certainty
        if row["run"] != AVERAGE:
            st.caption("Unlike all training cells: this class is meaningless.")
        return
    right = truth == row["class"]
    mark = "" if truth is None else ":green[:material/check:]" if right else ":red[:material/close:]"
    st.markdown(f":small[{plain(title)}]  \n**{predicted}** {percent(share)} {mark}")
    for label, part in odds.items() if len(odds) > 2 else [(row["class"], share)]:
        st.progress(min(1.0, part), f"{plain(label_title(label))} {percent(part)}" if len(odds) > 2 else None)
