"""Can this map be trusted? Three checks of one cell's heat map, each a sentence and a picture, and a verdict."""

import hashlib
import time
from pathlib import Path

import numpy as np
import streamlit as st

from leukodash.app.common import plain
from leukodash.cam.localization import cell_mask, generated_masks
from leukodash.cam.methods import METHODS
from leukodash.data.dataset import label_title
from leukodash.data.images import read_image, square
from leukodash.errors import ImageError
from leukodash.explain.sanity_verdict import judge_deletion, judge_localization, judge_randomization, verdict
from leukodash.figures.cell_pictures import lift
from leukodash.figures.deletion_curves import curves_figure
from leukodash.figures.heat_overlay import overlay
from leukodash.figures.theme import alt_text
from leukodash.inference.sample_cells import draw_samples, unseen_cells
from leukodash.jobs.estimate import duration_words

KEPT = 200  # results of checks: some kilobytes each
OTHERS = 7  # cells besides the one on the page whose maps a run must forget
SHOWN = 150  # pixels a side
ICONS = {True: ":green[:material/check:]", False: ":red[:material/close:]", None: ":gray[:material/remove:]"}


@st.cache_resource
def kept() -> dict:
    """Return what was found before, by run, cell, map and question."""
    return {}


def trust_part(
    classifier,  # noqa: ANN001  (its class would import TensorFlow)
    name: str,
    image: np.ndarray,
    heat: np.ndarray,
    method: str,
    target: str | None = None,
    layer: str | None = None,
) -> None:
    """Show whether a cell's heat map can be trusted; what takes seconds starts at a click and is remembered.

    Args:
        classifier: from `leukodash.app.common.classifier`.
        name: what the cell is called: a path, or an upload's name.
        image: uint8 (H, W, 3), RGB.
        heat: float (h, w), 0 to 1, its map by the method.
        method: a key of `cam.METHODS`.
        target: the class that the map explains; None for the likeliest.
        layer: that the map is of; None for the backbone's last.
    """
    st.markdown(
        "A heat map claims: “this is where the network saw what decided.” Such a claim can be tested: the heat should "
        "lie on the cell, covering the hottest places should change the answer, and the map should fall apart when "
        "the network forgets what it has learnt."
    )
    if not heat.any():
        st.info("Nothing in this map speaks for the class, so there is nothing to check.", icon=":material/info:")
        return
    masks = generated_masks(Path(classifier.run.config.data), name, image)
    nucleus, cell = masks or (None, cell_mask(image))
    findings = [judge_localization(heat, cell, nucleus)]
    contents = hashlib.sha256(image.tobytes() + np.float32(heat).tobytes()).hexdigest()
    key = (classifier.run.id, contents, method, target, layer)
    start = st.empty()
    if key not in kept() and start.button(
        "Check this map", key=f"trust-{hash(key)}", icon=":material/fact_check:",
        help="The network is asked about 150 times: seconds for a small network, up to a minute for a large one.",
    ):  # fmt: skip
        check(classifier, image, heat, method, target, layer, key, start)
    if key not in kept():
        st.markdown(f"{ICONS[findings[0].passed]} **Place.** {findings[0].words}")
        return
    start.empty()
    asked, curves, randomized = kept()[key]
    findings += [judge_deletion(curves), judge_randomization(randomized)]
    level, words = verdict(findings)
    {"good": st.success, "partly": st.warning, "bad": st.error}[level](words)
    for title, finding in zip(("Place", "Covering", "Forgetting"), findings, strict=True):
        st.markdown(f"{ICONS[finding.passed]} **{title}.** {finding.words}")
    with st.container(horizontal=True):
        with st.container(width=(SHOWN + 16) * 3):
            st.caption("**Randomization**: the map of this cell, and those of the same network with random weights")
            with st.container(horizontal=True):
                pictures(image, randomized)
        with st.container(width="stretch"):
            st.caption("**Covering**: how sure the network is while the cell is covered, or uncovered, bit by bit")
            figure = curves_figure(*curves, classifier.run.config.backbone, label_title(asked))
            st.plotly_chart(figure, key=f"trust-curves-{hash(key)}", config={"displayModeBar": False})
            st.caption(alt_text(figure))


def pictures(image: np.ndarray, randomized) -> None:  # noqa: ANN001
    """Show the first cell's maps: of the run, without what it learnt, and of random weights."""
    cell = lift(square(image, 2 * SHOWN))
    maps = {
        "this run": randomized.own[0],
        "what it learnt here forgotten": None if randomized.untrained is None else randomized.untrained[0],
        "everything forgotten": randomized.random[0],
    }
    for words, heat in maps.items():
        if heat is not None:
            with st.container(width=SHOWN, gap="xsmall"):
                st.image(overlay(cell, heat), width=SHOWN, alt=f"Heat map: {words}")
                st.caption(words if heat.any() else f"{words}: no heat")


def check(classifier, image, heat, method, target, layer, key, place) -> None:  # noqa: ANN001
    """Run the two checks that ask the network, with a progress bar in `place`, and keep what they found."""
    from leukodash.explain.sanity_checks import deletion_insertion, randomization_test

    since = time.monotonic()

    def progress(begin: float, share: float):  # noqa: ANN202
        def say(fraction: float, words: str) -> None:
            done, took = begin + share * fraction, time.monotonic() - since
            left = f" · about {duration_words(took / done - took)} left" if done > 0.02 else ""
            place.progress(done, plain(words) + left)

        return say

    asked = target or classifier.classes[int(classifier.predict([image])[0].argmax())]
    slow = METHODS[method].needs_predictions
    others = cells_of_class(classifier, asked, 1 if slow else OTHERS)
    curves = deletion_insertion(classifier, image, heat, asked, progress(0, 0.5))
    how = {"layer": layer, "progress": progress(0.5, 0.5)} | ({"draws": 1} if slow else {})
    randomized = randomization_test(classifier, [image, *others], method, asked, **how)
    kept()[key] = asked, curves, randomized
    if len(kept()) > KEPT:
        kept().pop(next(iter(kept())))


def cells_of_class(classifier, label: str, count: int) -> list[np.ndarray]:  # noqa: ANN001
    """Return some of the cells that a run was tested on and puts into a class, uint8 RGB; fewer where it has fewer."""
    images = []
    for path in draw_samples(unseen_cells([classifier.run]), 3 * count, seed=0)["path"]:
        try:
            images.append(read_image(path))
        except ImageError:  # it has gone or changed since: one cell less to compare
            continue
    found = classifier.predict(images).argmax(axis=1)
    return [image for image, k in zip(images, found, strict=True) if classifier.classes[k] == label][:count]
