from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.signal import correlate

from leukodash.config.run_config import RunConfig
from leukodash.figures.network_charts import blocks_figure, tile
from leukodash.figures.theme import alt_text


def test_a_tile_shows_each_position_as_a_square_from_dark_to_light():
    picture = tile(np.array([[0.0, 5.0], [10.0, 10.0]]), 100, "viridis")
    assert picture.shape == (100, 100, 3)
    assert picture.dtype == np.uint8
    corners = [picture[row, column].astype(int).sum() for row, column in ((10, 10), (10, 90), (90, 10), (90, 90))]
    assert corners[0] < corners[1] < corners[2] == corners[3]
    assert (picture[:50, :50] == picture[0, 0]).all()
    constant = tile(np.full((7, 7), 3.0))
    assert (constant == picture[0, 0]).all()


def test_the_alt_text_of_the_blocks_figure_says_where_most_parameters_are():
    names, parameters, trained = ["input", "block2", "logits"], [0, 900, 100], [0, 0, 100]
    blocks = pd.DataFrame({"block": names, "output": "", "parameters": parameters, "trained_parameters": trained})
    figure = blocks_figure(blocks, "vgg16")
    trained, frozen = figure.data
    assert list(trained.y) == list(frozen.y) == ["block2", "logits"]
    assert list(trained.x) == [0, 100]
    assert list(frozen.x) == [900, 0]
    assert alt_text(figure) == "Parameters by block. block2 has the most, 90%. 100 of 1,000 were trained."


# ------------------------------------------------------------------------------------------------ real networks


def untrained(backbone, **settings):
    """What `layer_table` reads of a classifier, with random weights, and the table of its blocks."""
    from leukodash.explain.feature_maps import block_table, layer_table
    from leukodash.models.build import build

    config = RunConfig(data="none", backbone=backbone, **settings)
    network = SimpleNamespace(model=build(config, 2, None), run=SimpleNamespace(config=config), size=config.input_size)
    return network, block_table(layer_table(network)).set_index("block")


@pytest.mark.slow
def test_the_rows_of_mobilenet_match_the_table_of_dhuri_and_guinde():
    from leukodash.explain.feature_maps import layer_table, parameter_words

    network, blocks = untrained("mobilenet", head=(0.5, 2048, 0.5))
    head = blocks.loc["pool":]
    assert list(head["output"]) == ["1,024", "1,024", "2,048", "2,048", "2", "2"]
    assert list(head["parameters"]) == [0, 0, 2_099_200, 0, 4_098, 0]
    assert blocks["parameters"].sum() == 5_332_162
    assert blocks.loc[:"block13", "parameters"].sum() == 3_228_864
    assert blocks.loc["block1":"block13", "output"].iloc[-1] == "7 × 7 × 1,024"
    assert set(blocks.loc[:"block13", "state"]) == {"frozen"}
    assert list(head["state"]) == ["", "", "trained", "", "trained", ""]
    words = parameter_words(network, layer_table(network))
    assert "5,332,162 parameters. Training changed 2,103,298 of them (39%)" in words


VGG16_MAPS = "112 × 112 × 64, 56 × 56 × 128, 28 × 28 × 256, 14 × 14 × 512, 7 × 7 × 512".split(", ")


@pytest.mark.slow
def test_the_blocks_of_vgg16_have_the_shapes_of_its_paper():
    _, blocks = untrained("vgg16", train_from="block5", head=())
    assert list(blocks["output"][:5]) == VGG16_MAPS
    assert list(blocks["parameters"][:5]) == [38_720, 221_440, 1_475_328, 5_899_776, 7_079_424]
    assert list(blocks["state"][:5]) == ["frozen"] * 4 + ["trained"]


@pytest.mark.slow
def test_the_pooled_averages_of_all_blocks_are_one_row():
    _, blocks = untrained("vgg16", pooling="blocks", head=())
    assert list(blocks.index[-4:]) == ["pool", "head_scaled", "logits", "probabilities"]
    assert (blocks.loc["pool", "layers"], blocks.loc["pool", "output"]) == (6, "1,472")
    assert list(blocks["output"][:5]) == VGG16_MAPS


@pytest.mark.slow
def test_the_table_has_the_trainers_parameter_counts(tiny_run, classifier):
    from leukodash.explain.feature_maps import layer_table

    run = tiny_run()
    layers = layer_table(classifier())
    assert layers["parameters"].sum() == run.model["parameters"]
    assert layers["trained_parameters"].sum() == run.model["trained_parameters"]
    assert list(layers["layer"])[-1] == "probabilities"


@pytest.mark.slow
def test_the_first_maps_are_the_convolution_of_the_cell_strongest_first(classifier):
    from leukodash.explain.feature_maps import feature_maps

    served = classifier(precision="float32")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    depths = feature_maps(served, image)
    assert [depth.title for depth in depths] == ["First", "Middle", "Last"]
    first = depths[0]
    assert (first.layer, first.total) == ("conv1", 64)
    kernel, bias = served.model.get_layer("conv1").get_weights()
    scaled = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    padded = np.pad(scaled, ((2, 2), (2, 2), (0, 0)))
    for place in (0, 5):
        channel = first.channels[place]
        expected = correlate(padded, kernel[..., channel], mode="valid")[::4, ::4, 0] + bias[channel]
        np.testing.assert_allclose(first.maps[..., place], np.maximum(expected, 0), atol=1e-3)
    spread = first.maps.std(axis=(0, 1))
    assert (np.diff(spread) <= 0).all()
    assert depths[-1].layer == "conv5"
    assert depths[-1].maps.shape == (3, 3, 12)
    assert "256 maps of 3 × 3 positions" in depths[-1].words


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["googlenet", "resnet50"])
def test_every_backbone_has_three_depths_that_get_coarser(backbone):
    from leukodash.explain.feature_maps import feature_maps

    network, blocks = untrained(backbone, input_size=96, head=())
    sides = [depth.maps.shape[0] for depth in feature_maps(network, np.zeros((96, 96, 3), np.uint8))]
    assert sides[0] > sides[1] > sides[2]
    assert blocks["parameters"].sum() == network.model.count_params()
    named = [block.name for block in network.run.config.spec.blocks]
    assert list(blocks.index) == ["input", *named, "pool", "logits", "probabilities"]
