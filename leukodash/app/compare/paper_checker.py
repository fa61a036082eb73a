"""Check a paper: type a printed result, and read its interval, what it can be told apart from, and what may leak."""

import pandas as pd
import streamlit as st

from leukodash.app.common import plain
from leukodash.app.compare.chart import chart
from leukodash.errors import LeukoDashError
from leukodash.evaluation.paper_check import (
    METRICS,
    MOST,
    SPLITS,
    Measured,
    Result,
    comparison_words,
    detectable_words,
    headline,
    interval_words,
    intervals,
    leakage_words,
    parse_result,
    printed_intervals,
    title,
)
from leukodash.evaluation.published import OTHERS, PUBLISHED, published_table
from leukodash.figures.accuracy_charts import forest_figure
from leukodash.runs.run_folder import file_stamp
from leukodash.studies.catalogue import done
from leukodash.studies.measured import STUDY, measured

EXAMPLE = "64 of 70"  # MobileNet of Dhuri & Guinde
ROWS = (*PUBLISHED, *OTHERS)
TITLES = {f"{title(row)}, {METRICS[row.metric]}": row for row in ROWS}
HELP = "As printed: a count, `64 of 70`, or a share, `91.4 % of 70` or `0.914 of 70`."


def paper_part() -> None:
    """Show the fields, what the result says, and the table of published results."""
    st.subheader("Check a paper", anchor=False)
    st.caption("Type a result as a paper prints it. It was measured on other cells than the runs on this page.")
    with st.container(horizontal=True):
        text = st.text_input("Result", EXAMPLE, max_chars=40, help=HELP, key="paper", bind="query-params", width=190)
        metric = st.selectbox(
            "Metric", list(METRICS), format_func=METRICS.__getitem__, key="paper-metric", bind="query-params", width=190
        )
        split = st.selectbox("Split", SPLITS, key="paper-split", bind="query-params", width=150)
        subjects = st.number_input(
            "Test subjects",
            1,
            MOST,
            None,
            placeholder="not stated",
            key="paper-subjects",
            bind="query-params",
            width=150,
        )
        against = st.selectbox("Compare with", list(TITLES), key="paper-against", width=330)
    try:
        result, known = parse_result(text, metric, split, subjects), _measured()
    except LeukoDashError as error:
        st.error(plain(str(error)), icon=":material/error:")
    else:
        _answer(result, known, against)
    _table()


def _answer(result: Result, known: Measured, against: str) -> None:
    st.markdown(f"#### {headline(result, known)}")
    if result.metric == "accuracy":
        chart(forest_figure(_lines(result, known, against)), "paper-chart")
    said = {
        "Interval": [interval_words(result, known)],
        "Power": [detectable_words(result, known)],
        "Comparison": [comparison_words(result, TITLES[against], known)],
        "Leaks": leakage_words(result, known, ROWS),
    }
    st.markdown("\n".join(f"- **{name}.** {' '.join(words)}" for name, words in said.items() if any(words)))


def _lines(result: Result, known: Measured, against: str) -> pd.DataFrame:
    """Return the rows of the figure: the result with each of its intervals, and the one that it is compared with."""
    alone, by_subject = intervals(result, known)
    rows: list[tuple] = [("this result, independent cells", None, result.value, *alone, result.n, False)]
    if by_subject:
        rows.insert(0, ("this result, by subject", None, result.value, *by_subject, result.n, False))
    other = TITLES[against]
    theirs, theirs_by_subject = printed_intervals(other, known)
    if other.metric == result.metric and theirs:
        rows.append((title(other), other.backbone, other.value, *(theirs_by_subject or theirs), other.n, True))
    return pd.DataFrame(rows, columns=["name", "backbone", "accuracy", "low", "high", "n", "published"])


def _measured() -> Measured:
    rows = done().get(STUDY, [])
    return _measured_by(tuple((str(row.run.path), file_stamp(row.run.path / "metrics.json")) for row in rows))


@st.cache_data(max_entries=4, show_spinner="Reading the runs of the study of splits …")
def _measured_by(stamp: tuple) -> Measured:
    return measured()


def _table() -> None:
    """Show published results, by how they were split."""
    rows = published_table(ROWS).sort_values("split", key=lambda split: split.map(SPLITS.index), kind="stable")
    counts = rows[["k", "n"]].to_numpy()
    rows["right"] = [f"{k:,} of {n:,}" if pd.notna(k) else f"of {n:,}" if pd.notna(n) else "" for k, n in counts]
    rows["value"] *= 100
    ends = 100 * rows[["low", "high"]].to_numpy()
    rows["interval"] = [f"{low:.1f}–{high:.1f}" if pd.notna(low) else "" for low, high in ends]
    rows["metric"] = rows["metric"].map(METRICS)
    st.caption(
        "Published results on C-NMC, by how the cells were split. By image, cells of the same people are in training "
        "and test. Intervals count cells as independent, so they are too narrow."
    )
    st.dataframe(
        rows,
        column_order=[
            "split", "paper", "year", "network", "metric", "value", "right", "interval", "stated", "note", "source"
        ],
        column_config={
            "split": "Split", "paper": "Source", "year": st.column_config.NumberColumn("Year", format="%d"),
            "network": "Network", "metric": "Measure",
            "value": st.column_config.NumberColumn("Published, %", format="%.1f"), "right": "Correct",
            "interval": "Wilson 95%", "stated": "Split as stated, if different", "note": "Limitations",
            "source": "Reference",
        },
        hide_index=True,
        key="published",
    )  # fmt: skip
