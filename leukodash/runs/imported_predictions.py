"""Import another tool's predictions as a run that can be compared.

An imported run is a run folder with ``imported.json`` in place of ``config.json``. Only comparisons list it.
"""

import csv
import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from leukodash.csv_text import csv_text, original_text
from leukodash.data.dataset import printable
from leukodash.errors import RunError
from leukodash.evaluation.metrics import evaluate
from leukodash.log import record
from leukodash.models.backbones import BACKBONES
from leukodash.runs.access import ANYONE, Actor, require
from leukodash.runs.run_files import IMPORT_FILE
from leukodash.runs.run_folder import Run, about_texts, as_json, new_run, run_folders

MOST_ROWS = 200_000
MOST_CLASSES = 50
MOST_COLUMNS = 200
MOST_VALUES = 4_000_000  # in all cells of a file; a table of texts takes 60 bytes for each
MOST_MB = 64
ROUNDING = 0.02  # rounded probabilities of a row may sum to one within this; they are rescaled
NEEDED = (
    "file, label and a column p_<class> for each class (such as p_all and p_hem), or path, y_true and prob (of a "
    "blast; y_true may be 1 for a blast and 0 for a normal cell); subject and part are optional"
)
OTHER_NAMES = {"path": "file", "y_true": "label"}
BLAST, NORMAL = "all", "hem"  # what a single column of probabilities is about


def is_import(run: Run) -> bool:
    """Return whether a run holds imported predictions, and so has no config and no weights."""
    return run.imported


def imported_runs(root: Path | None = None) -> list[Run]:
    """Return the imported runs that are whole, newest first."""
    return [run for run in run_folders(root) if run.imported and not run.problem]


def read_predictions(content: bytes, name: str) -> pd.DataFrame:
    """Read and validate another tool's predictions.

    Args:
        content: the bytes of a CSV file. Column names are not case-sensitive.
        name: name of the file, for error messages.

    Returns:
        Columns file, label, subject (str or None), part ("validation" or "test"), and ``p_<class>`` for each class, in
        the file's order. The probabilities of each row sum to one.

    Raises:
        RunError: a sentence on the first fault.
    """
    name = printable(name)
    table = _table(content, name)
    classes = [column.removeprefix("p_") for column in table.columns if column.startswith("p_")]
    for column in ("file", "label"):
        if column not in table:
            raise RunError(f"'{name}' has no column '{column}'. Expected {NEEDED}; found {_some(list(table.columns))}.")
        _refuse(table[column].isna(), name, f"has no {column}. Fill it in, or remove the row")
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise RunError(f"'{name}' has probabilities for {len(classes)} classes. Expected {NEEDED}.")
    labels = table["label"]
    unknown = ~labels.isin(classes)
    _refuse(unknown, name, f"has a label without a column of probabilities. The columns are for {_some(classes)}")
    part = table["part"].fillna("test") if "part" in table else pd.Series("test", index=table.index)
    _refuse(~part.isin(["validation", "test", "train", "unused"]), name, "has a part other than validation or test")
    columns = [f"p_{label}" for label in classes]
    p = table[columns].apply(pd.to_numeric, errors="coerce")
    _refuse(~np.isfinite(p).all(axis=1), name, "has a probability that is missing or not a number")
    _refuse(((p < 0) | (p > 1)).any(axis=1), name, "has a probability outside 0 to 1. Export them after the softmax")
    total = p.sum(axis=1)
    _refuse((total - 1).abs() > ROUNDING, name, "has probabilities that do not sum to one. Export them all")
    _refuse(table["file"].duplicated(), name, "repeats the file of an earlier line. List each cell once")
    subject = table["subject"] if "subject" in table else pd.Series(None, index=table.index, dtype=object)
    made = pd.DataFrame({"file": table["file"], "label": labels, "subject": subject, "part": part})
    made = pd.concat([made, p.div(total, axis=0)], axis=1)
    made = made[made["part"].isin(["validation", "test"])].reset_index(drop=True)
    if not (made["part"] == "test").any():
        raise RunError(f"'{name}' has no test cells. Leave the column 'part' out, or write 'test' there.")
    return made


def import_predictions(
    content: bytes,
    name: str,
    *,
    title: str = "",
    owner: str = "",
    backbone: str | None = None,
    like: Sequence[Run] = (),
    actor: Actor = ANYONE,
) -> Run:
    """Create a run from another tool's predictions.

    If its test cells include all test cells of a run in `like`, by path or by file name, the others are dropped and
    the import can be compared with that run cell by cell. Otherwise it forms a group with imports of the same files.

    Args:
        content: the bytes of a CSV file, see `read_predictions`.
        name: name of the file.
        title: title of the run; by default the file's name.
        owner: owner of the run.
        backbone: key in `BACKBONES` if the network is one of them; it determines the color.
        like: finished runs to match; of several matches, the run with the most test cells wins.
        actor: who imports them.

    Raises:
        NotAllowedError: the actor may not.
        RunError: the file cannot be used, or the checkpoints folder cannot be written.
    """
    require(actor, "import")
    if backbone is not None and backbone not in BACKBONES:
        raise RunError(f"There is no backbone '{backbone}'. Choose one of {', '.join(BACKBONES)}, or none.")
    about = about_texts(title=title or Path(printable(name)).stem, owner=actor.name or owner, notes="")
    table = read_predictions(content, name)
    classes = [column.removeprefix("p_") for column in table.columns if column.startswith("p_")]
    table, other = _matched(table, classes, like)
    tested = table[table["part"] == "test"]
    known = tested["subject"].notna().any()
    if other is None:
        positive, split = "all" if "all" in classes else classes[0], table[["file", "label", "subject", "part"]]
        split = split.assign(sha256="name " + split["file"])  # without images, the name identifies the cell
    else:
        classes, positive = list(other.metrics["classes"]), other.metrics["positive"]
        split = other.split[other.split["part"] == other.metrics.get("part", "test")].assign(part="test")
    metrics = evaluate(
        tested["label"].tolist(),
        tested[[f"p_{label}" for label in classes]].to_numpy(),
        classes,
        positive,
        subjects=tested["subject"].tolist() if known else None,
    )
    generated = bool(other and other.metrics["generated"])
    metrics |= {"part": "test", "split": "imported: split unknown", "generated": generated}
    if other and other.metrics.get("area_auc") is not None:
        metrics["area_auc"] = other.metrics["area_auc"]
    files = {
        "predictions.csv": _csv(table),
        "split.csv": split.to_csv(index=False).encode(),
        "about.json": as_json(about | {"by": actor.id}),
        IMPORT_FILE: as_json({"source": printable(name), "backbone": backbone}),
        "metrics.json": as_json(metrics),
    }
    run = new_run("imported", files)
    record("import", actor, run=run.id, rows=len(table))
    return run


def template(runs: Sequence[Run]) -> str:
    """Return a CSV file of the cells that these runs of one test group were tested on, with empty probabilities."""
    run = min(runs, key=is_import)  # the paths of a trained run, if there is one
    table, classes = run.predictions, run.metrics["classes"]
    cells = table.loc[table["part"] == run.metrics.get("part", "test"), ["file", "label"]]
    if set(classes) == {BLAST, NORMAL}:
        return csv_text(cells.rename(columns={"file": "path", "label": "y_true"}).assign(prob=""))
    return csv_text(cells.assign(**{f"p_{label}": "" for label in classes}))


def _table(content: bytes, name: str) -> pd.DataFrame:
    if len(content) > MOST_MB * 2**20:
        raise RunError(f"'{name}' is over {MOST_MB} MB. Keep the test cells and the validation cells only.")
    if content.count(b",") > MOST_VALUES:
        raise RunError(f"'{name}' has more than {MOST_VALUES:,} values. Import fewer cells, or fewer classes.")
    try:
        text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")
        lines = csv.reader(text, skipinitialspace=True)
        width = len(next(filter(None, lines), []))
        if width > MOST_COLUMNS:
            raise RunError(f"'{name}' has more than {MOST_COLUMNS} columns. Expected {NEEDED}.")
        for line in itertools.islice(lines, MOST_ROWS + 1):  # pandas would take minutes for a very long line
            if len(line) > width:
                raise RunError(
                    f"Line {lines.line_num:,} of '{name}' has {len(line):,} values, but the first has {width:,}. "
                    "Give each column a name."
                )
        # A class or a subject may be called "NA" or "null": only what is empty is missing.
        table = pd.read_csv(
            io.BytesIO(content), dtype=str, nrows=MOST_ROWS + 1, skipinitialspace=True, keep_default_na=False,
            na_values=[""], index_col=False,
        )  # fmt: skip
    except (ValueError, csv.Error) as error:  # pandas' own errors are ValueErrors, and so is text that is not UTF-8
        raise RunError(f"'{name}' is not a CSV file in UTF-8. Expected {NEEDED}.") from error
    columns = [str(column).strip().lower() for column in table.columns]
    table.columns = [OTHER_NAMES.get(name, name) if OTHER_NAMES.get(name) not in columns else name for name in columns]
    if table.columns.duplicated().any():
        twice = printable(table.columns[table.columns.duplicated()][0])
        raise RunError(f"'{name}' has the column '{twice}' twice. Keep one.")
    for column in {"file", "label", "subject"} & set(table.columns):
        table[column] = table[column].map(original_text, na_action="ignore")  # of a template filled in
    if table.empty:
        raise RunError(f"'{name}' has no rows. Expected {NEEDED}, and one row per cell.")
    if len(table) > MOST_ROWS:
        raise RunError(f"'{name}' has more than {MOST_ROWS:,} rows. Keep the test cells and the validation cells only.")
    if "prob" in table and "label" in table:
        blast = pd.to_numeric(table["prob"], errors="coerce")
        table[f"p_{BLAST}"], table[f"p_{NORMAL}"] = blast, 1 - blast
        table["label"] = table["label"].str.strip().replace({"1": BLAST, "0": NORMAL, "1.0": BLAST, "0.0": NORMAL})
    classes = {column: column for column in table.columns if column.startswith("p_")}
    labels = {label.lower(): label for label in table.get("label", pd.Series(dtype=str)).dropna().unique()}
    return table.rename(columns={column: f"p_{labels.get(column[2:], column[2:])}" for column in classes})


def _csv(table: pd.DataFrame) -> bytes:
    """Return predictions as CSV: texts, then probabilities. `DataFrame.to_csv` would take five times as long."""
    texts = [name for name in table.columns if not name.startswith("p_")]
    numbers = table.drop(columns=texts)
    form = ",".join(["%.9f"] * numbers.shape[1])
    head: list[str] = []
    csv.writer(SimpleNamespace(write=head.append)).writerow([*texts, *numbers])
    lines: list[str] = []
    rows = table[texts].astype(object).where(table[texts].notna(), None)
    csv.writer(SimpleNamespace(write=lines.append), lineterminator=",").writerows(rows.itertuples(index=False))
    lines = [line + form % tuple(row) for line, row in zip(lines, numbers.to_numpy().tolist(), strict=True)]
    return "\n".join([head[0].strip(), *lines, ""]).encode()


def _matched(table: pd.DataFrame, classes: list[str], like: Sequence[Run]) -> tuple[pd.DataFrame, Run | None]:
    """Return the rows of the largest test part that they cover, with its run's file names; and that run."""
    tested = table[table["part"] == "test"]
    by_path = tested.set_index("file")
    names = tested["file"].str.replace("\\", "/").str.rsplit("/", n=1).str[-1].str.rsplit(".", n=1).str[0]
    by_name = tested.set_index(names) if names.is_unique else by_path.iloc[:0]
    for run in sorted(like, key=lambda run: -run.metrics["n"]):
        if set(run.metrics["classes"]) != set(classes) or is_import(run):
            continue
        own = run.predictions[run.predictions["part"] == run.metrics.get("part", "test")]
        stems = own["file"].str.rsplit("/", n=1).str[-1].str.rsplit(".", n=1).str[0]
        for lookup, keys in ((by_path, own["file"]), (by_name, stems)):
            if not keys.is_unique or not keys.isin(lookup.index).all():
                continue
            rows = lookup.loc[keys].reset_index(drop=True)
            wrong = (rows["label"].to_numpy() != own["label"].to_numpy()).sum()
            if wrong:
                raise RunError(
                    f"{wrong:,} of the {len(own):,} test cells have another label here than in {run.title}. "
                    "Correct the labels, or check that p_ columns and labels mean the same classes."
                )
            rows = rows.assign(file=own["file"].to_numpy(), subject=own["subject"].to_numpy())
            return pd.concat([rows, table[table["part"] == "validation"]], ignore_index=True), run
    return table, None


def _refuse(wrong: pd.Series, name: str, words: str) -> None:
    """Raise RunError with the line of the first wrong row, if there is one."""
    if wrong.any():
        line, count = int(np.flatnonzero(wrong)[0]) + 2, int(wrong.sum())
        more = f" ({count:,} such lines)" if count > 1 else ""
        raise RunError(f"Line {line:,} of '{name}' {words}{more}.")


def _some(names: Sequence[str]) -> str:
    shown = [printable(str(name)) for name in names[:6]]
    return ", ".join(shown) + (" …" if len(names) > 6 else "")
