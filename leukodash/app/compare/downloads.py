"""Downloads of the compare page: a report of the comparison, and a model card for each run."""

import streamlit as st

from leukodash.evaluation.comparison import Comparison, Summary, Thresholds
from leukodash.runs.leaderboard import run_names
from leukodash.runs.run_folder import Run
from leukodash.runs.run_report import comparison_report, run_card


def report_part(comparison: Comparison, at: Thresholds, summary: Summary, chosen: list[Run]) -> None:
    """Offer a report of the current comparison, and model cards; each is created on request."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.download_button(
            "Report", lambda: comparison_report(chosen, comparison, at, summary), "comparison.html", "text/html",
            icon=":material/description:", on_click="ignore", key="report",
            help="One HTML file with these numbers and interactive figures; works offline (5 MB).",
        )  # fmt: skip
        with st.popover("Model card", icon=":material/badge:"):
            named = run_names(chosen)
            name = st.selectbox("Run", list(named), key="card-run")
            st.download_button(
                "Download", lambda: run_card(named[name]), f"{named[name].id}.md", "text/markdown",
                icon=":material/download:", on_click="ignore", key="card",
            )  # fmt: skip
