"""The compare page's tabs: paired tests, curves, and the papers' numbers. Only the open tab is computed."""

import pandas as pd
import streamlit as st

from leukodash.app.common import plain
from leukodash.app.compare.chart import chart
from leukodash.app.compare.paired_tests import tests_part
from leukodash.data.dataset import label_title
from leukodash.evaluation.comparison import Comparison, Summary, Thresholds, by_subject, reliability_tables
from leukodash.evaluation.metrics import net_benefit
from leukodash.evaluation.published import published_table
from leukodash.figures.accuracy_charts import subject_figure
from leukodash.figures.learning_curve import learning_figure
from leukodash.figures.probability_curves import decision_figure, pr_figure, reliability_figure, roc_figure
from leukodash.figures.training_curves import history_figure
from leukodash.models.backbones import BACKBONES
from leukodash.runs.leaderboard import backbone_of, run_names
from leukodash.runs.run_folder import Run


def tabs_part(comparison: Comparison, at: Thresholds, found: Summary, chosen: list[Run]) -> None:
    """Show the tabs."""
    parts = {
        "Training": lambda: _training(chosen),
        "More cells": lambda: _learning(found, chosen),
        "Paired tests": lambda: tests_part(comparison, at, found.tests),
        "ROC and PR": lambda: _ranking(comparison, at),
        "Calibration": lambda: _calibration(comparison),
        "Use": lambda: _decision(comparison),
        "By subject": lambda: _subjects(comparison, at),
        "Published": _published,
    }
    for tab, part in zip(st.tabs(list(parts), key="tab", bind="query-params"), parts.values(), strict=True):
        if tab.open:
            with tab:
                part()


def _training(chosen: list[Run]) -> None:
    histories = {name: run.history for name, run in run_names(chosen).items()}
    histories = {name: history for name, history in histories.items() if len(history)}
    backbones = {name: backbone_of(run) for name, run in run_names(chosen).items()}
    for column, metric in zip(st.columns(2), ("accuracy", "loss"), strict=True):
        with column:
            chart(history_figure(histories, metric, backbones), f"history-{metric}")


def _learning(found: Summary, chosen: list[Run]) -> None:
    sizes = {name: int((run.split["part"] == "train").sum()) for name, run in run_names(chosen).items()}
    titles = {key: row.title for key, row in BACKBONES.items()}
    rows = found.table.rename(columns={"accuracy_low": "low", "accuracy_high": "high"})
    rows = rows.assign(train=rows["name"].map(sizes), title=rows["backbone"].map(titles).fillna("Other"))
    rows = rows[rows["train"] > 0].astype({"train": int})
    if rows["train"].nunique() < 2:
        st.info(
            "All these runs learnt from equally many cells. To see what more cells bring, train again with the same "
            "seed and test part but a larger validation part, and choose both runs.",
            icon=":material/show_chart:",
        )
        return
    chart(learning_figure(rows), "learning")
    st.caption("Runs may differ in more than their training cells: see the table.")


def _ranking(comparison: Comparison, at: Thresholds) -> None:
    if not _two_classes(comparison):
        return
    runs = {name: (comparison.is_positive, comparison.scores(name)) for name in comparison.answers}
    marked = {name: threshold for name, threshold in at.items() if threshold is not None}
    marked = marked or dict.fromkeys(runs, 0.5)
    left, right = st.columns(2)
    with left:
        chart(roc_figure(runs, comparison.backbones, marked), "roc")
    with right:
        chart(pr_figure(runs, comparison.backbones, marked), "pr")
    st.caption(
        "Each point of a curve is a threshold; the ring is the one in use. Left of the diagonal is better than chance; "
        "the share of blasts sets what chance is on the right."
    )


def _calibration(comparison: Comparison) -> None:
    chart(reliability_figure(reliability_tables(comparison), comparison.backbones), "reliability")
    st.caption("Below the diagonal a run is surer than it is right. Bars are Wilson's intervals of each bin.")


def _decision(comparison: Comparison) -> None:
    if not _two_classes(comparison):
        return
    tables = {name: net_benefit(comparison.is_positive, comparison.scores(name)) for name in comparison.answers}
    chart(decision_figure(tables, comparison.backbones), "decision")
    st.caption(
        "What acting on a run's word would be worth to someone who acts from a given probability on: blasts found, "
        "less false alarms at the price that this probability sets. The share of blasts is this test set's, not that "
        "of a clinic."
    )


def _subjects(comparison: Comparison, at: Thresholds) -> None:
    if comparison.subjects is None:
        st.info("Nobody knows which subject these cells are from.", icon=":material/person_off:")
        return
    rows = by_subject(comparison, at)
    chart(subject_figure(rows.assign(label=rows["label"].map(label_title)), comparison.backbones), "subjects")
    worst = rows.groupby(["subject", "label"])["accuracy"].mean().sort_values()
    (subject, label), share = worst.index[0], worst.iloc[0]
    st.caption(
        f"The runs are wrong about subject {plain(subject)} ({label_title(label)}) most: {share:.0%} right on average."
    )


def _two_classes(comparison: Comparison) -> bool:
    usable = len(comparison.classes) == 2 and 0 < comparison.is_positive.sum() < comparison.n
    if not usable:
        st.info("This needs test cells of exactly two classes.", icon=":material/info:")
    return usable


def _published() -> None:
    """What papers printed: on other cells, so that it takes no part in the comparison."""
    rows = published_table()
    rows["right"] = [
        f"{k:,} of {n:,}" if pd.notna(k) else f"of {n:,}" for k, n in zip(rows["k"], rows["n"], strict=True)
    ]
    rows["value"] *= 100
    rows["interval"] = [
        f"{100 * low:.1f}–{100 * high:.1f}" if pd.notna(low) else "" for low, high in rows[["low", "high"]].to_numpy()
    ]
    rows["metric"] = rows["metric"].map({"accuracy": "accuracy", "f1_weighted": "weighted F1"})
    st.caption("None of these was measured on your test cells: they stand beside the comparison, not in it.")
    st.dataframe(
        rows,
        column_order=["paper", "year", "network", "metric", "value", "right", "interval", "split", "note"],
        column_config={
            "paper": "Source", "year": st.column_config.NumberColumn("Year", format="%d"), "network": "Network",
            "metric": "Measure", "value": st.column_config.NumberColumn("Printed, %", format="%.1f"),
            "right": "Right", "interval": "Wilson 95 %", "split": "Split", "note": "Mind",
        },
        hide_index=True,
        key="published",
    )  # fmt: skip
