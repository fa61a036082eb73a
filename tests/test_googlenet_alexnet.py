"""GoogLeNet and AlexNet against their papers' tables, NumPy's arithmetic and real cells."""

import numpy as np
import pytest

from leukodash.data.images import read_image, square
from leukodash.models.backbones import BACKBONES, constructor
from leukodash.models.weights import find_weights

pytestmark = pytest.mark.slow
both = pytest.mark.parametrize("name", ["googlenet", "alexnet"])


def network(name, **settings):
    return constructor(BACKBONES[name])(**settings)


def numpy(tensor):
    """A tensor of any backend as a float64 array."""
    import keras

    return np.array(keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")), dtype="float64")


def naive_normalization(x, radius=2, alpha=2e-5, beta=0.75, bias=1.0):
    """Krizhevsky et al., 2012, section 3.3, one channel at a time, in float64."""
    x = x.astype("float64")
    y = np.empty_like(x)
    for i in range(x.shape[-1]):
        window = x[..., max(0, i - radius) : i + radius + 1]
        y[..., i] = x[..., i] / (bias + alpha * (window**2).sum(-1)) ** beta
    return y


@pytest.mark.parametrize(
    ("channels", "settings"), [(64, {}), (7, {}), (3, {}), (9, {"radius": 1, "alpha": 0.1, "bias": 2.0})]
)
def test_local_response_normalization_is_krizhevskys_formula(channels, settings):
    from leukodash.models.googlenet import LocalResponseNormalization

    x = np.random.default_rng(1).uniform(0, 400, (2, 5, 4, channels)).astype("float32")
    y = LocalResponseNormalization(**settings)(x)
    np.testing.assert_allclose(numpy(y), naive_normalization(x, **settings), rtol=1e-6)


def test_local_response_normalization_under_bfloat16_only_rounds_its_input():
    from leukodash.models.googlenet import LocalResponseNormalization

    x = np.random.default_rng(2).uniform(0, 400, (2, 5, 4, 32)).astype("float32")
    y = LocalResponseNormalization(dtype="mixed_bfloat16")(x)
    assert "bfloat16" in str(y.dtype)
    assert np.abs(numpy(y) / naive_normalization(x) - 1).max() < 3 * 2**-8


# Szegedy et al. (2015), table 1, and torchvision's AlexNet: side and channels of the maps.
SIZES = {
    "googlenet": {
        "conv1_7x7_s2": (112, 64), "pool1_3x3_s2": (56, 64), "conv2_3x3": (56, 192), "pool2_3x3_s2": (28, 192),
        "inception_3a_output": (28, 256), "inception_3b_output": (28, 480), "pool3_3x3_s2": (14, 480),
        "inception_4a_output": (14, 512), "inception_4b_output": (14, 512), "inception_4c_output": (14, 512),
        "inception_4d_output": (14, 528), "inception_4e_output": (14, 832), "pool4_3x3_s2": (7, 832),
        "inception_5a_output": (7, 832), "inception_5b_output": (7, 1024),
    },
    "alexnet": {
        "conv1": (55, 64), "pool1": (27, 64), "conv2": (27, 192), "pool2": (13, 192), "conv3": (13, 384),
        "conv4": (13, 256), "conv5": (13, 256), "pool5": (6, 256),
    },
}  # fmt: skip


@pytest.mark.parametrize(("name", "parameters"), [("googlenet", 6_998_552), ("alexnet", 61_100_840)])
def test_networks_have_the_published_parameters_and_output_sizes(name, parameters):
    whole = network(name)
    assert whole.count_params() == parameters
    assert whole.output.shape == (None, 1000)
    if name == "googlenet":
        assert whole.layers[-1].name == "loss3_classifier"
        assert whole.get_layer("pool5_drop_7x7_s1").rate == 0.4
    model = network(name, include_top=False, input_shape=(224, 224, 3))
    assert model.count_params() == BACKBONES[name].parameters
    shapes = {layer: model.get_layer(layer).output.shape[1:] for layer in SIZES[name]}
    assert shapes == {layer: (side, side, channels) for layer, (side, channels) in SIZES[name].items()}


@pytest.mark.parametrize(
    ("name", "first", "size", "stride", "padding"),
    [("googlenet", "conv1_7x7_s2", 7, 2, 3), ("alexnet", "conv1", 11, 4, 2)],
)
def test_the_first_convolution_is_padded_as_in_the_publishers_network(name, first, size, stride, padding):
    """The sum over one window, by hand: at a corner, where padding shows, and inside."""
    import keras

    model = network(name, include_top=False, input_shape=(64, 64, 3))
    image = np.random.default_rng(3).normal(size=(64, 64, 3)).astype("float32")
    layer = model.get_layer(first)
    kernel = numpy(layer.kernel)
    output = numpy(keras.Model(model.input, layer.output)(image[None]))[0]
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    assert output.shape[0] == (64 + 2 * padding - size) // stride + 1
    for row, column in ((0, 0), (0, 5), (6, 3), (output.shape[0] - 1, output.shape[1] - 1)):
        window = padded[row * stride :, column * stride :][:size, :size]
        expected = np.maximum(np.einsum("hwi,hwio->o", window, kernel), 0)
        np.testing.assert_allclose(output[row, column], expected, atol=1e-5)


@both
def test_the_classifier_gives_one_probability_per_class(name):
    shape = (224, 224, 3) if name == "alexnet" else (64, 64, 3)
    probabilities = numpy(network(name, input_shape=shape, classes=5)(np.zeros((2, *shape), "float32")))
    assert probabilities.shape == (2, 5)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    logits = network(name, input_shape=shape, classes=5, classifier_activation=None)
    assert logits.layers[-1].activation.__name__ == "linear"


@both
def test_pooling_is_the_mean_or_the_maximum_of_the_maps(name, tmp_path):
    image = np.random.default_rng(4).normal(size=(1, 128, 128, 3)).astype("float32")
    maps = network(name, include_top=False, input_shape=(128, 128, 3))
    maps.save_weights(tmp_path / "maps.weights.h5")
    values = numpy(maps(image))
    for pooling, expected in (("avg", values.mean((1, 2))), ("max", values.max((1, 2)))):
        pooled = network(name, include_top=False, pooling=pooling, weights=tmp_path / "maps.weights.h5")
        np.testing.assert_allclose(numpy(pooled(image)), expected, rtol=1e-4, atol=1e-6)


@both
def test_it_builds_on_a_tensor_and_can_be_saved_and_loaded(name, tmp_path):
    import keras

    raw = keras.Input((96, 96, 3))
    scaled = keras.layers.Rescaling(1 / 127.5, -1.0)(raw)
    model = network(name, include_top=False, input_tensor=scaled, pooling="avg")
    assert model.input is raw
    image = np.random.default_rng(5).uniform(0, 255, (1, 96, 96, 3)).astype("float32")
    model.save(tmp_path / "network.keras")
    restored = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(numpy(restored(image)), numpy(model(image)))


@pytest.fixture
def both_classes(real_cnmc):
    """Six ALL blasts and six normal cells."""
    paths = [path for label in ("all", "hem") for path in sorted(real_cnmc.rglob(f"{label}/*"))[::7][:6]]
    return np.stack([square(read_image(path), 224) for path in paths]).astype("float32")


def real_features(name, images):
    pretrained = network(name, include_top=False, weights=find_weights(BACKBONES[name]), pooling="avg")
    if name == "googlenet":
        return numpy(pretrained(images[..., ::-1] - np.float32([104, 117, 123])))
    return numpy(pretrained((images / 255 - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])))


@pytest.mark.real
@both
def test_features_of_real_cells_are_finite_and_differ_between_the_classes(name, real_weights, both_classes):
    features = real_features(name, both_classes)
    assert np.isfinite(features).all()
    assert (features.std(0) > 0).mean() > 0.5  # units whose output differs between cells
    blasts, normal = features[:6], features[6:]
    between = np.linalg.norm(blasts.mean(0) - normal.mean(0))
    assert between > 0.1 * np.linalg.norm(features.mean(0))


@pytest.mark.real
def test_googlenets_features_in_bfloat16_are_those_of_float32(real_weights, both_classes):
    import keras

    exact, before = real_features("googlenet", both_classes), keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        rounded = real_features("googlenet", both_classes)
    finally:
        keras.config.set_dtype_policy(before)
    cosine = (exact * rounded).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
    assert (exact != rounded).any()
    assert cosine.min() > 0.9997
