import pytest

from leukodash.config.presets import PRESETS
from leukodash.config.recipe_words import config_words
from leukodash.config.run_config import RunConfig
from leukodash.models.backbones import BACKBONES
from leukodash.runs.run_folder import published_runs


def words(preset="recommended", backbone="mobilenet", **changes):
    given = PRESETS[preset]
    settings = {**given.settings, **given.backbones.get(backbone, {}), **changes}
    return config_words(RunConfig(data="cells", backbone=backbone, preset=preset, **settings))


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(
    ("preset", "short"),
    [
        ("quick", "quick"),
        ("recommended", "recommended"),
        ("dhuri-guinde-2020", "Dhuri & Guinde 2020"),
        ("mamaev-2023", "Mamaev 2023"),
    ],
)
def test_a_recipe_as_it_is_has_the_short_title_of_its_preset(preset, short, backbone):
    size = max(PRESETS[preset].settings.get("input_size", 224), BACKBONES[backbone].min_size)
    assert words(preset, backbone, input_size=size)[:2] == (BACKBONES[backbone].title, short)


@pytest.mark.parametrize(
    ("changes", "recipe"),
    [
        ({"class_weights": True, "learning_rate": 0.003}, "quick, learning rate 0.003, classes weighted"),
        ({"flips": "views", "average_views": True}, "quick, eight views, mean over the views"),
        ({"pooling": "cell", "input_size": 320}, "quick, 320 pixels, pooled over the cell"),
        ({"head": (64, 0.5), "optimizer": "sgd"}, "quick, head 64 / 0.5, optimizer SGD"),
        ({"precision": "float32", "seed": 4}, "quick"),
        (
            {"epochs": 1, "batch_size": 1, "stain": 0.1, "rotation": 9, "momentum": 0.1, "label_smoothing": 0.1},
            "quick, momentum 0.1, batch size 1, 1 epoch, label smoothing 0.1, stain 0.1, 1 more",
        ),
    ],
)
def test_settings_that_differ_from_the_preset_are_named(changes, recipe):
    assert words("quick", **changes)[1] == recipe


def test_a_random_start_is_named_and_not_what_follows_from_it():
    config = RunConfig(data="cells", backbone="mobilenet", preset="quick", **PRESETS["quick"].settings)
    assert config_words(config.as_random_start())[1] == "quick, random start"


@pytest.mark.parametrize(
    ("split", "seed", "told"),
    [
        ({}, 0, ("split by subject", "")),
        ({"folds": 5, "test_fold": 1}, 0, ("split by subject, part 2 of 5", "")),
        ({"kind": "fold", "test_fold": 1}, 3, ("tested on fold 1", "seed 3")),
        ({"kind": "fold"}, 0, ("tested on the last fold", "")),
        ({"kind": "image", "test": 0, "seed": 2}, 2, ("split by image, no test part", "seed 2, split 2")),
        ({"kind": "counts", "counts": (4446, 70, 1000)}, 0, ("split by image, 1,000 test cells", "")),
    ],
)
def test_the_split_and_the_seeds_are_named(split, seed, told):
    assert words(split=split, seed=seed)[2:] == told


def test_no_two_published_runs_have_the_same_name_or_a_word_that_only_a_study_knows(monkeypatch):
    monkeypatch.delenv("LEUKODASH_PUBLISHED")
    titles = [run.title for run in published_runs()]
    assert len(set(titles)) == len(titles) == 55
    assert "MobileNet · recommended · tested on fold 1" in titles
    assert not [title for title in titles if "draw" in title or "solved" in title or "→" in title]
