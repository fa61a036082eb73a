import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from leukodash.cam.gradients import PREDICTED, GradientModel
from leukodash.cam.methods import (
    MASK_BATCH,
    MASK_CHANNELS,
    METHODS,
    eigen_cam,
    heat_maps,
    masked_class_probability,
    score_cam,
)
from leukodash.config.run_config import RunConfig
from leukodash.data.images import read_image, square
from leukodash.errors import RunError
from leukodash.models.backbones import BACKBONES

# Two channels on two by two places, worked by hand. Gradients of the first class's logit.
ACTIVATIONS = np.stack([[[1, 2], [0, 4]], [[0, 0], [0, 1]]], axis=-1).astype(np.float32)
GRADIENTS = np.stack([[[1, 0], [0, 2]], [[2, 3], [1, -1]]], axis=-1).astype(np.float32)

# Grad-CAM: channel weights 3/4 and 5/4. Grad-CAM++: sums 7 and 1; shares 1/9, 1/16 and 1/4, 1/5, 1/3, 1, divided by
# their sums 25/144 and 107/60; weights 16/25 + 2 · 9/25 and (2 · 15 + 3 · 12 + 20) / 107.
BY_HAND = {
    "gradcam": [[0.75, 1.5], [0, 3 + 1.25]],
    "gradcam++": [[34 / 25, 68 / 25], [0, 136 / 25 + 86 / 107]],
    "hirescam": [[1, 0], [0, 8 - 1]],
    "layercam": [[1, 0], [0, 8]],
}


def config(backbone, **settings):
    size = {"inceptionv3": 107}.get(backbone, 64)
    common = {"input_size": size, "weights": "random", "train_from": "all", "head": (), "precision": "float32"}
    return RunConfig(data="none", backbone=backbone, **{**common, **settings})


def network(backbone, precision="float32", file=None, **settings):
    from leukodash.models.build import build

    return build(config(backbone, **settings), 2, file, precision)


def two_layers(*weights):
    """Two classes; an identity layer `maps` and a dense layer, whose weights are the gradients of its outputs."""
    import keras

    cell = keras.Input((2, 2, 2))
    maps = keras.layers.Conv2D(2, 1, use_bias=False, activation="relu", name="maps")
    x = keras.layers.Flatten(name="pool")(maps(cell))
    logits = keras.layers.Dense(len(weights), use_bias=False, name="logits")
    model = keras.Model(cell, keras.layers.Softmax()(logits(x)), name="two_layers")
    maps.set_weights([np.eye(2, dtype=np.float32)[None, None]])
    logits.set_weights([np.stack([w.ravel() for w in weights], axis=1)])
    return GradientModel(model, "maps", classes=2)


@pytest.mark.parametrize("method", BY_HAND)
def test_a_rule_gives_the_map_worked_out_by_hand(method):
    expected = np.array(BY_HAND[method])
    (found,) = heat_maps(method, ACTIVATIONS[None], GRADIENTS[None])
    np.testing.assert_allclose(found, expected / expected.max(), rtol=1e-6)


def test_eigen_cam_is_the_projection_on_the_first_eigenvector_of_the_channels():
    rng = np.random.default_rng(0)
    activations = rng.random((3, 4, 5, 6)).astype(np.float32)
    for image, found in zip(activations, eigen_cam(activations, activations), strict=True):
        flat = image.reshape(20, 6)
        first = np.linalg.eigh(flat.T @ flat)[1][:, -1]
        expected = (flat @ first).reshape(4, 5)
        np.testing.assert_allclose(found, expected * np.sign(expected.sum()), rtol=1e-4)


def test_score_cam_weights_channels_by_masked_probability_and_skips_constant_ones():
    asked = []
    activations = np.concatenate([ACTIVATIONS, np.full((2, 2, 1), 5, np.float32)], axis=-1)
    (found,) = score_cam(activations[None], None, lambda *call: asked.append(call) or np.array([0.75, 0.25]))
    ((number, maps),) = asked
    assert number == 0
    np.testing.assert_array_equal(maps, ACTIVATIONS.transpose(2, 0, 1))  # the first varies more
    np.testing.assert_allclose(found, 0.75 * ACTIVATIONS[..., 0] + 0.25 * ACTIVATIONS[..., 1])


def test_channels_that_score_cam_does_not_test_get_the_mean_weight():
    activations = np.random.default_rng(7).random((1, 3, 3, MASK_CHANNELS + 6)).astype(np.float32)
    weights = np.random.default_rng(8).random(MASK_CHANNELS)
    expected = np.full(MASK_CHANNELS + 6, weights.mean())
    expected[np.argsort(-activations[0].std(axis=(0, 1)))[:MASK_CHANNELS]] = weights
    found = score_cam(activations, None, lambda number, maps: weights)
    np.testing.assert_allclose(found[0], activations[0] @ expected, rtol=1e-5)


def test_masks_are_resized_to_the_image_and_scaled_to_one():
    images = np.random.default_rng(9).random((2, 6, 6, 3)).astype(np.float32)
    maps = np.random.default_rng(10).random((MASK_BATCH + 3, 6, 6)).astype(np.float32) * 7 - 2
    seen = []

    def probabilities(batch):
        seen.append(batch)
        return np.stack([batch.sum(axis=(1, 2, 3)), np.full(len(batch), np.nan)], axis=1)

    answers = masked_class_probability(images, np.array([1, 0]), probabilities)(1, maps)
    assert [len(batch) for batch in seen] == [MASK_BATCH, 3]
    masks = (maps - maps.min(axis=(1, 2), keepdims=True)) / np.ptp(maps, axis=(1, 2), keepdims=True)
    masked = images[1] * masks[..., None]
    np.testing.assert_allclose(np.concatenate(seen), masked, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(answers, masked.sum(axis=(1, 2, 3)), rtol=1e-4)
    half = np.float32([[[0, 3], [0, 3]]])
    ask = masked_class_probability(np.ones((1, 8, 8, 3), np.float32), np.array([0]), probabilities)
    assert ask(0, half)[0] == 8 * 3 * 4


@pytest.mark.parametrize("method", METHODS)
def test_each_map_is_scaled_to_its_own_maximum(method):
    rng = np.random.default_rng(1)
    activations, gradients = rng.random((2, 4, 5, 6, 7)).astype(np.float32)
    activations *= np.float32([1, 10, 100, 1000]).reshape(4, 1, 1, 1)
    maps = heat_maps(method, activations, gradients, lambda number, maps: np.linspace(0.1, 1, len(maps)))
    assert maps.shape == (4, 5, 6)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps.max(axis=(1, 2)), 1)
    assert maps.min() >= 0


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("eigencam", "scorecam")])
def test_a_map_without_evidence_for_the_class_is_zero(method):
    assert not heat_maps(method, ACTIVATIONS[None], -np.ones_like(GRADIENTS)[None]).any()
    assert not heat_maps(method, np.zeros_like(ACTIVATIONS)[None], GRADIENTS[None]).any()


def test_an_unknown_method_raises_an_error_that_lists_the_methods():
    with pytest.raises(RunError, match=r"no heat map method 'saliency'.*gradcam, gradcam\+\+"):
        heat_maps("saliency", ACTIVATIONS[None], GRADIENTS[None])


@pytest.mark.slow
def test_a_two_layer_network_gives_the_activations_and_gradients_worked_out_by_hand():
    gradient_model = two_layers(GRADIENTS, -GRADIENTS, 9 * GRADIENTS)  # the third output is of no class
    images = np.stack([ACTIVATIONS, np.zeros_like(ACTIVATIONS)])
    images[1, 1, 1, 1] = 1  # its gradient is -1, so the second class is likelier
    logits, activations, gradients, pooled, _ = gradient_model.gradients(images, np.full(2, PREDICTED))
    assert list(logits[:, :2].argmax(axis=1)) == [0, 1]
    assert logits[0, 0] == (ACTIVATIONS * GRADIENTS).sum()
    np.testing.assert_array_equal(pooled, images.reshape(2, 8))
    np.testing.assert_array_equal(activations, images)
    np.testing.assert_array_equal(gradients, [GRADIENTS, -GRADIENTS])
    np.testing.assert_array_equal(gradient_model.gradients(images, np.array([1, 0])).gradients, [-GRADIENTS, GRADIENTS])


@pytest.mark.slow
def test_score_cam_of_a_two_layer_network_gives_the_map_worked_out_by_hand():
    # Masked by the first channel, (1/4, 1/2, 0, 1), the logit is 1/4 + 8 - 1; by the second, (0, 0, 0, 1), 8 - 1.
    gradient_model = two_layers(GRADIENTS, np.zeros_like(GRADIENTS))

    def probabilities(images):
        return special.softmax(gradient_model.logits(images)[0], axis=1)

    ask = masked_class_probability(ACTIVATIONS[None], np.array([0]), probabilities)
    (found,) = heat_maps("scorecam", ACTIVATIONS[None], GRADIENTS[None], ask)
    expected = (ACTIVATIONS / (1 + np.exp([-7.25, -7.0]))).sum(axis=-1)
    np.testing.assert_allclose(found, expected / expected.max(), rtol=1e-6)


@pytest.mark.slow
def test_layers_before_the_split_point_do_not_run_backward():
    import keras
    import tensorflow as tf

    def refuse(_):
        raise AssertionError("run backward")

    class OneWay(keras.layers.Layer):
        def call(self, x):
            return tf.custom_gradient(lambda x: (tf.identity(x), refuse))(x)

    cell = keras.Input((2, 2, 2))
    maps = keras.layers.Conv2D(2, 1, name="maps")(OneWay()(cell))
    logits = keras.layers.Dense(2, name="logits")(keras.layers.Flatten(name="pool")(maps))
    model = keras.Model(cell, keras.layers.Softmax()(logits))
    gradients = GradientModel(model, "maps", classes=2).gradients(ACTIVATIONS[None], np.array([0])).gradients
    assert np.isfinite(gradients).all()


@pytest.mark.slow
def test_a_layer_without_feature_maps_raises_an_error():
    model = network("alexnet")
    for layer in ("pool", "nowhere"):
        with pytest.raises(RunError, match=f"no layer '{layer}' with feature maps"):
            GradientModel(model, layer, classes=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "pooling", "precision"),
    [
        ("conv5_block3_out", "average", "float32"),
        ("conv5_block3_1_relu", "flatten", "float32"),  # inside a block: the shortcut crosses the split point too
        ("conv4_block6_out", "max", "float32"),
        ("conv4_block6_out", "average", "bfloat16"),
        ("conv4_block6_out", "blocks", "float32"),  # its average reaches the head past the later blocks too
    ],
)
def test_gradients_at_any_layer_equal_those_of_the_whole_network(layer, pooling, precision):
    import keras
    import tensorflow as tf

    model = network("resnet50", precision, input_size=32, pooling=pooling)
    images = np.random.default_rng(2).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    logits, activations, gradients, pooled, _ = GradientModel(model, layer, 2).gradients(images, np.array([1, 1]))

    whole = keras.Model(model.input, [model.get_layer(name).output for name in (layer, "logits", "pool")])
    with tf.GradientTape() as tape:
        expected_activations, expected_logits, expected_pooled = whole(images, training=False)
        score = expected_logits[:, 1]
    expected = np.asarray(tape.gradient(score, expected_activations), np.float32)
    tolerance = 1e-4 if precision == "float32" else 0.05
    assert gradients.dtype == activations.dtype == np.float32
    assert np.abs(gradients - expected).max() <= tolerance * np.abs(expected).max()
    assert np.abs(logits - np.asarray(expected_logits)).max() <= tolerance
    assert np.abs(pooled - np.asarray(expected_pooled)).max() <= tolerance * np.abs(pooled).max()


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_gives_heat_maps_at_its_layer(backbone):
    size = config(backbone).input_size
    images = np.random.default_rng(3).integers(0, 256, (2, size, size, 3)).astype(np.float32)
    images[:, :, : size // 2] = 0  # something to see on one side only
    gradient_model = GradientModel(network(backbone), BACKBONES[backbone].cam_layer, 2)
    results = [gradient_model.gradients(images, np.full(2, c)) for c in (0, 1)]
    (logits, activations, gradients, pooled, _), others = results
    alone = gradient_model.logits(images)
    np.testing.assert_allclose(logits, alone[0], atol=1e-4 * np.abs(logits).max())
    np.testing.assert_allclose(pooled, alone[1], atol=1e-4 * np.abs(pooled).max())
    assert activations.shape[1] >= 2
    for method in [name for name in METHODS if not METHODS[name].needs_predictions]:
        maps = [heat_maps(method, activations, gradients), heat_maps(method, activations, others.gradients)]
        assert np.isfinite(maps).all()
        assert max(map(np.ptp, maps)) > 0.01  # at least one of two classes has evidence for it


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("jax"), reason="JAX is not installed")
def test_jax_gives_the_gradients_of_the_two_layer_network_too():
    test = f"{__file__}::{test_a_two_layer_network_gives_the_activations_and_gradients_worked_out_by_hand.__name__}"
    how = {"cwd": Path(__file__).resolve().parents[1], "env": os.environ | {"KERAS_BACKEND": "jax"}}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", test], **how, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("backbone", ["mobilenet", "googlenet", "resnet50", "vgg16", "alexnet"])
def test_maps_of_real_cells_agree_with_those_of_tf_keras_vis(backbone, real_weights, real_cnmc):
    import keras

    from leukodash.models.weights import find_weights

    gradcam = pytest.importorskip("tf_keras_vis.gradcam")
    scores = pytest.importorskip("tf_keras_vis.utils.scores")
    spec = BACKBONES[backbone]
    model = network(backbone, file=find_weights(spec), input_size=224, weights="imagenet", train_from="head")
    files = sorted((real_cnmc / "fold_1").glob("*/*"))[::150][:20]
    images = np.stack([square(read_image(path), 224) for path in files]).astype(np.float32)
    assert len(images) == 20
    evidence = GradientModel(model, spec.cam_layer, 2).gradients(images, np.full(20, PREDICTED))

    # tf-keras-vis gets the network up to the logits. On probabilities of two classes, Grad-CAM differs: their gradients
    # are those of the difference of the two logits.
    logits = keras.Model(model.input, model.get_layer("logits").output)
    classes = evidence.logits.argmax(axis=1).tolist()
    how = {"penultimate_layer": spec.cam_layer, "seek_penultimate_conv_layer": False, "expand_cam": False}
    for method, theirs in (("gradcam", gradcam.Gradcam), ("gradcam++", gradcam.GradcamPlusPlus)):
        ours = heat_maps(method, evidence.activations, evidence.gradients)
        expected = [  # five at a time: tf-keras-vis keeps every layer's output, 200 MB per cell for VGG16
            theirs(logits, clone=False)(scores.CategoricalScore(classes[i : i + 5]), images[i : i + 5], **how)
            for i in range(0, 20, 5)
        ]
        assert ours.any(axis=(1, 2)).all()
        for one, other in zip(ours, np.concatenate(expected), strict=True):
            assert np.corrcoef(one.ravel(), other.ravel())[0, 1] >= 0.99
