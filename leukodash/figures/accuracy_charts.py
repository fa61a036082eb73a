"""Figures that compare runs: accuracy with intervals, confusion matrices, accuracy by subject, paired tests."""

import textwrap
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from leukodash.figures.theme import FAINT, PUBLISHED_GREY, SHARE_SCALE, color, layout, symbol, symbols

LABEL = 26  # letters in a line of a label
Normalise = Literal["truth", "prediction", "all"]


def forest_figure(rows: pd.DataFrame) -> go.Figure:
    """Draw a forest plot: one row per run with its accuracy and interval, published results in open gray at the bottom.

    Args:
        rows: from top to bottom: name (str), backbone (key or None), accuracy (0..1), low, high (0..1, NaN if there is
            no interval), n (images), published (bool).
    """
    rows = pd.concat([rows[~rows["published"].astype(bool)], rows[rows["published"].astype(bool)]])
    rows = rows.reset_index(drop=True)
    labels = [_wrapped(name) for name in rows["name"]]
    lines = max((label.count("<br>") + 1 for label in labels), default=1)
    traces = []  # dicts: Plotly validates them once, in half the time
    for place, row in rows.iterrows():
        ink = PUBLISHED_GREY if row["published"] else color(row["backbone"])
        known = pd.notna(row["low"])
        traces.append(
            {
                "type": "scatter",
                "x": [row["accuracy"]],
                "y": [place],
                "name": row["name"],
                "mode": "markers",
                "marker": {
                    "color": ink,
                    "symbol": symbol(row["backbone"]) + ("-open" if row["published"] else ""),
                    "size": 12,
                    "line": {"width": 2 if row["published"] else 0, "color": ink},
                },
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [row["high"] - row["accuracy"] if known else 0],
                    "arrayminus": [row["accuracy"] - row["low"] if known else 0],
                    "thickness": 2,
                    "width": 6,
                    "visible": bool(known),
                },
                "hovertemplate": f"{_with_interval(row)}<extra>{row['name']}</extra>",
            }
        )
    summary = "; ".join(
        f"{row['name']}{' (published)' if row['published'] else ''} {_with_interval(row)}" for _, row in rows.iterrows()
    )
    return layout(
        go.Figure(traces),
        f"Accuracy of each run with its 95% interval. {summary or 'No run yet'}.",
        height=90 + max(32, 16 * lines) * max(len(rows), 1),
        showlegend=False,
        xaxis={"title": "accuracy", "tickformat": ".0%"},
        yaxis={
            "tickvals": list(rows.index),
            "ticktext": labels,
            "range": [len(rows) - 0.5, -0.5],
            "showgrid": False,
            "zeroline": False,
        },
    )


def confusion_figure(
    matrix: np.ndarray, classes: Sequence[str], normalise: Normalise = "truth", height: int = 280
) -> go.Figure:
    """Draw a confusion matrix with counts and percentages, rows = truth.

    Clicks select the square markers (the figure's only scatter trace), whose `customdata` is (true class, predicted
    class), because Streamlit returns no selections on heat maps (issue 8760).

    Args:
        matrix: int array of shape (K, K), rows = truth.
        classes: the K displayed class names.
        normalise: percentages of each row, of each column or of all images.
        height: pixels.
    """
    matrix, names = np.asarray(matrix), list(classes)
    totals = {
        "truth": matrix.sum(axis=1, keepdims=True),
        "prediction": matrix.sum(axis=0, keepdims=True),
        "all": matrix.sum(),
    }[normalise]
    shares = matrix / np.maximum(totals, 1)
    cells = [(t, p) for t in range(len(names)) for p in range(len(names))]
    squares = {
        "type": "heatmap",
        "z": shares,
        "x": names,
        "y": names,
        "zmin": 0,
        "zmax": 1,
        "colorscale": SHARE_SCALE,
        "showscale": False,
        "hoverinfo": "skip",
    }
    numbers = {
        "type": "scatter",
        "x": [names[p] for _, p in cells],
        "y": [names[t] for t, _ in cells],
        "mode": "markers+text",
        "text": [f"<b>{matrix[c]:,}</b><br>{shares[c]:.1%}" for c in cells],
        "customdata": [[names[t], names[p]] for t, p in cells],
        "marker": {
            "symbol": "square",
            "size": max(20, int(0.5 * height / len(names))),
            "color": "rgba(0, 0, 0, 0)",
            "line": {"width": 0},
        },
        # Selecting a square must not fade the numbers of the others.
        "selected": {"marker": {"color": FAINT}},
        "unselected": {"marker": {"opacity": 1}},
        "hovertemplate": "%{customdata[0]} predicted as %{customdata[1]}: %{text}<extra></extra>",
        "showlegend": False,
    }
    base = {"truth": "of the true class", "prediction": "of the predicted class", "all": "of all images"}[normalise]
    summary = "; ".join(f"{names[t]} predicted as {names[p]}: {matrix[t, p]:,} ({shares[t, p]:.1%})" for t, p in cells)
    return layout(
        go.Figure([squares, numbers]),
        f"Confusion matrix, percentages {base}. {summary}.",
        height,
        xaxis={"title": "predicted", "side": "bottom", "showgrid": False, "constrain": "domain"},
        yaxis={
            "title": "truth",
            "autorange": "reversed",
            "scaleanchor": "x",
            "constrain": "domain",
            "showgrid": False,
            "tickangle": -90,  # next to a small matrix there is no room for horizontal text
        },
    )


def subject_figure(rows: pd.DataFrame, backbones: dict[str, str | None]) -> go.Figure:
    """Draw the accuracy of each run on each subject, worst subject first.

    Args:
        rows: name (run), subject (str), label (displayed class of the subject's cells, str), n (images), accuracy
            (0..1).
        backbones: backbone key (or None) by run name.
    """
    order = rows.groupby("subject")["accuracy"].mean().sort_values(kind="stable").index
    labels = rows.groupby("subject")["label"].first()
    names = list(dict.fromkeys(rows["name"]))
    figure, marker = go.Figure(), symbols({name: backbones.get(name) for name in names})
    for name in names:
        mine = rows[rows["name"] == name].set_index("subject").reindex(order).dropna(subset=["n"])
        figure.add_scatter(
            x=[f"{subject} ({labels[subject]})" for subject in mine.index],
            y=mine["accuracy"],
            name=name,
            mode="markers",
            marker={
                "color": color(backbones.get(name)),
                "symbol": marker[name],
                "size": 6 + 14 * np.sqrt(mine["n"].astype(float) / max(rows["n"].max(), 1)),
                "opacity": 0.85,
            },
            customdata=mine["n"].astype(int),
            hovertemplate="subject %{x}: %{y:.1%} of %{customdata:,} images<extra>%{fullData.name}</extra>",
        )
    worst = f" Lowest on average: {', '.join(str(subject) for subject in order[:3])}." if len(order) else ""
    return layout(
        figure,
        f"Accuracy on each of {len(order)} subjects for {', '.join(names) or 'no run yet'}.{worst}",
        400,
        xaxis={
            "title": "subject",
            "type": "category",
            "categoryorder": "array",
            "categoryarray": [f"{subject} ({labels[subject]})" for subject in order],
        },
        yaxis={"title": "accuracy (marker size: images)", "tickformat": ".0%", "range": [-0.03, 1.05]},
    )


def pairs_figure(pairs: pd.DataFrame, measure: str = "accuracy") -> go.Figure:
    """Draw the difference in the measure (points) and the Holm-adjusted p-value of each pair of runs.

    Significantly different pairs are filled and marked ≠, the others =.

    Args:
        pairs: the table of `evaluation.differences.all_pairs`.
        measure: what was compared, in words.
    """
    names = list(dict.fromkeys([*pairs["a"], *pairs["b"]]))
    both = pd.concat([pairs, pairs.assign(a=pairs["b"], b=pairs["a"], difference=-pairs["difference"])])
    texts = [
        f"{'≠' if row['separated'] else '='} {100 * row['difference']:+.1f}<br>p {_p(row['p_holm'])}"
        for _, row in both.iterrows()
    ]
    filled = both.assign(fill=both["separated"].astype(float)).pivot(index="a", columns="b", values="fill")
    figure = go.Figure(
        go.Heatmap(
            z=filled.reindex(index=names, columns=names).to_numpy(dtype=float),
            x=names,
            y=names,
            zmin=0,
            zmax=1,
            colorscale=SHARE_SCALE,
            showscale=False,
            hoverinfo="skip",
        )
    )
    figure.add_scatter(
        x=both["b"],
        y=both["a"],
        mode="text",
        text=texts,
        customdata=both[["a", "b"]].to_numpy(),
        hovertemplate="%{customdata[0]} versus %{customdata[1]}: %{text}<extra></extra>",
        showlegend=False,
    )
    labels = [_wrapped(name) for name in names]
    separated = pairs[pairs["separated"]]
    summary = "; ".join(f"{row['a']} and {row['b']}, p = {_p(row['p_holm'])}" for _, row in separated.iterrows())
    differences = f"Significant differences: {summary}" if summary else "No significant difference"
    return layout(
        figure,
        f"Paired tests of the {measure} of {len(names)} runs. {differences}.",
        height=120 + 56 * len(names),
        xaxis={"showgrid": False, "side": "top", "tickvals": names, "ticktext": labels},
        yaxis={"showgrid": False, "autorange": "reversed", "tickvals": names, "ticktext": labels},
    )


def _wrapped(name: str) -> str:
    """Return a name on lines short enough for a phone."""
    return "<br>".join(textwrap.wrap(name, LABEL, max_lines=3, placeholder=" …"))


def _with_interval(row: pd.Series) -> str:
    interval = f" ({100 * row['low']:.1f} to {100 * row['high']:.1f})" if pd.notna(row["low"]) else ""
    return f"{row['accuracy']:.1%}{interval} of {row['n']:,.0f} images"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
