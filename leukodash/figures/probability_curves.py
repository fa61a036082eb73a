"""Figures of probabilities: ROC, precision–recall, reliability and decision curves of runs.

`backbones` is always the backbone key (or None) by run name; scores are the positive class's probabilities.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from leukodash.figures.theme import FAINT, color, layout, symbols

HEIGHT = 400
CURVE_POINTS = 400  # of a ROC or precision–recall curve: more than a screen can show


def roc_figure(
    runs: dict[str, tuple[np.ndarray, np.ndarray]],
    backbones: dict[str, str | None],
    thresholds: dict[str, float] | None = None,
) -> go.Figure:
    """Receiver operating characteristic of each run, with its area, and where a threshold stands on it.

    Args:
        runs: by run name (is_positive bool (n,), score float (n,)), both classes present.
        backbones: see the module.
        thresholds: the working point of each run, marked on its curve.
    """
    curves = {}
    for name, (truth, score) in runs.items():
        false_rate, true_rate, cuts = roc_curve(truth, score)
        curves[name] = (false_rate, true_rate, cuts, f"AUC {roc_auc_score(truth, score):.3f}")
    figure = _curves(curves, backbones, thresholds or {}, "1 − specificity %{x:.3f}, sensitivity %{y:.3f}")
    _reference(figure, [0, 1], [0, 1], "chance")
    return layout(
        figure,
        f"ROC curves. {_areas(curves)}.",
        HEIGHT,
        xaxis={"title": "false alarms (1 − specificity)", "range": [-0.01, 1.01]},
        yaxis={"title": "found (sensitivity)", "range": [-0.01, 1.01]},
    )


def pr_figure(
    runs: dict[str, tuple[np.ndarray, np.ndarray]],
    backbones: dict[str, str | None],
    thresholds: dict[str, float] | None = None,
) -> go.Figure:
    """Precision against recall (sensitivity) of each run; arguments as in `roc_figure`."""
    curves, share = {}, 0.0
    for name, (truth, score) in runs.items():
        precision, recall, cuts = precision_recall_curve(truth, score)
        cuts = np.append(cuts, np.inf)  # the last point calls no image positive
        curves[name] = (recall[::-1], precision[::-1], cuts[::-1], f"AP {average_precision_score(truth, score):.3f}")
        share = float(np.mean(truth))
    figure = _curves(curves, backbones, thresholds or {}, "sensitivity %{x:.3f}, precision %{y:.3f}")
    _reference(figure, [0, 1], [share, share], "chance")
    return layout(
        figure,
        f"Precision–recall curves with average precision (AP); chance is {share:.1%}. {_areas(curves)}.",
        HEIGHT,
        xaxis={"title": "found (sensitivity, recall)", "range": [-0.01, 1.01]},
        yaxis={"title": "right when it says so (precision)", "range": [-0.01, 1.01]},
    )


def reliability_figure(tables: dict[str, pd.DataFrame], backbones: dict[str, str | None]) -> go.Figure:
    """How often each run is right where it is this sure; on the diagonal it is as sure as it should be.

    Args:
        tables: by run name the table of `evaluation.metrics.reliability`.
        backbones: see the module.
    """
    figure, marker = go.Figure(), symbols({name: backbones.get(name) for name in tables})
    _reference(figure, [0, 1], [0, 1], "as sure as right")
    for name, table in tables.items():
        figure.add_scatter(
            x=table["confidence"],
            y=table["accuracy"],
            name=name,
            mode="lines+markers",
            line={"color": color(backbones.get(name))},
            marker={"symbol": marker[name], "size": 9},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": table["accuracy_high"] - table["accuracy"],
                "arrayminus": table["accuracy"] - table["accuracy_low"],
                "thickness": 1,
            },
            customdata=table["n"],
            hovertemplate="%{x:.0%} sure, %{y:.0%} right, %{customdata:,} images<extra>%{fullData.name}</extra>",
        )
    said = "; ".join(
        f"{name}: {np.average(table['confidence'], weights=table['n']):.0%} sure and "
        f"{np.average(table['accuracy'], weights=table['n']):.0%} right on average"
        for name, table in tables.items()
        if len(table)
    )
    lowest = min((table["confidence"].min() for table in tables.values() if len(table)), default=0.0)
    return layout(
        figure,
        f"Reliability diagram with Wilson intervals. {said or 'No run yet'}.",
        HEIGHT,
        xaxis={"title": "how sure (probability of the chosen class)", "tickformat": ".0%", "range": [lowest - 0.05, 1]},
        yaxis={"title": "how often right", "tickformat": ".0%", "range": [-0.01, 1.03]},
    )


def decision_figure(tables: dict[str, pd.DataFrame], backbones: dict[str, str | None]) -> go.Figure:
    """Net benefit over the threshold, against calling every cell positive and calling none.

    Args:
        tables: by run name the table of `evaluation.metrics.net_benefit`, all on the same images.
        backbones: see the module.
    """
    figure, marker = go.Figure(), symbols({name: backbones.get(name) for name in tables})
    for name, table in tables.items():
        figure.add_scatter(
            x=table["threshold"],
            y=table["net_benefit"],
            name=name,
            mode="lines+markers",
            line={"color": color(backbones.get(name))},
            marker={"symbol": marker[name], "maxdisplayed": 8, "size": 8},
            hovertemplate="threshold %{x:.2f}: net benefit %{y:.3f}<extra>%{fullData.name}</extra>",
        )
    highest = 0.0
    if tables:
        table = next(iter(tables.values()))
        highest = max(table["everyone"].max(), *(other["net_benefit"].max() for other in tables.values()))
        _reference(figure, table["threshold"], table["everyone"], "call every cell positive")
        _reference(figure, table["threshold"], 0 * table["everyone"], "call none positive", dash="dot")
    said = "; ".join(
        f"{name} is worth more than calling all or none at {np.mean(t['net_benefit'] > t['everyone'].clip(0)):.0%} "
        "of the thresholds"
        for name, t in tables.items()
    )
    return layout(
        figure,
        f"Decision curves. {said or 'No run yet'}.",
        HEIGHT,
        xaxis={"title": "threshold from which one would act", "range": [0, 1]},
        yaxis={"title": "net benefit", "range": [-0.1 - 0.1 * highest, 1.1 * highest + 0.01]},
    )


def _curves(
    curves: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, str]],
    backbones: dict[str, str | None],
    thresholds: dict[str, float],
    hover: str,
) -> go.Figure:
    """Lines of (x, y, threshold, area in words), thinned out, each with its working point."""
    figure, marker = go.Figure(), symbols({name: backbones.get(name) for name in curves})
    for name, (x, y, cuts, area) in curves.items():
        ink = color(backbones.get(name))
        kept = np.unique(np.linspace(0, len(x) - 1, CURVE_POINTS).round().astype(int))
        figure.add_scatter(
            x=x[kept],
            y=y[kept],
            name=f"{name}, {area}",
            mode="lines+markers",
            legendgroup=name,
            line={"color": ink, "width": 2.5},
            marker={"symbol": marker[name], "size": 8, "maxdisplayed": 6},
            customdata=cuts[kept],
            hovertemplate=hover + ", threshold %{customdata:.3f}<extra>%{fullData.name}</extra>",
        )
        if name in thresholds:
            at = int(np.flatnonzero(cuts >= thresholds[name])[-1])
            figure.add_scatter(
                x=[x[at]],
                y=[y[at]],
                name=f"{name} at {thresholds[name]:.2f}",
                mode="markers",
                legendgroup=name,
                showlegend=False,
                marker={"color": ink, "symbol": "circle-open", "size": 16, "line": {"width": 2.5}},
                hovertemplate=hover + "<extra>%{fullData.name}</extra>",
            )
    return figure


def _reference(figure: go.Figure, x: Sequence[float], y: Sequence[float], name: str, dash: str = "dash") -> None:
    figure.add_scatter(
        x=x, y=y, name=name, mode="lines", line={"color": FAINT, "dash": dash, "width": 1.5}, hoverinfo="skip"
    )


def _areas(curves: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, str]]) -> str:
    return "; ".join(f"{name}: {curve[3]}" for name, curve in curves.items()) or "No run yet"
