from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from leukodash.cam.localization import cell_mask, generated_masks, heat_fraction_inside, ideal_map
from leukodash.config.run_config import RunConfig
from leukodash.data.demo_cells import demo_cell, demo_masks, make_demo, subject_stain
from leukodash.data.images import read_image
from leukodash.explain.sanity_verdict import Check, judge_deletion, judge_localization, judge_randomization, verdict
from leukodash.figures.deletion_curves import curves_figure
from leukodash.figures.theme import alt_text

SIZE = 64
QUARTER = np.zeros((SIZE, SIZE), bool)
QUARTER[:32, 32:] = True


class LooksAtAQuarter:
    """A classifier whose probability of "all" is the unchanged fraction of the upper right quarter."""

    size, classes = SIZE, ("all", "hem")

    def __init__(self, image):
        self.image = image

    def predict(self, images, progress=None, *, single_view):
        assert single_view  # maps are computed for the untransformed image
        seen = np.array([(image == self.image).all(axis=2)[QUARTER].mean() for image in images])
        return np.stack([seen, 1 - seen], axis=1)


def noise():
    return np.random.default_rng(0).integers(40, 256, (SIZE, SIZE, 3)).astype(np.uint8)


def curves_of(heat, classifier=LooksAtAQuarter, image=None):
    from leukodash.explain.sanity_checks import deletion_insertion

    image = noise() if image is None else image
    return deletion_insertion(classifier(image), image, heat.astype(np.float32), "all")


def drawn_cells(count):
    """Generated cells with the masks of nucleus and cell."""
    rng = np.random.default_rng(5)
    return [demo_cell(rng, number % 2 == 0, subject_stain(rng)) for number in range(count)]


def test_the_mask_of_a_generated_cell_matches_the_drawing():
    for image, nucleus, cell in drawn_cells(6):
        found = cell_mask(image)
        assert (found & cell).sum() / (found | cell).sum() > 0.97
        assert (found & nucleus).sum() / nucleus.sum() > 0.99


def test_holes_belong_to_the_cell_and_specks_do_not():
    image = np.zeros((100, 120, 3), np.uint8)
    cv2.circle(image, (5, 95), 2, (200, 100, 200), -1)
    assert cell_mask(image) is None  # nothing but a speck
    cv2.circle(image, (60, 50), 30, (200, 100, 200), -1)
    filled = image.any(axis=2)
    filled[90:] = False
    cv2.circle(image, (60, 50), 10, (0, 0, 0), -1)
    np.testing.assert_array_equal(cell_mask(image), filled)
    assert cell_mask(np.zeros_like(image)) is None
    assert cell_mask(noise()) is None  # no black background


def test_the_heat_fraction_is_the_sum_inside_the_mask_over_the_total():
    heat = np.array([[0.1, 0.3], [0.0, 0.6]])
    assert heat_fraction_inside(heat, np.array([[False, True], [False, False]])) == pytest.approx(0.3)
    halves = np.zeros((40, 40), bool)
    halves[:, 20:] = True
    large = cv2.resize(heat, (40, 40))
    assert heat_fraction_inside(heat, halves) == pytest.approx(large[:, 20:].sum() / large.sum())
    assert np.isnan(heat_fraction_inside(np.zeros((7, 7)), halves))


def test_masks_are_known_only_for_generated_cells_that_look_like_their_file(tmp_path):
    folder = make_demo(tmp_path / "demo", cells=12, subjects=6)
    first, other = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))[:2]
    image = read_image(folder / first)
    for name in (str(folder / first), Path(first).name):
        np.testing.assert_array_equal(generated_masks(folder, name, image), demo_masks(folder, first))
    assert generated_masks(folder, other, image) is None
    assert generated_masks(folder, "mine.png", image) is None
    assert generated_masks(tmp_path, first, image) is None


@pytest.mark.slow
def test_curves_of_a_perfect_and_of_an_inverted_map_have_the_areas_worked_out_by_hand():
    # The relevant quarter is fully covered after a quarter of the steps: a triangle of area 1/8.
    from leukodash.explain.sanity_checks import area

    curves, inverted = curves_of(QUARTER), curves_of(~QUARTER)
    assert area(curves.shares, curves.deletion) == pytest.approx(1 / 8, abs=1e-3)
    assert area(curves.shares, curves.insertion) == pytest.approx(7 / 8, abs=1e-3)
    assert curves.gain == pytest.approx(3 / 4, abs=2e-3)
    assert inverted.gain == pytest.approx(-3 / 4, abs=2e-3)
    assert max(curves.random_gains) < 0.6
    assert min(inverted.random_gains) > inverted.gain
    assert [judge_deletion(of).passed for of in (curves, inverted)] == [True, False]

    # From the original to black, and from the blurred image to the original
    assert (curves.shares[0], curves.shares[-1]) == (0, 1)
    deletions = np.vstack([curves.deletion, curves.random_deletion])
    insertions = np.vstack([curves.insertion, curves.random_insertion])
    assert (deletions[:, [0, -1]] == [1, 0]).all()
    assert (insertions[:, 0] < 0.05).all() and (insertions[:, -1] == 1).all()


@pytest.mark.slow
def test_random_orders_start_on_the_cell_at_the_resolution_of_the_map():
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[16:48, 16:48] = 200  # a quarter of the image; of 4 × 4 map pixels, the four in the middle

    class SeesAnything(LooksAtAQuarter):
        def predict(self, images, progress=None, *, single_view):
            seen = np.array([one.any(axis=2).sum() for one in images]) / image.any(axis=2).sum()
            return np.stack([seen, 1 - seen], axis=1)

    middle = np.zeros((4, 4))
    middle[1:3, 1:3] = 1
    curves = curves_of(middle, SeesAnything, image)
    half = np.searchsorted(curves.shares, 0.5)
    assert (curves.random_deletion[:, half] < 0.25).all()  # half would be left if any pixels were covered
    assert curves.gain >= max(curves.random_gains) > 0.3
    even = curves_of(np.ones((4, 4)), SeesAnything, image)
    assert even.gain < min(even.random_gains)


@pytest.mark.slow
def test_rank_correlation_equals_pandas():
    from leukodash.explain.sanity_checks import rank_correlation

    one, other = np.random.default_rng(0).integers(0, 5, (2, 7, 7)).astype(np.float32)
    expected = pd.Series(one.ravel()).corr(pd.Series(other.ravel()), method="spearman")
    assert rank_correlation(one, other) == pytest.approx(expected)
    assert rank_correlation(one, np.exp(one)) == pytest.approx(1)
    assert rank_correlation(one, np.zeros((7, 7))) == 0


def untrained_run(folder, **settings):
    """A classifier with random weights in place of a trained run."""
    from leukodash.inference.classifier import Classifier
    from leukodash.models.build import build

    config = RunConfig(data=str(folder), backbone="alexnet", input_size=64, precision="float32", **settings)
    cells = pd.DataFrame(columns=["file", "label", "subject", "part", "sha256"])
    made = {"classes": ["all", "hem"], "positive": "all"}
    facts = {"title": "A run", "id": "a-run", "published": False, "metrics": {}}
    run = SimpleNamespace(config=config, trained=config, model=made, split=cells, path=folder, **facts)
    return Classifier(run, "float32", build(config, 2, None))


@pytest.mark.slow
def test_randomizing_the_head_changes_class_maps_but_not_eigen_cam_and_needs_layers_left_untrained(tmp_path):
    from leukodash.explain.sanity_checks import randomization_test

    served, heard = untrained_run(tmp_path, train_from="head"), []
    images = [image for image, *_ in drawn_cells(4)]
    eigen = randomization_test(served, images, "eigencam", "all", progress=lambda done, words: heard.append(done))
    assert heard == sorted(heard)
    assert 0 <= heard[0] <= heard[-1] <= 1
    np.testing.assert_allclose(eigen.untrained, eigen.own, atol=1e-6)
    assert eigen.untrained_similarity == pytest.approx(1, abs=1e-3)
    assert judge_randomization(eigen).passed is False
    assert np.abs(eigen.random - eigen.own).max() > 0.1

    grad = randomization_test(served, images, "gradcam", "all")
    np.testing.assert_array_equal(grad.own, served.classify_with_maps(images, target="all")[1])
    assert np.abs(grad.untrained - grad.own).max() > 0.1
    assert grad.untrained_similarity < eigen.untrained_similarity

    every = untrained_run(tmp_path, train_from="all")
    before = [weights.copy() for weights in every.model.get_weights()]
    found = randomization_test(every, images, "gradcam", "hem", draws=1)
    assert found.untrained is found.untrained_similarity is None
    np.testing.assert_array_equal(found.own, every.classify_with_maps(images, target="hem")[1])
    for weights, same in zip(before, every.model.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, same)  # the run's own weights are unchanged


def test_localization_passes_halfway_between_a_uniform_and_the_ideal_map():
    cell = np.arange(100).reshape(10, 10) < 50  # half of the image: at full resolution, 75% of the heat must lie on it
    heat = cell * 1.0
    words = "100% of the heat lies on the cell, which fills 50% of the image. A map of 10 × 10 pixels could reach 100%."
    assert judge_localization(heat, cell) == Check(True, words)
    assert [judge_localization(heat + ~cell * rest, cell).passed for rest in (0.33, 0.34)] == [True, False]
    assert judge_localization(heat, None).passed is None
    nucleus = cell & (np.arange(10) < 5)
    assert "50% lies on the nucleus, which fills 25%" in judge_localization(heat, cell, nucleus).words


def test_a_coarse_map_is_compared_with_the_ideal_coarse_map():
    cell = np.zeros((90, 90), bool)
    cell[40:50, 40:50] = True
    best = np.float64([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(ideal_map(cell, (3, 3)) > 0, best > 0)
    assert heat_fraction_inside(best, cell) < 0.2
    for heat, passed in ((best, True), (1 - best, False)):
        found = judge_localization(heat, cell)
        assert found.passed is passed
        assert ("larger input size" in found.words) != passed


def test_deletion_passes_only_if_every_random_order_does_worse():
    better, equal = (judge_deletion(SimpleNamespace(gain=0.4, random_gains=[0.1, best])) for best in (0.3, 0.4))
    assert (better.passed, equal.passed) == (True, False)
    assert "curves 0.40; in random orders 0.20 on average, 0.30 at best" in better.words


def test_randomization_fails_if_either_map_stays_similar():
    for untrained, random, passed in ((0.2, -0.1, True), (0.9, 0.1, False), (0.1, 0.9, False), (None, 0.1, True)):
        similarities = SimpleNamespace(untrained_similarity=untrained, random_similarity=random)
        found = judge_randomization(similarities)
        assert found.passed is passed
        assert ("the trained layers" in found.words) == (untrained is not None)


def test_the_verdict_counts_only_checks_that_could_be_made():
    for passed, level, words in (
        ([True, True, True], "good", "passes all 3 checks"),
        ([None, True, True], "good", "passes all 2 checks"),
        ([True, False, True], "partly", "with caution: it fails 1 of 3 checks"),
        ([None, False, True], "partly", "fails 1 of 2 checks"),
        ([False, False, True], "bad", "Do not trust this map: it fails 2 of 3 checks"),
    ):
        found_level, sentence = verdict([Check(result, "") for result in passed])
        assert found_level == level
        assert words in sentence


def test_the_figure_gives_the_probabilities_at_a_quarter_of_the_image():
    shares = np.linspace(0, 1, 5)
    falls, rises, even = 1 - shares, shares, np.full((3, 5), 0.5)
    figure = curves_figure(shares, falls, rises, even, even, "vgg16", "ALL blast")
    names = [trace.name for trace in figure.data]
    assert names[::2] == ["hottest pixels covered first", "hottest pixels shown first"]
    assert names[1::2] == ["random pixels covered", "random pixels shown"]
    np.testing.assert_array_equal(figure.data[0].y, falls)
    np.testing.assert_array_equal(figure.data[2].y, rises)
    for words in ("it is 75%", "50% in random order", "it is 25% and 50%"):
        assert words in alt_text(figure)


def panel():
    """The page's part, for AppTest."""
    import streamlit as st

    from leukodash.app.classify.map_checks import map_checks_part

    map_checks_part(*st.session_state["cell"])


@pytest.mark.slow
def test_the_panel_shows_the_location_at_once_and_the_verdict_after_a_click(tmp_path):
    st.cache_resource.clear()
    served, ((image, *_),) = untrained_run(tmp_path, train_from="head"), drawn_cells(1)
    file = "mine.png", cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    at = AppTest.from_function(panel, default_timeout=120)
    at.session_state["cell"] = (served, "mine.png", file, np.zeros((7, 7)), "gradcam")
    at.run()
    assert "nothing to check" in at.info[0].value
    assert not at.button
    at.session_state["cell"] = (served, "mine.png", file, served.classify_with_maps([image])[1][0], "gradcam")
    at.run()
    assert "of the heat lies on the cell" in at.markdown[1].value
    assert not (at.success or at.warning or at.error)
    at.button[0].click().run()
    assert not at.exception
    assert len([*at.success, *at.warning, *at.error]) == 1
    said = [element.value for element in at.markdown]
    assert [words.split("**")[1] for words in said[1:4]] == ["Location.", "Deletion.", "Randomization."]
    assert not at.button
    assert [element.value for element in at.run().markdown] == said  # cached, not computed again
