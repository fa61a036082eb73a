"""What a run is asked to do: settings, presets, and the sentences for what does not fit."""

import itertools
import json

import pytest

from leukodash.config.presets import PRESETS, make_config
from leukodash.config.run_config import RunConfig, parse_settings
from leukodash.data.dataset import Dataset
from leukodash.errors import RunError
from leukodash.models.backbones import BACKBONES


@pytest.fixture
def cells(two_cells):
    return two_cells


@pytest.fixture
def anonymous_cells(cells):
    return Dataset(cells.root, "cells", cells.cells.assign(subject=None), cells.fingerprint, generated=False)


def test_every_preset_fits_every_backbone(cells):
    for preset, backbone in itertools.product(PRESETS, BACKBONES):
        config = make_config(preset, backbone, cells)
        assert RunConfig.model_validate(json.loads(config.model_dump_json())) == config


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        ("mobilenet", {"head": (0.5, 2048, 0.5), "pooling": "average", "train_from": "head"}),
        ("vgg16", {"head": (4096, 4096, 0.5, 2048, 0.5), "pooling": "flatten"}),
        ("resnet50", {"head": (0.5,), "batchnorm": "everywhere", "pooling": "average"}),
    ],
)
def test_the_dhuri_guinde_preset_is_the_papers(backbone, expected, cells):
    config = make_config("dhuri-guinde-2020", backbone, cells)
    for name, value in expected.items():
        assert getattr(config, name) == value
    assert (config.optimizer, config.learning_rate, config.momentum) == ("sgd", 1e-4, 0.9)
    assert (config.batch_size, config.epochs, config.input_size) == (32, 100, 224)
    assert config.split.counts == (6036, 70, 70)


@pytest.mark.parametrize(
    ("backbone", "optimizer", "rate", "epochs"),
    [("resnet50", "sgd", 1e-3, 5), ("googlenet", "adam", 3e-3, 5), ("vgg16", "sgd", 1e-3, 4)],
)
def test_the_mamaev_preset_is_the_notebooks(backbone, optimizer, rate, epochs, cells):
    config = make_config("mamaev-2023", backbone, cells)
    assert (config.optimizer, config.learning_rate, config.epochs) == (optimizer, rate, epochs)
    assert (config.input_size, config.batch_size, config.outputs, config.train_from) == (128, 128, 3, "all")
    assert (config.split.kind, config.split.validation, config.split.test) == ("image", 0.2, 0.0)
    assert config.batchnorm_momentum == (0.9 if backbone == "resnet50" else None)  # PyTorch's


def test_subjects_are_kept_apart_wherever_they_are_known(cells, anonymous_cells):
    assert make_config("recommended", "mobilenet", cells).split.kind == "subject"
    assert make_config("recommended", "mobilenet", anonymous_cells).split.kind == "image"


def test_a_setting_wins_over_the_preset_and_a_part_of_the_split_keeps_the_rest(cells):
    config = make_config("mamaev-2023", "vgg16", cells, epochs=2, split={"seed": 7})
    assert config.epochs == 2
    assert (config.split.seed, config.split.validation, config.split.test) == (7, 0.2, 0.0)


def test_random_weights_train_the_whole_network(cells):
    config = make_config("quick", "vgg16", cells, weights="random")
    assert config.train_from == "all"
    assert config.weights_file is None
    without = make_config("recommended", "mobilenet", cells, pooling="blocks").as_random_start()
    assert (without.train_from, without.pooling, without.flips) == ("all", "average", "views")
    assert make_config("recommended", "mobilenet", cells, weights="random").pooling == "average"


@pytest.mark.parametrize(
    ("flips", "average", "views"), [("none", True, 1), ("flips", True, 4), ("views", True, 8), ("views", False, 1)]
)
def test_answers_are_the_mean_over_the_views_that_were_trained_in(flips, average, views, cells):
    assert make_config("quick", "mobilenet", cells, flips=flips, average_views=average).answer_views == views


def test_the_pretrained_weights_are_named_in_the_config(cells):
    config = make_config("quick", "googlenet", cells)
    assert config.weights_file == "googlenet-7.onnx"
    assert config.weights_sha256 == "5725ccfd90845735ce5897faf7843c3f9b13acda3c4f3bff82cb21c9337c9de8"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, "epochs"),
        ({"epoch": 3}, "epoch: there is no such setting"),
        ({"train_from": "block9"}, "VGG16 can be trained from head, block"),
        ({"input_size": 20}, "input_size"),
        ({"head": (0.5, -3)}, "head steps are units"),
        ({"warmup_epochs": 50, "epochs": 50}, "warm-up epochs leave nothing"),
        ({"weight_decay": 0.1}, "belongs to the optimizer adamw"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"split": {"kind": "counts"}}, "counts"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(settings, words, cells):
    with pytest.raises(RunError, match="cannot be used") as error:
        make_config("quick", "vgg16", cells, **settings)
    assert words in str(error.value)


def test_an_unknown_backbone_or_preset_is_answered_with_the_known_ones(cells):
    with pytest.raises(RunError, match="choose one of mobilenet, vgg16"):
        make_config("quick", "lenet", cells)
    with pytest.raises(RunError, match="Choose one of quick, recommended"):
        make_config("slow", "vgg16", cells)


def test_key_value_pairs_of_the_command_line_become_settings():
    pairs = ["epochs=3", "head=[0.5, 64]", "optimizer=adamw", "class_weights=True", "split.seed=4", "split.kind=image"]
    assert parse_settings(pairs) == {
        "epochs": 3,
        "head": [0.5, 64],
        "optimizer": "adamw",
        "class_weights": True,
        "split": {"seed": 4, "kind": "image"},
    }
    with pytest.raises(RunError, match="KEY=VALUE"):
        parse_settings(["epochs"])


def test_every_setting_has_a_sentence_of_help():
    for name, field in RunConfig.model_fields.items():
        assert field.description and field.description.endswith("."), name
