"""The compare page's paired tests: all runs against each other, any two in detail, and how many cells it takes."""

import pandas as pd
import streamlit as st

from leukodash.app.common import plain
from leukodash.app.compare.chart import chart
from leukodash.evaluation.comparison import Comparison, Thresholds
from leukodash.evaluation.statistics import ALPHA, cells_needed, cochran_q, verdict
from leukodash.figures.accuracy_charts import pairs_figure


def tests_part(comparison: Comparison, at: Thresholds, table: pd.DataFrame | None) -> None:
    """Whether the runs differ at all, which of them do, and any two in detail."""
    names = list(comparison.answers)
    if table is None:
        st.info("A test needs two runs: choose another one at the top.", icon=":material/touch_app:")
        return
    left, right = st.columns(2)
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
    q, p = cochran_q(comparison.right(at))
    apart = int(table["separated"].sum())
    said = f"{apart} of {len(table)} pairs differ" if apart else "No two runs can be told apart"
    return (
        f"**{said}.** Cochran's Q over all {len(comparison.answers)} is {q:.1f}, p {p_words(p)}, with every cell taken "
        "for independent."
    )


def _choose_pair(table: pd.DataFrame, names: list[str]) -> pd.Series:
    """Any two runs; the first named is the one that is subtracted from."""
    columns = st.columns(2)
    a = columns[0].selectbox("First run", names, key="first")
    b = columns[1].selectbox("Second run", [name for name in names if name != a], key="second")
    row = table[table["a"].isin([a, b]) & table["b"].isin([a, b])].iloc[0]
    if row["a"] == a:
        return row
    turned = {"a": a, "b": b, "only_a": row["only_b"], "only_b": row["only_a"]}
    turned |= {"difference": -row["difference"], "low": -row["high"], "high": -row["low"]}
    return pd.Series({**row.to_dict(), **turned})


def _pair(pair: pd.Series) -> None:
    a, b = plain(pair["a"]), plain(pair["b"])
    if pair["p"] < ALPHA and not pair["separated"]:
        st.markdown(
            f"**{a} and {b} would differ if they were the only two compared (p {p_words(pair['p'])}); after Holm's "
            f"correction for all pairs they do not (p {p_words(pair['p_holm'])}).**"
        )
    else:
        st.markdown(f"**{plain(verdict(pair))}**")
    st.markdown(
        f"| cells | {b} right | {b} wrong |\n|:--|--:|--:|\n"
        f"| **{a} right** | {pair['both_right']:,} | {pair['only_a']:,} |\n"
        f"| **{a} wrong** | {pair['only_b']:,} | {pair['both_wrong']:,} |"
    )
    points = f"{100 * pair['difference']:+.1f} points (95 %: {100 * pair['low']:+.1f} to {100 * pair['high']:+.1f})"
    mcnemar = f"Exact McNemar: p {p_words(pair['mcnemar'])}"
    if pair["subjects"]:
        st.markdown(
            f"Difference in accuracy: {points}, p {p_words(pair['p'])}, by leaving out one of {pair['subjects']} "
            f"subjects at a time. {mcnemar}, which takes every cell for independent and so finds too much."
        )
    else:
        st.markdown(f"Difference in accuracy: {points}. {mcnemar}.")


def _power(pair: pd.Series) -> None:
    """How many independent cells a test needs for a difference that one would like to see."""
    with st.popover("How many cells would it take?", icon=":material/calculate:"):
        seen = 100 * abs(pair["difference"])
        divided = 100 * (pair["only_a"] + pair["only_b"]) / pair["n"]
        key = f"{pair['a']}-{pair['b']}"
        points = st.slider("Difference to be found, points", 0.1, 20.0, min(20.0, max(0.1, round(seen, 1))), 0.1,
                           key=f"points-{key}")  # fmt: skip
        share = st.slider("Cells on which exactly one is right, %", 0.1, 60.0, min(60.0, max(0.1, round(divided, 1))),
                          0.1, key=f"share-{key}", help="Two accuracies do not tell it, the table does.")  # fmt: skip
        power = st.slider("Chance of finding it, %", 50, 99, 80, key=f"power-{key}")
        if share < points:
            st.markdown("No fewer cells can divide the two than the difference demands: raise their share.")
            return
        needed = cells_needed(points / 100, share / 100, power / 100)
        st.markdown(
            f"**{needed:,.0f} independent cells.** There are {pair['n']:,} here. Cells of one subject are not "
            "independent, so it takes more of those."
        )


def p_words(p: float) -> str:
    """A p-value with its sign: "= 0.032", "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"
