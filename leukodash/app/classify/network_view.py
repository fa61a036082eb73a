"""The inside of a network: feature maps of one cell at three depths, and the layers as papers print them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from leukodash.app.common import plain
from leukodash.figures.heat_overlay import COLOR_MAPS
from leukodash.figures.network_charts import STATE_WORDS, blocks_figure, tile
from leukodash.figures.theme import alt_text

if TYPE_CHECKING:
    from leukodash.inference.classifier import Classifier

TILE = 112  # pixels a side


def network_part(classifier: Classifier, name: str, image: np.ndarray) -> None:
    """Show the feature maps of one cell, uint8 (H, W, 3), RGB, and the network's layers. The name is untrusted."""
    maps, table = st.tabs(["Feature maps", "Layers"])
    with maps:
        _maps(classifier, name, image)
    with table:
        _layers(classifier)


def _maps(classifier: Classifier, name: str, image: np.ndarray) -> None:
    from leukodash.explain.feature_maps import CHANNELS_SHOWN, feature_maps

    st.markdown(
        f"How {classifier.run.config.spec.title} processes **{plain(name)}**, from its first layer to its last: of "
        f"each layer, the {CHANNELS_SHOWN} maps with the largest variation across the image, each scaled from its "
        "lowest value (dark) to its highest (light)."
    )
    colors = st.segmented_control("Colors of the maps", list(COLOR_MAPS), default="viridis", required=True)
    for depth in feature_maps(classifier, image):
        with st.container(border=True):
            st.markdown(f"**{depth.title}** · :gray[{plain(depth.layer)}]  \n{depth.words}")
            with st.container(horizontal=True, gap="small"):
                for place, channel in enumerate(depth.channels):
                    st.image(
                        tile(depth.maps[..., place], TILE, colors), width=TILE, caption=f"map {channel + 1}",
                        alt=f"Map {channel + 1} of the layer {depth.layer}",
                    )  # fmt: skip


def _layers(classifier: Classifier) -> None:
    from leukodash.explain.feature_maps import block_table, layer_table, parameter_words

    layers = layer_table(classifier)
    blocks = block_table(layers)
    st.markdown(plain(parameter_words(classifier, layers)))
    figure = blocks_figure(blocks, classifier.run.config.backbone)
    st.plotly_chart(figure, key="inside-blocks", config={"displayModeBar": False})
    st.caption(plain(alt_text(figure)))
    every = st.toggle("Every layer", help="Off: the layers of a block are summed up, as papers print them.")
    rows = layers if every else blocks
    number = st.column_config.NumberColumn
    config: dict[str, Any] = {
        **{column: column.capitalize() for column in ("block", "layer", "kind", "state")},
        "layers": number("Layers"),
        "output": st.column_config.TextColumn("Output", help="height × width × channels, for one cell"),
        "parameters": number("Parameters", format="localized"),
        "trained_parameters": number(
            "Trained", format="localized",
            help="The moving mean and variance of batch normalization count as parameters but are never trained.",
        ),
    }  # fmt: skip
    st.dataframe(rows.assign(state=rows["state"].map(STATE_WORDS)), hide_index=True, column_config=config)
