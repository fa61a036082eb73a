"""Settings in words: the parts of a run's name, so that it has one name on every page and in every list."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from leukodash.config.form_schema import TITLES, choice_title, differences
from leukodash.config.presets import PRESETS, preset_title
from leukodash.config.run_config import RunConfig
from leukodash.data.split import Split
from leukodash.models.backbones import ALL, HEAD

MOST = 5  # settings that are named; of more, the number is
ARITHMETIC = ("precision", "seed", "weights")  # not part of a recipe
PHRASES: Mapping[tuple[str, Any], str] = {
    ("pooling", "average"): "last block only",
    ("pooling", "blocks"): "every block",
    ("pooling", "cell"): "pooled over the cell",
    ("optimizer", "lbfgs"): "solved",
    ("pooling", "flatten"): "maps flattened",
    ("flips", "none"): "one view",
    ("flips", "flips"): "four views",
    ("flips", "views"): "eight views",
    ("average_views", True): "mean over the views",
    ("average_views", False): "views not averaged",
    ("schedule", "cosine"): "cosine schedule",
    ("class_weights", True): "classes weighted",
    ("class_weights", False): "classes not weighted",
    ("preprocessing", "native"): "own preprocessing",
    ("preprocessing", "divide_by_255"): "divided by 255",
    ("batchnorm", "frozen"): "batch norm frozen",
    ("batchnorm", "trained"): "batch norm trained",
    ("batchnorm", "everywhere"): "batch norm trained everywhere",
    ("train_from", HEAD): "new layers only",
    ("train_from", ALL): "all layers trained",
}


@lru_cache(maxsize=4096)
def config_words(config: RunConfig) -> tuple[str, str, str, str]:
    """Return what names a run: its network, its recipe, how it was split, and which repeat it is ("" for the first)."""
    return config.spec.title, _recipe(config), _split(config.split), _repeat(config)


def _recipe(config: RunConfig) -> str:
    """Return the short title of the preset and the settings that differ from it: "recommended, one view"."""
    short = preset_title(config.preset).split(":")[0].split(",")[0]
    words = [short if config.preset.endswith(("2020", "2023")) else short.lower()]
    if config.preset in PRESETS:
        preset = _preset(config)
        changed = differences(config, preset)
        names = [name for name in changed if name not in ARITHMETIC and not name.startswith("split.")]
        if changed.get("flips") == "none" and "average_views" in names:
            names.remove("average_views")  # there is nothing to average
        if preset.solved and not config.solved:
            # a head that is trained in place of a solved one: what every other recipe has goes without saying
            usual = {name: RunConfig.model_fields[name].default for name in ("head", "optimizer")}
            names = [name for name in names if name not in usual or changed[name] != usual[name]]
        words += ["random start"] if config.weights == "random" else []
        words += [_phrase(name, changed[name]) for name in names[:MOST]]
        words += [f"{len(names) - MOST} more"] if len(names) > MOST else []
    return ", ".join(words)


def _preset(config: RunConfig) -> RunConfig:
    """Return the preset of a config, for the same network, cells, and start."""
    preset = PRESETS[config.preset]
    given = {**preset.settings, **preset.backbones.get(config.backbone, {})}
    size = max(given.get("input_size", 224), config.spec.min_size)
    same = config.model_dump(include={"data", "fingerprint", "backbone", "preset"})
    base = RunConfig(**{**given, **same, "input_size": size})
    return base.as_random_start() if config.weights == "random" else base


def _phrase(name: str, value: Any) -> str:
    epochs = f"{value} epoch{'s' * (value != 1)}"
    known = {"input_size": f"{value} pixels", "epochs": epochs, "train_from": f"trained from {value}"}
    if phrase := PHRASES.get((name, value), known.get(name, "")):
        return phrase
    title = TITLES.get(name, name.replace("_", " ")).lower()
    if isinstance(value, bool):
        return title if value else f"no {title}"
    if isinstance(value, tuple):
        return f"{title} {' / '.join(map(str, value))}"
    return f"{title} {choice_title(value) if isinstance(value, str) else value}"


def _split(split: Split) -> str:
    if split.folds:
        return f"split by subject, part {(split.test_fold or 0) + 1} of {split.folds}"
    if split.kind == "fold":
        return "tested on the last fold" if split.test_fold is None else f"tested on fold {split.test_fold}"
    if split.counts:
        return f"split by image, {split.counts[2]:,} test cells"
    return f"split by {split.kind}" + ("" if split.test else ", no test part")


def _repeat(config: RunConfig) -> str:
    """Return the seeds that are not 0: of the training, and of the split."""
    seeds = {"seed": config.seed, "split": config.split.seed}
    return ", ".join(f"{name} {number}" for name, number in seeds.items() if number)
