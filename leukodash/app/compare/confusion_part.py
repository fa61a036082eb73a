"""Confusion matrices of the compare page, one for each run, and the choice of the threshold."""

from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
import streamlit as st

from leukodash.app.common import choose_one, plain
from leukodash.app.compare.chart import chart
from leukodash.app.compare.gallery import open_square
from leukodash.data.dataset import label_title
from leukodash.evaluation.comparison import Comparison, Thresholds, thresholds_by_rule
from leukodash.figures.accuracy_charts import confusion_figure

IN_A_ROW = 4
RULES: dict[Literal["likeliest", "fixed", "youden", "sensitivity"], str] = {
    "likeliest": "Likeliest class",
    "fixed": "One threshold",
    "youden": "Best on validation",
    "sensitivity": "Given sensitivity",
}
RULES_HELP = (
    "How a probability becomes a class. *Likeliest class*: blast from a probability of 0.5. *One threshold*: the same "
    "threshold for all runs. *Best on validation*: highest sensitivity + specificity (Youden index) on the run's own "
    "validation cells. *Given sensitivity*: the highest threshold with this sensitivity on the validation cells. No "
    "threshold is chosen on test cells."
)
NORMALIZE: dict[Literal["truth", "prediction", "all"], str] = {
    "truth": "of each row (truth)",
    "prediction": "of each column (predicted)",
    "all": "of all cells",
}


def choose_thresholds(comparison: Comparison) -> tuple[Thresholds, str]:
    """Let the user choose the threshold for the whole page; returns it, and a sentence unless it is the usual one."""
    if len(comparison.classes) != 2:
        return dict.fromkeys(comparison.predictions), ""
    rule = choose_one("Decision rule", RULES, "rule", help=RULES_HELP, bind="query-params")
    value = 0.5
    title = label_title(comparison.positive)
    if rule == "fixed":
        value = st.slider(f"{title} from a probability of", 0.01, 0.99, 0.5, 0.01, key="at", bind="query-params")
    elif rule == "sensitivity":
        value = st.slider("Sensitivity on validation", 0.5, 1.0, 0.95, 0.01, key="sensitivity", bind="query-params")
    at, problem = thresholds_by_rule(comparison, rule, value)
    if rule == "likeliest":
        return at, ""
    used = [f"{name} {threshold:.3f}" for name, threshold in at.items() if threshold is not None]
    return at, " ".join([f"{title} from a probability of: {', '.join(used)}."] * bool(used) + [problem])


def confusion_part(comparison: Comparison, at: Thresholds, table: pd.DataFrame) -> None:
    """Show one confusion matrix for each row of the table."""
    normalize = choose_one("Percentages", NORMALIZE, "share", bind="query-params")
    titles = {label_title(label): label for label in comparison.classes}
    width = min(IN_A_ROW, max(2, len(table)))
    for start in range(0, len(table), width):
        columns = st.columns(width)
        for column, (_, row) in zip(columns, table.iloc[start : start + width].iterrows(), strict=False):
            with column:
                name = row["name"]
                st.markdown(f"**{plain(name)}**")
                figure = confusion_figure(np.array(row["confusion"]), list(titles), normalize)
                opened = partial(open_square, name, titles)
                chart(figure, f"confusion-{name}", on_select=opened, selection_mode="points")
    st.caption("Click an entry to show its cells below.")
