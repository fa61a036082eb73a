"""Work that `kills` and `full_disks` interrupt: each piece is reported when it is done, and checked later.

``python -m benchmarks.interrupted_work NAME FOLDER [PIECES]`` reads from its input what was reported before, checks
that all of it is there and whole, says ``ready``, and goes on: without end, or for a number of pieces. It prints a line
for each: ``done REPORT``, ``refused SENTENCE`` where LeukoDash says why it cannot, or ``problem WORDS``.
"""

import hashlib
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from leukodash import settings
from leukodash.atomic_write import write_atomic
from leukodash.config.presets import make_config
from leukodash.config.run_config import RunConfig
from leukodash.data.dataset import load_dataset
from leukodash.data.images import cell_store, read_image, square
from leukodash.errors import LeukoDashError, RunError
from leukodash.jobs import launch as jobs
from leukodash.runs import trash
from leukodash.runs.access import change_about
from leukodash.runs.imported_predictions import IMPORT_FILE, import_predictions
from leukodash.runs.published_runs import published_folders
from leukodash.runs.run_folder import LIVE, Run, create_run, finished, list_runs

PIXELS = 64
ROWS = 60  # of imported predictions
IMPORTED = ("predictions.csv", "split.csv", "about.json", IMPORT_FILE, "metrics.json")


def environment(folder: Path) -> dict[str, str]:
    """Return the variables that keep LeukoDash's files below a folder; published runs and data are beside it."""
    own = {f"LEUKODASH_{name.upper()}": str(folder / name) for name in ("checkpoints", "cache", "published")}
    return {**os.environ, **own, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}


class Work(ABC):
    """A kind of work in pieces."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def do(self, number: int) -> str:
        """Do a piece of work; returns what is reported of it. Raises LeukoDashError where it cannot be done."""

    @abstractmethod
    def check(self, reports: Sequence[str]) -> Iterator[str]:
        """Yield what is wrong with the work that was reported, in order, and with what is there besides."""


class Importing(Work):
    """Import predictions; each report is the id of a run."""

    def do(self, number: int) -> str:
        """Import the same file under another title."""
        return import_predictions(_predictions(), "answers.csv", title=str(number)).id

    def check(self, reports: Sequence[str]) -> Iterator[str]:
        """Every import has all its files, the same but for the title, and those that were reported are there."""
        yield from _missing(reports)
        runs = [Run(path) for path in _run_folders()]
        yield from (f"{run.id} lacks {name}" for run in runs for name in IMPORTED if not (run.path / name).is_file())
        same = [name for name in IMPORTED if name != "about.json"]
        contents = {_digest(path for name in same if (path := run.path / name).is_file()) for run in runs}
        if len(contents) > 1:
            yield "imports of the same file differ"


class Starting(Work):
    """Create run folders; each report is an id."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.config = make_config("quick", "mobilenet", load_dataset(settings.asset("cells")))

    def do(self, number: int) -> str:
        """Create a run of the same settings."""
        return create_run(self.config, title=str(number)).id

    def check(self, reports: Sequence[str]) -> Iterator[str]:
        """Every folder holds a run of these settings."""
        yield from _missing(reports)
        for path in _run_folders():
            if Run(path).config != self.config or not Run(path).about["title"] or "asked" not in Run(path).status:
                yield f"{path.name} is not whole"


class Naming(Work):
    """Change the notes of one run; each report is a number that they held."""

    def do(self, number: int) -> str:
        """Write the next number."""
        runs = [Run(path) for path in _run_folders()]
        run = runs[0] if runs else import_predictions(_predictions(), "answers.csv", title="kept")
        change_about(run, notes=str(number))
        return str(number)

    def check(self, reports: Sequence[str]) -> Iterator[str]:
        """The notes are as new as the last report, and the title is kept."""
        about = [Run(path).about for path in _run_folders()]
        if reports and (about[0]["title"] != "kept" or int(about[0]["notes"]) < int(reports[-1])):
            yield f"{about[0]} after {reports[-1]} was written"


class Deleting(Work):
    """Delete, restore and purge runs; each report is what was done and an id."""

    def do(self, number: int) -> str:
        """Do the next of: import, delete, restore or purge."""
        if found := _run_folders():
            return f"deleted {trash.discard(Run(found[0])).id}"
        if not (deleted := _deleted()):
            return f"made {import_predictions(_predictions(), 'answers.csv').id}"
        name = deleted[0].name
        if number % 3:
            return f"restored {trash.bring_back(name).id}"
        trash.purge([name])
        if deleted[0].exists():
            raise RunError(f"'{name}' cannot be removed.")
        return f"purged {name}"

    def check(self, reports: Sequence[str]) -> Iterator[str]:
        """Each run is in one place and whole, unless it was purged, or may have been purged after its deletion."""
        last = {name: done for done, name in (report.split() for report in reports)}
        for name, done in last.items():
            places = [path for path in (*_run_folders(), *_deleted()) if path.name == name]
            if done == "purged" and places:
                yield f"{name} was purged and is there"
            if done != "purged" and len(places) != 1 and not (done == "deleted" and not places):
                yield f"{name} was {done} and is in {len(places)} places"
            yield from (f"{path} lacks {each}" for path in places for each in IMPORTED if not (path / each).is_file())


class Features(Work):
    """Store features, of a network that averages pixels; each report is the number of a store."""

    CELLS = np.random.default_rng(0).integers(0, 256, (300, 32, 32, 3), dtype=np.uint8)

    def do(self, number: int) -> str:
        """Compute two views of a store."""
        self.stored(number)
        return str(number)

    def stored(self, number: int) -> bool:
        """Compute a store or find it; returns whether it was found. Raises AssertionError if it is wrong."""
        from leukodash.data.views import view
        from leukodash.training.feature_store import compute_features, store_folder

        outputs = [SimpleNamespace(shape=(None, 32, 3), dtype="float32")] * 2
        prefix = SimpleNamespace(outputs=outputs, predict_on_batch=lambda x: [x.mean(axis=1, dtype=np.float32)] * 2)
        folder = store_folder(number=number)
        silent = lambda fraction, words: None  # noqa: E731
        features = compute_features(prefix, lambda: self.CELLS, folder, (0, 1), silent, silent)
        for each in (0, 1):
            expected = view(self.CELLS, each).mean(axis=1, dtype=np.float32)
            assert all(np.array_equal(array, expected) for array in features.arrays[each]), number
        return not features.computed

    def check(self, reports: Sequence[str]) -> Iterator[str]:
        """What was stored is found and right."""
        yield from (f"store {number} was computed anew" for number in reports[-5:] if not self.stored(int(number)))


class Decoding(Work):
    """Decode cells into stores; each report is a size in pixels."""

    def do(self, number: int) -> str:
        """Decode the sample cells at another size."""
        size = 16 + number
        cell_store(load_dataset(settings.asset("cells")), size)
        return str(size)

    def check(self, reports: Sequence[str]) -> Iterator[str]:
        """A store holds what the files hold; on a full disk, it may have been evicted and is made again."""
        dataset = load_dataset(settings.asset("cells"))
        for size in map(int, reports[-3:]):
            cells = [square(read_image((dataset.root / file).read_bytes()), size) for file in dataset.cells["file"]]
            if not np.array_equal(cell_store(dataset, size), np.stack(cells)):
                yield f"the cells of {size} pixels are not those of the files"


class Sharing(Work):
    """Write the archive of a study and unpack it; each report is a digest of both."""

    def do(self, number: int) -> str:
        """Share the finished runs in `folder`, and read them as published runs in an empty cache."""
        from leukodash.studies.catalogue import INDEX, STUDIES, share

        runs, shared = finished(list_runs()), self.folder / "shared"
        rows = [{"label": "a", "run": run.id, "cells": run.config.fingerprint, "cpu_overrides": {}} for run in runs]
        try:
            write_atomic(settings.checkpoints() / INDEX, json.dumps({next(iter(STUDIES)): rows}).encode())
            share(shared)
            os.environ |= {
                "LEUKODASH_PUBLISHED": str(shared),
                "LEUKODASH_CACHE": str(self.folder / f"cache-{number % 5}"),
            }
            folders, problems = published_folders()
            if problems:
                raise RunError(problems[0])
            return f"{number} {_digest([*shared.glob('*.tar.xz')])} {_digest(sorted(folders[0].rglob('*.*')))}"
        except OSError as error:
            raise RunError(f"The runs cannot be shared ({error.strerror}).") from error
        finally:
            os.environ["LEUKODASH_PUBLISHED"] = str(self.folder / "published")

    def check(self, reports: Sequence[str]) -> Iterator[str]:
        """The same runs always give the same archive, and the last one is there."""
        made = {report.partition(" ")[2] for report in reports}
        if len(made) > 1:
            yield "the same runs gave different archives"
        if made and _digest((self.folder / "shared").glob("*.tar.xz")) not in next(iter(made)):
            yield "the archive has changed"


class Exporting(Work):
    """Export a run in the export's own process; each report is a format."""

    def do(self, number: int) -> str:
        """Write the run in `folder` as a file for other programs."""
        from leukodash.export import export_jobs

        run, format = list_runs()[0], ("keras", "onnx")[number % 2]
        export_jobs._export_folder(run).mkdir(parents=True, exist_ok=True)
        try:
            export_jobs.main([str(run.path), format])
        except OSError as error:
            raise RunError(f"The export cannot say that it is done ({error.strerror}).") from error
        job = export_jobs.job_status(run, format)
        if job.state != "ready":
            raise RunError(job.words)
        return format

    def check(self, reports: Sequence[str]) -> Iterator[str]:
        """The files are there, and give the probabilities of the run's network."""
        from leukodash.export.export_formats import FORMATS
        from leukodash.export.export_jobs import job_status
        from leukodash.export.model_export import check_cells
        from leukodash.inference.classifier import load

        run = list_runs()[0]
        for format in set(reports):
            job = job_status(run, format)
            if job.exported is None:
                yield f"{format}: {job.words or job.state}"
                continue
            cells = check_cells(run, PIXELS)
            outputs, expected = FORMATS[format].outputs(job.exported.path, cells), load(run).predict(cells)
            if np.abs(outputs - expected).max() > 1e-4:
                yield f"{format} gives other probabilities"


class Training(Work):
    """Train the same run again and again, each in a process of its own; each report is an id and its results."""

    def do(self, number: int) -> str:
        """Resume a run that has not finished, or start one, and wait for its end."""
        unfinished = [run for run in list_runs() if run.state != "finished"]
        run = jobs.resume(unfinished[0]) if unfinished else jobs.start(small_config())
        jobs._children[-1].wait()
        assert run.state not in (*LIVE, "lost"), (run.state, run.log_tail())
        if run.state != "finished":
            raise RunError(run.status["error"])
        return f"{run.id} {_results(run)}"

    def check(self, reports: Sequence[str]) -> Iterator[str]:
        """All runs have the same results, and still have them."""
        if len({report.split()[1] for report in reports}) > 1:
            yield "the same settings gave different results"
        for name, results in (report.split() for report in reports):
            if _results(Run(settings.checkpoints() / name)) != results:
                yield f"{name} has lost its results"


def small_config() -> RunConfig:
    """Return the settings of a run that is trained in a second, on the cells in ``LEUKODASH_DATA``."""
    dataset = load_dataset(settings.data_root())
    return make_config(
        "quick", "alexnet", dataset, weights="random", input_size=PIXELS, epochs=2, batch_size=8, precision="float32"
    )


WORKS: dict[str, type[Work]] = {
    "import": Importing,
    "start": Starting,
    "about": Naming,
    "deletion": Deleting,
    "features": Features,
    "cells": Decoding,
    "archives": Sharing,
    "export": Exporting,
    "training": Training,
}


def _predictions() -> bytes:
    rows = [
        f"cell-{number}.png,{('all', 'hem')[number % 2]},0.{number:03},{1 - number / 1000:.3f}"
        for number in range(ROWS)
    ]
    return "\n".join(["file,label,p_all,p_hem", *rows]).encode()


def _run_folders() -> list[Path]:
    root = settings.checkpoints()
    return sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".") if root.is_dir() else []


def _deleted() -> list[Path]:
    folder = settings.checkpoints() / ".trash"
    return sorted(path for path in folder.iterdir() if path.name[0] != ".") if folder.is_dir() else []


def _missing(reports: Sequence[str]) -> Iterator[str]:
    there = {path.name for path in _run_folders()}
    return (f"{name} is gone" for name in reports if name not in there)


def _digest(paths: Iterator[Path] | Sequence[Path]) -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()[:12]


def _results(run: Run) -> str:
    history = run.history.drop(columns="seconds").to_csv(index=False).encode()
    whole = [history, *((run.path / name).read_bytes() for name in ("predictions.csv", "split.csv", "novelty.npz"))]
    return hashlib.sha256(b"\0".join(whole)).hexdigest()[:12]


def main(name: str, folder: Path, pieces: int | None) -> None:
    """Check what was reported, then work on; see the module."""
    reports = sys.stdin.read().splitlines()
    try:
        work = WORKS[name](folder)
        for problem in work.check(reports):
            print(f"problem {problem}", flush=True)
    except LeukoDashError as error:
        print(f"refused {error}", flush=True)
        return
    print("ready", flush=True)
    number = len(reports)
    while pieces is None or number < len(reports) + pieces:
        try:
            print(f"done {work.do(number)}", flush=True)
        except LeukoDashError as error:
            print(f"refused {error}", flush=True)
        number += 1
    for left in (path for pattern in (".*.tmp-*", "*.tmp", ".going-*") for path in folder.rglob(pattern)):
        print(f"problem {left} was left behind", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
