"""Classification of image files by several runs, for the classify page and the command line."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from leukodash.byte_cache import Cache
from leukodash.cam.overlay_files import write_overlays
from leukodash.csv_text import no_formula
from leukodash.data.archive import IMAGES, MAX_MEMBERS, MAX_UNPACKED_MB, unpack
from leukodash.data.dataset import printable
from leukodash.data.images import Source, read_image, square
from leukodash.errors import ImageError
from leukodash.inference.classifier import BATCH, Answer, Classifier, load
from leukodash.inference.decision import Rule, apply_decisions, decision
from leukodash.inference.smear_summary import cell_name
from leukodash.log import record
from leukodash.progress import Progress
from leukodash.runs.run_folder import Run
from leukodash.smears.detection import cut_outs, find_white_cells, looks_like_smear


def classify_files(
    classifiers: Sequence[Classifier],
    files: Sequence[Source],
    method: str = "evidence",
    cache: Callable[[Source], Cache] | None = None,
    progress: Progress | None = None,
    *,
    target: str | None = None,
    layers: Mapping[str, str] | None = None,
    rule: Rule = "likeliest",
) -> tuple[pd.DataFrame, list[np.ndarray | None]]:
    """Classify image files with several runs. Files that are not images get an error message.

    Args:
        files: paths, or (name, bytes) of uploads. Names are untrusted.
        method: a key of `cam.methods.METHODS`.
        cache: returns where answers for a file are kept, by (SHA-256 of the file, run id, method, target, layer). They
            are not computed again; new ones are added batch by batch, so that an interrupted call loses little.
        progress: called with the fraction done; may raise to stop.
        target: the class that maps explain; by default the predicted class of each image.
        layers: layer of the maps, by run id; by default the backbone's last.
        rule: how probabilities become a class; see `decision.decision`.

    Returns:
        table: one row per file and run, files in order: ``position`` (0 for the first file), ``file``, ``run`` (id),
            ``class`` (by the rule), for each class of any run ``p_<class>`` (uncalibrated) and
            ``calibrated_<class>``, ``novelty``, ``novel`` (bool, unlike the training cells), ``score`` and
            ``score_shown`` (see `Answer`), ``error``. An unreadable file has one row, without a run and with a message
            in ``error``; elsewhere ``error`` is empty. With several runs, each file has a last row with the run
            `decision.AVERAGE`.
        maps: heat map of each row as in `Answer`; None for errors and for the average.
    """
    unshared: Cache = {}
    cache = cache or (lambda _: unshared)
    names = _names(files)
    answers: dict[tuple[int, str], Answer] = {}
    errors: dict[int, str] = {}
    total = max(1, len(classifiers) * len(files))
    for number, classifier in enumerate(classifiers):
        request = (method, target, (layers or {}).get(classifier.run.id))
        for start in range(0, len(files), BATCH):
            if progress:
                done = number * len(files) + start
                progress(done / total, f"{classifier.run.title}: {start:,} of {len(files):,} cells")
            positions = range(start, min(start + BATCH, len(files)))
            batch = [(position, files[position], names[position]) for position in positions if position not in errors]
            for position, answer in _answers(classifier, batch, request, cache):
                if isinstance(answer, str):
                    errors[position] = answer
                else:
                    answers[position, classifier.run.id] = answer
    rows = []
    for position, name in enumerate(names):
        row = {"position": position, "file": name, "run": "", "novel": False, "error": errors.get(position, "")}
        if position in errors:
            rows.append(row)
            continue
        for classifier in classifiers:
            answer = answers[position, classifier.run.id]
            shares = {f"p_{label}": float(p) for label, p in zip(classifier.classes, answer.probabilities, strict=True)}
            novel = classifier.novelty is not None and answer.novelty > classifier.novelty.limit
            measured = {"novelty": answer.novelty, "score": answer.score, "score_shown": answer.score_shown}
            rows.append({**row, "run": classifier.run.id, **shares, **measured, "novel": novel})
    labels = dict.fromkeys(label for classifier in classifiers for label in classifier.classes)
    columns = ["position", "file", "run", *(f"p_{label}" for label in labels), "novelty", "novel"]
    columns += ["score", "score_shown", "error"]
    decisions = {classifier.run.id: decision(classifier.run, rule) for classifier in classifiers}
    table = apply_decisions(pd.DataFrame(rows, columns=columns), decisions, rule)
    keys = zip(table["position"], table["run"], strict=True)
    return table, [answers[key].heat if key in answers else None for key in keys]


def classify_paths(
    paths: Sequence[Path],
    runs: Sequence[Run],
    overlays: Path | None = None,
    progress: Progress | None = None,
    *,
    method: str = "evidence",
    target: str | None = None,
    layer: str | None = None,
    rule: Rule = "likeliest",
) -> pd.DataFrame:
    """Classify images for the command line; returns the table of `classify_files` without ``position``.

    With `overlays`, each heat map is written over its cell as ``<file>.<run>.png`` into that folder, or into that ZIP
    file if the name ends in ``.zip``; see `overlay_files.write_overlays`.

    `paths` are image files, folders or ZIPs of images, and whole smears; see `collect_cells`. `layer` is the layer of
    the heat maps for every run. Other arguments are those of `classify_files`.

    Raises:
        RunError: a run has not finished; a run lacks the method, target or layer; the overlays cannot be written.
        WeightsError: the weights of a run are unavailable.
    """
    files, faults = collect_cells(paths)
    classifiers = [load(run, progress) for run in runs]
    layers = {run.id: layer for run in runs} if layer else None
    table, maps = classify_files(classifiers, files, method, progress=progress, target=target, layers=layers, rule=rule)
    if overlays:
        write_overlays(overlays, files, table, maps, progress=progress)
    table = table.drop(columns="position")
    for name, sentence in faults:
        table.loc[len(table), ["file", "run", "class", "novel", "error"]] = name, "", "", False, sentence
    return table


def collect_cells(paths: Sequence[Path]) -> tuple[list[Source], list[tuple[str, str]]]:
    """Return the cells in these paths, as the classify page does for uploads.

    A folder yields the images in it and below, in order of their names; a ZIP its images, as
    ``"some.zip/image.png"``; a whole smear its white cells, as ``"smear.jpg, cell 3"``.

    Returns:
        The cells, and (name, message) for each file in a ZIP that cannot be used. Files that are not images are among
        the cells: reading them raises the error.
    """
    files: list[Source] = []
    faults: list[tuple[str, str]] = []
    for path in paths:
        if path.is_dir():
            files += [file for file in sorted(path.rglob("*")) if file.suffix.lower().removeprefix(".") in IMAGES]
        elif path.suffix.lower() == ".zip" and path.is_file():
            try:
                unpacked = unpack(path.read_bytes(), path.name, MAX_MEMBERS, MAX_UNPACKED_MB * 10**6)
            except (OSError, ImageError) as error:
                faults.append((str(path), str(error)))
                continue
            files += [(f"{path}/{name}", data) for name, data in unpacked.files]
            faults += [(str(path), sentence) for sentence in [*unpacked.faults, *unpacked.left_out]]
        else:
            files.append(path)
    return [cell for file in files for cell in _cells(file)], faults


def _cells(file: Source) -> list[Source]:
    """Return the white cells of a smear; any other file unchanged."""
    name, data = (str(file), file) if isinstance(file, Path) else file
    try:
        image = read_image(data, name)
    except ImageError:
        return [file]
    if not looks_like_smear(image):
        return [file]
    pictures = cut_outs(image, find_white_cells(image))
    pngs = [cv2.imencode(".png", picture[..., ::-1])[1].tobytes() for picture in pictures]
    return [(cell_name(name, number), png) for number, png in enumerate(pngs, start=1)]


def _answers(
    classifier: Classifier,
    files: Iterable[tuple[int, Source, str]],
    request: tuple[str, str | None, str | None],
    cache: Callable[[Source], Cache],
) -> Iterator[tuple[int, Answer | str]]:
    """Yield an answer, from the cache or the network, or an error message for each (position, source, name)."""
    method, target, layer = request
    waiting: dict[str, list[int]] = {}
    images: dict[str, np.ndarray] = {}
    caches: dict[str, list[Cache]] = {}
    for position, source, name in files:
        try:
            data = _bytes(source, name)
            content = hashlib.sha256(data).hexdigest()
            kept = cache(source)
            answer = kept.get((content, classifier.run.id, *request))
            if answer is not None:
                yield position, answer
                continue
            if content not in images:
                images[content] = square(read_image(data, name), classifier.size)
            waiting.setdefault(content, []).append(position)
            caches.setdefault(content, []).append(kept)
        except ImageError as error:
            yield position, str(error)
    if not images:
        return
    methods = classifier.together(method)
    answers = classifier.answer(list(images.values()), methods, target, layer)
    record("classify", run=classifier.run.id, cells=len(images))
    for number, content in enumerate(images):
        for key in methods:
            for kept in caches[content]:
                kept[content, classifier.run.id, key, target, layer] = answers[key][number]
        for position in waiting[content]:
            yield position, answers[method][number]


def _bytes(source: Source, name: str) -> bytes:
    if not isinstance(source, Path):
        return source[1]
    try:
        return source.read_bytes()
    except OSError as error:
        raise ImageError(f"'{printable(name)}' cannot be read ({error.strerror}): check the file.") from error


def _names(files: Sequence[Source]) -> list[str]:
    """Return a name for each file: paths unchanged, names of uploads shortened, never a formula, and all different."""
    names: list[str] = []
    times: dict[str, int] = {}
    for file in files:
        if isinstance(file, Path):
            names.append(str(file).encode(errors="replace").decode())  # bytes of a name that are not UTF-8
            continue
        name = no_formula(printable(file[0]))
        times[name] = times.get(name, 0) + 1
        names.append(name if times[name] == 1 else f"{name} ({times[name]})")
    return names
