"""Settings of the classify page: the heat map and its style, and how a probability becomes a class."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from leukodash.app.common import choose_one, plain
from leukodash.cam.methods import METHODS
from leukodash.cam.overlay_files import OverlayStyle
from leukodash.data.dataset import label_title
from leukodash.figures.heat_overlay import COLOR_MAPS
from leukodash.inference.answer_summary import decision_words
from leukodash.inference.decision import RULES, Rule, average_decision, decision
from leukodash.runs.run_folder import Run

if TYPE_CHECKING:
    from leukodash.inference.classifier import Classifier

PREDICTED = "predicted class"
RULES_HELP = (
    "*Likeliest class*: the class with the highest probability. *Best on validation*: blast if its probability reaches "
    "the threshold with the highest sensitivity + specificity (Youden index) on the run's own validation cells. "
    "Thresholds are never chosen on test cells."
)
CALIBRATED_HELP = (
    "Many networks are too sure. A temperature, chosen on the run's validation cells, makes their probabilities less "
    "extreme (Guo et al., 2017). It is used only where it helps subjects that were held out when it was chosen. The "
    "compare page shows how well it works on test cells, under *Calibration*; its other figures are of probabilities "
    "as the networks give them."
)


@dataclass(frozen=True)
class Settings:
    """Settings of the classify page.

    Attributes:
        method: a key of `cam.methods.METHODS`.
        target: the class that maps explain; None for the predicted class.
        layers: layer of the map by run id, where it is not the default.
        style: how maps are drawn.
        rule: see `decision.decision`.
        calibrated: whether calibrated probabilities are shown.
    """

    method: str = "evidence"
    target: str | None = None
    layers: dict[str, str] = field(default_factory=dict)
    style: OverlayStyle = field(default_factory=OverlayStyle)
    rule: Rule = "likeliest"
    calibrated: bool = True


def heat_popover(loaded: list[Classifier], names: dict[str, str]) -> Settings:
    """Let the user choose the heat map: method, class, layer and style."""
    with st.popover("Heat map", icon=":material/gradient:"):
        method = st.selectbox(
            "Method", list(METHODS), key="method", bind="query-params", format_func=lambda key: METHODS[key].title
        )
        notes = f"{METHODS[method].title} {METHODS[method].one_line} ({METHODS[method].paper})."
        if any(classifier.views > 1 for classifier in loaded):
            notes += " For runs that average views of a cell, the map is of the original view."
        if method != "evidence" and any(classifier.pools_blocks for classifier in loaded):
            notes += (
                " Runs that pool every block also use earlier feature maps, which this map does not show: the line "
                "under each map says how much of the score it shows."
            )
        st.caption(notes)
        shared = [label for label in loaded[0].classes if all(label in other.classes for other in loaded)]
        titles = {PREDICTED: PREDICTED} | {label: plain(label_title(label)) for label in shared}
        target = choose_one("Class to explain", titles, "target", persist_state="session")
        layers = {}
        for column, classifier in zip(st.columns(len(loaded)), loaded, strict=True):
            layer = column.selectbox(
                f"Layer of {plain(names[classifier.run.id])}", [None, *classifier.layers],
                key=f"layer-{classifier.run.id}", format_func=lambda layer: layer or "last (default)",
                persist_state="session",
                help="The last layer is closest to the decision but coarse; earlier layers show edges and texture.",
            )  # fmt: skip
            if layer:
                layers[classifier.run.id] = layer
        left, right = st.columns(2)
        kept: dict[str, Any] = {"persist_state": "session"}
        beside = choose_one("Position", {False: "over the cell", True: "beside the cell"}, "beside", left, **kept)
        colors = right.segmented_control(
            "Colors", list(COLOR_MAPS), default="inferno", required=True, key="colors", **kept
        )
        opacity = st.slider("Opacity", 0, 100, 50, 5, format="%d%%", key="opacity", disabled=beside, **kept) / 100
        bright = st.toggle("Brighten the cells (display only)", value=True, key="bright", **kept)
    style = OverlayStyle(opacity, colors, bright, beside)
    return Settings(method, None if target == PREDICTED else target, layers, style)


def decision_popover(runs: list[Run], names: dict[str, str], chosen: Settings) -> Settings:
    """Let the user choose how a probability becomes a class; returns the completed settings."""
    with st.popover("Decision", icon=":material/rule:"):
        rule = choose_one("Class", RULES, "decide", help=RULES_HELP, bind="query-params")
        calibrated = st.toggle(
            "Calibrated probabilities", value=True, key="calibrated", help=CALIBRATED_HELP, persist_state="session"
        )
        decisions = [decision(run, rule) for run in runs]
        lines = [decision_words(names[run.id], own, calibrated) for run, own in zip(runs, decisions, strict=True)]
        average = average_decision(decisions, rule) if len(runs) > 1 else None
        lines += [decision_words("The average", average, False)] if average else []
        st.caption("  \n".join(plain(line) for line in lines if line))
    return replace(chosen, rule=rule, calibrated=calibrated)
