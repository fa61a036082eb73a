"""The table of backbones, checked against the networks that Keras builds and the checksums that Keras ships."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from leukodash.config.run_config import RunConfig
from leukodash.models.backbones import BACKBONES, constructor

ALL_NAMES = sorted(BACKBONES)


def test_checksums_are_those_that_keras_ships():
    keras = Path(importlib.util.find_spec("keras").origin).parent
    sources = "".join(path.read_text() for path in (keras / "src" / "applications").glob("*.py"))
    checksums = [spec.weights.md5 for spec in BACKBONES.values() if spec.weights.md5]
    assert len(checksums) >= 5
    assert not [md5 for md5 in checksums if md5 not in sources]


def test_alexnets_checksum_is_the_one_in_its_file_name():
    weights = BACKBONES["alexnet"].weights
    assert weights.published_name == f"alexnet-owt-{weights.sha256[:8]}.pth"


def test_size_is_that_of_float32_parameters():
    assert BACKBONES["mobilenet"].size_mb == pytest.approx(3.228864 * 4, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_NAMES)
def test_every_number_of_a_row_is_that_of_the_keras_model(name):
    from leukodash.models.build import ancestors, build, split_model

    spec = BACKBONES[name]
    network = constructor(spec)(include_top=False, weights=None, input_shape=(spec.input_size, spec.input_size, 3))
    model = build(RunConfig(data="", backbone=name, input_size=spec.input_size), 2, None)
    multiply_adds = {
        layer: sum(np.prod(weight.shape) for weight in layer.weights if len(weight.shape) == 4)
        * np.prod(layer.output.shape[1:3])
        for layer in model.layers
    }
    blocks, shares = [], []
    for block in spec.blocks:
        last = model.get_layer(block.after).output
        frozen = sum(multiply_adds.get(layer, 0) for layer in ancestors(model, [last]))
        shares.append(1 - frozen / sum(multiply_adds.values()))
        crossing = sum(int(np.prod(tensor.shape[1:])) for tensor in split_model(model, block.after)[0].outputs)
        blocks.append(replace(block, compute_share=round(float(shares[-1]), 2), crossing_values=crossing))
        assert len(last.shape) == 4  # maps, which can be averaged
    activations = sum(int(np.prod(layer.output.shape[1:])) for layer in model.layers)
    # A new row can start with zeros: pytest -vv prints the numbers that belong there.
    assert spec == replace(
        spec,
        parameters=network.count_params(),
        output_shape=network.output.shape[1:],
        activations=round(activations / 1e6, 1),
        blocks=tuple(blocks),
        cam_layer_is_output=model.get_layer(spec.cam_layer).output is model.get_layer("pool").input,
    )
    assert shares == sorted(set(shares), reverse=True)  # each block freezes more than the one before it
    assert model.get_layer(spec.cam_layer).output.shape[1] > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_NAMES)
def test_the_smallest_input_builds_and_a_smaller_one_is_refused(name):
    spec = BACKBONES[name]

    def build(side):
        return constructor(spec)(include_top=False, weights=None, input_shape=(side, side, 3))

    assert build(spec.min_size).output.shape[1:3] == (1, 1)
    if name != "googlenet":  # its padding keeps one place at any size
        with pytest.raises(ValueError, match=r"at least|less than 0|negative|Computed output size"):
            build(spec.min_size - 1)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet", "vgg16", "resnet50", "googlenet", "alexnet"])
def test_the_shared_weights_set_every_weight_of_their_network(name, real_weights):
    from leukodash.models.weights import find_weights

    spec = BACKBONES[name]
    path = find_weights(spec)
    assert path == real_weights / spec.weights.name
    model = constructor(spec)(include_top=False, weights=None, input_shape=(128, 128, 3))
    for weight in model.weights:
        weight.assign(np.full(weight.shape, 7.25, "float32"))
    model.load_weights(path)
    untouched = [weight.path for weight in model.weights if (weight.numpy() == 7.25).any()]
    assert untouched == []
