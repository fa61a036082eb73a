"""The cards of the classify page: a cell, and beside it what each run says of it and where it looked."""

from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from leukodash.data.dataset import label_title
from leukodash.data.images import read_image, square
from leukodash.explain.words import disagreements, in_order
from leukodash.figures.cells import lift
from leukodash.figures.overlay import COLOR_MAPS, overlay
from pages.shared import plain

CARDS = 12  # cells at once
SHOWN, DECODED = 150, 300  # pixels a side: on the page, and behind the full-screen view

Source = Path | tuple[str, bytes]


@st.cache_data(max_entries=300, show_spinner=False)
def picture(data: bytes | str, stamp: float) -> tuple[np.ndarray, str]:
    """Return an image, squared as the networks see it, uint8 (DECODED, DECODED, 3), and its size in words."""
    image = read_image(Path(data) if isinstance(data, str) else data)
    return square(image, DECODED), f"{image.shape[1]} × {image.shape[0]} pixels"


def results(files: list[Source], table: pd.DataFrame, maps: list, truth: dict[int, str], names: dict[str, str]) -> None:
    """Show the cells, those that runs disagree on first. Runs as a fragment: nothing is classified again."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        opacity = st.slider("Opacity of the heat map", 0, 100, 50, 5, format="%d %%", width=260) / 100
        colors = st.segmented_control("Colors", list(COLOR_MAPS), default="inferno", required=True)
        bright = st.toggle("Brighten the cells (on this page only)", value=True)
    order, apart = in_order(table), disagreements(table)
    pages = max(1, -(-len(order) // CARDS))
    page = st.pagination(pages, key="card-page") if pages > 1 else 1
    with st.container(horizontal=True):
        for position in order[(page - 1) * CARDS : page * CARDS]:
            rows, file = table[table["position"] == position], files[position]
            path = isinstance(file, Path)
            image, size = picture(str(file), file.stat().st_mtime) if path else picture(file[1], 0.0)
            image = lift(image) if bright else image
            with st.container(border=True, width=(SHOWN + 16) * (len(rows) + 1) + 20):
                name = Path(rows["file"].iloc[0]).name if path else rows["file"].iloc[0]
                mark = ":orange-badge[:material/call_split: runs disagree]" if position in apart else ""
                known = f":gray-badge[truth: {plain(label_title(truth[position]))}]" if position in truth else ""
                st.markdown(f":small[{plain(name)}] {known} {mark}")
                with st.container(horizontal=True):
                    with st.container(width=SHOWN, gap="xsmall"):
                        st.image(image, width=SHOWN, alt=f"Cell {name}")
                        st.caption(size)
                    for number, row in rows.iterrows():
                        with st.container(width=SHOWN, gap="xsmall"):
                            answer(row, image, maps[number], names, truth.get(position), (opacity, colors))


def answer(row: pd.Series, image: np.ndarray, heat: np.ndarray, names: dict, truth: str | None, look: tuple) -> None:
    """Show what one run says of one cell."""
    title, said = names[row["run"]], label_title(row["class"])
    st.image(overlay(image, heat, *look), width=SHOWN, alt=f"Where {title} saw what speaks for {said}")
    mark = (
        ""
        if truth is None
        else " :green[:material/check: right]"
        if truth == row["class"]
        else " :red[:material/close: wrong]"
    )
    nothing = "" if heat.any() else "  \n:small[nothing in view speaks for it]"
    st.markdown(f":small[{plain(title)}]  \n**{plain(said)}**{mark}{nothing}")
    for column in (name for name in row.index if name.startswith("p_") and pd.notna(row[name])):
        st.progress(min(1.0, row[column]), f"{plain(label_title(column.removeprefix('p_')))} {row[column]:.0%}")
