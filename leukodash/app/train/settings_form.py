"""The settings form of the train page: a widget for every setting that `RunConfig` declares."""

import math
from typing import Any

import streamlit as st
from streamlit.elements.lib.mutable_tab_container import TabContainer

from leukodash.app.sign_in import current_actor
from leukodash.config.form_schema import (
    GRADIENT,
    MAIN,
    Setting,
    choice_title,
    read_list,
    settings_of,
    value_of,
    write_list,
)
from leukodash.config.presets import PRESETS
from leukodash.config.run_config import RunConfig
from leukodash.jobs.sweep import read_values, sweepable
from leukodash.models.backbones import BACKBONES, Backbone
from leukodash.runs.access import offered_networks, offered_settings

WIDTH = 150  # pixels of a widget: two fit side by side on a phone
LONGEST = 200  # characters of a list of numbers
NAMED = 3  # chosen networks whose year and size are said; of more, the number


def choose_backbones() -> list[str]:
    """Let the user select backbones; returns their keys in the order of `BACKBONES`."""
    offered = offered_networks(current_actor())
    st.session_state["backbones"] = [name for name in st.session_state["backbones"] if name in offered]
    chosen = st.pills(
        "Networks", offered, selection_mode="multi", format_func=lambda name: BACKBONES[name].title,
        key="backbones", persist_state="session", wrap=True,
        help="Each one is trained by itself, so that you can compare them.",
    )  # fmt: skip
    specs = [spec for name, spec in BACKBONES.items() if name in chosen]
    words = [f"{spec.title}: {spec.year}, {spec.size_mb:.0f} MB" for spec in specs]
    help_ = "\n\n".join(
        f"**{spec.title}**: {spec.one_line} {spec.parameters / 1e6:.1f} million parameters. {spec.paper}."
        for spec in specs
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(" · ".join(words) if len(words) <= NAMED else f"{len(words)} networks", help=help_, width="content")
        if len(specs) < len(offered):
            st.button("Select all", key="use-all", type="tertiary", on_click=_select, args=[offered])
    return [name for name in offered if name in chosen]


def _select(backbones: list[str]) -> None:
    st.session_state["backbones"] = backbones


def choose_recipe() -> str:
    """Let the user choose a preset; says what it is, and how a paper's differs from the paper."""
    short = {name: preset.title.split(":")[0].split(",")[0] for name, preset in PRESETS.items()}
    name = st.pills(
        "Recipe", list(PRESETS), format_func=short.__getitem__, key="preset", required=True, persist_state="session",
        wrap=True, help="A recipe gives every setting a value. You can change each of them.",
    )  # fmt: skip
    assert name  # one is required
    preset = PRESETS[name]
    with st.container(horizontal=True, vertical_alignment="center"):
        words = preset.title.removeprefix(short[name]).lstrip(":, ")
        st.caption(f"{words[0].upper()}{words[1:]}.", width="content")
        if preset.differences:
            with st.popover("What differs from the paper", type="tertiary"):
                st.markdown("\n".join(f"- {line}" for line in preset.differences))
    return name


def settings_form(base: RunConfig, start: dict[str, Any], key: str, tabs: dict[str, TabContainer]) -> dict[str, Any]:
    """Show all settings in their group's tab; returns their values by name.

    Args:
        base: the preset's values.
        start: initial values that override them (of a link or an old run).
        key: prefix of the widget keys; a new one resets the form.
        tabs: by group, and "Main".

    Raises RunError for a text that is not valid for its setting.
    """
    settings = {setting.name: setting for setting in offered_settings(current_actor(), base.spec)}
    groups = {name: setting.group for name, setting in settings.items()} | dict.fromkeys(MAIN, "Main")
    values: dict[str, Any] = {}
    optimizer = st.session_state.get(f"{key}-optimizer", start.get("optimizer", base.optimizer))
    unused = GRADIENT if optimizer == "lbfgs" else ()
    for group, tab in tabs.items():
        with tab, st.container(horizontal=True):
            for name in [*MAIN, *(name for name in settings if name not in MAIN)]:
                if groups[name] == group:
                    value = start.get(name, value_of(base, name))
                    values[name] = _widget(settings[name], value, f"{key}-{name}", name in unused)
    return values


def setting_groups(spec: Backbone) -> list[str]:
    """Return the titles of the tabs of settings: the main ones first, several values of one last."""
    return ["Main", *dict.fromkeys(setting.group for setting in settings_of(spec)), "Several values"]


def sweep_form(spec: Backbone) -> tuple[Setting | None, list[Any]]:
    """Let the user choose a setting and several values for it; returns both, or None and no values.

    Raises RunError for a value that is not valid for the setting.
    """
    settings = {setting.name: setting for setting in sweepable(spec)}
    with st.container(horizontal=True):
        name = st.selectbox(
            "Setting", list(settings), index=None, format_func=lambda name: settings[name].title, key="vary",
            placeholder="One setting", width=2 * WIDTH, persist_state="session",
            help="Every selected network is trained once with each value; all other settings stay the same.",
        )  # fmt: skip
        if name is None:
            return None, []
        setting, key = settings[name], f"vary-{name}"
        if setting.kind == "choice":
            return setting, st.multiselect(
                "Values", setting.choices, format_func=choice_title, key=key, width=2 * WIDTH, persist_state="session"
            )
        if setting.kind == "switch":
            st.caption("Both values are tried: off and on.")
            return setting, [False, True]
        example = "0, 1, 2" if setting.kind == "whole" else "0.01, 0.001, 0.0001"
        text = st.text_input(
            "Values", placeholder=example, key=key, width=2 * WIDTH, persist_state="session", max_chars=LONGEST
        )
        return setting, read_values(text, setting)


def _widget(setting: Setting, value: Any, key: str, disabled: bool) -> Any:
    title, help_ = setting.title, setting.help or None
    if setting.kind == "choice":
        index = setting.choices.index(value) if value in setting.choices else 0
        return st.selectbox(
            title,
            setting.choices,
            index,
            choice_title,
            key,
            help_,
            width=WIDTH,
            persist_state="session",
            disabled=disabled,
        )
    if setting.kind == "switch":
        with st.container(width=WIDTH, vertical_alignment="bottom", height="stretch"):
            return st.toggle(title, value, key, help_, persist_state="session")
    if setting.kind in ("whole", "number"):
        cast = int if setting.kind == "whole" else float
        low, high, value = (None if limit is None else cast(limit) for limit in (setting.low, setting.high, value))
        value = min(value, high) if value is not None and high is not None else value  # of a public demo
        step, format_ = (1, "%d") if cast is int else (_step(value), "%g")
        number = st.number_input(
            title,
            low,
            high,
            value,
            step,
            format_,
            key,
            help_,
            width=WIDTH,
            persist_state="session",
            disabled=disabled,
        )
        return number if number is not None or setting.optional else value
    text = write_list(value) if setting.kind == "list" else value
    text = st.text_input(title, text, key=key, help=help_, width=WIDTH, persist_state="session", max_chars=LONGEST)
    if setting.kind == "list":
        return (read_list(text, setting.title) or None) if setting.optional else read_list(text, setting.title)
    return text


def _step(value: float | None) -> float:
    """Return the step of a number's buttons: the place value of its leading digit, or 0.05 for zero."""
    return 10.0 ** math.floor(math.log10(value)) if value else 0.05
