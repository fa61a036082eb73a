"""The settings of a run: one flat, complete `RunConfig` that is stored as JSON."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from leukodash.data.split import Split
from leukodash.data.views import VIEWS
from leukodash.errors import RunError
from leukodash.models.backbones import ALL, BACKBONES, EVERY_BLOCK, HEAD, Backbone

QUICK_MOMENTUM = 0.9  # as in PyTorch; with random weights, running averages must adapt within tens of batches


class RunConfig(BaseModel):
    """Every setting of one run. Descriptions are the help texts of the train page and of the command line."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    data: str = Field(description="Folder of the data set.")
    fingerprint: str = Field("", description="The data set's fingerprint when the run was created.")
    backbone: str = Field(description="The network whose ImageNet features are used.")
    preset: str = Field("recommended", description="The recipe that the settings started from.")
    weights: Literal["imagenet", "random"] = Field(
        "imagenet", description="Start from weights pretrained on ImageNet photographs, or from random numbers."
    )
    weights_file: str | None = Field(None, description="Name of the pretrained weight file.")
    weights_sha256: str | None = Field(None, description="SHA-256 of the pretrained weight file.")

    input_size: int = Field(224, ge=32, le=600, description="Cells are resized to a square of this many pixels a side.")
    preprocessing: Literal["native", "divide_by_255"] = Field(
        "native",
        description="How pixel values are scaled: as in the network's pretraining, or only divided by 255 "
        "(a common mistake, included for teaching).",
    )
    pooling: Literal["average", "max", "flatten", "blocks", "cell"] = Field(
        "average",
        description="How feature maps become one vector: from the last maps only, with 'blocks' as the averages of the "
        "maps after every block, or with 'cell' as their averages and standard deviations over the cell alone, without "
        "the black around it. Of both, each value is scaled to a standard deviation of one.",
    )
    head: tuple[int | float, ...] = Field(
        (0.3,),
        description="New layers after pooling: a whole number is a dense layer of that many units with ReLU, "
        "a fraction is dropout at that rate. The output layer is added automatically.",
    )
    outputs: int | None = Field(
        None, ge=2, le=65_536, description="Units of the output layer: one per class, unless a paper had more."
    )
    train_from: str = Field(
        HEAD,
        description="The first trained part: 'head' trains only the new layers, a block's name trains that block and "
        "all after it, 'all' trains everything. Frozen layers are computed once.",
    )
    batchnorm: Literal["frozen", "trained", "everywhere"] = Field(
        "frozen",
        description="Batch normalization in the trained layers: keep ImageNet's statistics, train them, or train them "
        "in the whole network, frozen blocks included.",
    )
    batchnorm_momentum: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Momentum of batch normalization's running averages: the network's own (usually 0.99) unless set. "
        "A lower value adapts faster, which short trainings need.",
    )

    optimizer: Literal["sgd", "adam", "adamw", "rmsprop", "adagrad", "lbfgs"] = Field(
        "adam",
        description="The algorithm that updates the weights. 'lbfgs' solves a linear head exactly, as a logistic "
        "regression, for many strengths of its penalty; the best on held-out subjects is kept. It has no epochs, "
        "batches or learning rate.",
    )
    learning_rate: float = Field(1e-3, gt=0, le=10, description="Size of each update of the weights.")
    momentum: float = Field(
        0.9, ge=0, lt=1, description="Momentum of SGD: the share of the last update that is added to the next."
    )
    weight_decay: float = Field(
        0.0, ge=0, le=1, description="Decay of the weights towards zero at each update (AdamW only)."
    )
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="Keep the learning rate constant, or decrease it to zero along a cosine."
    )
    warmup_epochs: int = Field(0, ge=0, description="Epochs in which the learning rate rises linearly from zero.")
    batch_size: int = Field(32, ge=1, le=4096, description="Cells per update of the weights.")
    epochs: int = Field(30, ge=1, le=10_000, description="Passes over all training cells.")
    early_stopping: int = Field(
        0, ge=0, description="Stop after this many epochs without a lower validation loss; 0 never stops early."
    )
    class_weights: bool = Field(False, description="Weight the loss so that all classes count equally.")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of each label that is spread over all classes, against overconfidence."
    )

    flips: Literal["none", "flips", "views"] = Field(
        "none",
        description="Train on mirrored cells (four views), or on mirrored cells and quarter turns (eight views).",
    )
    average_views: bool = Field(
        False, description="Predict with the mean over these views of a cell: more stable, but slower."
    )
    brightness: float = Field(0.0, ge=0, le=0.9, description="Random change of brightness, up to this share.")
    stain: float = Field(0.0, ge=0, le=0.9, description="Random change of each color channel, up to this share.")
    rotation: float = Field(0.0, ge=0, le=180, description="Random rotation by up to this many degrees.")

    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Floating-point precision of the network; auto uses 16 bits where that is safe and faster."
    )
    split: Split = Field(
        default_factory=Split, description="How cells are divided into training, validation and test parts."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of all random numbers: the same seed gives the same result.")

    @field_validator("backbone")
    @classmethod
    def _known_backbone(cls, value: str) -> str:
        if value not in BACKBONES:
            raise ValueError(f"there is no backbone '{value}'; choose one of {', '.join(BACKBONES)}")
        return value

    @field_validator("head")
    @classmethod
    def _head_steps(cls, steps: tuple[int | float, ...]) -> tuple[int | float, ...]:
        for step in steps:
            if not (isinstance(step, int) and 1 <= step <= 65_536) and not (isinstance(step, float) and 0 < step < 1):
                raise ValueError(f"head steps are units (1 to 65536) or dropout rates (between 0 and 1), not {step!r}")
        return steps

    @model_validator(mode="after")
    def _settings_fit_together(self) -> "RunConfig":
        spec = self.spec
        places = [HEAD, *(block.name for block in spec.blocks), ALL]
        if self.train_from not in places:
            raise ValueError(f"{spec.title} can be trained from {', '.join(places)}, not from '{self.train_from}'")
        if self.input_size < spec.min_size:
            raise ValueError(
                f"{spec.title} needs an input size of {spec.min_size} or more, not {self.input_size}; increase it"
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"{self.warmup_epochs} warm-up epochs leave nothing of {self.epochs} epochs; use fewer, or more epochs"
            )
        if self.weight_decay and self.optimizer != "adamw":
            raise ValueError("weight decay belongs to the optimizer adamw; choose adamw or set weight_decay to 0")
        if self.solved:
            needed = {"head": (), "train_from": HEAD, "outputs": None, "flips": "none", "label_smoothing": 0.0}
            wrong = [name for name, value in needed.items() if getattr(self, name) != value]
            if wrong or self.pixel_augmentation or self.batchnorm == "everywhere" or self.pooling == "flatten":
                raise ValueError(
                    "lbfgs solves a linear head on the features of a frozen network, each cell as it is: it needs "
                    "train_from 'head', an empty head, pooled maps, and no views, augmentation, label smoothing, "
                    "further outputs or trained batch normalization; change these settings, or choose another optimizer"
                )
        if self.weights == "random" and self.train_from != ALL:
            raise ValueError("random weights need training in all layers; set train_from to 'all'")
        return self

    @property
    def spec(self) -> Backbone:
        """The specification of the backbone."""
        return BACKBONES[self.backbone]

    @property
    def pixel_augmentation(self) -> bool:
        """Whether the augmentation changes pixels, so that features cannot be stored."""
        return bool(self.brightness or self.stain or self.rotation)

    @property
    def answer_views(self) -> int:
        """Number of views of a cell (see `data.views`) that a prediction averages."""
        return len(VIEWS[self.flips]) if self.average_views else 1

    @property
    def solved(self) -> bool:
        """Whether the head is a logistic regression that is solved: see `training.solve`."""
        return self.optimizer == "lbfgs"

    @property
    def full_path(self) -> bool:
        """Whether every epoch runs the whole network: no layer is frozen, or pixels differ each time."""
        return self.train_from == ALL or self.pixel_augmentation or self.batchnorm == "everywhere"

    def as_random_start(self) -> "RunConfig":
        """Return these settings for a start from random weights, with all layers trained.

        Small batches and eight views of each cell make the most of few cells; a recipe for a new head on a pretrained
        network would leave the accuracy at chance.
        """
        return self.changed(
            weights="random",
            weights_file=None,
            weights_sha256=None,
            train_from=ALL,
            batchnorm="trained",
            batchnorm_momentum=QUICK_MOMENTUM,
            pooling="average" if self.pooling in EVERY_BLOCK else self.pooling,
            head=self.head if not self.solved else (0.3,),
            optimizer=self.optimizer if not self.solved else "adam",
            flips="views",
            batch_size=min(self.batch_size, 16),
            precision="float32",
        )

    def changed(self, **settings: Any) -> "RunConfig":
        """Return a validated copy with some settings replaced. Raises RunError."""
        return checked({**self.model_dump(), **settings})


def checked(settings: Mapping[str, Any]) -> RunConfig:
    """Return validated settings. Raises RunError that names each problem."""
    try:
        return RunConfig.model_validate(dict(settings))
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            place = ".".join(str(part) for part in fault["loc"] if not isinstance(part, int))
            words = fault["msg"].removeprefix("Value error, ")
            if fault["type"] == "extra_forbidden":
                words = "there is no such setting"
            faults.append(f"{place}: {words}" if place else words)
        raise RunError("These settings cannot be used: " + "; ".join(dict.fromkeys(faults)) + ".") from error


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """Return the settings of ``KEY=VALUE`` pairs of a command line; values that are not JSON are text.

    ``split.seed=3`` sets a field of the split. Raises RunError for a pair without '='.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign:
            raise RunError(f"Expected KEY=VALUE after --set, for example epochs=10, not '{pair}'.")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = {"true": True, "false": False}.get(text.lower(), text)
        if key.startswith("split."):
            settings.setdefault("split", {})[key.removeprefix("split.")] = value
        else:
            settings[key] = value
    return settings
