"""By person on the compare page: how many people each run is right on, their cells, and how many cells it takes."""

import streamlit as st

from leukodash.app.common import plain
from leukodash.app.compare.chart import chart
from leukodash.evaluation.comparison import Comparison, Thresholds
from leukodash.evaluation.person_verdicts import (
    EACH,
    LIKELY,
    PersonVerdicts,
    few_people_words,
    people_rows,
    person_sentences,
    person_table,
    person_verdicts,
    roc_runs,
)
from leukodash.figures.people_charts import people_figure, people_roc_figure, stability_figure
from leukodash.runs.run_folder import Run

EXACT = "With the 95% interval of Clopper and Pearson."
HELP = {
    "people right": f"People whose verdict is right. {EXACT}",
    "sensitivity": f"Over people. {EXACT}",
    "specificity": f"Over people. {EXACT}",
    "ROC AUC": f"Of the share over people, with Newcombe's 95% interval; from {EACH} people of each class on.",
    "threshold": "The share of cells from which a person is called positive.",
    "held-out people": "Those on whom the threshold is chosen. With too few it is one half.",
    "cells needed": f"From this number on, at least {LIKELY:.0%} of people get the verdict of all their cells with a "
    f"probability of {LIKELY:.0%}.",
}


@st.cache_resource(max_entries=32, show_spinner=False)
def _verdicts(_comparison: Comparison, at: Thresholds, key: tuple) -> dict[str, PersonVerdicts]:
    return person_verdicts(_comparison, at)


def people_part(comparison: Comparison, at: Thresholds, chosen: list[Run], key: tuple) -> None:
    """Show the verdicts by person of each run.

    Args:
        comparison: the predictions.
        at: the threshold of each, for cells.
        chosen: the runs on the page, whose split is named.
        key: changes with the comparison.
    """
    st.subheader("By person", anchor=False)
    if comparison.subjects is None:
        st.info("The subjects of these cells are unknown.", icon=":material/person_off:")
        return
    verdicts = _verdicts(comparison, at, key)
    if not verdicts:
        st.info("Each subject has cells of several classes, so nobody has one true class.", icon=":material/group_off:")
        return
    splits = "; ".join(dict.fromkeys(run.metrics.get("split") or "split unknown" for run in chosen))
    first = next(iter(verdicts.values()))
    count = f"{len(first.people)} people, each called by the share of their cells; {splits}."
    st.caption(plain(" ".join(filter(None, (count, few_people_words(first))))))
    if len(verdicts) > 1:
        columns = {name: st.column_config.TextColumn(name[0].upper() + name[1:], help=of) for name, of in HELP.items()}
        columns["run"] = st.column_config.TextColumn("Run", pinned=True)
        st.dataframe(person_table(verdicts), column_config=columns, hide_index=True, key="people-table")
    names = list(verdicts)
    name = names[0] if len(names) == 1 else st.selectbox("Run", names, key="person-run", bind="query-params")
    own = verdicts[name]
    chart(people_figure(people_rows(own), own.threshold, own.title, name), "people")
    st.markdown(plain(" ".join(person_sentences(own))))
    left, right = st.columns(2)
    if runs := roc_runs(verdicts):
        with left:
            chart(people_roc_figure(runs, comparison.backbones), "people-roc")
    with right if runs else left:
        curves = {each: mine.curve for each, mine in verdicts.items()}
        chart(stability_figure(curves, comparison.backbones, LIKELY), "stability")
