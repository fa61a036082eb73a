"""The answers of the classify page: cards for a few cells, a table for many, and which of them to show."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from leukodash.app.classify.answer_settings import Settings
from leukodash.app.classify.cell_cards import cards, place_of_heat
from leukodash.app.classify.picture_buttons import data_url
from leukodash.app.common import choose_one
from leukodash.app.picture_cache import data_of, kept
from leukodash.cam.localization import HeatPlace
from leukodash.cam.overlay_files import draw_over
from leukodash.data.dataset import label_title
from leukodash.data.images import Source, read_image, square
from leukodash.figures.cell_pictures import brighten
from leukodash.inference.answer_summary import UNSURE, cell_groups, probabilities
from leukodash.inference.decision import AVERAGE
from leukodash.inference.map_words import many_heat_words

CARDS, ROWS = 12, 200  # per page
SMALL = 56  # pixels a side
GROUP_HELP = (
    f"*Wrong*: a network's class is not the known one. *Unsure*: a probability below {UNSURE:.0%}. *Unlike the "
    "training cells*: probably no cell of this kind, so that its class means nothing."
)


def results(
    files: list[Source], table: pd.DataFrame, maps: list, truth: dict[int, str], names: dict[str, str], chosen: Settings
) -> None:
    """Show the cells, disagreements first. Runs as a fragment: another page computes nothing."""
    groups = cell_groups(table, truth, chosen.calibrated)
    shown, in_table = groups["all"], False
    if many := len(shown) > CARDS:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            titles = {name: f"{name} ({len(group):,})" for name, group in groups.items()}
            shown = groups[choose_one("Cells", titles, "group", help=GROUP_HELP)]
            views = {True: ":material/table_rows: Table", False: ":material/grid_view: Cards"}
            in_table = choose_one("View", views, "in-table", persist_state="session")
    size = ROWS if in_table else CARDS
    pages = -(-len(shown) // size)
    page = st.pagination(pages, key=f"page-{size}-{pages}") if many and pages > 1 else 1
    shown = shown[(page - 1) * size : page * size]
    if in_table:
        row = _table(shown, files, table, maps, truth, names, chosen)
        shown = shown[row : row + 1] if row is not None else []
    cards(shown, files, table, maps, truth, names, chosen)


def _table(
    positions: list[int],
    files: list[Source],
    table: pd.DataFrame,
    maps: list,
    truth: dict[int, str],
    names: dict[str, str],
    chosen: Settings,
) -> int | None:
    """Show a row for each cell; returns the number of the selected one."""
    answers, shown = table.to_dict("records"), probabilities(table, chosen.calibrated)
    by_position = table.groupby("position").groups
    rows: list[dict] = []
    places: list[HeatPlace] = []
    for position in positions:
        file = files[position]
        small = thumbnail(file, chosen.style.bright)
        known = {"truth": label_title(truth[position])} if position in truth else {}
        rows.append({"cell": data_url(small), **known})
        for number in by_position[position]:
            answer, heat = answers[number], maps[number]
            run = answer["run"]
            rows[-1]["name"] = Path(answer["file"]).name
            rows[-1][f"{run} class"] = f"{label_title(answer['class'])}{'?' if answer['novel'] else ''}"
            rows[-1][f"{run} probability"] = None if answer["novel"] else round(100 * shown[number], 1)
            if heat is not None:
                places.append(place_of_heat(file, heat))
                rows[-1][f"{run} map"] = data_url(draw_over(small, heat, chosen.style, answer["novel"]))
                rows[-1][f"{run} heat on cell"] = round(100 * places[-1].share, 1)
                rows[-1][f"{run} hottest place"] = "on the cell" if places[-1].peak_on_cell else "beside the cell"
                rows[-1][f"{run} novelty"] = answer["novelty"]
    grid = pd.DataFrame(rows)
    config = _columns(names)
    state = st.dataframe(
        grid[[name for name in config if name in grid]], column_config=config, hide_index=True, row_height=SMALL + 8,
        height=min(640, 40 + len(rows) * (SMALL + 8)), key="answers", on_select="rerun", selection_mode="single-row",
        alt=f"Answers for {len(rows)} cells; select a row to see the cell larger",
    )  # fmt: skip
    st.caption(f"A click on a column's name sorts; a selected row is shown larger. {many_heat_words(places)}")
    return state.selection.rows[0] if state.selection.rows else None


def _columns(names: dict[str, str]) -> dict:
    """Return the settings of all columns, in order; names of the columns of a run begin with its id."""
    column = st.column_config
    kinds: dict[str, Callable[[str], Any]] = {
        "map": partial(column.ImageColumn, width="small"),
        "class": column.TextColumn,
        "probability": partial(column.NumberColumn, format="%.0f%%", help="Of the class that the network names."),
        "heat on cell": partial(column.NumberColumn, format="%.0f%%", help="The rest lies beside the cell."),
        "hottest place": column.TextColumn,
        "novelty": partial(column.NumberColumn, format="%.2f", help="Distance from the training cells."),
    }
    config: dict = {"cell": column.ImageColumn("Cell", width="small"), "truth": "Truth"}
    for run, title in [*names.items(), (AVERAGE, "Average")]:
        for what, kind in kinds.items():
            config[f"{run} {what}"] = kind(f"{title}: {what}" if len(names) > 1 else what.capitalize())
    return config | {"name": "Name"}


def thumbnail(file: Source, bright: bool) -> np.ndarray:
    """Return an image padded to a square, uint8 (SMALL, SMALL, 3)."""
    small = kept(file, "thumbnail", lambda: square(read_image(data_of(file)), SMALL))
    return brighten(small) if bright else small
