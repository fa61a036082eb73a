"""Checks of one cell's heat map: three tests, each with a sentence and a figure, and a verdict."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from leukodash.app.common import progress_bar
from leukodash.app.picture_cache import data_of, pictures_of
from leukodash.cam.localization import cell_mask, generated_masks
from leukodash.cam.methods import METHODS
from leukodash.data.dataset import label_title
from leukodash.data.images import Source, read_image, square
from leukodash.errors import ImageError
from leukodash.explain.sanity_verdict import judge_deletion, judge_localization, judge_randomization, verdict
from leukodash.figures.cell_pictures import brighten
from leukodash.figures.deletion_curves import curves_figure
from leukodash.figures.heat_overlay import overlay
from leukodash.figures.theme import alt_text
from leukodash.inference.sample_cells import draw_samples, unseen_cells

if TYPE_CHECKING:
    from leukodash.explain.sanity_checks import DeletionInsertion, Randomization
    from leukodash.inference.classifier import Classifier

OTHERS = 7  # further cells for the randomization test
SIDE = 150  # pixels a side
ICONS = {True: ":green[:material/check:]", False: ":red[:material/close:]", None: ":gray[:material/remove:]"}


def map_checks_part(
    classifier: Classifier,
    name: str,
    file: Source,
    heat: np.ndarray,
    method: str,
    target: str | None = None,
    layer: str | None = None,
) -> None:
    """Show whether a cell's heat map can be trusted; slow checks start at a click and are cached.

    Args:
        name: path of the cell, or name of the upload.
        file: the cell.
        heat: float (h, w), 0 to 1, its map.
        method, target, layer: of the map, as in `Classifier.answer`.
    """
    st.markdown(
        "A heat map claims to show the evidence for a class. To test it: the heat should lie on the cell, covering the "
        "hottest regions should change the answer, and the map should change when the network's weights are replaced "
        "by random ones."
    )
    if not heat.any():
        st.info("This map shows no evidence for the class, so there is nothing to check.", icon=":material/info:")
        return
    image = read_image(data_of(file))
    masks = generated_masks(Path(classifier.run.config.data), name, image)
    nucleus, cell = masks or (None, cell_mask(image))
    findings = [judge_localization(heat, cell, nucleus)]
    contents = hashlib.sha256(image.tobytes() + np.float32(heat).tobytes()).hexdigest()
    key = (classifier.run.id, contents, method, target, layer)
    checked, start = pictures_of(file), st.empty()
    if key not in checked and start.button(
        "Check this map", key=f"trust-{hash(key)}", icon=":material/fact_check:",
        help="Runs the network about 150 times: seconds for a small network, up to a minute for a large one.",
    ):  # fmt: skip
        checked[key] = check(classifier, image, heat, method, target, layer, start)
    if key not in checked:
        st.markdown(f"{ICONS[findings[0].passed]} **Location.** {findings[0].words}")
        return
    start.empty()
    results: tuple[str, DeletionInsertion, Randomization] = checked[key]
    label, curves, randomized = results
    findings += [judge_deletion(curves), judge_randomization(randomized)]
    level, words = verdict(findings)
    {"good": st.success, "partly": st.warning, "bad": st.error}[level](words)
    for title, finding in zip(("Location", "Deletion", "Randomization"), findings, strict=True):
        st.markdown(f"{ICONS[finding.passed]} **{title}.** {finding.words}")
    with st.container(horizontal=True):
        with st.container(width=(SIDE + 16) * 3):
            st.caption("**Randomization**: the map of this cell, and the maps of the same network with random weights")
            with st.container(horizontal=True):
                pictures(image, randomized)
        with st.container(width="stretch"):
            st.caption("**Deletion and insertion**: probability of the class while the cell is covered or revealed")
            figure = curves_figure(*curves, classifier.run.config.backbone, label_title(label))
            st.plotly_chart(figure, key=f"trust-curves-{hash(key)}", config={"displayModeBar": False})
            st.caption(alt_text(figure))


def pictures(image: np.ndarray, randomized: Randomization) -> None:
    """Show the first cell's maps: of the run, with trained layers randomized, and with all layers randomized."""
    cell = brighten(square(image, 2 * SIDE))
    maps = {
        "this run": randomized.own[0],
        "trained layers randomized": None if randomized.untrained is None else randomized.untrained[0],
        "all layers randomized": randomized.random[0],
    }
    for words, heat in maps.items():
        if heat is not None:
            with st.container(width=SIDE, gap="xsmall"):
                st.image(overlay(cell, heat), width=SIDE, alt=f"Heat map: {words}")
                st.caption(words if heat.any() else f"{words}: no heat")


def check(
    classifier: Classifier,
    image: np.ndarray,
    heat: np.ndarray,
    method: str,
    target: str | None,
    layer: str | None,
    slot: DeltaGenerator,
) -> tuple[str, DeletionInsertion, Randomization]:
    """Run the two checks that need the network, with a progress bar in `slot`; returns the class and the results."""
    from leukodash.explain.sanity_checks import RANDOM_NETWORKS, deletion_insertion, randomization_test

    progress = progress_bar(slot)
    label = target or classifier.classes[int(classifier.predict([image])[0].argmax())]
    slow = METHODS[method].needs_predictions
    others = cells_of_class(classifier, label, 1 if slow else OTHERS)
    curves = deletion_insertion(classifier, image, heat, label, lambda done, words: progress(done / 2, words))
    randomized = randomization_test(
        classifier, [image, *others], method, label, layer, lambda done, words: progress(0.5 + done / 2, words),
        draws=1 if slow else RANDOM_NETWORKS,
    )  # fmt: skip
    return label, curves, randomized


def cells_of_class(classifier: Classifier, label: str, count: int) -> list[np.ndarray]:
    """Return up to `count` test cells that a run assigns to a class, uint8 RGB."""
    images = []
    for path in draw_samples(unseen_cells([classifier.run]), 3 * count, seed=0)["path"]:
        try:
            images.append(read_image(path))
        except ImageError:  # the file was deleted or changed: one cell less to compare
            continue
    classes = classifier.predict(images).argmax(axis=1)
    return [image for image, k in zip(images, classes, strict=True) if classifier.classes[k] == label][:count]
