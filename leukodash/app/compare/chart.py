"""One way to show a figure on the compare page: full width, no tool bar, its alt text for screen readers."""

from typing import Any

import plotly.graph_objects as go
import streamlit as st

from leukodash.figures.theme import alt_text


def chart(figure: go.Figure, key: str, **more: Any) -> Any:
    """Show a figure under a stable key; `more` goes to `st.plotly_chart`, whose answer is returned."""
    # Streamlit's theme writes in grey, too faint on a filled square.
    figure.update_layout(font_color="#ECEDF1" if st.context.theme.type == "dark" else "#1C1E26")
    return st.plotly_chart(figure, key=key, config={"displayModeBar": False}, alt=alt_text(figure), **more)
