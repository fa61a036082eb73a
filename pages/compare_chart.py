"""One way to show a figure on the compare page: full width, no tool bar, its alt text for screen readers."""

import plotly.graph_objects as go
import streamlit as st

from leukodash.figures.theme import alt_text


def chart(figure: go.Figure, key: str) -> None:
    """Show a figure under a stable key."""
    st.plotly_chart(figure, key=key, config={"displayModeBar": False}, alt=alt_text(figure))
