"""The train page's form: a widget for every setting that `RunConfig` declares, whatever it is."""

import math
from typing import Any

import streamlit as st

from leukodash.models.backbones import BACKBONES
from leukodash.runs.config import RunConfig
from leukodash.runs.form import MAIN, Setting, choice_title, read_list, settings_of, value_of, write_list

WIDTH = 170  # pixels of a widget: two beside each other on a phone, six on a desk


def backbone_cards(chosen: list[str]) -> list[str]:
    """Let the user tick backbones; returns the keys of those ticked, in the table's order."""
    ticked = []
    with st.container(horizontal=True, gap="small"):
        for name, row in BACKBONES.items():
            with st.container(border=True, width=WIDTH, gap=None):
                help_ = f"{row.one_line} {row.parameters / 1e6:.1f} million weights. {row.paper}."
                if st.checkbox(row.title, name in chosen, key=f"use-{name}", persist_state="session"):
                    ticked.append(name)
                st.caption(f"{row.year} · {row.size_mb:.0f} MB", help=help_)
    return ticked


def settings_form(base: RunConfig, start: dict[str, Any], key: str) -> dict[str, Any]:
    """Show all settings; returns their values by name.

    Args:
        base: the preset's values.
        start: values that win over them at first (those of an old run).
        key: a new one makes all widgets new, which sets them back.

    Raises RunError where a text is not what its setting takes.
    """
    settings = {setting.name: setting for setting in settings_of(base.row)}
    shown = {name: start.get(name, value_of(base, name)) for name in settings}
    values: dict[str, Any] = {}
    with st.container(horizontal=True):
        for name in MAIN:
            values[name] = _widget(settings[name], shown[name], f"{key}-{name}")
    rest = [setting for setting in settings.values() if setting.name not in MAIN]
    groups = list(dict.fromkeys(setting.group for setting in rest))
    with st.expander("All settings", icon=":material/tune:"):
        for group, tab in zip(groups, st.tabs(groups), strict=True):
            with tab, st.container(horizontal=True):
                for setting in rest:
                    if setting.group == group:
                        values[setting.name] = _widget(setting, shown[setting.name], f"{key}-{setting.name}")
    return values


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
