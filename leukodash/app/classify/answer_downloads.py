"""Downloads of the classify page: the table as CSV, the heat maps as a ZIP of PNG files."""

from functools import partial

import pandas as pd
import streamlit as st

from leukodash.app.classify.cell_cards import place_of_heat
from leukodash.app.common import plain
from leukodash.cam.localization import HeatPlace
from leukodash.cam.overlay_files import OverlayStyle, overlays_zip
from leukodash.csv_text import csv_text
from leukodash.data.images import Source


def download_popover(
    files: list[Source],
    table: pd.DataFrame,
    maps: list,
    truth: dict[int, str],
    names: dict[str, str],
    style: OverlayStyle,
) -> None:
    """Offer the table, and the heat maps on request."""
    with st.popover("Save", icon=":material/download:"):
        st.download_button(
            "Table (CSV)", partial(_csv, files, table, maps, truth, names), "classified.csv", "text/csv",
            icon=":material/table:", on_click="ignore", width="stretch",
        )  # fmt: skip
        _pictures(files, table, maps, style)


def _csv(files: list[Source], table: pd.DataFrame, maps: list, truth: dict[int, str], names: dict[str, str]) -> str:
    places = [
        HeatPlace(float("nan"), True) if heat is None else place_of_heat(files[position], heat)
        for position, heat in zip(table["position"], maps, strict=True)
    ]
    where = pd.DataFrame(places, index=table.index)
    saved = table.assign(
        truth=table["position"].map(truth), title=table["run"].map(names), heat_on_cell=where["share"],
        peak_on_cell=where["peak_on_cell"].where(where["share"].notna()),
    )  # fmt: skip
    return csv_text(saved.drop(columns="position"))


@st.fragment
def _pictures(files: list[Source], table: pd.DataFrame, maps: list, style: OverlayStyle) -> None:
    slot = st.empty()
    count = sum(heat is not None for heat in maps)
    if slot.button(f"Heat maps ({count:,} pictures)", icon=":material/photo_library:", width="stretch"):
        bar = slot.progress(0.0, "Drawing …")
        data = overlays_zip(files, table, maps, style, lambda share, words: bar.progress(share, plain(words)))
        slot.download_button(
            f"Heat maps (ZIP, {len(data) / 1e6:.1f} MB)", data, "heat-maps.zip", "application/zip",
            icon=":material/folder_zip:", type="primary", on_click="ignore", width="stretch",
        )  # fmt: skip
