"""Training curves: training dotted, validation solid, the best epoch marked."""

from typing import Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from leukodash.figures.theme import FAINT, TRAIN_DASH, VALIDATION_DASH, color, layout, symbols

HEIGHT = 340
NONE = pd.Series(dtype=float)
DIVERGED = 5  # a loss this many times the highest loss of the most stable run would flatten all other curves
SYMBOLS_SHOWN = 12  # per curve: enough to tell runs apart without color, few enough to see the line


def history_figure(
    runs: dict[str, pd.DataFrame],
    metric: Literal["accuracy", "loss"],
    backbones: dict[str, str | None],
    steps: dict[str, pd.DataFrame] | None = None,
    planned: int | None = None,
) -> go.Figure:
    """Draw the accuracy or loss of one or several runs over the epochs.

    Of heads that are solved, over the strengths C of the penalty in place of epochs. A ring marks the best epoch: the
    first one with the lowest validation loss, whose weights the run keeps, whichever metric is drawn. If the loss of
    one run has diverged and that of another has not, the axis is cut below it and its title says so.

    Args:
        runs: by run name a DataFrame with the columns epoch, loss, accuracy, val_loss, val_accuracy (as in
            `history.csv`); may be empty.
        metric: the metric to draw.
        backbones: backbone key by run name.
        steps: by run name a DataFrame with the columns step, epoch, loss, accuracy (as in `steps.csv`), of which only
            the steps after the last finished epoch are drawn.
        planned: the last epoch of the axis, for runs that are not over; None for an axis that fits the curves.
    """
    solved = bool(runs) and all(history.get("strength", NONE).notna().any() for history in runs.values())
    at, word = ("strength", "C") if solved else ("epoch", "epoch")
    traces, marker = [], symbols({name: backbones.get(name) for name in runs})
    for name, history in runs.items():
        ink = color(backbones.get(name))
        epochs, training, validation = (history[key].to_numpy(float) for key in (at, metric, f"val_{metric}"))
        trained, validated = ~np.isnan(training), ~np.isnan(validation)
        current_epochs, current = _unfinished(history, (steps or {}).get(name), metric)
        if not trained.any() and not len(current):
            continue
        shared = {"type": "scatter", "legendgroup": name}  # dicts: Plotly validates them once, in half the time
        traces.append(
            {
                "x": [*epochs[trained], *current_epochs],
                "y": [*training[trained], *current],
                "name": f"{name}, training",
                "mode": "lines+markers",
                "line": {"color": ink, "dash": TRAIN_DASH, "width": 1.5},
                "marker": {"color": ink, "symbol": marker[name], "size": 4, "maxdisplayed": SYMBOLS_SHOWN},
                "showlegend": not validated.any(),
                "hovertemplate": word + " %{x:.2~g}: %{y:.3f}<extra>%{fullData.name}</extra>",
                **shared,
            }
        )
        if not validated.any():
            continue
        traces.append(
            {
                "x": epochs[validated],
                "y": validation[validated],
                "name": name,
                "mode": "lines+markers",
                "line": {"color": ink, "dash": VALIDATION_DASH, "width": 2.5},
                "marker": {"color": ink, "symbol": marker[name], "size": 7, "maxdisplayed": SYMBOLS_SHOWN},
                "hovertemplate": word + " %{x}: %{y:.3f}<extra>%{fullData.name}, validation</extra>",
                **shared,
            }
        )
        best = _best(history)
        traces.append(
            {
                "x": [best[at]],
                "y": [best[f"val_{metric}"]],
                "name": f"{name}, best {word}",
                "mode": "markers",
                "showlegend": False,
                "marker": {"color": ink, "symbol": "circle-open", "size": 16, "line": {"width": 2.5}},
                "hovertemplate": f"best {word} " + "%{x}: %{y:.3f}<extra>%{fullData.name}</extra>",
                **shared,
            }
        )
    figure = go.Figure(traces)
    x: dict[str, object] = {"title": "epoch", "rangemode": "tozero"}
    if solved:
        x = {"title": "C: a weaker penalty to the right", "type": "log", "dtick": 1, "exponentformat": "power"}
    elif planned:
        x["range"] = [0, 1.02 * planned]
    y: dict[str, object] = {
        "title": f"{metric} (validation solid, training dotted)",
        "tickformat": ".0%" if metric == "accuracy" else ".2~f",
        "minallowed": 0,
        "maxallowed": 1.02 if metric == "accuracy" else None,
    }
    revision = f"{metric}, {planned}"  # under an unchanged revision the browser would keep other ranges
    if not traces:
        figure.add_annotation(
            text="the curve appears here", x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False, opacity=0.6
        )
        x.setdefault("range", [0, 20])
        y["range"] = [0, 1]
        revision += ", no points"
    elif metric == "loss" and (end := _axis_end(traces)) is not None:
        y |= {"title": f"loss up to {end:.2g} (validation solid, training dotted)", "range": [0, end]}
    return layout(figure, _alt(runs, metric), HEIGHT, uirevision=revision, xaxis=x, yaxis=y)


def example_figure(metric: Literal["accuracy", "loss"]) -> go.Figure:
    """Draw curves as a run usually has them, in grey and marked as an example, for a page without runs."""
    epoch = np.arange(1, 21)
    training, validation = 1 - 0.5 * 0.85**epoch, 0.92 - 0.42 * 0.8**epoch
    if metric == "loss":
        training, validation = 0.7 * 0.85**epoch, 0.25 + 0.45 * 0.75**epoch + 0.0006 * epoch**2
    figure = go.Figure()
    for name, values, dash in (("training", training, TRAIN_DASH), ("validation", validation, VALIDATION_DASH)):
        line = {"color": FAINT, "dash": dash, "width": 2}
        figure.add_scatter(x=epoch, y=values, name=f"example: {name}", mode="lines", line=line, hoverinfo="skip")
    x, y = (
        {"title": "epoch", "range": [0, 20.4]},
        {"title": metric, "tickformat": ".0%" if metric == "accuracy" else ".2~f"},
    )
    alt = f"An example of what will be here: curves of {metric} over the epochs, for training and validation cells."
    return layout(figure, alt, HEIGHT, uirevision="example", xaxis=x, yaxis=y)


def _axis_end(traces: list[dict]) -> float | None:
    """Return where the loss axis must end to keep the most stable run readable; None if no run has diverged."""
    highest: dict[str, float] = {}
    for trace in traces:
        values = np.asarray(trace["y"], float)
        name = trace["legendgroup"]
        highest[name] = max([highest.get(name, 0.0), *values[np.isfinite(values)]])
    known = [value for value in highest.values() if value > 0]
    end = DIVERGED * min(known, default=0.0)
    return end if max(known, default=0.0) > end else None


def rates_figure(curve: pd.DataFrame, suggestion: float | None, backbone: str | None) -> go.Figure:
    """Draw the loss over increasing learning rates and mark the rate at which it falls fastest.

    Args:
        curve: columns rate, loss, smooth (see `lr_search.curve`); may be empty.
        suggestion: the learning rate to mark, or None.
        backbone: backbone key, for the color.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=curve["rate"], y=curve["loss"], name="loss after a step", mode="markers", marker={"color": FAINT, "size": 4}
    )
    line = {"color": color(backbone), "width": 2.5}
    figure.add_scatter(x=curve["rate"], y=curve["smooth"], name="running mean", mode="lines", line=line)
    summary = "No rate was found at which it falls."
    if suggestion:
        summary = f"It falls fastest at a rate of {suggestion:g}."
        figure.add_vline(suggestion, line={"color": color(backbone), "dash": "dash"})
        # On a logarithmic axis Plotly expects annotations, unlike lines, at the logarithm.
        figure.add_annotation(
            x=np.log10(suggestion), y=1, yref="paper", text=f"{suggestion:g}", showarrow=False, xanchor="left"
        )
    most = 1.5 * curve["smooth"].iloc[: max(5, len(curve) // 2)].max() if len(curve) else 1.0
    return layout(
        figure,
        f"Loss over the learning rate, from small to large. {summary}",
        260,
        uirevision="rates",
        xaxis={"title": "learning rate", "type": "log", "range": [-6.1, 1.1], "exponentformat": "power"},
        yaxis={"title": "loss", "range": [0, most]},
    )


def sparkline(values: list[float], ink: str, width: int = 140, height: int = 36) -> str:
    """Return a sparkline as SVG, for the list of runs.

    Args:
        values: one or more values, scaled to fill the height.
        ink: color of the line.
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
    """Return position in epochs (1.5 = halfway through the second) and value of the steps after the last epoch."""
    if steps is None or steps.empty:
        return np.zeros(0), np.zeros(0)
    finished = history["epoch"].max() if len(history) else 0
    # The file does not store the number of steps per epoch, so it is estimated from the latest step. During the first
    # epoch the latest step is drawn at 1.
    per_epoch = (steps["step"] / steps["epoch"]).max()
    shown = (steps["epoch"] > finished) & steps[metric].notna()
    return (steps["step"][shown] / per_epoch).to_numpy(float), steps[metric][shown].to_numpy(float)


def _best(history: pd.DataFrame) -> pd.Series:
    return history.iloc[int(history["val_loss"].fillna(float("inf")).argmin())]


def _alt(runs: dict[str, pd.DataFrame], metric: str) -> str:
    summaries = []
    for name, history in runs.items():
        values = history[f"val_{metric}"].dropna()
        if len(values):
            best = _best(history)
            summaries.append(
                f"{name}: validation {metric} {values.iloc[-1]:.3f} after epoch {int(history['epoch'].iloc[-1])}, "
                f"{best[f'val_{metric}']:.3f} in its best epoch {int(best['epoch'])}"
            )
    return f"Curves of {metric} over the epochs. {'; '.join(summaries) or 'No finished epoch yet'}."
