"""What a form must know of each setting of a run: read off `RunConfig` itself, so that new settings appear in it."""

import json
import types
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from leukodash.config.run_config import RunConfig
from leukodash.data.split import Split
from leukodash.errors import RunError
from leukodash.models.backbones import ALL, HEAD, Backbone

HIDDEN = ("data", "fingerprint", "backbone", "preset", "weights_file", "weights_sha256")
MAIN = ("epochs", "learning_rate", "input_size", "train_from", "split.kind", "seed")
# A group begins at the setting named here and ends at the next one; a new setting falls where it is declared.
GROUPS = {"weights": "Network", "optimizer": "Training", "flips": "Augmentation", "precision": "Arithmetic and seed"}
SPLIT_GROUP = "Split"

TITLES = {
    "train_from": "Train from",
    "batchnorm": "Batch normalization",
    "batchnorm_momentum": "Batch norm momentum",
    "flips": "Views",
    "average_views": "Average the views",
    "seed": "Seed",
    "head": "Head",
    "split.kind": "Split by",
    "split.seed": "Seed of the split",
    "split.validation": "Share for validation",
    "split.test": "Share for the test",
    "split.test_fold": "Fold to test on",
    "split.folds": "Folds of subjects",
    "split.counts": "Cells in training, validation, test",
}
# Split has its texts in its docstring; where a field gets a description of its own, that one wins.
SPLIT_HELP = {
    "kind": "By subject keeps all cells of a person on one side, so that the test asks what a clinic would. By image "
    "deals cells out at random, as both papers did, which flatters. By fold tests on one of the data set's folds.",
    "seed": "Another number draws other parts.",
    "validation": "Share of the cells that choose the best epoch.",
    "test": "Share of the cells that are kept back until the end.",
    "test_fold": "The fold that is kept back: for the split by fold the highest by default, for folds of subjects 0.",
    "folds": "Deal the subjects out into so many test parts, and test on one of them; trying each in turn tests every "
    "cell once. Only for the split by subject.",
    "counts": "Three whole numbers, only for the split by counts (balanced classes, as in Dhuri & Guinde 2020).",
}
CHOICE_TITLES = {
    "imagenet": "ImageNet",
    "random": "random numbers",
    "native": "as it was trained",
    "divide_by_255": "divide by 255",
    HEAD: "the new layers only",
    ALL: "everything",
    "blocks": "average of every block",
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
    "none": "as they are",
    "flips": "mirrored (4 views)",
    "views": "mirrored and turned (8 views)",
    "counts": "a paper's counts",
}


@dataclass(frozen=True)
class Setting:
    """One field of a form.

    Attributes:
        name: as in `RunConfig`; ``split.kind`` reaches into the split.
        title: words for it.
        help: a sentence on what it does.
        kind: what it takes.
        choices: for ``"choice"``.
        low, high: least and greatest value of a number, or None.
        optional: whether it may be empty.
        group: heading that it stands under.
    """

    name: str
    title: str
    help: str
    kind: Literal["choice", "switch", "whole", "number", "list", "text"]
    choices: tuple[str, ...]
    low: float | None
    high: float | None
    optional: bool
    group: str


def settings_of(row: Backbone) -> list[Setting]:
    """Return every setting that a person can change, in the order of `RunConfig`; the cut's choices are the row's."""
    found, group = [], "Network"
    for name, info in RunConfig.model_fields.items():
        group = GROUPS.get(name, group)
        if name in HIDDEN:
            continue
        if name == "split":
            parts = Split.model_fields.items()
            found += [_setting(f"split.{part}", field, SPLIT_GROUP, SPLIT_HELP.get(part)) for part, field in parts]
            continue
        setting = _setting(name, info, group)
        if name == "train_from":
            setting = _with_cuts(setting, row)
        found.append(setting)
    return found


def choice_title(choice: str) -> str:
    """Words for one of a setting's choices."""
    return CHOICE_TITLES.get(choice, choice)


def value_of(config: RunConfig, name: str) -> Any:
    """Return a setting's value by its name in the form."""
    holder, _, part = name.rpartition(".")
    return getattr(getattr(config, holder) if holder else config, part)


def changes(config: RunConfig, values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from a config, nested as `make_config` takes them."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if value == value_of(config, name):
            continue
        if name.startswith("split."):
            found.setdefault("split", {})[name.removeprefix("split.")] = value
        else:
            found[name] = value
    if found.get("split", {}).get("kind", "counts") != "counts":
        found["split"]["counts"] = None  # a paper's counts go with its own kind of split only
    return found


def differences(config: RunConfig, base: RunConfig) -> dict[str, Any]:
    """Return by form name what one config has other than another: how an old run differs from its preset."""
    values = {setting.name: value_of(config, setting.name) for setting in settings_of(config.spec)}
    return {name: value for name, value in values.items() if value != value_of(base, name)}


def read_list(text: str, title: str) -> tuple[int | float, ...] | None:
    """Read numbers with commas between; whole ones stay whole. Nothing is an empty list, for `None` see the caller.

    Raises RunError where something is no number.
    """
    try:
        return tuple(json.loads(word) for word in text.replace(";", ",").split(",") if word.strip())
    except ValueError as error:
        raise RunError(f"{title} takes numbers with commas between, such as 0.5, 1024, not '{text}'.") from error


def write_list(value: tuple[int | float, ...] | None) -> str:
    """Write numbers as `read_list` reads them."""
    return ", ".join(str(number) for number in value or ())


def _setting(name: str, info: FieldInfo, group: str, fallback_help: str | None = None) -> Setting:
    annotation, optional = _without_none(info.annotation)
    limits = {
        key: getattr(rule, key) for rule in info.metadata for key in ("ge", "gt", "le", "lt") if hasattr(rule, key)
    }
    kind, choices = _kind(annotation)
    step = 1 if kind == "whole" else 0
    low = limits.get("ge", limits["gt"] + step if "gt" in limits else None)
    high = limits.get("le", limits["lt"] - step if "lt" in limits else None)
    title = TITLES.get(name, name.replace("_", " ").capitalize())
    help_ = info.description or fallback_help or ""
    return Setting(name, title, help_, kind, choices, low, high, optional, group)


def _with_cuts(setting: Setting, row: Backbone) -> Setting:
    cuts = (HEAD, *(block.name for block in reversed(row.blocks)), ALL)
    return Setting(**{**vars(setting), "kind": "choice", "choices": cuts})


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) in (Union, types.UnionType):
        others = [one for one in get_args(annotation) if one is not type(None)]
        if len(others) == 1:
            return others[0], True
    return annotation, False


def _kind(annotation: Any) -> tuple[str, tuple[str, ...]]:
    if get_origin(annotation) is Literal:
        return "choice", get_args(annotation)
    if get_origin(annotation) is tuple:
        return "list", ()
    return {bool: "switch", int: "whole", float: "number"}.get(annotation, "text"), ()
