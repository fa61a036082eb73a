"""The table of backbones, checked against the networks that Keras builds and the checksums that Keras ships."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from leukodash.models.backbones import BACKBONES, constructor

ALL_NAMES = sorted(BACKBONES)


def test_the_table_has_the_eight_networks_of_the_design():
    assert set(BACKBONES) == {
        "mobilenet",
        "vgg16",
        "resnet50",
        "googlenet",
        "inceptionv3",
        "nasnetmobile",
        "alexnet",
        "efficientnetv2b0",
    }
    assert all(name == row.name for name, row in BACKBONES.items())


def test_the_table_and_the_weights_are_read_without_importing_keras():
    code = (
        "import sys, leukodash.models.backbones, leukodash.models.weights, leukodash.models.weight_conversion;"
        "print([name for name in ('keras', 'tensorflow', 'jax', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "inceptionv3", "nasnetmobile", "efficientnetv2b0"])
def test_checksums_are_those_that_keras_ships(name):
    keras = Path(importlib.util.find_spec("keras").origin).parent
    sources = "".join(path.read_text() for path in (keras / "src" / "applications").glob("*.py"))
    assert BACKBONES[name].weights.md5 in sources


@pytest.mark.parametrize("name", ["googlenet", "alexnet"])
def test_a_converted_file_has_the_checksum_of_its_source(name):
    weights = BACKBONES[name].weights
    assert weights.converts
    assert len(weights.sha256) >= 8


def test_alexnets_checksum_is_the_one_in_its_file_name():
    weights = BACKBONES["alexnet"].weights
    assert weights.published_name == f"alexnet-owt-{weights.sha256}.pth"


def test_size_is_that_of_float32_parameters():
    assert BACKBONES["mobilenet"].size_mb == pytest.approx(3.228864 * 4, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_NAMES)
def test_every_row_describes_the_network_that_is_built(name):
    row = BACKBONES[name]
    model = constructor(row)(include_top=False, weights=None, input_shape=(128, 128, 3))
    assert model.count_params() == row.parameters
    assert len(model.get_layer(row.cam_layer).output.shape) == 4
    assert model.get_layer(row.cam_layer).output.shape[1] > 1
    for block in row.blocks:
        assert len(model.get_layer(block.after).output.shape) == 4  # maps, which can be averaged


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_NAMES)
def test_each_block_freezes_more_than_the_block_before_it(name):
    import keras

    row = BACKBONES[name]
    model = constructor(row)(include_top=False, weights=None, input_shape=(row.input_size, row.input_size, 3))
    frozen = [keras.Model(model.input, model.get_layer(block.after).output).count_params() for block in row.blocks]
    assert frozen == sorted(set(frozen))
    assert frozen[-1] < row.parameters


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_NAMES)
def test_the_smallest_input_builds(name):
    row = BACKBONES[name]
    model = constructor(row)(include_top=False, weights=None, input_shape=(row.min_size, row.min_size, 3))
    assert model.output.shape[1:3] == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(ALL_NAMES) - {"googlenet"}))
def test_an_input_below_the_smallest_is_refused(name):
    row = BACKBONES[name]
    side = row.min_size - 1
    with pytest.raises(ValueError, match=r"at least|less than 0|negative|Computed output size"):
        constructor(row)(include_top=False, weights=None, input_shape=(side, side, 3))


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet", "vgg16", "resnet50", "googlenet", "alexnet"])
def test_the_shared_weights_set_every_weight_of_their_network(name, real_weights):
    import numpy as np

    from leukodash.models.weights import find_weights

    row = BACKBONES[name]
    path = find_weights(row)
    assert path == real_weights / row.weights.name
    model = constructor(row)(include_top=False, weights=None, input_shape=(128, 128, 3))
    for weight in model.weights:
        weight.assign(np.full(weight.shape, 7.25, "float32"))
    model.load_weights(path)
    untouched = [weight.path for weight in model.weights if (weight.numpy() == 7.25).any()]
    assert untouched == []
