"""The train page's form: a widget for every setting that `RunConfig` declares, whatever it is."""

import math
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from leukodash.config.form_schema import MAIN, Setting, choice_title, read_list, settings_of, value_of, write_list
from leukodash.config.run_config import RunConfig
from leukodash.jobs.sweep import read_values, sweepable
from leukodash.models.backbones import BACKBONES, Backbone

WIDTH = 170  # pixels of a widget: two beside each other on a phone, six on a desk


def backbone_cards(chosen: list[str]) -> list[str]:
    """Let the user tick backbones; returns the keys of those ticked, in the table's order."""
    ticked, every = [], {f"use-{name}": True for name in BACKBONES}
    with st.container(horizontal=True, gap="small"):
        for name, row in BACKBONES.items():
            with st.container(border=True, width=WIDTH, gap=None):
                help_ = f"{row.one_line} {row.parameters / 1e6:.1f} million weights. {row.paper}."
                if st.checkbox(row.title, name in chosen, key=f"use-{name}", persist_state="session"):
                    ticked.append(name)
                st.caption(f"{row.year} · {row.size_mb:.0f} MB", help=help_)
        if len(ticked) < len(BACKBONES):
            tick_all = {"on_click": st.session_state.update, "args": (every,), "icon": ":material/done_all:"}
            st.button("Tick all", key="use-all", type="tertiary", **tick_all)
    return ticked


def settings_form(base: RunConfig, start: dict[str, Any], key: str) -> tuple[dict[str, Any], dict[str, DeltaGenerator]]:
    """Show all settings; returns their values by name, and the tabs by group, for what belongs below the settings.

    Args:
        base: the preset's values.
        start: values that win over them at first (those of an old run).
        key: a new one makes all widgets new, which sets them back.

    Raises RunError where a text is not what its setting takes.
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


def sweep_form(row: Backbone) -> tuple[Setting | None, list[Any]]:
    """Let the user choose one setting and several values of it; returns both, or None and nothing.

    Raises RunError where a value is not what the setting takes.
    """
    settings = {setting.name: setting for setting in sweepable(row)}
    with st.expander("Try several values", icon=":material/stacks:"), st.container(horizontal=True):
        name = st.selectbox(
            "Setting", list(settings), index=None, format_func=lambda name: settings[name].title, key="vary",
            placeholder="One setting", width=2 * WIDTH,
            help="Every ticked network is trained once with each value, everything else the same.",
        )  # fmt: skip
        if name is None:
            return None, []
        setting, common = settings[name], {"key": f"vary-{name}", "width": 2 * WIDTH}
        if setting.kind == "choice":
            return setting, st.multiselect("Values", setting.choices, format_func=choice_title, **common)
        if setting.kind == "switch":
            st.caption("Both are tried: off and on.")
            return setting, [False, True]
        example = "0, 1, 2" if setting.kind == "whole" else "0.01, 0.001, 0.0001"
        return setting, read_values(st.text_input("Values", placeholder=example, **common), setting)


def _widget(setting: Setting, value: Any, key: str) -> Any:
    common = {"label": setting.title, "key": key, "help": setting.help or None}
    if setting.kind == "choice":
        index = setting.choices.index(value) if value in setting.choices else 0
        return st.selectbox(**common, options=setting.choices, index=index, format_func=choice_title, width=WIDTH)
    if setting.kind == "switch":
        with st.container(width=WIDTH, vertical_alignment="bottom", height="stretch"):
            return st.toggle(**common, value=value)
    if setting.kind in ("whole", "number"):
        cast = int if setting.kind == "whole" else float
        limits = {
            "min_value": None if setting.low is None else cast(setting.low),
            "max_value": None if setting.high is None else cast(setting.high),
        }
        step, format_ = (1, "%d") if cast is int else (_step(value), "%g")
        value = None if value is None else cast(value)
        number = st.number_input(**common, value=value, step=step, format=format_, width=WIDTH, **limits)
        return number if number is not None or setting.optional else value
    text = st.text_input(**common, value=write_list(value) if setting.kind == "list" else value, width=WIDTH)
    if setting.kind == "list":
        return (read_list(text, setting.title) or None) if setting.optional else read_list(text, setting.title)
    return text


def _step(value: float | None) -> float:
    """A button press changes a number by its leading digit's place, and a zero by a twentieth."""
    return 10.0 ** math.floor(math.log10(value)) if value else 0.05
