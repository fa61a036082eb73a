"""Presets (recipes): default settings of a run. Two follow papers, with the differences listed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from leukodash.config.run_config import QUICK_MOMENTUM, RunConfig, checked
from leukodash.data.dataset import Dataset
from leukodash.errors import RunError
from leukodash.models.backbones import ALL, BACKBONES, EVERY_BLOCK
from leukodash.models.weights import find_weights, identity


@dataclass(frozen=True)
class Preset:
    """A recipe.

    Attributes:
        title: its name, a colon, and a few words.
        settings: settings of `RunConfig` that differ from its defaults.
        backbones: settings that differ for a backbone, by its name.
        differences: for a paper's recipe: what the paper leaves open and what differs here, one sentence each.
    """

    title: str
    settings: Mapping[str, Any]
    backbones: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    differences: tuple[str, ...] = ()


_DHURI = Preset(
    "Dhuri & Guinde 2020, as published",
    {
        "input_size": 224,
        "preprocessing": "divide_by_255",
        "head": (0.5,),
        "optimizer": "sgd",
        "learning_rate": 1e-4,
        "momentum": 0.9,
        "batch_size": 32,
        "epochs": 100,
        "split": {"kind": "counts", "counts": (6036, 70, 70)},
    },
    {
        "mobilenet": {"head": (0.5, 2048, 0.5)},
        "vgg16": {"pooling": "flatten", "head": (4096, 4096, 0.5, 2048, 0.5), "train_from": "block5"},
        "resnet50": {"batchnorm": "everywhere"},
    },
    (
        "Dropout rates are not printed: 0.5, as in the original VGG16.",
        "Preprocessing is not printed: division by 255, the usual setting of the ImageDataGenerator that is mentioned.",
        "VGG16: the printed 4,464,680 frozen weights match no block (1.7 million precede block 4, 7.6 million precede "
        "block 5); block 5 is trained.",
        "VGG16: the names Fc1 and Fc2 suggest the pretrained dense layers; LeukoDash's weights of VGG16 end before "
        "them, so they start from random numbers.",
        "ResNet50: one output unit is printed, over which a softmax is constant; the text says categorical "
        "cross-entropy, so there are two. Batch normalization is trained in the whole network, as the text says.",
        "MobileNet: the printed parameter counts do not add up; the printed layers do and are used. The text freezes "
        "the lower layers, as here; but the 21,668 weights printed as frozen are close to the number of running "
        "averages of batch normalization (21,888), as if every layer had been trained. That would explain their "
        "training accuracy of 99 %; a second recipe of the study trains every layer.",
    ),
)

_MAMAEV = Preset(
    "Mamaev 2023, as published",
    {
        "input_size": 128,
        "train_from": ALL,
        "batchnorm": "trained",
        "head": (0.5,),
        "outputs": 3,
        "optimizer": "sgd",
        "learning_rate": 1e-3,
        "momentum": 0.9,
        "batch_size": 128,
        "epochs": 5,
        "flips": "flips",
        "split": {"kind": "image", "validation": 0.2, "test": 0.0},
    },
    {
        "resnet50": {"head": (0.5, 1024), "batchnorm_momentum": QUICK_MOMENTUM},
        "googlenet": {"head": (0.5, 1000, 0.5, 512, 0.5, 128, 0.5, 64), "optimizer": "adam", "learning_rate": 3e-3},
        "vgg16": {"pooling": "flatten", "head": (4096, 0.5, 4096, 0.5), "epochs": 4},
    },
    (
        "There is no test set: the notebook's figures are validation figures, and so are these.",
        "The epoch with the lowest validation loss is used; the notebook chooses by a running mean.",
        "Validation cells are not augmented here; the notebook augments them like the training cells.",
        "The notebook divides pixels by 255, but its weights were trained on a range four times as wide. "
        "The weights of Keras and Caffe were trained on a range 255 times as wide, so the same line would be a more "
        "serious mistake: here pixels are scaled as in pretraining.",
        "Sharpening by 1.5 is left out. As in the notebook, there are three output units for two classes.",
        "GoogLeNet is the original with local response normalization; the notebook's has batch normalization, and "
        "LeukoDash has no weights of it. A second recipe of the study lowers the rate to a tenth.",
        "VGG16's first two dense layers start from random numbers: LeukoDash's weights of VGG16 end before them.",
        "The notebook draws its split without a seed, so its 80 % of the cells are others.",
    ),
)

_RECOMMENDED = Preset(
    "Recommended: split by subject, every block pooled over the cell, a logistic regression that is solved in seconds",
    {"pooling": "cell", "head": (), "optimizer": "lbfgs"},
)

_QUICK = Preset(
    "Quick: small images, a minute or two",
    {"input_size": 96, "head": (0.2,), "learning_rate": 1e-3, "batch_size": 32, "epochs": 15},
)

PRESETS: dict[str, Preset] = {
    "quick": _QUICK,
    "recommended": _RECOMMENDED,
    "dhuri-guinde-2020": _DHURI,
    "mamaev-2023": _MAMAEV,
}


def preset_title(preset: str) -> str:
    """Return the title of a preset, or its name if it is unknown."""
    return PRESETS[preset].title if preset in PRESETS else preset


def make_config(preset: str, backbone: str, dataset: Dataset, **settings: Any) -> RunConfig:
    """Return the config of a preset; `settings` override it, and a partial `split` overrides parts of its split.

    If the data set names no subjects, a split by subject becomes one by image. The config names the pretrained weights
    on this machine, or else the publisher's.
    Raises RunError for an unknown preset, backbone or setting, or for settings that do not fit together.
    """
    if preset not in PRESETS:
        raise RunError(f"There is no preset '{preset}'. Choose one of {', '.join(PRESETS)}.")
    chosen = PRESETS[preset]
    values: dict[str, Any] = {
        "data": str(dataset.root),
        "fingerprint": dataset.fingerprint,
        "backbone": backbone,
        "preset": preset,
    }
    values |= {**chosen.settings, **chosen.backbones.get(backbone, {})}
    if spec := BACKBONES.get(backbone):
        values["input_size"] = max(values.get("input_size", 224), spec.min_size)
    if settings.get("weights") == "random":
        values |= {"train_from": ALL, "batchnorm": "trained", "batchnorm_momentum": QUICK_MOMENTUM}
        values |= {"flips": "views", "batch_size": 16}
        values |= {"pooling": "average"} if values.get("pooling") in EVERY_BLOCK else {}
        values |= {"optimizer": "adam", "head": (0.3,)} if values.get("optimizer") == "lbfgs" else {}
    split = {**values.get("split", {}), **settings.pop("split", {})}
    if not dataset.has_subjects and split.get("kind", "subject") == "subject":
        split["kind"] = "image"
    config = checked({**values, **settings, "split": split})
    if config.weights == "imagenet" and not config.weights_file:
        path, published = find_weights(config.spec), config.spec.weights
        config = config.changed(
            weights_file=path.name if path else published.published_name,
            weights_sha256=identity(path) if path else published.sha256,
        )
    return config
