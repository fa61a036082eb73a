"""Calibration on the compare page: how well probabilities fit on the test cells, before and after a temperature."""

import hashlib

import pandas as pd
import streamlit as st

from leukodash.app.common import choose_one, plain
from leukodash.app.compare.chart import chart
from leukodash.evaluation.calibration import Temperature
from leukodash.evaluation.calibration_tables import calibrated, calibration_table, calibration_words, temperatures
from leukodash.evaluation.comparison import Comparison, reliability_tables
from leukodash.figures.probability_curves import reliability_figure

SHOWN = {"given": "As the networks give them", "calibrated": "Calibrated"}
HELP = {
    "temperature": "Logits are divided by it; 1 leaves probabilities as they are.",
    "log loss": "Mean negative log-likelihood: lower is better. An arrow: before and after the temperature.",
    "Brier score": "Mean squared error of the probabilities: lower is better.",
    "calibration error": "Mean gap between confidence and accuracy, over bins: lower is better. It has no interval, as "
    "none that was tried held the true value.",
    "slope": "Of the calibration line, as the networks give probabilities: below 1 too sure, above 1 not sure enough. "
    "A temperature multiplies it.",
    "intercept": "Of the calibration line: above 0, the positive class is more frequent than predicted.",
}


def calibration_part(comparison: Comparison) -> None:
    """Show each run's temperature, the measures of calibration before and after it, and the reliability diagram."""
    digest = hashlib.sha256(comparison.is_positive.tobytes())
    for name, own in comparison.predictions.items():
        digest.update(name.encode() + own.test.tobytes() + own.validation.tobytes())
    chosen, table = _measured(digest.hexdigest(), comparison)
    used = [name for name, own in chosen.items() if own.value != 1]
    subjects = f" of {comparison.subject_count} subjects" if comparison.subject_count else ""
    st.markdown(
        f"Do the probabilities fit? Measured on {comparison.n:,} test cells{subjects}; in brackets, the 95% interval "
        "of a change, or of the slope and the intercept."
    )
    st.dataframe(
        calibration_words(table), hide_index=True, key="calibration-table", placeholder="–",
        column_config={"run": st.column_config.TextColumn("run", pinned=True)}
        | {title: st.column_config.TextColumn(title, help=words) for title, words in HELP.items()},
    )  # fmt: skip
    st.caption("  \n".join(plain(f"{name}: probabilities {own.note}.") for name, own in chosen.items()))
    shown = comparison
    if used and choose_one("Probabilities", SHOWN, "reliability-of", bind="query-params") == "calibrated":
        shown = calibrated(comparison, chosen)
    chart(reliability_figure(reliability_tables(shown), comparison.backbones), "reliability")
    st.caption(
        "Below the diagonal, a run is too sure. Bars are Wilson intervals of each bin, which assume independent cells. "
        "All other figures of this page are of probabilities as the networks give them; the classify page shows "
        "calibrated ones, unless that is switched off there. A temperature changes neither the likeliest class nor the "
        "ROC curve."
    )


@st.cache_data(max_entries=64, show_spinner=False)
def _measured(key: str, _comparison: Comparison) -> tuple[dict[str, Temperature], pd.DataFrame]:
    chosen = temperatures(_comparison)
    return chosen, calibration_table(_comparison, chosen)
