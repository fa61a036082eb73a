"""What waits behind a click below the cells: whether a map can be believed, what is inside, and the model to take."""

from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from leukodash.app.classify.answer_settings import Settings
from leukodash.app.classify.export_part import export_part
from leukodash.app.classify.map_checks import trust_part
from leukodash.app.classify.network_view import inside_part
from leukodash.data.images import Source, read_image
from leukodash.inference.answer_summary import display_order


def more_parts(
    loaded: list, files: list[Source], table: pd.DataFrame, maps: list, names: dict[str, str], chosen: Settings
) -> None:
    """Show the parts, closed; what is in them is computed when they are opened."""
    with st.expander(
        "Is the heat map worth believing?", icon=":material/verified:", key="trust", on_change="rerun"
    ) as it:
        if it.open:
            one, position = _choose("trust", loaded, table, names)
            row = table[(table["position"] == position) & (table["run"] == one.run.id)].index[0]
            layer = chosen.layers.get(one.run.id)
            image = _image(files[position])
            trust_part(one, table["file"][row], image, maps[row], chosen.method, chosen.target, layer)
    with st.expander("Look inside the network", icon=":material/layers:", key="inside", on_change="rerun") as it:
        if it.open:
            one, position = _choose("inside", loaded, table, names)
            name = table.loc[table["position"] == position, "file"].iloc[0]
            inside_part(one, Path(name).name, _image(files[position]))
    with st.expander("Take the model along", icon=":material/output:", key="export", on_change="rerun") as it:
        if it.open:
            export_part([one.run for one in loaded])


def _choose(key: str, loaded: list, table: pd.DataFrame, names: dict[str, str]) -> tuple:
    """Let the user choose a cell, and a run where there are several."""
    files = table.drop_duplicates("position").set_index("position")["file"]
    short = files.map(lambda file: Path(file).name)
    named = short.where(~short.duplicated(keep=False), files + [f" ({place + 1})" for place in files.index])
    left, right = st.columns(2)
    # Streamlit tells choices apart by their words alone, so no two may read the same.
    position = left.selectbox("Cell", display_order(table), key=f"{key}-cell", format_func=named.to_dict().get)
    if len(loaded) == 1:
        return loaded[0], position
    return right.selectbox("Run", loaded, key=f"{key}-run", format_func=lambda one: names[one.run.id]), position


def _image(file: Source) -> np.ndarray:
    return read_image(file if isinstance(file, Path) else file[1])
