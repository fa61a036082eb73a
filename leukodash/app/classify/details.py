"""Expanders below the cells: checks of the heat map, the inside of the network, and the model export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from leukodash.app.classify.answer_settings import Settings
from leukodash.app.classify.export_part import export_part
from leukodash.app.classify.map_checks import map_checks_part
from leukodash.app.classify.network_view import network_part
from leukodash.app.picture_cache import data_of
from leukodash.data.images import Source, read_image
from leukodash.inference.answer_summary import display_order

if TYPE_CHECKING:
    from leukodash.inference.classifier import Classifier


def details_part(
    loaded: list[Classifier],
    files: list[Source],
    table: pd.DataFrame,
    maps: list,
    names: dict[str, str],
    chosen: Settings,
) -> None:
    """Show the expanders, closed; their content is computed when they are opened."""
    trust = st.expander("Can the heat map be trusted?", icon=":material/verified:", key="trust", on_change="rerun")
    with trust:
        if trust.open:
            classifier, position = _choose("trust", loaded, table, names)
            row = table[(table["position"] == position) & (table["run"] == classifier.run.id)].index[0]
            request = chosen.method, chosen.target, chosen.layers.get(classifier.run.id)
            map_checks_part(classifier, table["file"][row], files[position], maps[row], *request)
    with st.expander("Look inside the network", icon=":material/layers:", key="inside", on_change="rerun") as expander:
        if expander.open:
            classifier, position = _choose("inside", loaded, table, names)
            name = table.loc[table["position"] == position, "file"].iloc[0]
            network_part(classifier, Path(name).name, read_image(data_of(files[position])))
    with st.expander("Export model", icon=":material/output:", key="export", on_change="rerun") as expander:
        if expander.open:
            export_part([classifier.run for classifier in loaded])


def _choose(key: str, loaded: list[Classifier], table: pd.DataFrame, names: dict[str, str]) -> tuple[Classifier, int]:
    """Let the user choose a cell, and a run if there are several."""
    files = table.drop_duplicates("position").set_index("position")["file"]
    short = files.map(lambda file: Path(file).name)
    named = short.where(~short.duplicated(keep=False), files + [f" ({place + 1})" for place in files.index])
    left, right = st.columns(2)
    # Streamlit identifies options by their labels, so these must be unique.
    position = left.selectbox("Cell", display_order(table), key=f"{key}-cell", format_func=named.__getitem__)
    if len(loaded) == 1:
        return loaded[0], position
    return right.selectbox("Run", loaded, key=f"{key}-run", format_func=lambda own: names[own.run.id]), position
