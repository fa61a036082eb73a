"""What can be set on the classify page: which heat map, how it looks, and how a probability becomes a class."""

from dataclasses import dataclass, field, replace

import streamlit as st

from leukodash.app.common import plain
from leukodash.cam.methods import METHODS
from leukodash.cam.overlay_files import OverlayStyle
from leukodash.data.dataset import label_title
from leukodash.figures.heat_overlay import COLOR_MAPS
from leukodash.inference.answer_summary import decision_words
from leukodash.inference.decision import RULES, average_decision, decision
from leukodash.runs.run_folder import Run

LIKELIEST = "the class found"
RULES_HELP = (
    "*Likeliest class*: the one with the highest probability. *Best on validation*: a blast from the probability on at "
    "which sensitivity + specificity is highest on the run's own validation cells (Youden), never on test cells."
)
CALIBRATED_HELP = (
    "Networks are as a rule surer than they are right. Calibrated probabilities divide the logits by one temperature, "
    "chosen on the run's validation cells (Guo et al., 2017), so that of cells called 90 % about nine in ten are right."
)


@dataclass(frozen=True)
class Settings:
    """All that was chosen.

    Attributes:
        method: a key of `cam.METHODS`.
        target: the class that maps explain; None for the class found.
        layers: by run id the layer of the map, where it is not the default one.
        look: how maps are shown.
        rule: see `decide.decision`.
        calibrated: whether calibrated probabilities are shown.
    """

    method: str = "gradcam"
    target: str | None = None
    layers: dict[str, str] = field(default_factory=dict)
    style: OverlayStyle = field(default_factory=OverlayStyle)
    rule: str = "likeliest"
    calibrated: bool = True


def heat_popover(loaded: list, names: dict[str, str]) -> Settings:
    """Let the user choose the heat map: method, class, layer and style."""
    with st.popover("Heat map", icon=":material/gradient:"):
        method = st.selectbox(
            "Method", list(METHODS), key="method", bind="query-params", format_func=lambda key: METHODS[key].title
        )
        said = f"It {METHODS[method].one_line} ({METHODS[method].paper})."
        if any(one.views > 1 for one in loaded):
            said += " A run that answers with the mean over views of a cell is mapped for the cell as it lies."
        if any(one.pools_blocks for one in loaded):
            said += " A run that pools every block also decides by earlier maps, which the map of one layer leaves out."
        st.caption(said)
        shared = [label for label in loaded[0].classes if all(label in one.classes for one in loaded)]
        target = st.segmented_control(
            "What speaks for", [LIKELIEST, *shared], default=LIKELIEST, required=True, key="target",
            format_func=lambda label: label if label == LIKELIEST else label_title(label),
        )  # fmt: skip
        layers = {}
        for column, one in zip(st.columns(len(loaded)), loaded, strict=True):
            chosen = column.selectbox(
                f"Layer of {plain(names[one.run.id])}", [None, *one.layers], key=f"layer-{one.run.id}",
                format_func=lambda layer: layer or "last (default)",
                help="The last layer shows what decides, coarsely; earlier ones show edges and grains.",
            )  # fmt: skip
            if chosen:
                layers[one.run.id] = chosen
        left, right = st.columns(2)
        beside = left.segmented_control(
            "Shown", [False, True], default=False, required=True, key="beside",
            format_func=lambda apart: "beside the cell" if apart else "over the cell",
        )  # fmt: skip
        colors = right.segmented_control("Colors", list(COLOR_MAPS), default="inferno", required=True, key="colors")
        opacity = st.slider("Opacity", 0, 100, 50, 5, format="%d %%", key="opacity", disabled=beside) / 100
        bright = st.toggle("Brighten the cells (for the eye only)", value=True, key="bright")
    style = OverlayStyle(opacity, colors, bright, beside)
    return Settings(method, None if target == LIKELIEST else target, layers, style)


def decision_popover(runs: list[Run], names: dict[str, str], chosen: Settings) -> Settings:
    """Let the user choose how a probability becomes a class; returns the settings with that in them."""
    with st.popover("Decision", icon=":material/rule:"):
        rule = st.segmented_control(
            "Class", list(RULES), default="likeliest", required=True, key="decide", format_func=RULES.get,
            help=RULES_HELP, bind="query-params",
        )  # fmt: skip
        calibrated = st.toggle("Calibrated probabilities", value=True, key="calibrated", help=CALIBRATED_HELP)
        decisions = [decision(run, rule) for run in runs]
        said = [decision_words(names[run.id], one, calibrated) for run, one in zip(runs, decisions, strict=True)]
        average = average_decision(decisions, rule) if len(runs) > 1 else None
        said += [decision_words("The average", average, False)] if average else []
        st.caption("  \n".join(plain(sentence) for sentence in said if sentence))
    return replace(chosen, rule=rule, calibrated=calibrated)
