"""Training histories as curves: training dotted, validation solid, the best epoch marked."""

from typing import Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from leukodash.figures.theme import FAINT, TRAIN_DASH, VALIDATION_DASH, color, layout, symbols

HEIGHT = 340
RUN_AWAY = 5  # a loss that many times the highest of the calmest run would press all others to the floor
SYMBOLS_SHOWN = 12  # of a long curve: enough to tell runs apart without color, few enough to see the line


def history_figure(
    runs: dict[str, pd.DataFrame],
    metric: Literal["accuracy", "loss"],
    backbones: dict[str, str | None],
    steps: dict[str, pd.DataFrame] | None = None,
) -> go.Figure:
    """Accuracy or loss over the epochs of one or several runs.

    The best epoch, marked by a ring, is the first one of the lowest validation loss: its weights are the ones
    that a run keeps, whichever metric is drawn. Where the loss of one run has run away and another's has not, the axis
    ends below it, and says so.

    Args:
        runs: by run name a DataFrame with columns epoch, loss, accuracy, val_loss, val_accuracy (as in
            `history.csv`), perhaps empty.
        metric: what to draw.
        backbones: backbone key by run name.
        steps: by run name a DataFrame with columns step, epoch, loss, accuracy (as in `steps.csv`). Only what
            comes after the last finished epoch is drawn.
    """
    traces, marker = [], symbols({name: backbones.get(name) for name in runs})
    for name, history in runs.items():
        ink = color(backbones.get(name))
        epochs, training, validation = (history[key].to_numpy(float) for key in ("epoch", metric, f"val_{metric}"))
        learnt, checked = ~np.isnan(training), ~np.isnan(validation)
        current_epochs, current = _unfinished(history, (steps or {}).get(name), metric)
        if not learnt.any() and not len(current):
            continue
        shared = {"type": "scatter", "legendgroup": name}  # dicts: plotly checks them once, in half the time
        traces.append(
            {
                "x": [*epochs[learnt], *current_epochs],
                "y": [*training[learnt], *current],
                "name": f"{name}, training",
                "mode": "lines+markers",
                "line": {"color": ink, "dash": TRAIN_DASH, "width": 1.5},
                "marker": {"color": ink, "symbol": marker[name], "size": 4, "maxdisplayed": SYMBOLS_SHOWN},
                "showlegend": not checked.any(),
                "hovertemplate": "epoch %{x:.2~f}: %{y:.3f}<extra>%{fullData.name}</extra>",
                **shared,
            }
        )
        if not checked.any():
            continue
        traces.append(
            {
                "x": epochs[checked],
                "y": validation[checked],
                "name": name,
                "mode": "lines+markers",
                "line": {"color": ink, "dash": VALIDATION_DASH, "width": 2.5},
                "marker": {"color": ink, "symbol": marker[name], "size": 7, "maxdisplayed": SYMBOLS_SHOWN},
                "hovertemplate": "epoch %{x}: %{y:.3f}<extra>%{fullData.name}, validation</extra>",
                **shared,
            }
        )
        best = _best(history)
        traces.append(
            {
                "x": [best["epoch"]],
                "y": [best[f"val_{metric}"]],
                "name": f"{name}, best epoch",
                "mode": "markers",
                "showlegend": False,
                "marker": {"color": ink, "symbol": "circle-open", "size": 16, "line": {"width": 2.5}},
                "hovertemplate": "best epoch %{x}: %{y:.3f}<extra>%{fullData.name}</extra>",
                **shared,
            }
        )
    figure, ranges = go.Figure(traces), ({}, {})
    if not traces:  # the same axes, so that nothing jumps when the first point arrives
        figure.add_annotation(
            text="the curve appears here", x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False, opacity=0.6
        )
        ranges = {"range": [0, 20]}, {"range": [0, 1]}
    title, end = f"{metric} (validation solid, training dotted)", _end(traces) if metric == "loss" else None
    if end is not None:
        title, ranges = f"loss up to {end:.2g} (validation solid, training dotted)", ({}, {"range": [0, end]})
    layout(
        figure,
        _alt(runs, metric),
        HEIGHT,
        uirevision=metric,
        xaxis={"title": "epoch", "rangemode": "tozero"} | ranges[0],
        yaxis={
            "title": title,
            "tickformat": _format(metric),
            "minallowed": 0,
            "maxallowed": 1.02 if metric == "accuracy" else None,
        }
        | ranges[1],
    )
    return figure


def _end(traces: list[dict]) -> float | None:
    """Where the axis of the loss has to end for the calmest run to be seen; None where all can be."""
    highest: dict[str, float] = {}
    for trace in traces:
        values = np.asarray(trace["y"], float)
        name = trace["legendgroup"]
        highest[name] = max([highest.get(name, 0.0), *values[np.isfinite(values)]])
    known = [value for value in highest.values() if value > 0]
    end = RUN_AWAY * min(known, default=0.0)
    return end if max(known, default=0.0) > end else None


def rates_figure(curve: pd.DataFrame, suggestion: float | None, backbone: str | None) -> go.Figure:
    """The loss over rising learning rates, with the rate at which it falls fastest.

    Args:
        curve: columns rate, loss, smooth (see `runs.rates.curve`), perhaps empty.
        suggestion: the rate to mark, if there is one.
        backbone: its key, for the color.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=curve["rate"], y=curve["loss"], name="loss after a step", mode="markers", marker={"color": FAINT, "size": 4}
    )
    line = {"color": color(backbone), "width": 2.5}
    figure.add_scatter(x=curve["rate"], y=curve["smooth"], name="its running mean", mode="lines", line=line)
    said = "No rate at which it falls was found."
    if suggestion:
        said = f"It falls fastest at a rate of {suggestion:g}."
        figure.add_vline(suggestion, line={"color": color(backbone), "dash": "dash"}, annotation_text=f"{suggestion:g}")
    most = 1.5 * curve["smooth"].iloc[: max(5, len(curve) // 2)].max() if len(curve) else 1.0
    return layout(
        figure,
        f"Curve of the loss over the learning rate, from small to large. {said}",
        260,
        uirevision="rates",
        xaxis={"title": "learning rate", "type": "log", "range": [-6.1, 1.1], "exponentformat": "power"},
        yaxis={"title": "loss", "range": [0, most]},
    )


def sparkline(values: list[float], ink: str, width: int = 140, height: int = 36) -> str:
    """A curve as small as a word, as SVG text: what a list of runs shows beside each.

    Args:
        values: at least one; the curve fills the height whatever they are.
        ink: its color.
        width, height: pixels.
    """
    low, high = min(values), max(values)
    spread, last = (high - low) or 1.0, max(len(values) - 1, 1)
    points = [
        (3 + (width - 6) * number / last, height - 3 - (height - 6) * (value - low) / spread)
        for number, value in enumerate(values)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<polyline points="{line}" fill="none" stroke="{ink}" stroke-width="2" stroke-linejoin="round"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{ink}"/></svg>'
    )


def _unfinished(history: pd.DataFrame, steps: pd.DataFrame | None, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps after the last finished epoch: their place in epochs (1.5 = half through the second), and values."""
    if steps is None or steps.empty:
        return np.zeros(0), np.zeros(0)
    finished = history["epoch"].max() if len(history) else 0
    # How many steps an epoch has is not in the file: the farthest step seen tells. In the first epoch, where that
    # is not known yet, the newest step stands at 1.
    in_epoch = (steps["step"] / steps["epoch"]).max()
    shown = (steps["epoch"] > finished) & steps[metric].notna()
    return (steps["step"][shown] / in_epoch).to_numpy(float), steps[metric][shown].to_numpy(float)


def _best(history: pd.DataFrame) -> pd.Series:
    return history.loc[history["val_loss"].fillna(float("inf")).idxmin()]


def _format(metric: str) -> str:
    return ".0%" if metric == "accuracy" else ".2~f"


def _alt(runs: dict[str, pd.DataFrame], metric: str) -> str:
    said = []
    for name, history in runs.items():
        values = history[f"val_{metric}"].dropna()
        if len(values):
            best = _best(history)
            said.append(
                f"{name}: validation {metric} {values.iloc[-1]:.3f} after epoch {int(history['epoch'].iloc[-1])}, "
                f"{best[f'val_{metric}']:.3f} in its best epoch {int(best['epoch'])}"
            )
    return f"Curves of {metric} over the epochs. {'; '.join(said) or 'No finished epoch yet'}."
