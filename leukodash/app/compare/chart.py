"""Figures of the compare page: full width, no toolbar, alt text for screen readers."""

from typing import Any

import plotly.graph_objects as go
import streamlit as st

from leukodash.figures.theme import alt_text


def chart(figure: go.Figure, key: str, **more: Any) -> Any:
    """Show a figure under a stable key; `more` is passed to `st.plotly_chart`, whose result is returned."""
    # The grey text of Streamlit's theme has too little contrast, most of all on filled squares.
    ink = "#ECEDF1" if st.context.theme.type == "dark" else "#1C1E26"
    figure.update_layout(font_color=ink)
    for axes in (figure.update_xaxes, figure.update_yaxes):
        axes(tickfont_color=ink, title_font_color=ink)
    return st.plotly_chart(figure, key=key, config={"displayModeBar": False}, alt=alt_text(figure), **more)
