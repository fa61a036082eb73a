"""Figures by person: each person's share of cells called positive, the ROC over people, and how many cells it takes."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from leukodash.figures.theme import FAINT, color, layout, symbols

HEIGHT = 360
CLASS_MARKS = (("#D55E00", "diamond"), ("#0072B2", "circle"), ("#009E73", "square"), ("#CC79A7", "triangle-up"))


def people_figure(people: pd.DataFrame, threshold: float, positive: str, run: str) -> go.Figure:
    """Draw each person's share of cells that are called positive, with its interval, and the threshold of the verdict.

    Args:
        people: one row per person, in the order of the figure: person (str), title (displayed true class), positive
            (bool), cells, called (counts), share, low, high (0..1), right (bool).
        threshold: share from which a person is called positive, 0..1.
        positive: displayed name of the positive class.
        run: name of the run.
    """
    figure = go.Figure()
    titles = list(people.sort_values("positive", ascending=False)["title"].unique())
    for (title, right), mine in people.groupby(["title", "right"], sort=False):
        ink, mark = CLASS_MARKS[titles.index(title) % len(CLASS_MARKS)]
        figure.add_scatter(
            x=mine["person"],
            y=mine["share"],
            name=title if right else f"{title}, wrong verdict",
            mode="markers",
            marker={
                "color": ink,
                "symbol": mark if right else f"{mark}-open",
                "size": 10,
                "line": {"width": 2, "color": ink},
            },
            error_y={
                "type": "data",
                "symmetric": False,
                "array": mine["high"] - mine["share"],
                "arrayminus": mine["share"] - mine["low"],
                "thickness": 1,
                "width": 0,
            },
            customdata=mine[["called", "cells"]],
            hovertemplate="%{x}: %{customdata[0]:,} of %{customdata[1]:,} cells<extra>%{fullData.name}</extra>",
        )
    figure.add_hline(threshold, line={"color": FAINT, "dash": "dash", "width": 1.5})
    wrong = people.loc[~people["right"].astype(bool), "person"]
    names = f"wrong for {', '.join(wrong)}" if len(wrong) else "right for all"
    return layout(
        figure,
        f"{run}: share of the cells of each of {len(people)} people that are called {positive}. At a threshold of "
        f"{threshold:.0%} the verdict is {names}.",
        HEIGHT,
        xaxis={
            "title": f"person, {run}",
            "type": "category",
            "categoryorder": "array",
            "categoryarray": people["person"].tolist(),
            "showgrid": False,
        },
        yaxis={"title": f"cells called {positive}", "tickformat": ".0%", "range": [-0.04, 1.04]},
    )


def people_roc_figure(
    runs: dict[str, tuple[np.ndarray, np.ndarray, float, str]], backbones: dict[str, str | None]
) -> go.Figure:
    """Draw the ROC curve over people of each run, with its verdict marked.

    Args:
        runs: by run name (is_positive: bool (n,), share: float (n,), 0..1, threshold of the verdict, AUC in words),
            with people of both classes.
        backbones: backbone key (or None) by run name.
    """
    figure, marker = go.Figure(), symbols({name: backbones.get(name) for name in runs})
    for name, (truth, share, threshold, auc) in runs.items():
        cuts = np.append(np.inf, np.unique(share)[::-1])
        called = share >= cuts[:, None]
        ink = color(backbones.get(name))
        figure.add_scatter(
            x=called[:, ~truth].mean(axis=1),
            y=called[:, truth].mean(axis=1),
            name=f"{name}, AUC {auc}",
            mode="lines",
            legendgroup=name,
            line={"color": ink, "width": 2.5},
            hovertemplate="1 − specificity %{x:.2f}, sensitivity %{y:.2f}<extra>%{fullData.name}</extra>",
        )
        verdict = share >= threshold
        figure.add_scatter(
            x=[verdict[~truth].mean()],
            y=[verdict[truth].mean()],
            name=f"{name}, verdict",
            mode="markers",
            legendgroup=name,
            showlegend=False,
            marker={"color": ink, "symbol": marker[name], "size": 12},
            hovertemplate="1 − specificity %{x:.2f}, sensitivity %{y:.2f}<extra>%{fullData.name}</extra>",
        )
    figure.add_scatter(
        x=[0, 1], y=[0, 1], name="chance", mode="lines", line={"color": FAINT, "dash": "dash"}, hoverinfo="skip"
    )
    areas = "; ".join(f"{name}: AUC {auc}" for name, (*_, auc) in runs.items())
    return layout(
        figure,
        f"ROC curves over people, by the share of their cells. {areas or 'No run yet'}.",
        HEIGHT + 20 * len(runs),
        xaxis={"title": "false positive rate over people", "range": [-0.03, 1.03]},
        yaxis={"title": "sensitivity over people", "range": [-0.03, 1.03]},
    )


def stability_figure(curves: dict[str, pd.DataFrame], backbones: dict[str, str | None], likely: float) -> go.Figure:
    """Draw for how many people some of their cells give the verdict of all, over the number of cells.

    Args:
        curves: by run name one row per number of cells: cells, people (who have as many), stable (share, 0..1).
        backbones: backbone key (or None) by run name.
        likely: the share that a reference line marks, 0..1.
    """
    figure, marker = go.Figure(), symbols({name: backbones.get(name) for name in curves})
    summaries = []
    for name, curve in curves.items():
        figure.add_scatter(
            x=curve["cells"],
            y=curve["stable"],
            name=name,
            mode="lines+markers",
            line={"color": color(backbones.get(name)), "width": 2},
            marker={"symbol": marker[name], "size": 8, "maxdisplayed": 6},
            customdata=curve["people"],
            hovertemplate="%{x:,} cells: %{y:.0%} of %{customdata} people<extra>%{fullData.name}</extra>",
        )
        last = curve.iloc[-1]
        summaries.append(f"{name}: {last['stable']:.0%} of {last['people']:.0f} people with {last['cells']:.0f} cells")
    figure.add_hline(likely, line={"color": FAINT, "dash": "dash", "width": 1.5})
    return layout(
        figure,
        f"Share of people whose verdict from some of their cells is that from all, over the number of cells. "
        f"{'; '.join(summaries) or 'No run yet'}.",
        HEIGHT + 20 * len(curves),
        xaxis={"title": "cells of a person, drawn at random", "rangemode": "tozero"},
        yaxis={"title": "people with a stable verdict", "tickformat": ".0%", "range": [-0.03, 1.03]},
    )
