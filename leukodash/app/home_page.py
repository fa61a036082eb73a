"""Home: what LeukoDash is, one real cell with its answer, the headline comparison, and the ways in."""

import streamlit as st

from leukodash.app.common import page_head
from leukodash.app.navigation import page


def show() -> None:
    """Show the page."""
    page_head("LeukoDash", "Can a network tell leukemia cells from healthy ones? Try it, and see how far to trust it.")
    with st.container(horizontal=True):
        st.page_link(page("classify"), label="Try a cell", icon=":material/biotech:")
        st.page_link(page("compare"), label="See which network is better", icon=":material/leaderboard:")
        st.page_link(page("train"), label="Train one", icon=":material/model_training:")
