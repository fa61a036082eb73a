"""The studies behind ``docs/results.md``: what each asks, the runs that answer it, and which of them are done.

A run belongs to a study when its settings are the study's, wherever it was started and whatever it is called.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leukodash import settings
from leukodash.atomic_write import write_atomic
from leukodash.config.presets import make_config
from leukodash.config.run_config import RunConfig
from leukodash.data.dataset import Dataset, load_dataset
from leukodash.evaluation import novelty
from leukodash.runs.migrations import stored_config
from leukodash.runs.published_runs import SUFFIX, write_archive
from leukodash.runs.run_folder import Run, all_runs, cells_name, finished

BACKBONES = ("mobilenet", "googlenet", "resnet50", "vgg16", "alexnet")
DRAWS = 10  # of a test part of 70 cells
SEEDS = 3
FOLDS = 5
AS_PUBLISHED = "as published"
INDEX = "studies.json"


@dataclass(frozen=True)
class StudyRun:
    """A run that a study asks for.

    Attributes:
        label: what it tries; runs of one label that differ in a seed, a draw or a part stand in one row.
        backbone, preset: as `make_config` takes them.
        settings: beside the preset's.
        cpu_overrides: settings that take their place where there is no GPU; results say what was taken back.
        folder: of the data set, where a study is about a part of it; empty for all of it.
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
    asked: tuple[StudyRun, ...]


_FROZEN = {  # the recommended recipe may move on, what the studies ask for stays
    "flips": "none",  # one view of each cell: eight take eight times as long
    "average_views": False,
    "pooling": "average",
    "learning_rate": 1e-3,
    "epochs": 60,
    "class_weights": True,
}
_DHURI = "dhuri-guinde-2020"
_SMALL = {"input_size": 64, "epochs": 10}  # for ResNet50 whose batch normalization learns: no part of it is frozen
SHARED = ("about.json", "status.json", "history.csv", "model.json", "metrics.json")
MOST_WEIGHTS = 1_000_000  # bytes of trained layers that are shared with a run: a linear head has a hundredth of it


def _dhuri_guinde() -> tuple[StudyRun, ...]:
    return (
        *(StudyRun(AS_PUBLISHED, "mobilenet", _DHURI, {"split": {"seed": number}}) for number in range(DRAWS)),
        StudyRun(AS_PUBLISHED, "vgg16", _DHURI, cpu_overrides={"epochs": 6, "split": {"counts": (1000, 70, 70)}}),
        StudyRun(AS_PUBLISHED, "resnet50", _DHURI, cpu_overrides={**_SMALL, "split": {"counts": (1000, 70, 70)}}),
    )


def _resnet50() -> tuple[StudyRun, ...]:
    """One change at a time, tested on 1,000 cells: 70 could not tell these recipes apart.

    Without a GPU all of them are small alike, so that each row still differs in one thing; those whose frozen part is
    computed once are there in full size as well.
    """
    split, fewer = {"counts": (3000, 500, 1000)}, {**_SMALL, "split": {"counts": (1000, 500, 1000)}}
    left_alone, native = {"batchnorm": "frozen"}, {"preprocessing": "native"}
    quicker = {"learning_rate": 1e-3}
    changes = {
        AS_PUBLISHED: {},
        "its own preprocessing": native,
        "batch normalization left alone": left_alone,
        "both": left_alone | native,
        "both, and a rate of 0.001": left_alone | native | quicker,
    }
    whole = {
        "batch normalization left alone, full size": left_alone,
        "both, full size": left_alone | native,
        "both, and a rate of 0.001, full size": left_alone | native | quicker,
    }
    return (
        *(StudyRun(label, "resnet50", _DHURI, {"split": split, **change}, fewer) for label, change in changes.items()),
        *(StudyRun(label, "resnet50", _DHURI, {"split": split, **change}) for label, change in whole.items()),
    )


def _mamaev() -> tuple[StudyRun, ...]:
    names = ("resnet50", "googlenet", "vgg16")
    return tuple(StudyRun(AS_PUBLISHED, name, "mamaev-2023", folder="fold_0") for name in names)


def _honest() -> tuple[StudyRun, ...]:
    """The same recipe for every network."""
    by_image = [("by image", seed, {"kind": "image", "validation": 0.1, "seed": seed}) for seed in range(SEEDS)]
    folds = [
        ("five folds of subjects", 0, {"folds": FOLDS, "validation": 0.1, "test_fold": number})
        for number in range(FOLDS)
    ]
    official = [
        (f"fold {1 - fold} → fold {fold}", seed, {"kind": "fold", "test_fold": fold})
        for fold in (1, 0)
        for seed in range(SEEDS)
    ]
    return tuple(_frozen(label, name, *how) for label, *how in (*official, *folds, *by_image) for name in BACKBONES)


def _frozen(label: str, backbone: str, seed: int, split: Mapping[str, Any], **changes: Any) -> StudyRun:
    return StudyRun(label, backbone, settings={**_FROZEN, "seed": seed, "split": split, **changes})


def _best() -> tuple[StudyRun, ...]:
    """One step at a time. Each seed draws other validation subjects from the training fold: they choose the recipe."""
    alike = {"class_weights": False}
    mean = alike | {"flips": "views", "average_views": True}
    blocks = mean | {"pooling": "blocks"}
    steps = {
        "classes weighted alike": (("mobilenet",), {}),
        "classes as they come": (BACKBONES, alike),
        "as they come, 320 pixels": (("mobilenet",), alike | {"input_size": 320}),
        "as they come, eight views": (("mobilenet",), alike | {"flips": "views"}),
        "as they come, the last block learns": (
            ("mobilenet",),
            alike | {"train_from": "block13", "learning_rate": 1e-4, "epochs": 8},
        ),
        "mean over eight views": (("mobilenet",), mean),
        "mean over eight views, rate 0.03": (("mobilenet",), mean | {"learning_rate": 0.03}),
        "mean over eight views, every block": (("mobilenet",), blocks),
        "mean over eight views, every block, rate 0.003": (
            ("mobilenet", "alexnet", "googlenet"),
            blocks | {"learning_rate": 0.003},
        ),
    }
    return tuple(
        _frozen(label, name, seed, {"kind": "fold", "test_fold": fold, "seed": seed}, **changes)
        for label, (names, changes) in steps.items()
        for name in names
        for fold in (1, 0)
        for seed in range(SEEDS)
    )


STUDIES = {
    "dhuri-guinde": Study(
        "Dhuri & Guinde 2020, as published",
        "Do the paper's numbers come again, and how much do they move with the draw of 70 test images?",
        _dhuri_guinde(),
    ),
    "resnet50": Study(
        "Why ResNet50 was at chance", "Which detail of the recipe brings ResNet50 to 51.4 %?", _resnet50()
    ),
    "mamaev": Study("Mamaev 2023, as published", "Do the notebook's numbers come again?", _mamaev()),
    "honest": Study(
        "Subjects never seen, against images split at random",
        "What do frozen networks reach on new subjects, and how much does a split by image flatter them?",
        _honest(),
    ),
    "best": Study(
        "The best recipe",
        "Which step helps on subjects that were held out of the training fold, and what does it reach on the other?",
        _best(),
    ),
}


def configs(study: Study, data: Path) -> list[tuple[StudyRun, RunConfig, RunConfig]]:
    """Return what a study asks for: each run's config as a whole, and with what is taken back without a GPU.

    Args:
        study: of `STUDIES`.
        data: folder of the data set.

    Raises:
        DataError: there is no data set.
        RunError: settings that do not fit it.
    """
    sets = {asked.folder: load_dataset(data / asked.folder) for asked in study.asked}
    return [(asked, *(_config(asked, sets[asked.folder], whole) for whole in (True, False))) for asked in study.asked]


def _config(asked: StudyRun, dataset: Dataset, whole: bool) -> RunConfig:
    smaller = {} if whole else asked.cpu_overrides
    split = {**asked.settings.get("split", {}), **smaller.get("split", {})}
    config = make_config(asked.preset, asked.backbone, dataset, **{**asked.settings, **smaller, "split": split})
    if config.split.counts:  # validation and test keep their size while they can; training takes what there is
        train, *others = config.split.counts
        there = dataset.cells["label"].value_counts()
        left = int(there.min()) * len(there) - sum(others)
        if left > sum(others):
            config = config.changed(split={**config.split.model_dump(), "counts": (min(train, left), *others)})
    return config


def find_matching_run(config: RunConfig, runs: Iterable[Run]) -> Run | None:
    """Return the run with these settings: a finished one if there is one, else one to resume, else None."""
    same = [run for run in runs if _what_counts(run.trained) == _what_counts(config)]
    return next((run for run in same if run.metrics), next(iter(same), None))


@dataclass(frozen=True)
class FinishedStudyRun:
    """A finished run of a study: its label there, and its CPU overrides, as setting → [requested, used]."""

    label: str
    run: Run
    cpu_overrides: dict[str, list[Any]]


def record_study_run(name: str, requested: StudyRun, config: RunConfig, whole: RunConfig, run: Run) -> None:
    """Record in the user's ``studies.json`` which run answers which study, so that results need no data set.

    A study is about one set of cells: rows about other cells are dropped. A run without a label gets the study's.
    """
    if not run.about["label"]:
        run.write("about.json", run.about | {"label": _label(requested, config)})
    index = _read_index(settings.checkpoints())
    overrides = {key: [value, used] for key, value, used in _differences(whole, config)}
    new = {"label": requested.label, "run": run.id, "cells": config.fingerprint, "cpu_overrides": overrides}
    kept = [row for row in index.get(name, []) if row["cells"] == new["cells"] and _key(row) != _key(new)]
    index[name] = [*kept, new]
    write_atomic(settings.checkpoints() / INDEX, json.dumps(index, indent=1).encode())


def _label(asked: StudyRun, config: RunConfig) -> str:
    """Words for a run among the others of its network."""
    split, words = config.split, [asked.label]
    if split.folds:
        words.append(f"part {(split.test_fold or 0) + 1} of {split.folds}")
    elif split.kind == "fold" and "fold" not in asked.label:
        words.append(f"tested on fold {split.test_fold}")
    if draw := max(split.seed, config.seed):
        words.append(f"draw {draw + 1}")
    return ", ".join(words)


def share(folder: Path) -> int:
    """Write the finished runs of all studies as one archive a study, and their index, to be published.

    Trained layers are kept for the first run of each recipe, unless they are large; the log and the paths of this
    machine are left out. A run of two studies is in the archive of the first. The page of results made from the
    archives is the same.

    Returns:
        The bytes of all files.
    """
    results, recipes, shared = done(), {}, set()
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
    names = SHARED
    if with_layers and run.weights.is_file() and run.weights.stat().st_size <= MOST_WEIGHTS:
        names = (*SHARED, run.weights.name, novelty.FILE)
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
    index = _read_index(settings.checkpoints())
    for name, rows in _read_index(settings.published()).items():
        own = index.setdefault(name, [])
        recorded, cells = set(map(_key, own)), {row["cells"] for row in own}
        own += [row for row in rows if _key(row) not in recorded and cells <= {row["cells"]}]
    return index


def _read_index(folder: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        index = json.loads((folder / INDEX).read_bytes())
    except (OSError, ValueError):
        return {}
    for row in (row for rows in index.values() for row in rows):
        row.setdefault("cpu_overrides", row.pop("smaller", {}))  # its name in earlier versions
    return index


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["run"], row["label"]


def _differences(whole: RunConfig, config: RunConfig) -> list[tuple[str, Any, Any]]:
    flat = [one.model_dump(mode="json", exclude={"split"}) for one in (whole, config)]
    for one, parts in zip(flat, (whole.split, config.split), strict=True):
        one |= {f"split.{key}": value for key, value in parts.model_dump(mode="json").items()}
    return [(key, value, flat[1][key]) for key, value in flat[0].items() if value != flat[1][key]]


def _what_counts(config: RunConfig) -> dict[str, Any]:
    """Settings by which two runs are one and the same: not where the data lie, nor what the recipe is called."""
    return config.model_dump(exclude={"data", "preset", "weights_file"})
