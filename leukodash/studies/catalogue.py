"""The studies behind ``docs/results.md``: their questions, the runs that answer them, and which runs have finished.

A run belongs to a study if it has the study's settings, wherever it was started and whatever its title.
"""

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, Field, TypeAdapter, ValidationError

from leukodash import settings
from leukodash.atomic_write import write_atomic
from leukodash.bounded_read import DamagedError, read_bounded
from leukodash.config.presets import make_config
from leukodash.config.run_config import RunConfig
from leukodash.data.dataset import Dataset, load_dataset
from leukodash.errors import RunError
from leukodash.evaluation import novelty
from leukodash.models.backbones import ALL
from leukodash.runs.migrations import stored_config
from leukodash.runs.published_runs import SUFFIX, write_archive
from leukodash.runs.run_folder import Run, all_runs, cells_name, finished

_Value = bool | int | float | str | None | list[int]  # of a setting
BACKBONES = ("mobilenet", "googlenet", "resnet50", "alexnet")
DRAWS = 10  # of a test part of 70 cells
SEEDS = 3  # of a split by image
FOLDS = 5
AS_PUBLISHED = "as published"
EVERY_LAYER = "every layer trained"
LOWER_RATE = "a tenth of the rate"
NATIVE, BATCHNORM, BOTH = "its own preprocessing", "batch normalization left alone", "both"
INDEX = "studies.json"
MOST_INDEX = 20_000_000  # bytes


@dataclass(frozen=True)
class StudyRun:
    """A run of a study.

    Attributes:
        label: the recipe; runs of one label that differ only in seed or test part share a row of the results.
        backbone, preset: as in `make_config`.
        settings: override the preset.
        cpu_overrides: override the settings on a machine without a GPU; the results page lists them.
        folder: subfolder of the data set, if the study uses only a part of it.
    """

    label: str
    backbone: str
    preset: str = "recommended"
    settings: Mapping[str, Any] = field(default_factory=dict)
    cpu_overrides: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""


@dataclass(frozen=True)
class Study:
    """A question, and the runs that answer it."""

    title: str
    question: str
    runs: tuple[StudyRun, ...]


# Fixed here, so that a new recommended preset leaves the studies as they are: heads of frozen networks, one view a cell
_FROZEN: dict[str, Any] = {
    "flips": "none",
    "average_views": False,
    "pooling": "average",
    "optimizer": "adam",
    "head": (0.3,),
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "epochs": 60,
}
_SOLVED: dict[str, Any] = {"pooling": "cell", "head": (), "optimizer": "lbfgs"}
BOTH_SPLITS = ("mobilenet", "alexnet")  # networks whose splits by image and by subject are compared
_DHURI, _MAMAEV = "dhuri-guinde-2020", "mamaev-2023"
_SMALL = {"input_size": 64, "epochs": 10}  # where no layer is frozen, so that every epoch runs the whole network
PUBLISHED_FILES = ("about.json", "status.json", "history.csv", "model.json", "metrics.json")
MOST_WEIGHTS = 1_000_000  # bytes of trained layers that are published with a run: a linear head has a hundredth of it


def _dhuri_guinde() -> tuple[StudyRun, ...]:
    every = {"train_from": ALL, "batchnorm": "trained"}
    return (
        *(StudyRun(AS_PUBLISHED, "mobilenet", _DHURI, {"split": {"seed": number}}) for number in range(DRAWS)),
        StudyRun(EVERY_LAYER, "mobilenet", _DHURI, every, _SMALL),
        StudyRun(AS_PUBLISHED, "vgg16", _DHURI, cpu_overrides={"epochs": 6, "split": {"counts": (1000, 70, 70)}}),
        StudyRun(AS_PUBLISHED, "resnet50", _DHURI, cpu_overrides={**_SMALL, "split": {"counts": (1000, 70, 70)}}),
    )


def _resnet50() -> tuple[StudyRun, ...]:
    """One change at a time, tested on 1,000 cells: 70 would be too few to distinguish these recipes.

    Without a GPU all of them are reduced in the same way, so that rows still differ in one setting. Recipes whose
    frozen layers are computed only once are trained in full size as well.
    """
    split: dict[str, Any]
    split, fewer = {"counts": (3000, 500, 1000)}, {**_SMALL, "split": {"counts": (1000, 500, 1000)}}
    left_alone: dict[str, Any] = {"batchnorm": "frozen"}
    native, quicker = {"preprocessing": "native"}, {"learning_rate": 1e-3}
    changes: dict[str, dict[str, Any]] = {
        AS_PUBLISHED: {},
        NATIVE: native,
        BATCHNORM: left_alone,
        BOTH: left_alone | native,
        "both, and a rate of 0.001": left_alone | native | quicker,
    }
    full_size = {
        "batch normalization left alone, full size": left_alone,
        "both, full size": left_alone | native,
        "both, and a rate of 0.001, full size": left_alone | native | quicker,
    }
    return (
        *(StudyRun(label, "resnet50", _DHURI, {"split": split, **change}, fewer) for label, change in changes.items()),
        *(StudyRun(label, "resnet50", _DHURI, {"split": split, **change}) for label, change in full_size.items()),
    )


def _mamaev() -> tuple[StudyRun, ...]:
    names = ("resnet50", "googlenet", "vgg16")
    return (
        *(StudyRun(AS_PUBLISHED, name, _MAMAEV, folder="fold_0") for name in names),
        StudyRun(LOWER_RATE, "googlenet", _MAMAEV, {"learning_rate": 3e-4}, folder="fold_0"),
    )


def _honest() -> tuple[StudyRun, ...]:
    """The same recipe for every network, and two ways to split with a head on the last block, which takes seconds.

    A solved head has no seed: one run a test part is enough.
    """
    by_image = [("by image", seed, {"kind": "image", "validation": 0.1, "seed": seed}) for seed in range(SEEDS)]
    folds = [
        ("five folds of subjects", 0, {"folds": FOLDS, "validation": 0.1, "test_fold": number})
        for number in range(FOLDS)
    ]
    return (
        *(
            StudyRun(f"fold {1 - fold} → fold {fold}", name, settings={**_SOLVED, "split": _fold(fold)})
            for fold in (1, 0)
            for name in BACKBONES
        ),
        *(
            StudyRun(label, name, settings={**_FROZEN, "seed": seed, "split": split})
            for name in BOTH_SPLITS
            for label, seed, split in (*by_image, *folds)
        ),
    )


def _fold(number: int) -> dict[str, Any]:
    return {"kind": "fold", "test_fold": number}


def _best() -> tuple[StudyRun, ...]:
    """One step at a time."""
    one = ("mobilenet",)
    steps: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
        "last block, trained": (one, _FROZEN),
        "every block, trained": (one, {**_FROZEN, "pooling": "blocks", "learning_rate": 0.003}),
        "every block, solved": (one, {**_SOLVED, "pooling": "blocks"}),
        "every block over the cell, solved": (BACKBONES, _SOLVED),
    }
    return tuple(
        StudyRun(label, name, settings={**recipe, "split": _fold(fold)})
        for label, (names, recipe) in steps.items()
        for name in names
        for fold in (1, 0)
    )


STUDIES = {
    "dhuri-guinde": Study(
        "Dhuri & Guinde 2020, as published",
        "Are the paper's results reproduced, and how much do they vary with the choice of 70 test images?",
        _dhuri_guinde(),
    ),
    "resnet50": Study(
        "Why ResNet50 was at chance", "Which setting of the recipe explains ResNet50's 51.4 %?", _resnet50()
    ),
    "mamaev": Study("Mamaev 2023, as published", "Are the notebook's results reproduced?", _mamaev()),
    "honest": Study(
        "Unseen subjects compared with a random split of images",
        "How good are frozen networks on unseen subjects, and how much does a split by image inflate their results?",
        _honest(),
    ),
    "best": Study(
        "The best recipe",
        "Which step helps on held-out subjects of the training fold, and how good is it on the other fold?",
        _best(),
    ),
}


def configs(study: Study, data: Path) -> list[tuple[StudyRun, RunConfig, RunConfig]]:
    """Return a study's runs, each with its full config and its config with the CPU overrides.

    Args:
        study: from `STUDIES`.
        data: folder of the data set.

    Raises:
        DataError: there is no data set.
        RunError: the settings do not fit it.
    """
    datasets = {run.folder: load_dataset(data / run.folder) for run in study.runs}
    return [
        (run, _config(run, datasets[run.folder], {}), _config(run, datasets[run.folder], run.cpu_overrides))
        for run in study.runs
    ]


def _config(run: StudyRun, dataset: Dataset, overrides: Mapping[str, Any]) -> RunConfig:
    split = {**run.settings.get("split", {}), **overrides.get("split", {})}
    config = make_config(run.preset, run.backbone, dataset, **{**run.settings, **overrides, "split": split})
    if config.split.counts:  # validation and test keep their size if possible; training takes the rest
        train, *others = config.split.counts
        available = dataset.cells["label"].value_counts()
        left = int(available.min()) * len(available) - sum(others)
        if left > sum(others):
            config = config.changed(split={**config.split.model_dump(), "counts": (min(train, left), *others)})
    return config


def find_matching_run(config: RunConfig, runs: Iterable[Run]) -> Run | None:
    """Return the run with these settings: a finished one if there is one, else one to resume, else None."""
    same = [run for run in runs if _what_counts(run.trained) == _what_counts(config)]
    return next((run for run in same if run.metrics), next(iter(same), None))


class _Row(BaseModel):
    label: str
    run: str
    cells: str
    cpu_overrides: dict[str, Annotated[list[_Value], Field(min_length=2, max_length=2)]] = Field(
        {},
        validation_alias=AliasChoices("cpu_overrides", "smaller"),  # its name in earlier versions
    )


_RECORD = TypeAdapter(dict[str, list[_Row]])


@dataclass(frozen=True)
class FinishedStudyRun:
    """A finished run of a study: its label there, and its CPU overrides, as setting → [requested, used]."""

    label: str
    run: Run
    cpu_overrides: dict[str, list[Any]]


def record_study_run(name: str, requested: StudyRun, config: RunConfig, whole: RunConfig, run: Run) -> None:
    """Record in the user's ``studies.json`` which run answers which study, so that results need no data set.

    A study is about one set of cells: rows about other cells are dropped.
    """
    index = _read_index(settings.checkpoints())
    overrides = {key: [value, used] for key, value, used in _differences(whole, config)}
    new = {"label": requested.label, "run": run.id, "cells": config.fingerprint, "cpu_overrides": overrides}
    kept = [row for row in index.get(name, []) if row["cells"] == new["cells"] and _key(row) != _key(new)]
    index[name] = [*kept, new]
    write_atomic(settings.checkpoints() / INDEX, json.dumps(index, indent=1).encode())


def share(folder: Path) -> int:
    """Write the finished runs of all studies as one archive a study, and their index, to be published.

    Trained layers are kept for the first run of each recipe, unless they are large; the log and the paths of this
    machine are left out. A run of two studies is in the archive of the first. The page of results made from the
    archives is the same.

    Returns:
        The bytes of all files.
    """
    results, shared = done(), set()
    recipes: dict[tuple[str, str, str], str] = {}  # the first run of each
    for name, rows in results.items():
        for row in rows:
            recipes.setdefault((name, row.run.config.backbone, row.label), row.run.id)
    for name, rows in results.items():
        files: dict[str, bytes] = {}
        for run in (row.run for row in rows):
            if run.id not in shared:
                files |= _shared(run, with_layers=run.id in recipes.values())
                shared.add(run.id)
        write_archive(folder / f"{name}{SUFFIX}", files)
    ids = {name: {row.run.id for row in rows} for name, rows in results.items()}
    index = {name: [row for row in _index()[name] if row["run"] in ids[name]] for name in results}
    write_atomic(folder / INDEX, json.dumps(index, indent=1).encode())
    return sum(path.stat().st_size for path in (*folder.glob(f"*{SUFFIX}"), folder / INDEX))


def _shared(run: Run, with_layers: bool) -> dict[str, bytes]:
    """Return the published files of a run, by their paths in the archive."""
    config, split = run.config.changed(data=Path(run.config.data).name), run.split
    names: tuple[str, ...] = PUBLISHED_FILES
    if with_layers and run.weights.is_file() and run.weights.stat().st_size <= MOST_WEIGHTS:
        names = (*names, run.weights.name, novelty.FILE)
    files = {name: (run.path / name).read_bytes() for name in names if (run.path / name).is_file()}
    files["config.json"] = json.dumps(stored_config(config), indent=1).encode()
    model = run.model
    if "config" in model:
        model["config"] = stored_config(run.trained.changed(data=config.data))
        files["model.json"] = json.dumps(model, indent=1).encode()
    files["split.csv"] = split[["part"]].to_csv(index=False).encode()
    files["predictions.csv"] = run.predictions.to_csv(index=False).encode()
    cells = {cells_name(config.fingerprint): split.drop(columns="part").to_csv(index=False).encode()}
    return {f"{run.id}/{name}": content for name, content in files.items()} | cells


def done() -> dict[str, list[FinishedStudyRun]]:
    """Return the finished runs of each study that has any, the user's and the published ones."""
    index, runs = _index(), {run.id: run for run in finished(all_runs())}
    found = {
        name: [
            FinishedStudyRun(row["label"], runs[row["run"]], row["cpu_overrides"])
            for row in index.get(name, [])
            if row["run"] in runs
        ]
        for name in STUDIES
    }
    return {name: rows for name, rows in found.items() if rows}


def _index() -> dict[str, list[dict[str, Any]]]:
    """Return which runs answer each study: the user's record, then the published one where it is about the same cells.

    The user's record comes first: ``study --data`` records the runs in the order in which the study lists them.
    """
    index: dict[str, list[dict[str, Any]]] = {}
    with contextlib.suppress(RunError):  # the command that trains studies says so
        index = _read_index(settings.checkpoints())
    for name, rows in _read_index(settings.published()).items():
        own = index.setdefault(name, [])
        recorded, cells = set(map(_key, own)), {row["cells"] for row in own}
        own += [row for row in rows if _key(row) not in recorded and cells <= {row["cells"]}]
    return index


def _read_index(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the record in a folder. Raises RunError if it is damaged."""
    if not (folder / INDEX).exists():
        return {}
    try:
        index = _RECORD.validate_json(read_bounded(folder / INDEX, MOST_INDEX))
    except (DamagedError, ValidationError) as error:
        raise RunError(
            f"'{INDEX}', the record of which runs answer which study, is damaged. Restore it from a backup, or delete "
            "it: the command `study` with --data finds the runs again."
        ) from error
    return {name: [row.model_dump() for row in rows] for name, rows in index.items()}


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["run"], row["label"]


def _differences(whole: RunConfig, config: RunConfig) -> list[tuple[str, Any, Any]]:
    """Return the settings that differ: name, value in `whole`, value in `config`."""
    flat = [
        each.model_dump(mode="json", exclude={"split"})
        | {f"split.{key}": value for key, value in each.split.model_dump(mode="json").items()}
        for each in (whole, config)
    ]
    return [(key, value, flat[1][key]) for key, value in flat[0].items() if value != flat[1][key]]


def _what_counts(config: RunConfig) -> dict[str, Any]:
    """Return the settings that make two runs the same: all but the place of the data and the name of the preset."""
    return config.model_dump(exclude={"data", "preset", "weights_file"})
