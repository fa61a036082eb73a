"""Look inside: what a network makes of one cell at three depths, and its layers as papers print them."""

import numpy as np
import pandas as pd
import streamlit as st

from leukodash.app.common import plain
from leukodash.figures.heat_overlay import COLOR_MAPS
from leukodash.figures.network_charts import STATE_WORDS, blocks_figure, tile
from leukodash.figures.theme import alt_text

TILE = 112  # pixels a side


def inside_part(classifier, name: str, image: np.ndarray) -> None:  # noqa: ANN001  (its class would import TensorFlow)
    """Show the feature maps of one cell, and the network's layers.

    Args:
        classifier: from `leukodash.app.common.classifier`.
        name: of the cell, for people; from anyone.
        image: the cell, uint8 (H, W, 3), RGB.
    """
    seen, table = st.tabs(["What it sees", "What it is made of"])
    with seen:
        _maps(classifier, name, image)
    with table:
        _layers(classifier)


def _maps(classifier, name: str, image: np.ndarray) -> None:  # noqa: ANN001
    from leukodash.explain.feature_maps import CHANNELS_SHOWN, feature_maps

    title = classifier.run.config.spec.title
    st.markdown(
        f"How {title} processes **{plain(name)}**, from its first layer to its last. For each layer, the "
        f"{CHANNELS_SHOWN} maps with the largest variation across the image are shown, each scaled from its lowest "
        "value (dark) to its highest (light)."
    )
    colors = st.segmented_control("Colors of the maps", list(COLOR_MAPS), default="viridis", required=True)
    for depth in feature_maps(classifier, image):
        with st.container(border=True):
            st.markdown(f"**{depth.title}** · :gray[{plain(depth.layer)}]  \n{depth.words}")
            with st.container(horizontal=True, gap="small"):
                for place, channel in enumerate(depth.channels):
                    picture = tile(depth.maps[..., place], TILE, colors)
                    st.image(
                        picture,
                        width=TILE,
                        caption=f"map {channel + 1}",
                        alt=f"Map {channel + 1} of the layer {depth.layer}",
                    )


def _layers(classifier) -> None:  # noqa: ANN001
    from leukodash.explain.feature_maps import block_table, layer_table, parameter_words

    layers = layer_table(classifier)
    blocks = block_table(layers)
    st.markdown(plain(parameter_words(classifier, layers)))
    figure = blocks_figure(blocks, classifier.run.config.backbone)
    st.plotly_chart(figure, key="inside-blocks", config={"displayModeBar": False})
    st.caption(plain(alt_text(figure)))
    every = st.toggle("Every layer", help="Otherwise the layers of a block are summed up, as papers print them.")
    _table(layers if every else blocks)


def _table(rows: pd.DataFrame) -> None:
    shown = rows.assign(state=rows["state"].map(STATE_WORDS))
    st.dataframe(
        shown,
        hide_index=True,
        column_config={
            "block": st.column_config.TextColumn("Block"),
            "layer": st.column_config.TextColumn("Layer"),
            "layers": st.column_config.NumberColumn("Layers"),
            "kind": st.column_config.TextColumn("Kind"),
            "output": st.column_config.TextColumn("Output", help="height × width × channels, for one cell"),
            "parameters": st.column_config.NumberColumn("Parameters", format="localized"),
            "trained_parameters": st.column_config.NumberColumn(
                "Of these trained",
                format="localized",
                help="Batch normalization's moving mean and variance are counted as parameters and never trained.",
            ),
            "state": st.column_config.TextColumn("State"),
        },
    )
