"""How well the probabilities of compared runs fit on the test cells, before and after their temperatures."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from leukodash.evaluation.calibration import (
    MEASURES,
    Temperature,
    calibration_change,
    calibration_line,
    fit_temperature,
)
from leukodash.evaluation.comparison import Comparison

LINES = {"slope": "slope", "intercept": "intercept"}


def temperatures(comparison: Comparison) -> dict[str, Temperature]:
    """Return the temperature of each run by name, chosen on its validation cells: see `fit_temperature`."""
    found = {}
    for name, own in comparison.predictions.items():
        codes = [comparison.classes.index(label) for label in own.validation_labels]
        found[name] = fit_temperature(own.validation, np.array(codes, dtype=int), own.validation_subjects)
    return found


def calibrated(comparison: Comparison, chosen: Mapping[str, Temperature]) -> Comparison:
    """Return the comparison with test probabilities at these temperatures."""
    scaled = {name: replace(own, test=chosen[name].scale(own.test)) for name, own in comparison.predictions.items()}
    return replace(comparison, predictions=scaled)


def calibration_table(comparison: Comparison, chosen: Mapping[str, Temperature]) -> pd.DataFrame:
    """Return a row for each run: its calibration on the test cells before and after its temperature.

    Args:
        comparison: the predictions.
        chosen: from `temperatures`.

    Returns:
        Columns: name, temperature, note; for each of `MEASURES` its value before, ``<measure>``, and ``_after``, and
        the 95% interval of after − before, ``_low`` and ``_high``; and for two classes slope and intercept of the
        calibration line before, ``_low`` and ``_high``, and ``slope_after``. NaN where undefined.
    """
    codes = np.array([comparison.classes.index(label) for label in comparison.labels], dtype=int)
    rows: list[dict[str, Any]] = []
    for name, own in comparison.predictions.items():
        row: dict[str, Any] = {"name": name, "temperature": chosen[name].value, "note": chosen[name].note}
        for change in calibration_change(own.test, codes, chosen[name], comparison.subjects).to_dict("records"):
            measure = change["measure"]
            row |= {measure: change["before"], f"{measure}_after": change["after"]}
            row |= {f"{measure}_low": change["low"], f"{measure}_high": change["high"]}
        if len(comparison.classes) == 2:
            row |= calibration_line(comparison.scores(name), comparison.is_positive, comparison.subjects)
            row["slope_after"] = row["slope"] * chosen[name].value
        rows.append(row)
    return pd.DataFrame(rows)


def calibration_words(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as texts: run, temperature, measures "0.312 → 0.290, by −0.022 (−0.031 to −0.013)", and lines.

    Args:
        table: from `calibration_table`.
    """
    used = table["temperature"] != 1
    shown = pd.DataFrame(
        {"run": table["name"], "temperature": table["temperature"].map("{:.2f}".format).where(used, "1")}
    )
    for measure, title in MEASURES.items():
        columns = [measure, f"{measure}_after", f"{measure}_low", f"{measure}_high"]
        shown[title] = [_change(*row) for row in table[columns].to_numpy(dtype=float)]
    for line, title in LINES.items():
        if line in table:
            columns = [line, f"{line}_low", f"{line}_high"]
            shown[title] = [_line(*row) for row in table[columns].to_numpy(dtype=float)]
    return shown


def _change(before: float, after: float, low: float, high: float) -> str:
    if before == after:
        return f"{before:.3f}"
    between = f" ({low:+.3f} to {high:+.3f})" if np.isfinite(low) else ""
    return f"{before:.3f} → {after:.3f}{between}".replace("-", "−")


def _line(value: float, low: float, high: float) -> str:
    if not np.isfinite(value):
        return ""
    between = f" ({low:.2f} to {high:.2f})" if np.isfinite(low) else ""
    return f"{value:.2f}{between}".replace("-", "−")
