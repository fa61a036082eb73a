"""What a run is asked to do: one flat, complete, JSON-ready `RunConfig`."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from leukodash.data.split import Split
from leukodash.data.views import VIEWS
from leukodash.errors import RunError
from leukodash.models.backbones import ALL, BACKBONES, HEAD, Backbone

QUICK_MOMENTUM = 0.9  # PyTorch's; from random weights, running averages must follow within tens of batches


class RunConfig(BaseModel):
    """Every setting of one run. Descriptions are the help texts of the train page and of the command line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = Field(description="Folder of the data set.")
    fingerprint: str = Field("", description="The data set's fingerprint when the run was asked for.")
    backbone: str = Field(description="The network whose ImageNet features are used.")
    preset: str = Field("recommended", description="The recipe that the other settings started from.")
    weights: Literal["imagenet", "random"] = Field(
        "imagenet", description="Start from features learnt on ImageNet photographs, or from random numbers."
    )
    weights_file: str | None = Field(None, description="Name of the pretrained weight file.")
    weights_sha256: str | None = Field(None, description="SHA-256 of the pretrained weight file.")

    input_size: int = Field(224, ge=32, le=600, description="Cells are resized to this many pixels a side.")
    preprocessing: Literal["native", "divide_by_255"] = Field(
        "native",
        description="How pixel values are scaled: as the network was trained, or merely divided by 255 "
        "(a common fault, here to learn from).",
    )
    pooling: Literal["average", "max", "flatten", "blocks"] = Field(
        "average",
        description="How feature maps become one list of numbers: the last ones alone, or with 'blocks' the averages "
        "of the maps behind every block, early ones included, each number scaled to a spread of one.",
    )
    head: tuple[int | float, ...] = Field(
        (0.3,),
        description="New layers after pooling: a whole number is a dense layer of that many units with ReLU, "
        "a fraction is dropout at that rate. The output layer follows by itself.",
    )
    outputs: int | None = Field(
        None, ge=2, description="Units of the output layer; one for each class unless a paper had more."
    )
    train_from: str = Field(
        HEAD,
        description="Where training begins: 'head' trains the new layers only, a block's name trains from that "
        "block on, 'all' trains everything. What lies before is frozen and computed once.",
    )
    batchnorm: Literal["frozen", "trained", "everywhere"] = Field(
        "frozen",
        description="Batch normalization behind the cut: keep ImageNet's statistics, train them with the rest, "
        "or train them in the whole network, frozen blocks included.",
    )
    batchnorm_momentum: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Share of its running averages that batch normalization keeps at each batch: as the network has it "
        "(0.99 as a rule) unless set. Lower follows sooner, which few batches need.",
    )

    optimizer: Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"] = Field(
        "adam", description="The rule that turns errors into changes of the weights."
    )
    learning_rate: float = Field(1e-3, gt=0, le=10, description="Size of each change of the weights.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Share of the last change that SGD carries on.")
    weight_decay: float = Field(0.0, ge=0, le=1, description="Pull of the weights towards zero (AdamW).")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="Keep the learning rate, or let it glide to zero along a cosine."
    )
    warmup_epochs: int = Field(0, ge=0, description="Epochs in which the learning rate rises from zero.")
    batch_size: int = Field(32, ge=1, le=4096, description="Cells looked at before each change of the weights.")
    epochs: int = Field(30, ge=1, le=10_000, description="Times that every training cell is looked at.")
    early_stopping: int = Field(
        0,
        ge=0,
        description="Stop after this many epochs without a better validation loss; 0 never stops early.",
    )
    class_weights: bool = Field(False, description="Let the rarer class count more, so that both count the same.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Ask for a little less than full certainty.")

    flips: Literal["none", "flips", "views"] = Field(
        "none",
        description="Show cells mirrored (four views), or mirrored and turned by quarters (eight views).",
    )
    average_views: bool = Field(
        False,
        description="Once trained, answer with the mean over these views of a cell: steadier, but slower.",
    )
    brightness: float = Field(0.0, ge=0, le=0.9, description="Random change of brightness, as a share.")
    stain: float = Field(0.0, ge=0, le=0.9, description="Random change of each color channel, as a share.")
    rotation: float = Field(0.0, ge=0, le=180, description="Random turn by up to this many degrees.")

    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Digits that the network calculates with; auto takes fewer where that is safe and faster.",
    )
    split: Split = Field(default_factory=Split, description="How cells are divided into parts.")
    seed: int = Field(0, ge=0, lt=2**31, description="Start of all random numbers: same seed, same result.")

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
        row = self.spec
        cuts = [HEAD, *(block.name for block in row.blocks), ALL]
        if self.train_from not in cuts:
            raise ValueError(f"{row.title} can be trained from {', '.join(cuts)}, not from '{self.train_from}'")
        if self.input_size < row.min_size:
            raise ValueError(
                f"{row.title} needs an input size of {row.min_size} or more, not {self.input_size}; raise it"
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"{self.warmup_epochs} warm-up epochs leave nothing of {self.epochs} epochs; have fewer, or more epochs"
            )
        if self.weight_decay and self.optimizer != "adamw":
            raise ValueError("weight decay belongs to the optimizer adamw; choose adamw or set weight_decay to 0")
        if self.weights == "random" and self.train_from != ALL:
            raise ValueError("random weights that are never trained teach nothing; set train_from to 'all'")
        return self

    @property
    def spec(self) -> Backbone:
        """The backbone's row in the table."""
        return BACKBONES[self.backbone]

    @property
    def pixel_augmentation(self) -> bool:
        """Whether images change in ways that no stored view holds."""
        return bool(self.brightness or self.stain or self.rotation)

    @property
    def answer_views(self) -> int:
        """How many views of a cell (see `data.views`) an answer is the mean of."""
        return len(VIEWS[self.flips]) if self.average_views else 1

    @property
    def full_path(self) -> bool:
        """Whether every epoch runs the whole network: nothing is frozen for good, or pixels differ each time."""
        return self.train_from == ALL or self.pixel_augmentation or self.batchnorm == "everywhere"

    def as_random_start(self) -> "RunConfig":
        """Return this run without pretrained weights: random numbers in every layer, and all of them trained.

        From nothing, small batches and eight views of each cell make the most of few cells; a recipe for a new head
        on a trained network would leave it at chance.
        """
        return self.changed(
            weights="random",
            weights_file=None,
            weights_sha256=None,
            train_from=ALL,
            batchnorm="trained",
            batchnorm_momentum=QUICK_MOMENTUM,
            pooling="average" if self.pooling == "blocks" else self.pooling,
            flips="views",
            batch_size=min(self.batch_size, 16),
            precision="float32",
        )

    def changed(self, **settings: Any) -> "RunConfig":
        """Return a copy with some settings replaced, checked as a whole. Raises RunError."""
        return checked({**self.model_dump(), **settings})


def checked(settings: Mapping[str, Any]) -> RunConfig:
    """Validate settings; raises RunError with one sentence a fault."""
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
    """Read ``KEY=VALUE`` pairs of a command line; values are JSON where they parse, else text.

    ``split.seed=3`` reaches into the split. Raises RunError for a pair without '='.
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
