"""The cards of the classify page: a cell, and beside it what each run says of it and where it looked."""

from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from leukodash.app.classify.answer_settings import Settings
from leukodash.app.common import plain
from leukodash.cam.overlay_files import draw_over
from leukodash.data.dataset import label_title
from leukodash.data.images import Source, read_image, square
from leukodash.figures.cell_pictures import lift
from leukodash.inference.answer_summary import disagreements, display_order, percent
from leukodash.inference.decision import AVERAGE, novel_positions

CARDS = 12  # cells at once
DECODED = 300  # pixels a side, behind the full-screen view
SHOWN = {1: 150, 2: 150, 3: 180, 4: 180}  # pixels a side by the number of runs: whole cards fill a row


@st.cache_data(max_entries=300, show_spinner=False)
def picture(data: bytes | str, stamp: float) -> tuple[np.ndarray, str]:
    """Return an image, squared as the networks see it, uint8 (DECODED, DECODED, 3), and its size in words."""
    image = read_image(Path(data) if isinstance(data, str) else data)
    return square(image, DECODED), f"{image.shape[1]} × {image.shape[0]} pixels"


def results(
    files: list[Source], table: pd.DataFrame, maps: list, truth: dict[int, str], names: dict[str, str], chosen: Settings
) -> None:
    """Show the cells, those that runs disagree on first. Runs as a fragment: turning the page computes nothing."""
    order, apart, odd = display_order(table), disagreements(table), novel_positions(table)
    pages = max(1, -(-len(order) // CARDS))
    page = st.pagination(pages, key="card-page") if pages > 1 else 1
    by_position = dict(list(table.groupby("position")))
    side = SHOWN[len(names)]
    with st.container(horizontal=True):
        for position in order[(page - 1) * CARDS : page * CARDS]:
            rows, file = by_position[position], files[position]
            path = isinstance(file, Path)
            image, size = picture(str(file), file.stat().st_mtime) if path else picture(file[1], 0.0)
            image = lift(image) if chosen.look.bright else image
            name = Path(rows["file"].iloc[0]).name if path else rows["file"].iloc[0]
            known = truth.get(position)
            with st.container(border=True, width=(side + 16) * (len(names) + 1) + 20):
                st.markdown(f":small[{plain(name)}] {_marks(known, position in apart, position in odd)}")
                with st.container(horizontal=True):
                    with st.container(width=side, gap="xsmall"):
                        st.image(image, width=side, alt=f"Cell {name}")
                        st.caption(size)
                        for _, row in rows[rows["run"] == AVERAGE].iterrows():
                            _answer(row, "Average of the runs", known, chosen.calibrated)
                    for number, row in rows[rows["run"] != AVERAGE].iterrows():
                        with st.container(width=side, gap="xsmall"):
                            said = chosen.target or row["class"]
                            heat, title = maps[number], names[row["run"]]
                            drawn = draw_over(image, heat, chosen.look, row["novel"])
                            st.image(drawn, width=side, alt=f"Where {title} saw what speaks for {label_title(said)}")
                            _answer(row, title, known, chosen.calibrated)
                            if not heat.any():
                                st.markdown(f":small[nothing in view speaks for {plain(label_title(said))}]")


def _marks(truth: str | None, apart: bool, odd: bool) -> str:
    known = f":gray-badge[truth: {plain(label_title(truth))}]" if truth else ""
    mark = ":orange-badge[:material/call_split: runs disagree]" if apart else ""
    return f"{known} {mark} {':orange-badge[:material/help: unlike the training cells]' if odd else ''}"


def _answer(row: pd.Series, title: str, truth: str | None, calibrated: bool) -> None:
    """Show what one run, or the average, says of one cell."""
    start = "calibrated_" if calibrated or row["run"] == AVERAGE else "p_"
    odds = {
        name.removeprefix(start): share for name, share in row.items() if name.startswith(start) and pd.notna(share)
    }
    said, share = plain(label_title(row["class"])), odds[row["class"]]
    if row["novel"]:
        st.markdown(f":small[:gray[{plain(title)}]]  \n:gray[{said}?]")  # no share: it would look like knowledge
        if row["run"] != AVERAGE:
            st.caption("Unlike all cells that it learnt from: this class means nothing.")
        return
    right = truth == row["class"]
    mark = "" if truth is None else ":green[:material/check:]" if right else ":red[:material/close:]"
    st.markdown(f":small[{plain(title)}]  \n**{said}** {percent(share)} {mark}")
    for label, part in odds.items() if len(odds) > 2 else [(row["class"], share)]:
        st.progress(min(1.0, part), f"{plain(label_title(label))} {percent(part)}" if len(odds) > 2 else None)
