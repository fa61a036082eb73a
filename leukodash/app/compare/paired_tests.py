"""Paired tests of the compare page: by a chosen measure, all runs against each other and two runs in detail."""

from typing import Any

import pandas as pd
import streamlit as st

from leukodash.app.common import choose_one, plain
from leukodash.app.compare.chart import chart
from leukodash.evaluation.comparison import Comparison, Thresholds
from leukodash.evaluation.differences import MEASURES, cochran_q
from leukodash.evaluation.statistics import ALPHA
from leukodash.evaluation.verdicts import points, verdict
from leukodash.figures.accuracy_charts import pairs_figure

SIDE_BY_SIDE = 5  # runs whose chart of pairs fits into half the page


def chosen_measure(comparison: Comparison) -> str:
    """Return the measure that the page tests runs by, before `measure_part` is shown."""
    in_link = {title: name for name, title in MEASURES.items()}.get(st.query_params.get("measure", ""))
    name = st.session_state.get("measure", in_link)
    return name if name in comparison.measures else "accuracy"


def measure_part(comparison: Comparison) -> None:
    """Let the user choose the measure that the runs are tested and ranked by."""
    choose_one(
        "Measure", comparison.measures, "measure", bind="query-params",
        help="The tests, the ranks in the table and the sentence on top of the page follow it. With another measure "
        "for each question, some difference is found by chance: choose one before you look.",
    )  # fmt: skip


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
        measure = MEASURES[table["measure"].iloc[0]]
        chart(pairs_figure(table, measure), "pairs")
        st.caption(
            f"Row minus column: {measure} in points (hundredths), with the p-value after "
            f"Holm's correction for {len(table)} test{'s' if len(table) > 1 else ''}; ≠ where it is below 0.05."
        )
    with right:
        _pair(_choose_pair(table, names))


def _overall(comparison: Comparison, at: Thresholds, table: pd.DataFrame) -> str:
    apart, measure = int(table["separated"].sum()), table["measure"].iloc[0]
    result = f"{apart} of {len(table)} pairs differ" if apart else "No two runs can be told apart"
    result += f" in {MEASURES[measure]}"
    if measure != "accuracy":
        return f"**{result}.**"
    q, p = cochran_q(comparison.correct(at))
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
    a, b, measure = plain(pair["a"]), plain(pair["b"]), MEASURES[pair["measure"]]
    if by_chance := pair["p"] < ALPHA and not pair["separated"]:
        st.markdown(
            f"**{a} and {b} differ in {measure} if tested alone (p {p_words(pair['p'])}); after Holm's correction for "
            f"all pairs they do not (p {p_words(pair['p_holm'])}).**"
        )
    else:
        st.markdown(f"**{plain(verdict(pair))}**")
    if pair["measure"] == "accuracy":
        st.markdown(
            f"| cells | {b} correct | {b} wrong |\n|:--|--:|--:|\n"
            f"| **{a} correct** | {pair['both_right']:,} | {pair['only_a']:,} |\n"
            f"| **{a} wrong** | {pair['only_b']:,} | {pair['both_wrong']:,} |"
        )
    words = f"Difference in {measure}: {100 * pair['difference']:+.1f} points "
    words += f"(95%: {100 * pair['low']:+.1f} to {100 * pair['high']:+.1f})"
    if pair["subjects"]:
        words += f", p {p_words(pair['p'])}, from a jackknife over {pair['subjects']} subjects"
    elif pair["measure"] != "accuracy":
        words += f", p {p_words(pair['p'])}, from a jackknife over cells, as if they were independent"
    if pair["measure"] == "accuracy":
        words += f". Exact McNemar: p {p_words(pair['mcnemar'])}"
        words += ", which assumes independent cells and so overstates the evidence" if pair["subjects"] else ""
    if (by_chance or pair["separated"]) and pd.notna(pair["detectable"]):
        words += f". Such a test alone finds a true difference of {points(pair['detectable'])} in 4 of 5 cases"
    st.markdown(f"{words}.")


def p_words(p: float) -> str:
    """Format a p-value with its relation sign: "= 0.032", "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"
