"""Form fields for the settings of a run, derived from `RunConfig`, so that new settings appear automatically."""

import json
import types
from dataclasses import dataclass, replace
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from leukodash.config.run_config import RunConfig
from leukodash.data.split import Split
from leukodash.errors import RunError
from leukodash.models.backbones import ALL, HEAD, Backbone

HIDDEN = ("data", "fingerprint", "backbone", "preset", "weights_file", "weights_sha256")
MAIN = ("epochs", "learning_rate", "input_size", "train_from", "split.kind", "seed")
# Settings of training by gradients, which a head that is solved does without
GRADIENT = (
    *("learning_rate", "momentum", "weight_decay", "schedule", "warmup_epochs", "batch_size", "epochs"),
    *("early_stopping", "label_smoothing", "split.validation"),
)
# Each group starts at the setting named here and ends before the next.
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
# Help for fields of Split without a description of their own.
SPLIT_HELP = {
    "kind": "By subject keeps all cells of a person in one part, so the test measures accuracy on new patients. By "
    "image assigns cells at random, as both papers did, which overestimates it. By fold tests on one of the data set's "
    "folds.",
    "seed": "A different seed gives different parts.",
    "validation": "Share of the cells that are used to choose the best epoch.",
    "test": "Share of the cells that are held out until the end.",
    "test_fold": "The held-out fold: by default the highest for the split by fold, 0 for folds of subjects.",
    "folds": "Divide the subjects into this many folds and test on one; one run per fold tests every cell once. "
    "Only for the split by subject.",
    "counts": "Three whole numbers, only for the split by counts (balanced classes, as in Dhuri & Guinde 2020).",
}
CHOICE_TITLES = {
    "imagenet": "ImageNet",
    "random": "random numbers",
    "native": "as in pretraining",
    "divide_by_255": "divide by 255",
    HEAD: "new layers only",
    ALL: "everything",
    "blocks": "average of every block",
    "cell": "every block, over the cell",
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
    "lbfgs": "L-BFGS (solves a linear head)",
    "flips": "mirrored (4 views)",
    "views": "mirrored and rotated (8 views)",
    "counts": "a paper's counts",
}

Kind = Literal["choice", "switch", "whole", "number", "list", "text"]


@dataclass(frozen=True)
class Setting:
    """One field of a form.

    Attributes:
        name: as in `RunConfig`; ``split.kind`` is a field of the split.
        title: the label.
        help: a sentence on what it does.
        kind: the type of its value.
        choices: for ``"choice"``.
        low, high: minimum and maximum of a number, or None.
        optional: whether it may be empty.
        group: the heading above it.
    """

    name: str
    title: str
    help: str
    kind: Kind
    choices: tuple[str, ...]
    low: float | None
    high: float | None
    optional: bool
    group: str


def settings_of(spec: Backbone) -> list[Setting]:
    """Return every setting that a person can change, in the order of `RunConfig`, for a backbone."""
    settings: list[Setting] = []
    group = "Network"
    for name, info in RunConfig.model_fields.items():
        group = GROUPS.get(name, group)
        if name in HIDDEN:
            continue
        if name == "split":
            parts = Split.model_fields.items()
            settings += [_setting(f"split.{part}", field, SPLIT_GROUP, SPLIT_HELP.get(part)) for part, field in parts]
            continue
        setting = _setting(name, info, group)
        if name == "train_from":
            places = (HEAD, *(block.name for block in reversed(spec.blocks)), ALL)
            setting = replace(setting, kind="choice", choices=places)
        settings.append(setting)
    return settings


def choice_title(choice: str) -> str:
    """Return the label of one of a setting's choices."""
    return CHOICE_TITLES.get(choice, choice)


def value_of(config: RunConfig, name: str) -> Any:
    """Return the value of a setting by its name in the form."""
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
        found["split"]["counts"] = None  # counts belong to the split by counts only
    return found


def differences(config: RunConfig, base: RunConfig) -> dict[str, Any]:
    """Return the values of a config that differ from another, by name in the form."""
    values = {setting.name: value_of(config, setting.name) for setting in settings_of(config.spec)}
    return {name: value for name, value in values.items() if value != value_of(base, name)}


def read_list(text: str, title: str) -> tuple[int | float, ...] | None:
    """Return the numbers of a comma-separated text; whole numbers stay int, an empty text is an empty tuple.

    Raises RunError if something is not a number.
    """
    try:
        return tuple(json.loads(word) for word in text.replace(";", ",").split(",") if word.strip())
    except ValueError as error:
        raise RunError(f"{title} takes numbers separated by commas, such as 0.5, 1024, not '{text}'.") from error


def write_list(value: tuple[int | float, ...] | None) -> str:
    """Return the text that `read_list` reads."""
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


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) in (Union, types.UnionType):
        others = [one for one in get_args(annotation) if one is not type(None)]
        if len(others) == 1:
            return others[0], True
    return annotation, False


def _kind(annotation: Any) -> tuple[Kind, tuple[str, ...]]:
    if get_origin(annotation) is Literal:
        return "choice", get_args(annotation)
    if get_origin(annotation) is tuple:
        return "list", ()
    kinds: dict[Any, Kind] = {bool: "switch", int: "whole", float: "number"}
    return kinds.get(annotation, "text"), ()
