"""Taking the classify page's answers along: the table as CSV, the pictures as a ZIP of PNG files."""

import pandas as pd
import streamlit as st

from leukodash.app.common import plain
from leukodash.cam.overlay_files import OverlayStyle, overlays_zip
from leukodash.data.images import Source


def save_popover(
    files: list[Source],
    table: pd.DataFrame,
    maps: list,
    truth: dict[int, str],
    names: dict[str, str],
    style: OverlayStyle,
) -> None:
    """Offer the table, and the pictures once they are asked for."""
    with st.popover("Save", icon=":material/download:"):
        saved = table.assign(truth=table["position"].map(truth), title=table["run"].map(names)).drop(columns="position")
        csv = saved.to_csv(index=False)
        st.download_button(
            "Table (CSV)",
            csv,
            "classified.csv",
            "text/csv",
            icon=":material/table:",
            on_click="ignore",
            width="stretch",
        )
        _pictures(files, table, maps, style)


@st.fragment
def _pictures(files: list[Source], table: pd.DataFrame, maps: list, style: OverlayStyle) -> None:
    place = st.empty()
    count = sum(heat is not None for heat in maps)
    if place.button(f"Heat maps ({count:,} pictures)", icon=":material/photo_library:", width="stretch"):
        bar = place.progress(0.0, "Drawing …")
        data = overlays_zip(files, table, maps, style, lambda share, words: bar.progress(share, plain(words)))
        place.download_button(
            f"Heat maps (ZIP, {len(data) / 1e6:.1f} MB)", data, "heat-maps.zip", "application/zip",
            icon=":material/folder_zip:", type="primary", on_click="ignore", width="stretch",
        )  # fmt: skip
