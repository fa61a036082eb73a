"""Paired tests of the compare page: all runs against each other, two runs in detail, and a power calculation."""

from typing import Any

import pandas as pd
import streamlit as st

from leukodash.app.common import plain
from leukodash.app.compare.chart import chart
from leukodash.evaluation.comparison import Comparison, Thresholds
from leukodash.evaluation.statistics import ALPHA, cells_needed, cochran_q, verdict
from leukodash.figures.accuracy_charts import pairs_figure

SIDE_BY_SIDE = 5  # runs whose chart of pairs fits into half the page


def tests_part(comparison: Comparison, at: Thresholds, table: pd.DataFrame | None) -> None:
    """Show whether the runs differ, which pairs differ, and two chosen runs in detail."""
    names = list(comparison.predictions)
    if table is None:
        st.info("A test needs two runs: select another one above.", icon=":material/touch_app:")
        return
    left, right = st.columns(2) if len(names) <= SIDE_BY_SIDE else (st.container(), st.container())
    with left:
        if len(names) > 2:
            st.markdown(_overall(comparison, at, table))
        chart(pairs_figure(table), "pairs")
        st.caption(
            "Row minus column in points of accuracy, with the p-value after Holm's correction for "
            f"{len(table)} test{'s' if len(table) > 1 else ''}; ≠ where it is below 0.05."
        )
    with right:
        pair = _choose_pair(table, names)
        _pair(pair)
        _power(pair)


def _overall(comparison: Comparison, at: Thresholds, table: pd.DataFrame) -> str:
    q, p = cochran_q(comparison.correct(at))
    apart = int(table["separated"].sum())
    result = f"{apart} of {len(table)} pairs differ" if apart else "No two runs can be told apart"
    test = f"Cochran's Q over all {len(comparison.predictions)} is {q:.1f}, p {p_words(p)}, assuming independent cells."
    return f"**{result}.** {test}"


def _choose_pair(table: pd.DataFrame, names: list[str]) -> pd.Series:
    """Let the user choose two runs; returns their row with the first run as minuend."""
    columns = st.columns(2)
    a = columns[0].selectbox("First run", names, key="first")
    b = columns[1].selectbox("Second run", [name for name in names if name != a], key="second")
    row = table[table["a"].isin([a, b]) & table["b"].isin([a, b])].iloc[0]
    if row["a"] == a:
        return row
    swapped: dict[Any, Any] = {"a": a, "b": b, "only_a": row["only_b"], "only_b": row["only_a"]}
    swapped |= {"difference": -row["difference"], "low": -row["high"], "high": -row["low"]}
    return pd.Series({**row.to_dict(), **swapped})


def _pair(pair: pd.Series) -> None:
    a, b = plain(pair["a"]), plain(pair["b"])
    if pair["p"] < ALPHA and not pair["separated"]:
        st.markdown(
            f"**{a} and {b} differ if tested alone (p {p_words(pair['p'])}); after Holm's correction for all "
            f"pairs they do not (p {p_words(pair['p_holm'])}).**"
        )
    else:
        st.markdown(f"**{plain(verdict(pair))}**")
    st.markdown(
        f"| cells | {b} correct | {b} wrong |\n|:--|--:|--:|\n"
        f"| **{a} correct** | {pair['both_right']:,} | {pair['only_a']:,} |\n"
        f"| **{a} wrong** | {pair['only_b']:,} | {pair['both_wrong']:,} |"
    )
    points = f"{100 * pair['difference']:+.1f} points (95%: {100 * pair['low']:+.1f} to {100 * pair['high']:+.1f})"
    mcnemar = f"Exact McNemar: p {p_words(pair['mcnemar'])}"
    if pair["subjects"]:
        st.markdown(
            f"Difference in accuracy: {points}, p {p_words(pair['p'])}, from a jackknife over "
            f"{pair['subjects']} subjects. {mcnemar}, which assumes independent cells and so overstates the evidence."
        )
    else:
        st.markdown(f"Difference in accuracy: {points}. {mcnemar}.")


def _power(pair: pd.Series) -> None:
    """Show how many independent cells a test needs to detect a difference."""
    with st.popover("How many cells are needed?", icon=":material/calculate:"):
        observed = 100 * abs(pair["difference"])
        discordant = 100 * (pair["only_a"] + pair["only_b"]) / pair["n"]
        key = f"{pair['a']}-{pair['b']}"
        points = st.slider(
            "Difference to detect, points", 0.1, 20.0, min(20.0, max(0.1, round(observed, 1))), 0.1,
            key=f"points-{key}",
        )  # fmt: skip
        share = st.slider(
            "Cells that exactly one run classifies correctly, %", 0.1, 60.0,
            min(60.0, max(0.1, round(discordant, 1))), 0.1, key=f"share-{key}",
            help="Not determined by the two accuracies; see the table.",
        )  # fmt: skip
        power = st.slider("Power, %", 50, 99, 80, key=f"power-{key}")
        if share < points:
            st.markdown("The share of discordant cells cannot be smaller than the difference: increase it.")
            return
        needed = cells_needed(points / 100, share / 100, power / 100)
        st.markdown(
            f"**{needed:,.0f} independent cells.** This test set has {pair['n']:,}. Cells of one subject are not "
            "independent, so more cells are needed in practice."
        )


def p_words(p: float) -> str:
    """Format a p-value with its relation sign: "= 0.032", "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"
