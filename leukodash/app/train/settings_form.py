"""The settings form of the train page: a widget for every setting that `RunConfig` declares."""

import math
from typing import Any

import streamlit as st
from streamlit.elements.lib.mutable_tab_container import TabContainer

from leukodash.config.form_schema import MAIN, Setting, choice_title, read_list, settings_of, value_of, write_list
from leukodash.config.run_config import RunConfig
from leukodash.jobs.sweep import read_values, sweepable
from leukodash.models.backbones import BACKBONES, Backbone

WIDTH = 170  # pixels of a widget: two fit side by side on a phone, six on a desktop


def backbone_cards(chosen: list[str]) -> list[str]:
    """Let the user select backbones; returns their keys in the order of `BACKBONES`."""
    ticked, every = [], {f"use-{name}": True for name in BACKBONES}
    with st.container(horizontal=True, gap="small"):
        for name, spec in BACKBONES.items():
            with st.container(border=True, width=WIDTH, gap=None):
                if st.checkbox(spec.title, name in chosen, key=f"use-{name}", persist_state="session"):
                    ticked.append(name)
                help_ = f"{spec.one_line} {spec.parameters / 1e6:.1f} million parameters. {spec.paper}."
                st.caption(f"{spec.year} · {spec.size_mb:.0f} MB", help=help_)
        if len(ticked) < len(BACKBONES):
            st.button(
                "Select all", key="use-all", type="tertiary", on_click=st.session_state.update, args=(every,),
                icon=":material/done_all:",
            )  # fmt: skip
    return ticked


def settings_form(base: RunConfig, start: dict[str, Any], key: str) -> tuple[dict[str, Any], dict[str, TabContainer]]:
    """Show all settings; returns their values by name, and the tabs by group, so that tools can be added to a tab.

    Args:
        base: the preset's values.
        start: initial values that override them (those of an old run).
        key: prefix of the widget keys; a new one resets the form.

    Raises RunError for a text that is not valid for its setting.
    """
    settings = {setting.name: setting for setting in settings_of(base.spec)}
    shown = {name: start.get(name, value_of(base, name)) for name in settings}
    values: dict[str, Any] = {}
    with st.container(horizontal=True):
        for name in MAIN:
            values[name] = _widget(settings[name], shown[name], f"{key}-{name}")
    rest = [setting for setting in settings.values() if setting.name not in MAIN]
    groups = list(dict.fromkeys(setting.group for setting in rest))
    with st.expander("All settings", icon=":material/tune:"):
        tabs = dict(zip(groups, st.tabs(groups), strict=True))
        for group, tab in tabs.items():
            with tab, st.container(horizontal=True):
                for setting in rest:
                    if setting.group == group:
                        values[setting.name] = _widget(setting, shown[setting.name], f"{key}-{setting.name}")
    return values, tabs


def sweep_form(spec: Backbone) -> tuple[Setting | None, list[Any]]:
    """Let the user choose a setting and several values for it; returns both, or None and no values.

    Raises RunError for a value that is not valid for the setting.
    """
    settings = {setting.name: setting for setting in sweepable(spec)}
    with st.expander("Try several values", icon=":material/stacks:"), st.container(horizontal=True):
        name = st.selectbox(
            "Setting", list(settings), index=None, format_func=lambda name: settings[name].title, key="vary",
            placeholder="One setting", width=2 * WIDTH,
            help="Every selected network is trained once with each value; all other settings stay the same.",
        )  # fmt: skip
        if name is None:
            return None, []
        setting, key = settings[name], f"vary-{name}"
        if setting.kind == "choice":
            return setting, st.multiselect(
                "Values", setting.choices, format_func=choice_title, key=key, width=2 * WIDTH
            )
        if setting.kind == "switch":
            st.caption("Both values are tried: off and on.")
            return setting, [False, True]
        example = "0, 1, 2" if setting.kind == "whole" else "0.01, 0.001, 0.0001"
        return setting, read_values(st.text_input("Values", placeholder=example, key=key, width=2 * WIDTH), setting)


def _widget(setting: Setting, value: Any, key: str) -> Any:
    title, help_ = setting.title, setting.help or None
    if setting.kind == "choice":
        index = setting.choices.index(value) if value in setting.choices else 0
        return st.selectbox(title, setting.choices, index, choice_title, key, help_, width=WIDTH)
    if setting.kind == "switch":
        with st.container(width=WIDTH, vertical_alignment="bottom", height="stretch"):
            return st.toggle(title, value, key, help_)
    if setting.kind in ("whole", "number"):
        cast = int if setting.kind == "whole" else float
        low, high, value = (None if limit is None else cast(limit) for limit in (setting.low, setting.high, value))
        step, format_ = (1, "%d") if cast is int else (_step(value), "%g")
        number = st.number_input(title, low, high, value, step, format_, key, help_, width=WIDTH)
        return number if number is not None or setting.optional else value
    text = st.text_input(
        title, write_list(value) if setting.kind == "list" else value, key=key, help=help_, width=WIDTH
    )
    if setting.kind == "list":
        return (read_list(text, setting.title) or None) if setting.optional else read_list(text, setting.title)
    return text


def _step(value: float | None) -> float:
    """Return the step of a number's buttons: the place value of its leading digit, or 0.05 for zero."""
    return 10.0 ** math.floor(math.log10(value)) if value else 0.05
