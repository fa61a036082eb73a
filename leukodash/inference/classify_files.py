"""Image files, classified by several runs at once: what the classify page and the command line both call."""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from leukodash.cam.overlay_files import write_overlays
from leukodash.data.archive import IMAGES, MAX_MEMBERS, MAX_UNPACKED_MB, unpack
from leukodash.data.dataset import printable
from leukodash.data.images import Source, read_image, square
from leukodash.errors import ImageError
from leukodash.inference.classifier import BATCH, Answer, Classifier, load
from leukodash.inference.decision import Rule, decided, decision
from leukodash.inference.smear_summary import cell_name
from leukodash.runs.run_folder import Run
from leukodash.smears.detection import cut_outs, find_white_cells, looks_like_smear

KEPT_BYTES = 64 * 2**20  # of answers: a map of 7 × 7 takes 200 bytes, one of the first layer 200,000
TOGETHER = ("gradcam", "gradcam++", "hirescam", "layercam")  # once one is known, the others cost next to nothing

Progress = Callable[[float, str], None]


class AnswerCache(dict[tuple, Answer]):
    """Answers that are kept, by key; beyond `KEPT_BYTES` the oldest are dropped. Sessions may share it."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes, self._lock = 0, threading.Lock()

    def __setitem__(self, key: tuple, answer: Answer) -> None:
        with self._lock:
            if key in self:
                return
            super().__setitem__(key, answer)
            self._bytes += answer.heat.nbytes
            while self._bytes > KEPT_BYTES and len(self) > 1:
                self._bytes -= self.pop(next(iter(self))).heat.nbytes


def classify_files(
    classifiers: Sequence[Classifier],
    files: Sequence[Source],
    method: str = "gradcam",
    known: MutableMapping[tuple, Answer] | None = None,
    progress: Progress | None = None,
    *,
    target: str | None = None,
    layers: Mapping[str, str] | None = None,
    rule: Rule = "likeliest",
) -> tuple[pd.DataFrame, list[np.ndarray | None]]:
    """Classify image files with several runs. A file that is no image gets a sentence, and the others go on.

    Args:
        classifiers: from `load`.
        files: paths, or (name, bytes) of uploads. Names may come from anyone.
        method: a key of `cam.METHODS`.
        known: answers by (SHA-256 of the file, run id, method, target, layer). Those found here are not computed
            again, new ones are added batch by batch, so that an interrupted call loses little.
        progress: hears the share that is done, and may raise to stop.
        target: the class that maps explain; by default each image's likeliest.
        layers: by run id the layer that maps are of; by default the backbone's last.
        rule: how probabilities become a class; see `decide.decision`.

    Returns:
        table: a row a file and run, files in order: ``position`` (0 for the first file), ``file``, ``run`` (id),
            ``class`` (by the rule), for each class of any run ``p_<class>`` (the network's own probability) and
            ``calibrated_<class>``, ``novelty``, ``novel`` (bool, unlike the training cells), ``error``. An unreadable
            file has one row, with no run and the sentence in ``error``; elsewhere ``error`` is empty. With several
            runs, each file has a last row with the run `decide.AVERAGE`.
        maps: each row's heat map as in `Answer`, None where there is an error and for the average.
    """
    known = {} if known is None else known
    names, answers = _names(files), {}
    total = max(1, len(classifiers) * len(files))
    for number, classifier in enumerate(classifiers):
        asked = (method, target, (layers or {}).get(classifier.run.id))
        for start in range(0, len(files), BATCH):
            if progress:
                done = number * len(files) + start
                progress(done / total, f"{classifier.run.title}: {start:,} of {len(files):,} cells")
            positions = range(start, min(start + BATCH, len(files)))
            chunk = [position for position in positions if not isinstance(answers.get(position), str)]
            for position, answer in _answers(classifier, [(p, files[p], names[p]) for p in chunk], asked, known):
                if isinstance(answer, str):
                    answers[position] = answer
                else:
                    answers[position, classifier.run.id] = answer
    rows = []
    for position, name in enumerate(names):
        row = {"position": position, "file": name, "run": "", "novel": False, "error": ""}
        if isinstance(answers.get(position), str):
            rows.append({**row, "error": answers[position]})
            continue
        for classifier in classifiers:
            answer = answers[position, classifier.run.id]
            odds = {f"p_{label}": float(p) for label, p in zip(classifier.classes, answer.probabilities, strict=True)}
            novel = classifier.novelty is not None and answer.novelty > classifier.novelty.limit
            rows.append({**row, "run": classifier.run.id, **odds, "novelty": answer.novelty, "novel": novel})
    labels = dict.fromkeys(label for classifier in classifiers for label in classifier.classes)
    columns = ["position", "file", "run", *(f"p_{label}" for label in labels), "novelty", "novel", "error"]
    decisions = {classifier.run.id: decision(classifier.run, rule) for classifier in classifiers}
    table = decided(pd.DataFrame(rows, columns=columns), decisions, rule)
    found = [answers.get(key) for key in zip(table["position"], table["run"], strict=True)]
    return table, [answer and answer.heat for answer in found]


def classify_paths(
    paths: Sequence[Path],
    runs: Sequence[Run],
    overlays: Path | None = None,
    progress: Progress | None = None,
    *,
    method: str = "gradcam",
    target: str | None = None,
    layer: str | None = None,
    rule: Rule = "likeliest",
) -> pd.DataFrame:
    """Classify images as the command line does; the table is that of `classify_files`, without ``position``.

    With `overlays`, each cell's heat map is written over the cell, ``<file>.<run>.png``, into that folder, or into
    that ZIP file where it ends in ``.zip``; see `overlays.write_overlays`.

    Args:
        paths: image files, folders of them, ZIPs of them, whole smears; see `gather`.
        runs: finished runs.
        overlays: where heat maps go, if anywhere.
        progress: hears the share that is done.
        method, target, rule: as for `classify_files`.
        layer: of the heat maps, in every run.

    Raises:
        RunError: a run that has not finished; a method, target or layer that a run does not have; a place that cannot
            be written.
        WeightsError: a run whose weights cannot be had.
    """
    files, faults = gather(paths)
    classifiers = [load(run, progress) for run in runs]
    layers = {run.id: layer for run in runs} if layer else None
    choice = {"target": target, "layers": layers, "rule": rule}
    table, maps = classify_files(classifiers, files, method, progress=progress, **choice)
    if overlays:
        write_overlays(overlays, files, table, maps, progress=progress)
    table = table.drop(columns="position")
    for name, sentence in faults:
        table.loc[len(table), ["file", "run", "class", "novel", "error"]] = name, "", "", False, sentence
    return table


def gather(paths: Sequence[Path]) -> tuple[list[Source], list[tuple[str, str]]]:
    """Find the cells that paths stand for, as the classify page does with uploads.

    A folder stands for the images in it and below, in order of their names; a ZIP for the images in it,
    ``"some.zip/image.png"``; a whole smear for its white cells, ``"smear.jpg, cell 3"``.

    Returns:
        The cells, and (name, sentence) for what a ZIP holds and cannot be had. Files that are no images are among the
        cells: whoever reads them says why.
    """
    files: list[Source] = []
    faults: list[tuple[str, str]] = []
    for path in paths:
        if path.is_dir():
            files += [file for file in sorted(path.rglob("*")) if file.suffix.lower().removeprefix(".") in IMAGES]
        elif path.suffix.lower() == ".zip" and path.is_file():
            try:
                inside = unpack(path.read_bytes(), path.name, MAX_MEMBERS, MAX_UNPACKED_MB * 10**6)
            except (OSError, ImageError) as error:
                faults.append((str(path), str(error)))
                continue
            files += [(f"{path}/{name}", data) for name, data in inside.files]
            faults += [(str(path), sentence) for sentence in [*inside.faults, *inside.left_out]]
        else:
            files.append(path)
    return [cell for file in files for cell in _cells(file)], faults


def _cells(file: Source) -> list[Source]:
    """Return the white cells of a smear; anything else as it is."""
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
    asked: tuple[str, str | None, str | None],
    known: MutableMapping[tuple, Answer],
) -> Iterator[tuple[int, Answer | str]]:
    """Answer for a batch of (position, source, name): from what is known, else by the network, else a sentence."""
    method, target, layer = asked
    waiting: dict[str, list[int]] = {}
    images: dict[str, np.ndarray] = {}
    for position, source, name in files:
        try:
            data = _bytes(source, name)
            content = hashlib.sha256(data).hexdigest()
            answer = known.get((content, classifier.run.id, *asked))
            if answer is not None:
                yield position, answer
                continue
            if content not in images:
                images[content] = square(read_image(data, name), classifier.size)
            waiting.setdefault(content, []).append(position)
        except ImageError as error:
            yield position, str(error)
    if not images:
        return
    methods = TOGETHER if method in TOGETHER else (method,)
    answers = classifier.answer(list(images.values()), methods, target, layer)
    for number, content in enumerate(images):
        for one in methods:
            known[content, classifier.run.id, one, target, layer] = answers[one][number]
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
    """Name each file: a path as it is; an upload's name shortened, and numbered where it came before.

    A spreadsheet takes what begins with ``=``, ``+``, ``-`` or ``@`` for a formula and would run it: such names get an
    apostrophe, which tells it not to (OWASP, CSV injection).
    """
    names: list[str] = []
    times: dict[str, int] = {}
    for file in files:
        if isinstance(file, Path):
            names.append(str(file))
            continue
        name = printable(file[0])
        name = f"'{name}" if name.startswith(("=", "+", "-", "@")) else name
        times[name] = times.get(name, 0) + 1
        names.append(name if times[name] == 1 else f"{name} ({times[name]})")
    return names
