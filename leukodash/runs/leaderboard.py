"""Finished runs as a table and side by side, for the compare page and the command line."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leukodash.config.recipe_words import config_words
from leukodash.errors import RunError
from leukodash.evaluation.comparison import AREAS, RATES, Comparison, Predictions
from leukodash.evaluation.published import LEAK_ALARM
from leukodash.evaluation.statistics import wilson
from leukodash.evaluation.verdicts import quoted
from leukodash.models.backbones import BACKBONES
from leukodash.runs.imported_predictions import is_import
from leukodash.runs.run_cells import cell_paths, leaks_of
from leukodash.runs.run_folder import Run

SEEDS: dict[str, Any] = {"seed": True, "weights_file": True, "split": {"seed"}}  # what runs of one recipe may differ in
CHANCE = 0.5  # the area under the ROC curve of a coin
DIVERGED = 10  # times the loss of a uniform guess: a validation loss above that is one of a training that diverged


@dataclass(frozen=True)
class TestGroup:
    """Finished runs that were tested on the same cells and can be compared.

    Attributes:
        key: equal for the same cells and classes.
        runs: newest first.
    """

    key: str
    runs: tuple[Run, ...]

    @property
    def words(self) -> str:
        """Description of the group, such as ``"121 cells of 4 subjects · demo (generated) · 5 runs"``."""
        metrics = self.runs[0].metrics
        subjects = f" of {metrics['subjects']} subjects" if metrics.get("subjects") else ""
        part = "validation cells" if metrics.get("part") == "validation" else "test cells"
        count = f"{len(self.runs)} run{'s' if len(self.runs) > 1 else ''}"
        return f"{metrics['n']:,} {part}{subjects} · {data_name(self.runs[0])} · {count}"


def test_groups(runs: Sequence[Run]) -> list[TestGroup]:
    """Group finished runs, given newest first, by what they were tested on; the group of the newest run first."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        if metrics := run.metrics:
            found.setdefault(f"{run.test_set}-{','.join(metrics['classes'])}", []).append(run)
    return [TestGroup(key, tuple(members)) for key, members in found.items()]


def first_group(groups: Sequence[TestGroup]) -> TestGroup:
    """Return the group to show first: the one with the user's newest run, or the most informative published group.

    That is one with the most networks, of these one without leaks, of these one with the most subjects.

    Args:
        groups: from `test_groups`, at least one.
    """

    def informative(group: TestGroup) -> tuple[int, bool, int]:
        metrics = group.runs[0].metrics
        return len({backbone_of(run) for run in group.runs}), not metrics.get("leaks"), metrics.get("subjects", 0)

    own = (group for group in groups if not all(run.published for run in group.runs))
    return next(own, None) or max(groups, key=informative)


def first_run(runs: Sequence[Run]) -> Run:
    """Return the run to classify with first: the user's newest one, or the best published one on people never seen.

    Published runs whose pretrained weights come with LeukoDash go first, as they answer at once.
    """

    def worth(run: Run) -> tuple[bool, bool, float]:
        spec = BACKBONES.get(backbone_of(run) or "")
        return bool(spec and spec.weights.shipped), not run.metrics.get("leaks"), run.metrics["accuracy"]

    return next((run for run in runs if not run.published), None) or max(runs, key=worth)


def backbone_of(run: Run) -> str | None:
    """Return the key of the run's backbone; None for an imported run without one."""
    return run.source.get("backbone") if is_import(run) else run.config.backbone


def data_name(run: Run) -> str:
    """Return the name of the data set's folder, marked if its cells are generated."""
    name = "imported" if is_import(run) else Path(run.config.data).name
    return f"{name} (generated)" if run.metrics.get("generated") else name


def image_paths(runs: Sequence[Run], files: Sequence[str]) -> dict[str, Path]:
    """Return the images of some cells by file, without those that are not on this machine."""
    paths: dict[str, Path] = {}
    for run in runs:
        left = [file for file in files if file not in paths]
        if left and not is_import(run):
            paths |= {file: path for file, path in cell_paths(run, left).items() if path.is_file()}
    return paths


def default_runs(runs: Sequence[Run], limit: int = 8) -> list[Run]:
    """Return the newest run of each backbone, and every imported run, newest first, at most `limit`.

    If all are published, they are of one recipe, so that only the networks differ: of those that the most backbones
    were trained with, the first seeds, and of these the best on held-out cells.
    """
    if all(run.published for run in runs):
        alike: dict[str, list[Run]] = {}
        for run in runs:
            recipe = run.trained.model_dump_json(exclude={"backbone", "weights_file", "weights_sha256"})
            alike.setdefault(recipe, []).append(run)

        def fair(members: Sequence[Run]) -> tuple[int, int, float]:
            return len({run.config.backbone for run in members}), -members[0].config.seed, held_out(members)

        runs = max(alike.values(), key=fair)
    newest: dict[str, Run] = {}
    for run in runs:
        newest.setdefault(backbone_of(run) or run.id, run)
    return list(newest.values())[:limit]


def held_out(runs: Sequence[Run]) -> float:
    """Return the mean weighted F1 of runs on their validation cells, by which recipes are chosen."""
    return float(np.mean([run.metrics.get("validation", {}).get("f1_weighted", 0.0) for run in runs]))


def run_names(runs: Sequence[Run]) -> dict[str, Run]:
    """Return the runs by their titles, without the words that all of them share.

    The network stays, unless it is the same and the recipes differ. Titles that people gave stay whole. Runs with the
    same name have the time added at which they were started, and then the end of their id.
    """
    shared = _shared(runs)
    parts = {run: _parts(run) for run in runs if _named(run)}
    same = len({network for network, *_ in parts.values()}) == 1 < len({recipe for _, recipe, *_ in parts.values()})
    short = {}
    for run, (network, *others) in parts.items():
        kept = _kept(others, lambda word: word not in shared)
        short[run] = " · ".join(kept if same and kept else [network, *kept])
    names = [short.get(run, run.title) for run in runs]
    names = _unique(names, [f"{name} · {run.started}" for name, run in zip(names, runs, strict=True)])
    names = _unique(names, [f"{name} ({run.id[-4:]})" for name, run in zip(names, runs, strict=True)])
    return dict(zip(names, runs, strict=True))


def shared_words(runs: Sequence[Run]) -> str:
    """Return the words that these names share: "recommended · tested on fold 1"."""
    parts = [_parts(run) for run in runs if _named(run)]
    network = [parts[0][0]] if len({network for network, *_ in parts}) == 1 else []
    return " · ".join([*network, *_kept(parts[0][1:], _shared(runs).__contains__)]) if parts else ""


def _unique(names: list[str], longer: list[str]) -> list[str]:
    return [name if names.count(name) == 1 else more for name, more in zip(names, longer, strict=True)]


def _named(run: Run) -> bool:
    """Whether the title of a run follows from its settings."""
    return not run.about["title"] and not is_import(run)


def _shared(runs: Sequence[Run]) -> set[str]:
    words = [set(", ".join(_parts(run)[1:]).split(", ")) for run in runs if _named(run)]
    return words[0].intersection(*words) if words else set()


def _kept(parts: Sequence[str], keep: Callable[[str], bool]) -> list[str]:
    """Return the parts of a title with those of their words that are kept."""
    return [kept for part in parts if (kept := ", ".join(word for word in part.split(", ") if keep(word)))]


def compare_runs(runs: Sequence[Run]) -> Comparison:
    """Return the predictions of finished runs of one `TestGroup`, aligned by cell.

    Raises RunError if a run's predictions are missing or are for other cells.
    """
    cells = pd.DataFrame()
    answers: dict[str, Predictions] = {}
    runs = sorted(runs, key=is_import)  # file names come from trained runs, since imports have no images
    classes, positive = tuple(runs[0].metrics["classes"]), runs[0].metrics["positive"]
    for name, run in run_names(runs).items():
        columns = [f"p_{label}" for label in classes]
        table = run.predictions
        if table.empty or not set(columns) <= set(table.columns):
            raise RunError(run.full_problem or f"{run.title} has no predictions of these classes. Leave it out.")
        tested = table[table["part"] == run.metrics.get("part", "test")].sort_values("file", ignore_index=True)
        if not answers:
            cells = tested[["file", "label", "subject"]]
        elif not tested["file"].equals(cells["file"]):
            tested = _by_content(run, tested, runs[0], cells)
        if not tested["label"].equals(cells["label"]):
            raise RunError(f"{run.title} was tested on other cells, or on other labels of them. Leave it out.")
        validation = table[table["part"] == "validation"].sort_values("file")
        answers[name] = Predictions(
            tested[columns].to_numpy(dtype=float),
            backbone_of(run),
            validation[columns].to_numpy(dtype=float),
            validation["label"].to_numpy(dtype=object),
            _held_out_people(run, validation),
            {key: run.metrics.get(key) for area in AREAS for key in (area, f"{area}_interval")},
            validation["subject"].astype(object).where(validation["subject"].notna(), None).to_numpy(),
        )
    return Comparison(cells, classes, positive, answers)


def _held_out_people(run: Run, validation: pd.DataFrame) -> np.ndarray:
    """Return the subject of each validation cell, None where the answer is not to a held-out person, object (m,).

    Who is tested is not held out. Answers to cells of the training part are from cross-validation over subjects.
    """
    of = validation["subject"]
    trained, tested = (run.split[run.split["part"] == part] for part in ("train", run.metrics.get("part", "test")))
    unseen = validation["file"].isin(trained["file"]) | ~of.isin(trained["subject"])
    return of.astype(object).where(unseen & ~of.isin(tested["subject"]), None).to_numpy()


def _by_content(run: Run, tested: pd.DataFrame, first: Run, cells: pd.DataFrame) -> pd.DataFrame:
    """Return a run's test cells, copies of the first run's under other names, in the order of the first run's."""

    def order(of: Run, files: pd.Series) -> np.ndarray:
        hashes = of.split.drop_duplicates("file").set_index("file")["sha256"]
        return np.lexsort((files.astype(str), files.map(hashes).astype(str)))

    if len(tested) != len(cells):
        raise RunError(f"{run.title} was tested on {len(tested):,} cells, not on these {len(cells):,}. Leave it out.")
    place = np.empty(len(cells), dtype=int)
    place[order(first, cells["file"])] = order(run, tested["file"])
    return tested.iloc[place].reset_index(drop=True)


def leaderboard(runs: Sequence[Run]) -> pd.DataFrame:
    """Return a row a finished run, best accuracy first.

    Columns: run (id), title, backbone, owner, preset, network, recipe, how_split and repeat (in words), data, part
    (which cells were tested), n, correct, subjects, accuracy with Wilson's low and high, the other `RATES` and `AREAS`
    with their intervals (``<name>_low``, ``<name>_high``), area_auc (of cell area alone, on the same cells),
    stratified_auc (among cells of equal area) with its interval, parameters, trained_parameters, megabytes (of the
    trained weights' file), seconds (of the whole run), ms_per_image, images_per_second, epochs, best_epoch, split,
    leaks, random_start, generated, test_set (equal for runs tested on the same cells), marks (what a reader must know,
    in words).
    """
    rows = [_row(run) for run in runs if run.metrics]
    table = pd.DataFrame(rows)
    return table.sort_values("accuracy", ascending=False, ignore_index=True) if rows else table


def area_words(runs: Sequence[Run]) -> str:
    """Return a sentence that names the runs that are not shown to use more than cell size; "" without such runs."""
    named = [
        f"{quoted(name)} ({run.metrics['stratified_auc']:.2f}, 95%: {low:.2f} to {high:.2f})"
        for name, run in run_names(runs).items()
        if only_size(run.metrics)
        for low, high in [run.metrics["stratified_auc_interval"]]
    ]
    if not named:
        return ""
    return (
        "Not shown to use more than cell size, as the interval of the ROC AUC among cells of equal size is not above "
        f"{CHANCE}: {'; '.join(named)}."
    )


def fold_seeds(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row for runs that differ only in their seeds, of training or split: their mean and spread.

    Columns: name (of the first seed), seeds (how many runs), accuracy (mean), spread (standard deviation of the
    accuracy, NaN for one seed), lowest, highest, and the means of the other `RATES` and `AREAS`; best mean first.
    """
    board = leaderboard(runs).set_index("run")
    kinds: dict[str, list[Run]] = {}
    for run in runs:
        if run.id in board.index:
            kind = run.id if is_import(run) else run.trained.model_dump_json(exclude=SEEDS)
            kinds.setdefault(kind, []).append(run)
    first = [min(members, key=lambda run: 0 if is_import(run) else run.config.seed) for members in kinds.values()]
    rows = []
    for name, members in zip(run_names(first), kinds.values(), strict=True):
        same = board.loc[[run.id for run in members]]
        of = same["accuracy"]
        row = {"name": name, "seeds": len(members), "spread": of.std(), "lowest": of.min(), "highest": of.max()}
        rows.append(row | same[[*RATES, *AREAS]].astype(float).mean().to_dict())
    return pd.DataFrame(rows).sort_values("accuracy", ascending=False, ignore_index=True)


def diverged(metrics: dict[str, Any]) -> bool:
    """Whether even the best epoch's validation loss is far above that of a uniform guess, ln(classes)."""
    loss = metrics.get("best_val_loss")
    return loss is not None and loss > DIVERGED * np.log(len(metrics["classes"]))


def only_size(metrics: dict[str, Any]) -> bool:
    """Whether the run is not shown to order cells of equal area better than chance: its interval is not above 0.5."""
    low, _ = metrics.get("stratified_auc_interval") or (np.nan, np.nan)
    return low <= CHANCE


def marks(metrics: dict[str, Any]) -> str:
    """Return the caveats of these results in a few words; "" if there are none."""
    said = []
    if metrics.get("generated"):
        said.append("generated cells")
    if metrics.get("random_start"):
        said.append("random start")
    if diverged(metrics):
        said.append(f"training diverged: validation loss {metrics['best_val_loss']:.2g}")
    if metrics.get("part") == "validation":
        said.append("no test part: validation cells")
    if whole := metrics.get("whole_pictures"):
        said.append(f"{whole:,} of {metrics['n']:,} cells are not on black: pooled over the whole picture")
    if metrics.get("leaks"):
        said.append(f"{metrics['leaks']} leaks between parts")
    if only_size(metrics):
        said.append("not shown to use more than cell size")
    unexplained = metrics.get("subjects") and not metrics.get("generated") and not metrics.get("leaks")
    if unexplained and metrics.get("f1_weighted", 0) > LEAK_ALARM:
        said.append("better than any published result on unseen subjects: look for a leak")
    return ", ".join(said)


SAME = (
    "n correct subjects area_auc parameters trained_parameters epochs best_epoch split leaks part ms_per_image".split()
)


def _row(run: Run) -> dict[str, Any]:
    metrics, about = run.metrics | {"leaks": leaks_of(run)}, run.about
    low, high = wilson(metrics["correct"], metrics["n"])
    return {
        "run": run.id,
        "title": run.title,
        "backbone": backbone_of(run),
        "owner": about["owner"],
        "preset": "" if is_import(run) else run.config.preset,
        **dict(zip(("network", "recipe", "how_split", "repeat"), _parts(run), strict=True)),
        "data": data_name(run),
        **{name: metrics.get(name) for name in (*SAME, *RATES, *AREAS, "stratified_auc")},
        **_intervals(metrics),
        "low": low,
        "high": high,
        "megabytes": _megabytes(run.weights),
        "seconds": sum(metrics.get("seconds", {}).values()) or np.nan,
        "images_per_second": 1000 / metrics["ms_per_image"] if metrics.get("ms_per_image") else np.nan,
        "random_start": bool(metrics.get("random_start")),
        "generated": bool(metrics.get("generated")),
        "test_set": run.test_set,
        "marks": marks(metrics),
    }


def _parts(run: Run) -> tuple[str, str, str, str]:
    """Return network, recipe, split and repeat in words."""
    if is_import(run):
        row = BACKBONES.get(backbone_of(run) or "")
        return row.title if row else "other", "imported", "", ""
    return config_words(run.config)


def _intervals(metrics: dict[str, Any]) -> dict[str, float]:
    ends = {}
    for name in (*RATES, *AREAS, "stratified_auc"):
        ends[f"{name}_low"], ends[f"{name}_high"] = metrics.get(f"{name}_interval") or (np.nan, np.nan)
    return ends


def _megabytes(path: Path) -> float:
    try:
        return path.stat().st_size / 1e6
    except OSError:
        return np.nan
