"""Start several runs at once: every chosen backbone with every value of one setting."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from leukodash.config.form_schema import Setting, choice_title, settings_of
from leukodash.config.presets import make_config
from leukodash.config.run_config import RunConfig
from leukodash.data.dataset import Dataset
from leukodash.errors import RunError
from leukodash.models.backbones import Backbone

MOST = 60  # runs at once; more is probably a mistake
KINDS = ("choice", "switch", "whole", "number")
SWITCH = ("off", "on")


@dataclass(frozen=True)
class Planned:
    """A run that is about to be started.

    Attributes:
        config: its settings.
        title: a name that distinguishes it in its sweep; empty if the backbone does.
    """

    config: RunConfig
    title: str


def plan(
    preset: str,
    backbones: Sequence[str],
    dataset: Dataset,
    settings: dict[str, Any],
    vary: Setting | None = None,
    values: Sequence[Any] = (),
) -> list[Planned]:
    """Return a run for each backbone and each value, backbone by backbone.

    Args:
        preset, dataset, settings: arguments of `make_config`; each backbone has its own settings in a preset.
        backbones: keys of `BACKBONES`.
        vary: the setting that takes each of the `values`; without it or them, the settings are used unchanged.
        values: from `read_values`.

    Raises RunError if a value does not fit a backbone or another setting, or if there are too many runs.
    """
    if vary is None or not values:
        return [Planned(make_config(preset, name, dataset, **settings), "") for name in backbones]
    if (count := len(backbones) * len(values)) > MOST:
        raise RunError(
            f"{len(backbones)} networks with {len(values)} values each are {count} runs; {MOST} can be started at "
            "once. Try fewer values, or fewer networks."
        )
    planned = []
    for name in backbones:
        known: dict[str, Any] = {}  # the weight file is looked up and identified once per backbone
        for value in values:
            config = make_config(preset, name, dataset, **known, **_with(settings, vary.name, value))
            if vary.name != "weights":
                known = config.model_dump(include={"weights_file", "weights_sha256"})
            planned.append(Planned(config, f"{config.spec.title} · {vary.title.lower()} {value_words(value)}"))
    return planned


def sweepable(spec: Backbone) -> list[Setting]:
    """Return the settings that can be varied: numbers, choices and switches."""
    return [setting for setting in settings_of(spec) if setting.kind in KINDS]


def read_values(text: str, setting: Setting) -> list[Any]:
    """Return the values of a setting from a comma-separated text, in order and without duplicates.

    Raises RunError for a value that does not fit the setting.
    """
    return list(
        dict.fromkeys(_read(word.strip(), setting) for word in text.replace(";", ",").split(",") if word.strip())
    )


def value_words(value: Any) -> str:
    """Return a value as a title has it: ``"0.001"``, ``"on"``, ``"the new layers only"``."""
    if isinstance(value, bool):
        return SWITCH[value]
    return f"{value:g}" if isinstance(value, float) else choice_title(str(value))


def _read(word: str, setting: Setting) -> Any:
    if setting.kind == "choice":
        if word in setting.choices:
            return word
        takes = f"one of {', '.join(setting.choices)}"
    elif setting.kind == "switch":
        known = {"off": False, "false": False, "no": False, "on": True, "true": True, "yes": True}
        if word.lower() in known:
            return known[word.lower()]
        takes = "on and off"
    else:
        try:
            number = json.loads(word)
        except ValueError:
            number = None
        if isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number):
            if setting.kind == "number":
                return float(number)
            if number == int(number):
                return int(number)
        takes = "whole numbers, such as 0, 1, 2" if setting.kind == "whole" else "numbers, such as 0.01, 0.001, 0.0001"
    raise RunError(f"{setting.title} takes {takes}, separated by commas, not '{word}'.")


def _with(settings: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Return settings with one more, nested as `make_config` expects them."""
    holder, _, part = name.rpartition(".")
    if not holder:
        return {**settings, name: value}
    return {**settings, holder: {**settings.get(holder, {}), part: value}}
