"""Figures of predicted probabilities: ROC, precision–recall, reliability and decision curves.

`backbones` is the backbone key (or None) by run name; scores are probabilities of the positive class.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from leukodash.figures.theme import FAINT, color, layout, symbols

HEIGHT = 400
CURVE_POINTS = 400  # maximum of a ROC or precision–recall curve; more would not be visible


def roc_figure(
    runs: dict[str, tuple[np.ndarray, np.ndarray]],
    backbones: dict[str, str | None],
    thresholds: dict[str, float] | None = None,
) -> go.Figure:
    """Draw the ROC curve of each run with its area under the curve.

    Args:
        runs: by run name (is_positive: bool (n,), score: float (n,), 0..1), with both classes present.
        backbones: see the module.
        thresholds: threshold of each run to mark on its curve.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

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
        xaxis={"title": "false positive rate (1 − specificity)", "range": [-0.01, 1.01]},
        yaxis={"title": "sensitivity", "range": [-0.01, 1.01]},
    )


def pr_figure(
    runs: dict[str, tuple[np.ndarray, np.ndarray]],
    backbones: dict[str, str | None],
    thresholds: dict[str, float] | None = None,
) -> go.Figure:
    """Draw the precision–recall curve of each run; arguments as in `roc_figure`."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    curves, prevalence = {}, 0.0
    for name, (truth, score) in runs.items():
        precision, recall, cuts = precision_recall_curve(truth, score)
        cuts = np.append(cuts, np.inf)  # the last point predicts no image as positive
        curves[name] = (recall[::-1], precision[::-1], cuts[::-1], f"AP {average_precision_score(truth, score):.3f}")
        prevalence = float(np.mean(truth))
    figure = _curves(curves, backbones, thresholds or {}, "sensitivity %{x:.3f}, precision %{y:.3f}")
    _reference(figure, [0, 1], [prevalence, prevalence], "chance")
    return layout(
        figure,
        f"Precision–recall curves with average precision (AP); chance is {prevalence:.1%}. {_areas(curves)}.",
        HEIGHT,
        xaxis={"title": "recall (sensitivity)", "range": [-0.01, 1.01]},
        yaxis={"title": "precision", "range": [-0.01, 1.01]},
    )


def reliability_figure(tables: dict[str, pd.DataFrame], backbones: dict[str, str | None]) -> go.Figure:
    """Draw the reliability diagram of each run: accuracy over confidence, on the diagonal if perfectly calibrated.

    Args:
        tables: by run name the table that `evaluation.metrics.reliability` returns.
        backbones: see the module.
    """
    figure, marker = go.Figure(), symbols({name: backbones.get(name) for name in tables})
    _reference(figure, [0, 1], [0, 1], "perfect calibration")
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
            hovertemplate="confidence %{x:.0%}, accuracy %{y:.0%}, n = %{customdata:,}<extra>%{fullData.name}</extra>",
        )
    summary = "; ".join(
        f"{name}: mean confidence {np.average(table['confidence'], weights=table['n']):.0%}, "
        f"accuracy {np.average(table['accuracy'], weights=table['n']):.0%}"
        for name, table in tables.items()
        if len(table)
    )
    lowest = min((table["confidence"].min() for table in tables.values() if len(table)), default=0.0)
    return layout(
        figure,
        f"Reliability diagram with Wilson intervals. {summary or 'No run yet'}.",
        HEIGHT,
        xaxis={"title": "confidence (highest probability)", "tickformat": ".0%", "range": [lowest - 0.05, 1]},
        yaxis={"title": "accuracy", "tickformat": ".0%", "range": [-0.01, 1.03]},
    )


def decision_figure(tables: dict[str, pd.DataFrame], backbones: dict[str, str | None]) -> go.Figure:
    """Draw the decision curve of each run, compared with calling every cell positive and calling none.

    Args:
        tables: by run name the table that `evaluation.metrics.net_benefit` returns, all for the same images.
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
        _reference(figure, table["threshold"].tolist(), table["everyone"].tolist(), "call every cell positive")
        _reference(figure, [0, 1], [0, 0], "call none positive", dash="dot")
    summary = "; ".join(
        f"{name} has a higher net benefit than calling all or none at "
        f"{np.mean(t['net_benefit'] > t['everyone'].clip(0)):.0%} of the thresholds"
        for name, t in tables.items()
    )
    return layout(
        figure,
        f"Decision curves. {summary or 'No run yet'}.",
        HEIGHT,
        xaxis={"title": "threshold probability", "range": [0, 1]},
        yaxis={"title": "net benefit", "range": [-0.1 - 0.1 * highest, 1.1 * highest + 0.01]},
    )


def _curves(
    curves: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, str]],
    backbones: dict[str, str | None],
    thresholds: dict[str, float],
    hover: str,
) -> go.Figure:
    """Draw curves of (x, y, threshold, area as text), thinned out, each with its marked threshold."""
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
