"""The form of the train page in the address: a link fills it, a reload keeps it, back and forward undo and redo.

The address names what differs from an untouched form: ``/train?backbones=resnet50&preset=quick&epochs=5``. All but
data, backbones, preset and owner are those of settings in `RunConfig`, such as ``split.kind``.
"""

import time
from typing import Any

import streamlit as st

from leukodash.app.sign_in import current_actor
from leukodash.config.form_schema import Setting, read_list, value_of, write_list
from leukodash.config.presets import PRESETS
from leukodash.config.run_config import RunConfig
from leukodash.data.dataset import printable
from leukodash.errors import RunError
from leukodash.jobs.sweep import read_values
from leukodash.models.backbones import BACKBONES
from leukodash.runs.access import offered_networks, offered_settings

UNTOUCHED = {"backbones": "mobilenet", "preset": "quick", "owner": ""}
STALE_SECONDS = 5.0  # in which a rerun may still come from the address before the last change


def follow_address() -> list[str]:
    """Fill the form from the address if a link, a reload, back or forward has changed it.

    Returns a sentence for each part of the address that was last followed that cannot be used.
    """
    state, told = st.session_state, st.query_params.to_dict()
    written, before, since = state.get("address", ({}, None, 0.0))
    late = told == before and time.monotonic() < since + STALE_SECONDS
    entered = told.keys() <= {"data"} and "start" not in state  # by the menu: the form is as it was left
    if told != written and not late and not entered:
        state["address"] = told, None, 0.0
        state["address-problems"] = _fill(told)
    state["followed"] = told
    for name, value in UNTOUCHED.items():
        state.setdefault(name, value.split(",") if name == "backbones" else value)
    return state.get("address-problems", [])


def fill_form(start: dict[str, Any], run: str = "") -> None:
    """Give the form these settings in place of its own; `run` is the id of the run that they come from."""
    number = st.session_state.get("form", {"number": 0})["number"] + 1
    st.session_state["form"] = {"number": number, "start": start, "run": run, "of": None}


def form_start(of: tuple[str, ...]) -> tuple[str, dict[str, Any], str]:
    """Return the prefix of the form's widget keys, the settings that it starts from, and the run that they come from.

    The form starts anew from its recipe when `of` (data set, recipe and first network) changes.
    """
    if "form" not in st.session_state or st.session_state["form"]["of"] not in (None, of):
        fill_form({})
    form = st.session_state["form"]
    form["of"] = of
    return f"form{form['number']}", form["start"], form["run"]


def write_address(backbones: list[str], base: RunConfig, values: dict[str, Any]) -> None:
    """Write the form into the address; `values` are its settings, `base` those of its recipe."""
    form = {"backbones": ",".join(backbones), "preset": base.preset, "owner": st.session_state["owner"].strip()}
    told = {name: text for name, text in form.items() if text != UNTOUCHED[name]}
    told |= {name: _text(value) for name, value in values.items() if value != value_of(base, name)}
    told |= {name: text for name, text in st.query_params.to_dict().items() if name == "data"}
    if told != st.query_params.to_dict():
        st.query_params.from_dict(told)  # at once: each change is an entry of the browser's history
    if told != st.session_state["followed"]:
        st.session_state["address"] = told, st.session_state["followed"], time.monotonic()


def _fill(told: dict[str, str]) -> list[str]:
    """Fill the form from the address; returns what is wrong with it, in sentences."""
    if "data" in told:
        st.session_state.pop("choose-data", None)
    problems = []
    told = UNTOUCHED | told
    requested = [name for name in told["backbones"].split(",") if name]
    offered = offered_networks(current_actor())
    backbones = [name for name in offered if name in requested]
    if unknown := [printable(name) for name in requested if name not in offered]:
        problems.append(f"There is no network '{', '.join(unknown)}'. Choose from {', '.join(offered)}.")
        backbones = backbones or [UNTOUCHED["backbones"]]
    preset = told["preset"]
    if preset not in PRESETS:
        problems.append(f"There is no recipe '{printable(preset)}'. Choose from {', '.join(PRESETS)}.")
        preset = UNTOUCHED["preset"]
    spec = BACKBONES[(backbones or offered)[0]]
    settings = {setting.name: setting for setting in offered_settings(current_actor(), spec)}
    start = {}
    for name, text in told.items():
        if name in settings:
            try:
                start[name] = _value(text, settings[name])
            except RunError as error:
                problems.append(str(error))
        elif name not in (*UNTOUCHED, "data"):
            problems.append(f"There is no setting '{printable(name)}', so the link's value for it is not used.")
    st.session_state.update({"backbones": backbones, "preset": preset, "owner": told["owner"]})
    fill_form(start)
    return problems


def _text(value: Any) -> str:
    if value is None or isinstance(value, tuple):
        return write_list(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(text: str, setting: Setting) -> Any:
    """Return the value that `_text` wrote. Raises RunError for one that does not fit."""
    if setting.optional and not text:
        return None
    if setting.kind == "list":
        return read_list(printable(text), setting.title)
    values = read_values(printable(text), setting)
    if len(values) != 1:
        raise RunError(f"{setting.title} takes one value, not '{printable(text)}'.")
    if setting.kind in ("whole", "number"):
        low, high = setting.low, setting.high
        if (low is not None and values[0] < low) or (high is not None and values[0] > high):
            limits = f"from {low:g} to {high:g}" if high is not None else f"of {low:g} or more"
            raise RunError(f"{setting.title} takes numbers {limits}, not {values[0]:g}.")
    return values[0]
