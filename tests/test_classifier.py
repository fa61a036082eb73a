"""Finished runs, loaded to classify: the same numbers as in training, and error messages."""

import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from leukodash.config.run_config import RunConfig
from leukodash.data.images import read_image, square
from leukodash.errors import RunError, WeightsError
from leukodash.jobs.hardware import cpu_has_bfloat16
from leukodash.models.backbones import BACKBONES
from leukodash.models.weights import find_weights
from leukodash.runs.migrations import stored_config

pytestmark = pytest.mark.slow


def images_of(run):
    return [read_image(Path(run.config.data) / file) for file in run.predictions["file"]]


@pytest.fixture
def alexnet_weights(tmp_path_factory, monkeypatch):
    """A file of random numbers in place of AlexNet's ImageNet weights."""
    import keras
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    from leukodash.models.alexnet import AlexNet

    folder = tmp_path_factory.getbasetemp() / "alexnet"  # one file for all tests: a tiny run stores its checksum
    path = folder / BACKBONES["alexnet"].weights.name
    if not path.exists():
        folder.mkdir()
        keras.utils.set_random_seed(0)
        with h5py.File(path, "w") as file:
            save_weights_to_hdf5_group(file, AlexNet(include_top=False, input_shape=(64, 64, 3)))
    monkeypatch.setenv("LEUKODASH_WEIGHTS", str(folder))


@pytest.mark.parametrize(("train_from", "precision"), [("head", "float32"), ("conv5", "bfloat16"), ("all", "float32")])
def test_a_loaded_run_gives_the_probabilities_of_its_predictions_file(
    classifier, alexnet_weights, train_from, precision
):
    if precision == "bfloat16" and not cpu_has_bfloat16():
        pytest.skip("this machine serves bfloat16 runs in float32")
    served = classifier(weights="imagenet", train_from=train_from, precision=precision)
    images, expected = images_of(served.run), served.run.predictions[["p_all", "p_hem"]].to_numpy()
    np.testing.assert_allclose(served.predict(images), expected, atol=1e-5)
    np.testing.assert_allclose(served.classify_with_maps(images)[0], expected, atol=1e-5)
    assert np.ptp(expected[:, 0]) > 1e-4  # otherwise the test could not tell cells apart
    assert (served.classes, served.positive, served.size) == (("all", "hem"), "all", 64)


@pytest.mark.parametrize("train_from", ["head", "all"])  # stored features of eight views, and pixels that are turned
def test_a_run_that_averages_views_answers_with_the_mean_over_eight_views(classifier, alexnet_weights, train_from):
    common = {"weights": "imagenet", "train_from": train_from, "flips": "views", "precision": "float32"}
    served, alone = classifier(**common, average_views=True), classifier(**common)
    images = np.stack([square(image, 64) for image in images_of(served.run)])
    turned = [np.rot90(some, k, axes=(1, 2)) for some in (images, images[:, :, ::-1]) for k in range(4)]
    expected = np.mean([alone.predict(some) for some in turned], axis=0)
    assert np.abs(expected - alone.predict(images)).max() > 1e-3
    np.testing.assert_allclose(served.run.predictions[["p_all", "p_hem"]], expected, atol=1e-5)
    np.testing.assert_allclose(served.predict(images), expected, atol=1e-5)
    answers, maps = served.classify_with_maps(images)
    np.testing.assert_allclose(answers, expected, atol=1e-5)
    for image, heat, k in zip(images, maps, expected.argmax(axis=1), strict=True):
        np.testing.assert_allclose(heat, alone.classify_with_maps([image], target=served.classes[k])[1][0], atol=1e-4)
    np.testing.assert_allclose(served.predict(images, single_view=True), alone.predict(images), atol=1e-6)


def test_a_run_that_pools_every_block_says_so_unless_it_started_from_random_weights(classifier, alexnet_weights):
    served = classifier(weights="imagenet", pooling="blocks")
    images = images_of(served.run)
    assert served.pools_blocks
    np.testing.assert_allclose(served.predict(images), served.run.predictions[["p_all", "p_hem"]], atol=1e-5)
    np.testing.assert_allclose(served.classify_with_maps(images)[0], served.predict(images), atol=1e-6)
    assert not classifier().pools_blocks


def test_an_answer_says_how_much_of_the_score_its_map_shows(classifier, alexnet_weights):
    blocks, last = (classifier(weights="imagenet", pooling=pooling) for pooling in ("blocks", "average"))
    images = images_of(blocks.run)
    for served in (blocks, last):
        logit = np.log(served.predict(images))
        difference = logit[:, 0] - logit[:, 1]
        whole = served.answer(images, ("evidence",), target="all")["evidence"]
        scores = np.array([answer.score for answer in whole])
        np.testing.assert_allclose(scores - scores.mean(), difference - difference.mean(), atol=1e-3)
        assert [answer.score_shown for answer in whole] == pytest.approx(scores)
    np.testing.assert_allclose(
        [answer.score for answer in blocks.answer(images, ("evidence",), target="hem")["evidence"]],
        [-answer.score for answer in blocks.answer(images, ("evidence",), target="all")["evidence"]], rtol=1e-4,
    )  # fmt: skip
    of_last = blocks.answer(images, ("gradcam",))["gradcam"]
    assert all(abs(answer.score_shown - answer.score) > 1e-6 for answer in of_last)
    early = blocks.answer(images[:2], ("gradcam",), layer=blocks.layers[1])["gradcam"]
    assert np.isnan([answer.score_shown for answer in early]).all()
    deep = classifier(weights="imagenet", train_from="all").answer(images[:2], ("evidence",))["evidence"]
    assert np.isnan([answer.score for answer in deep]).all()


def test_images_of_any_size_are_padded_to_a_square_as_for_training(classifier):
    served = classifier()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape).astype(np.uint8) for shape in ((64, 64, 3), (90, 200, 3), (20, 10, 3))]
    squared = np.stack([square(image, 64) for image in images])
    np.testing.assert_allclose(served.predict(images), served.predict(squared), atol=1e-7)
    np.testing.assert_allclose(served.predict(images).sum(axis=1), 1)
    assert served.predict([]).shape == (0, 2)


def test_maps_follow_the_target_class_and_the_layer(classifier, cells):
    served = classifier()
    images = [read_image(path) for path in cells]
    found = served.predict(images).argmax(axis=1)
    likeliest, cells = served.classes[found[0]], [cell for cell, k in zip(cells, found, strict=True) if k == found[0]]
    images = [read_image(path) for path in cells]  # those that get the same class
    probabilities, maps = served.classify_with_maps(images)
    assert maps.shape == (len(cells), 3, 3)
    np.testing.assert_array_equal(served.classify_with_maps(images, target=likeliest)[1], maps)
    other = next(label for label in served.classes if label != likeliest)
    assert np.abs(served.classify_with_maps(images, target=other)[1] - maps).max() > 0.1
    early, early_maps = served.classify_with_maps(images, layer="conv2")
    assert early_maps.shape == (len(cells), 7, 7)
    np.testing.assert_allclose(early, probabilities, atol=1e-6)
    with pytest.raises(RunError, match=r"has no class 'cat'\. Choose one of all, hem"):
        served.classify_with_maps(images, target="cat")


def test_a_run_that_has_not_finished_or_has_damaged_layers_raises_an_error(tiny_run, classifier):
    run = tiny_run()
    (run.path / "trained.weights.h5").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"trained\.weights\.h5.*train the run again"):
        classifier()
    (run.path / "metrics.json").unlink()
    with pytest.raises(RunError, match="has not finished"):
        classifier()


def test_pretrained_weights_that_differ_from_the_runs_raise_an_error(tiny_run, classifier, tmp_path, monkeypatch):
    run = tiny_run()
    other = tmp_path / run.config.spec.weights.name
    with h5py.File(other, "w") as file:
        file["other"] = [1.0]
    monkeypatch.setenv("LEUKODASH_WEIGHTS", str(tmp_path))
    config = run.trained.changed(weights="imagenet", weights_sha256="0" * 64)
    run.write("model.json", run.model | {"config": stored_config(config)})
    found = hashlib.sha256(other.read_bytes()).hexdigest()[:16]
    with pytest.raises(WeightsError, match=rf"SHA-256 0000000000000000…, but .* has {found}…"):
        classifier()


@pytest.mark.real
def test_heat_lies_on_the_cell_for_a_pretrained_mobilenet(real_weights, real_cnmc):
    from leukodash.cam.gradients import GradientModel
    from leukodash.cam.methods import heat_maps
    from leukodash.models.build import build

    spec = BACKBONES["mobilenet"]
    model = build(RunConfig(data="none", backbone="mobilenet", head=()), 2, find_weights(spec))
    files = sorted((real_cnmc / "fold_1").glob("*/*"))[::180][:20]
    images = np.stack([square(read_image(path), 224) for path in files])
    evidence = GradientModel(model, spec.cam_layer, 2).gradients(images.astype(np.float32), np.zeros(len(images)))
    maps = heat_maps("eigencam", evidence.activations, evidence.gradients)  # needs no class: the head is untrained
    middle = maps[:, 2:5, 2:5].mean(axis=(1, 2))  # cells are in the middle of the image
    border = np.concatenate([maps[:, 0], maps[:, 6]], axis=1).mean(axis=1)
    assert (middle > border).mean() >= 0.9
