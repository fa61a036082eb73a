"""The flat model: preprocessing inside, split at any block, only trained layers are saved."""

import numpy as np
import pytest

from leukodash.config.presets import make_config
from leukodash.errors import WeightsError
from leukodash.models.backbones import BACKBONES

pytestmark = pytest.mark.slow

SPLIT_POINTS = [(name, row.blocks[-1].name) for name, row in BACKBONES.items()]


@pytest.fixture
def config(two_cells):
    def make(backbone, **settings):
        return make_config("quick", backbone, two_cells, **settings)

    return make


@pytest.fixture
def build(config):
    """Return a function that builds a network for two classes, from random weights."""
    from leukodash.models.build import build

    def make(backbone, precision="float32", **settings):
        return build(config(backbone, **settings), 2, None, precision)

    return make


def images(config, n=3):
    shape = (n, config.input_size, config.input_size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def logits(model, pixels):
    """The values before the softmax: after it, an untrained network gives one half for each class."""
    import keras

    return np.asarray(keras.Model(model.input, model.get_layer("logits").output)(pixels))


@pytest.mark.parametrize(
    ("backbone", "fault", "expected"),
    [
        ("mobilenet", {}, lambda x: x / 127.5 - 1),
        ("vgg16", {}, lambda x: x[..., ::-1] - [103.939, 116.779, 123.68]),
        ("googlenet", {}, lambda x: x[..., ::-1] - [104.0, 117.0, 123.0]),
        ("alexnet", {}, lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
        ("resnet50", {"preprocessing": "divide_by_255"}, lambda x: x / 255),
    ],
)
def test_each_network_gets_pixels_scaled_as_in_its_training_or_with_the_fault_that_was_chosen(
    backbone, fault, expected, config, build
):
    import keras

    model, pixels = build(backbone, input_size=64, **fault), images(config(backbone, input_size=64))
    scaled = keras.Model(model.input, model.get_layer("preprocessing").output)(pixels)
    assert np.allclose(np.asarray(scaled), expected(pixels.astype(np.float64)), atol=1e-6 if fault else 1e-3)


@pytest.mark.parametrize(("backbone", "block"), SPLIT_POINTS)
def test_prefix_and_suffix_equal_the_whole_model_and_trained_layers_load_again(backbone, block, config, tmp_path):
    from leukodash.models import build as models

    size = max(64, BACKBONES[backbone].min_size)
    settings = config(backbone, input_size=size, train_from=block, batchnorm="trained")
    model = models.build(settings, 2, None)
    prefix, suffix = models.split_model(model, models.frozen_layer(settings))
    pixels = images(settings)
    whole = logits(model, pixels)
    assert np.allclose(np.asarray(suffix(prefix(pixels))), whole, rtol=1e-4, atol=1e-5 * np.abs(whole).max())
    behind = {layer.name for layer in suffix.layers}
    assert not [layer for layer in prefix.layers if layer.name not in behind and layer.weights and layer.trainable]

    models.save_trained(model, tmp_path / "trained.weights.h5")
    again = models.build(settings.changed(seed=99), 2, None)
    for layer, other in zip(again.layers, model.layers, strict=True):  # frozen layers come from the weight file
        if not layer.trainable:
            layer.set_weights(other.get_weights())
    assert not np.array_equal(logits(again, pixels), whole)
    models.load_trained(again, tmp_path / "trained.weights.h5")
    assert np.array_equal(logits(again, pixels), whole)


@pytest.mark.parametrize(("after", "crossing"), [("pool", 1), ("conv5_block1_out", 5)])
def test_every_block_is_pooled_and_averages_cross_the_split_point_in_place_of_early_maps(
    after, crossing, config, build
):
    import keras

    from leukodash.models.build import split_model

    settings = config("resnet50", input_size=64, pooling="blocks")
    model, pixels = build("resnet50", input_size=64, pooling="blocks"), images(settings)
    names = [*(block.after for block in settings.spec.blocks), "conv5_block3_out"]
    outputs = keras.Model(model.input, [model.get_layer(name).output for name in (*names, "pool")])(pixels)
    *maps, pooled = map(np.asarray, outputs)
    assert np.allclose(pooled, np.concatenate([one.mean(axis=(1, 2)) for one in maps], axis=1), rtol=1e-4, atol=1e-5)
    prefix, suffix = split_model(model, after)
    assert len(prefix.outputs) == crossing
    assert sum(len(tensor.shape) == 4 for tensor in prefix.outputs) == (after != "pool")
    whole = logits(model, pixels)
    assert np.allclose(np.asarray(suffix(prefix(pixels))), whole, rtol=1e-4, atol=1e-5 * np.abs(whole).max())


def test_averages_of_every_block_are_normalized_in_training(config, build):
    import keras

    from leukodash.models.build import trained_layers

    model, pixels = (
        build("mobilenet", input_size=32, pooling="blocks"),
        images(config("mobilenet", input_size=32), n=16),
    )
    for _ in range(100):
        model(pixels, training=True)
    parts = [model.get_layer(name).output for name in ("pool", "head_scaled")]
    pooled, scaled = map(np.asarray, keras.Model(model.input, parts)(pixels))
    expected = (pooled - pooled.mean(axis=0)) / np.sqrt(pooled.var(axis=0) + 1e-3)
    assert np.abs(expected).max() > 0.1
    assert np.allclose(scaled, expected, atol=0.05 * np.abs(expected).max())  # n - 1 or n in the variance
    assert model.get_layer("head_scaled") in trained_layers(model)
    assert not model.get_layer("conv1_bn").trainable


def test_head_and_flattened_maps_have_the_sizes_that_the_papers_print(build):
    model = build("mobilenet", head=(0.5, 2048, 0.5))
    assert model.get_layer("head_2_dense").count_params() == 2_099_200  # Dhuri & Guinde 2020, table of MobileNet
    assert model.get_layer("logits").count_params() == 4_098
    assert model.count_params() == 5_332_162
    assert build("vgg16", input_size=224, pooling="flatten").get_layer("pool").output.shape == (None, 25_088)


@pytest.mark.parametrize("batchnorm", ["frozen", "trained"])
def test_moving_statistics_change_only_after_the_split_point_and_only_if_they_are_trained(batchnorm, config, build):
    model = build("mobilenet", input_size=32, train_from="block13", batchnorm=batchnorm)
    layers = [model.get_layer(name) for name in ("conv1_bn", "conv_pw_13_bn")]
    before = [np.array(layer.moving_variance) for layer in layers]
    model(images(config("mobilenet", input_size=32)), training=True)
    kept = [np.array_equal(was, np.array(layer.moving_variance)) for was, layer in zip(before, layers, strict=True)]
    assert kept == [True, batchnorm == "frozen"]


@pytest.mark.parametrize(("asked", "kept"), [(None, 0.99), (0.5, 0.5)])
def test_moving_averages_have_the_momentum_of_the_network_or_the_run(asked, kept, build):
    settings = {"input_size": 32, "train_from": "all", "batchnorm": "trained", "batchnorm_momentum": asked}
    layer = build("mobilenet", **settings).get_layer("conv1_bn")
    before = np.array(layer.moving_mean)
    batch = np.random.default_rng(0).normal(size=(4, 16, 16, 32)).astype("float32")
    layer(batch, training=True)
    expected = kept * before + (1 - kept) * batch.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(np.array(layer.moving_mean), expected, atol=1e-6)


def test_batch_normalization_everywhere_is_trained_in_frozen_blocks_too(build):
    model = build("resnet50", input_size=32, batchnorm="everywhere")
    assert model.get_layer("conv1_bn").trainable
    assert not model.get_layer("conv1_conv").trainable


def test_a_third_output_unit_is_left_out_of_the_probabilities():
    from leukodash.models.head import class_probabilities

    logits = np.array([[1.0, 1.0, 50.0], [2.0, 0.0, -3.0]])
    expected = [[0.5, 0.5], [1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))]]
    assert np.allclose(class_probabilities(logits, 2), expected)


def test_half_precision_applies_to_the_backbone_but_not_to_head_and_variables(build):
    model = build("vgg16", "bfloat16", input_size=32)
    assert model.get_layer("block1_conv1").compute_dtype == "bfloat16"
    assert model.get_layer("block1_conv1").kernel.dtype == "float32"
    assert model.get_layer("logits").compute_dtype == "float32"


def test_weights_of_another_network_are_refused_with_a_sentence(config, tmp_path):
    from leukodash.models.build import build

    build(config("alexnet", input_size=64), 2, None).save_weights(tmp_path / "wrong.weights.h5")
    with pytest.raises(WeightsError, match="does not hold weights of VGG16"):
        build(config("vgg16", input_size=64), 2, tmp_path / "wrong.weights.h5")
