"""What the files of a run folder hold. Each is read whole and of the right types, or it is damaged.

Pages and commands need no check of their own. Additional fields and columns, of other versions or of people, are kept.
"""

import csv
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from leukodash.bounded_read import DamagedError, read_bounded, with_bounded
from leukodash.config.run_config import RunConfig
from leukodash.models.backbones import BACKBONES
from leukodash.runs.migrations import read_config
from leukodash.runs.published_runs import is_published

CONFIG_FILE, IMPORT_FILE = "config.json", "imported.json"
HISTORY_COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")
STRENGTH = "strength"  # C, a further column of the history of a head that is solved, where an epoch is a strength
SPLIT_COLUMNS = ("file", "label", "subject", "part", "sha256")
STEP_COLUMNS = ("step", "epoch", "loss", "accuracy")
MOST_JSON, MOST_TABLE, MOST_HEAD = 4_000_000, 250_000_000, 100_000  # bytes: of a file, and of the first line of a table
MOST = 10**12  # of any count
MOST_SECONDS = 1e11  # of any time or duration: the year 5138

Count = Annotated[int, Field(ge=0, le=MOST)]
Seconds = Annotated[float, Field(ge=0, le=MOST_SECONDS)]
Share = Annotated[float, Field(ge=0, le=1)]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)] | None
Classes = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=2)]
MEASURES = (
    "accuracy balanced_accuracy sensitivity specificity precision f1 f1_weighted f1_macro roc_auc average_precision "
    "brier calibration_error area_auc stratified_auc"
).split()


class _File(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class About(_File):
    """``about.json``: what people say of a run, and the id of the one who started it."""

    title: str = ""
    owner: str = ""
    notes: str = ""
    by: str = ""


class Import(_File):
    """``imported.json``: where imported predictions are from."""

    source: str
    backbone: str | None = None

    @model_validator(mode="after")
    def _known(self) -> "Import":
        if self.backbone is not None and self.backbone not in BACKBONES:
            raise ValueError(f"there is no backbone '{self.backbone}'")
        return self


class Progress(_File):
    """``status.json``: see `runs.status.Status`."""

    state: Literal["queued", "running", "finished", "stopped", "failed"]
    stage: str = ""
    progress: Seconds = 0.0
    message: str = ""
    seconds_left: Seconds | None = None
    device: str = ""
    error: str = ""
    traceback: str = ""
    starting: bool = False
    ahead: Count = 0
    turn: Count = 0
    asked: Annotated[int, Field(ge=0, lt=2**63)] = 0
    started: Seconds = 0.0
    updated: Seconds = 0.0
    ended: Seconds = 0.0


class _Classified(_File):
    classes: Classes
    positive: str

    @model_validator(mode="after")
    def _fit_together(self) -> "_Classified":
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("it names a class twice")
        if self.positive not in self.classes:
            raise ValueError("its positive class is none of its classes")
        return self


class Environment(_File):
    """What a run was trained with."""

    leukodash: str
    cpu: str | None = None
    gpu: str | None = None


class Model(_Classified):
    """``model.json``: what was trained; up to schema 1 without a config."""

    config: dict[str, Any] | None = None
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    generated: bool = False
    features: Annotated[str, Field(pattern="^[0-9A-Za-z_-]+$")] | None = None
    parameters: Count = 0
    trained_parameters: Count = 0
    trained_layers: list[str] = []
    environment: Environment | None = None
    random_start: bool = False
    weights_file: str | None = None
    weights_sha256: str | None = None


_SCORES: dict[str, Any] = dict.fromkeys(MEASURES, (Share | None, None))
_SCORES |= {f"{name}_interval": (Interval, None) for name in MEASURES}
_SCORES["f1_weighted"] = Share, 0.0  # defined for any cells
_Scores: Any = create_model("_Scores", __base__=_File, **_SCORES)  # a value or None of each measure, and its interval


class Metrics(_Classified, _Scores):
    """``metrics.json``: results."""

    n: Annotated[int, Field(ge=1, le=MOST)]
    correct: Count
    accuracy: Share
    accuracy_interval: Interval
    subjects: Count
    part: Literal["test", "validation"]
    split: str
    generated: bool = False
    random_start: bool = False
    leaks: Count = 0
    whole_pictures: Count = 0
    validation: _Scores = _Scores()
    test_set: str = ""
    best_val_loss: Annotated[float, Field(ge=0)] | None = None
    ms_per_image: Annotated[float, Field(ge=0)] | None = None
    features_computed: bool = False

    @model_validator(mode="after")
    def _adds_up(self) -> "Metrics":
        if self.correct > self.n:
            raise ValueError(f"{self.correct:,} of {self.n:,} cells cannot be right")
        return self


class TrainedMetrics(Metrics):
    """``metrics.json`` of a run that was trained here."""

    leaks: Count
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    best_epoch: Count
    parameters: Count
    trained_parameters: Count
    seconds: dict[str, Seconds]


JSON_FILES: Mapping[str, type[_File]] = {
    IMPORT_FILE: Import,
    "model.json": Model,
    "metrics.json": TrainedMetrics,
    "about.json": About,
    "status.json": Progress,
}


@dataclass(frozen=True)
class Table:
    """What a table holds.

    Attributes:
        columns: those that it must have.
        optional: columns of numbers that it may have.
        texts: the columns of text; all but the subject are filled in.
        whole: the columns of whole numbers of 1 or more.
        grows: rows are appended while the run trains: what follows the last end of a line is no row yet.
    """

    columns: tuple[str, ...]
    optional: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    grows: bool = False


TABLES: Mapping[str, Table] = {
    "split.csv": Table(SPLIT_COLUMNS, texts=SPLIT_COLUMNS),
    "predictions.csv": Table(("file", "label", "subject", "part"), texts=("file", "label", "subject", "part")),
    "history.csv": Table(HISTORY_COLUMNS, (STRENGTH,), whole=("epoch",), grows=True),
    "steps.csv": Table(STEP_COLUMNS, whole=("step", "epoch"), grows=True),
}
# Of published runs: their split, whose other columns may be in a table that they share
SHARED_SPLIT = Table(("part",), texts=SPLIT_COLUMNS)
CELLS = Table(("file", "label", "subject", "sha256"), texts=SPLIT_COLUMNS)
PARTS = ("train", "validation", "test", "unused")


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file of a run folder. Raises DamagedError."""
    kind = JSON_FILES[path.name]
    if kind is TrainedMetrics and (path.parent / IMPORT_FILE).exists():
        kind = Metrics
    return _parsed(kind, path).model_dump(exclude_unset=True)


def read_settings(path: Path) -> RunConfig:
    """Return the settings in a ``config.json``. Raises DamagedError, RunError for a newer version's."""
    return read_config(_parsed(_File, path).model_dump())


def _parsed(kind: type[_File], path: Path) -> _File:
    content = read_bounded(path, MOST_JSON).removeprefix(b"\xef\xbb\xbf")
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
    words = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "json_invalid":
        raise DamagedError("it is not JSON")
    place = ".".join(map(str, fault["loc"]))
    raise DamagedError(f"{place}: {words[0].lower()}{words[1:]}" if place else words)


def check_ends(path: Path) -> None:
    """Raise DamagedError if the first line of a table is not its head, or its last line has no end.

    Reads nothing else, so that lists of thousands of runs can ask.
    """
    kind = _kind(path)

    def check(file: int, size: int) -> None:
        first = os.pread(file, 4096, 0)
        if b"\n" not in first:
            first = os.pread(file, MOST_HEAD, 0)
        _head(first.partition(b"\n")[0], kind)
        if not kind.grows and os.pread(file, 1, size - 1) != b"\n":
            raise DamagedError("its last line is cut")

    with_bounded(path, MOST_TABLE, check)


def read_table(path: Path, kind: Table | None = None) -> pd.DataFrame:
    """Return a table of a run folder, without columns that nobody knows. Raises DamagedError."""
    kind = kind or _kind(path)
    content = read_bounded(path, MOST_TABLE)
    end = content.rfind(b"\n") + 1
    if not kind.grows and end < len(content):
        raise DamagedError("its last line is cut")
    head = _head(content[:MOST_HEAD].partition(b"\n")[0], kind)
    texts = [name for name in head if name in kind.texts]
    known = {*kind.columns, *kind.optional} - set(texts)
    numbers = [name for name in head if name.startswith("p_") or name in known]
    types: dict[str, Any] = dict.fromkeys(texts, str) | dict.fromkeys(numbers, float) | dict.fromkeys(kind.whole, int)
    empty = {name: [""] if name in texts else ["", "nan"] for name in texts + numbers}
    try:  # a class or a subject may be called NA, None or nan
        table = pd.read_csv(io.BytesIO(content[:end]), dtype=types, keep_default_na=False, na_values=empty)
    except (ValueError, OverflowError) as error:  # pandas' own errors are ValueErrors
        raise DamagedError("a value in it is of another type than its column, or a line is too long") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise DamagedError("its lines have more values than its first line has names")
    table = table[texts + numbers]
    for fault in _faults(table, kind):
        raise DamagedError(fault)
    return table


def _kind(path: Path) -> Table:
    return SHARED_SPLIT if path.name == "split.csv" and is_published(path.parent) else TABLES[path.name]


def _head(line: bytes, kind: Table) -> list[str]:
    """Return the names of the columns, from the first line of a table."""
    try:
        names = next(csv.reader([line.decode("utf-8-sig")]), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise DamagedError("it is not a table in UTF-8") from error
    needed = SPLIT_COLUMNS if kind is SHARED_SPLIT and "file" in names else kind.columns
    if missing := [name for name in needed if name not in names]:
        raise DamagedError(f"it has no column '{missing[0]}'")
    if len(set(names)) < len(names):
        raise DamagedError("it names a column twice")
    return names


def _faults(table: pd.DataFrame, kind: Table) -> Iterator[str]:
    """Yield what is wrong with the values of a table."""
    filled = [name for name in table if name in kind.texts and name != "subject"]
    if table[filled].isna().any(axis=None):
        yield f"a line has no {' or no '.join(filled)}"
    if "part" in table and not table["part"].isin(PARTS).all():
        yield f"a part in it is none of {', '.join(PARTS)}"
    if "file" in table and not table["file"].is_unique:
        yield "it names a cell twice"
    for name in [str(name) for name in table if name not in kind.texts]:
        values = table[name].to_numpy()
        shares = (values >= 0) & (values <= 1)
        if name.startswith("p_") and not shares.all():
            yield f"'{name}' is not a probability in each line"
        if name.endswith("accuracy") and not (shares | np.isnan(values)).all():
            yield f"'{name}' is not from 0 to 1 in each line"
        if name in kind.whole and (values < 1).any():
            yield f"'{name}' is not 1 or more in each line"
    if kind is TABLES["history.csv"] and not table["epoch"].is_unique:
        yield "it has an epoch twice"
