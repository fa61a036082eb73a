"""The compare page's tabs: curves, and the papers' numbers. Only the open tab is computed."""

import streamlit as st

from leukodash.evaluation.comparison import Comparison, Thresholds
from leukodash.figures.history import history_figure
from leukodash.runs.folder import Run
from leukodash.runs.results import run_names
from pages.compare_chart import chart
from pages.compare_table import published_part


def tabs_part(comparison: Comparison, at: Thresholds, chosen: list[Run]) -> None:
    """Show the tabs."""
    parts = {
        "Training": lambda: _training(chosen),
        "Published": published_part,
    }
    for tab, part in zip(st.tabs(list(parts), key="tab", bind="query-params"), parts.values(), strict=True):
        if tab.open:
            with tab:
                part()


def _training(chosen: list[Run]) -> None:
    histories = {name: run.history for name, run in run_names(chosen).items()}
    histories = {name: history for name, history in histories.items() if len(history)}
    backbones = {name: run.config.backbone for name, run in run_names(chosen).items() if name in histories}
    for column, metric in zip(st.columns(2), ("accuracy", "loss"), strict=True):
        with column:
            chart(history_figure(histories, metric, backbones), f"history-{metric}")
