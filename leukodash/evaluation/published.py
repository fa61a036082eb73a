"""Published results on the same task, with the intervals that follow from their counts.

They were measured on other test images, so a comparison shows them for reference but does not test against them. The
paper checker tests a result that the user types against them, as results on different cells.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from leukodash.evaluation.statistics import wilson

# The best published weighted F1 on subjects not seen in training is 0.925, where nothing was chosen on them. A result
# above 0.93 on a subject-disjoint test set is more likely due to a leak than to a better network.
LEAK_ALARM = 0.93
PRELIMINARY, FINAL = 1867, 2586  # test cells of the two phases of the C-NMC challenge
PRELIMINARY_SUBJECTS, FOLD_1_SUBJECTS = 28, 14


@dataclass(frozen=True)
class Published:
    """One published result.

    Attributes:
        network: the network's name in the source, or "".
        backbone: its key in `BACKBONES`, or None.
        metric: "accuracy", "f1_weighted", "balanced_accuracy" or "roc_auc", as in `metrics.evaluate`.
        value: the published number, 0..1, or NaN if none is quoted here.
        k: number of correct images, or None if the metric is not a proportion of images, or `n` is not known.
        n: number of test images, or None.
        split: what the split is: "by image", "by fold" or "by subject".
        paper: short name of the source.
        year: year of the source.
        note: what a reader must know to judge the number, in one or two sentences.
        stated: what the source says that the split is, if it says something else.
        subjects: number of test subjects, if known.
        source: where to find it, for example "arXiv 2601.01026".
    """

    network: str
    backbone: str | None
    metric: str
    value: float
    k: int | None
    n: int | None
    split: str
    paper: str
    year: int
    note: str
    stated: str = ""
    subjects: int | None = None
    source: str = ""

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95% interval. It is too narrow, as cells of one subject are not independent."""
        return None if self.k is None or self.n is None else wilson(self.k, self.n)


_DHURI = ("by image", "Dhuri & Guinde", 2020)
_MAMAEV = ("by image", "Mamaev", 2023)
_UNSEEN = (
    "Pan 2019. Subjects not seen in training; neighbors within the test set vote, so its cells must be classified "
    "together. Weighted F1 is not a proportion, so it has no Wilson interval."
)
_ISBI_PRELIMINARY = ("by subject", "C-NMC challenge, preliminary", 2019, _UNSEEN)
_ISBI_FINAL = ("by subject", "C-NMC challenge, final", 2019, _UNSEEN)
_HERE = ("by fold", "measured here, not published", 2026)
_TEST = "Test set of 35 ALL and 35 normal cells; cells of the same patients are in training and test."
_CHANCE = f"{_TEST} No better than chance, which is consistent with known flaws of the setup."
_ROUNDED = "Validation images, no test set; the number of correct images follows from a published percentage."
_BEST = f"{_ROUNDED} Best epoch of the notebook, chosen on the same images."
_FROZEN = "Logistic regression on frozen ImageNet features, trained on C-NMC's fold 0 and tested on fold 1."


def _percentage(network: str, backbone: str, percent: float, note: str) -> Published:
    """Return a result of Mamaev, who publishes only percentages, on 705 validation images."""
    return Published(network, backbone, "accuracy", percent / 100, round(percent * 7.05), 705, *_MAMAEV, note)


def _frozen(network: str, backbone: str, value: float) -> Published:
    return Published(
        network, backbone, "accuracy", value, round(value * 3581), 3581, *_HERE, _FROZEN, subjects=FOLD_1_SUBJECTS
    )


PUBLISHED: tuple[Published, ...] = (
    Published("VGG16", "vgg16", "accuracy", 65 / 70, 65, 70, *_DHURI, _TEST),
    Published("MobileNet", "mobilenet", "accuracy", 64 / 70, 64, 70, *_DHURI, _TEST),
    Published("ResNet50", "resnet50", "accuracy", 36 / 70, 36, 70, *_DHURI, _CHANCE),
    _percentage("ResNet50", "resnet50", 85.0, _ROUNDED),
    _percentage("GoogLeNet", "googlenet", 74.0, _ROUNDED),
    _percentage("VGG16", "vgg16", 74.0, f"{_ROUNDED} The best epoch of the notebook reaches 85.1%."),
    _percentage("ResNet50, best epoch", "resnet50", 85.6, _BEST),
    _percentage("GoogLeNet, best epoch", "googlenet", 73.1, _BEST),
    _percentage("VGG16, best epoch", "vgg16", 85.1, _BEST),
    _frozen("MobileNet, frozen", "mobilenet", 0.858),
    _frozen("ResNet50, frozen", "resnet50", 0.830),
    _frozen("VGG16, frozen", "vgg16", 0.818),
    Published("ISBI 2019 winner", None, "f1_weighted", 0.925, None, PRELIMINARY, *_ISBI_PRELIMINARY),
    Published("ISBI 2019 winner", None, "f1_weighted", 0.910, None, FINAL, *_ISBI_FINAL),
)


_CHALLENGE = "On the challenge's preliminary test set, whose subjects are not in the training set."
_CHOSEN = "Full fine-tuning. One fold; the epoch was chosen on it, which flatters."


def _unseen(paper: str, year: int, metric: str, value: float, note: str = _CHALLENGE, **more: Any) -> Published:
    """Return a result on the preliminary test set of the challenge."""
    values: dict[str, Any] = {"network": "", "n": PRELIMINARY, "subjects": PRELIMINARY_SUBJECTS, **more}
    values |= {"metric": metric, "value": value, "paper": paper, "year": year, "note": note}
    return Published(backbone=None, k=None, split="by subject", **values)


# Results of papers whose networks LeukoDash does not train: for the table of the paper checker.
OTHERS: tuple[Published, ...] = (
    _unseen("Prellberg", 2019, "f1_weighted", 0.889),
    _unseen("Marzahl", 2019, "f1_weighted", 0.875),
    _unseen("Marzahl", 2019, "f1_weighted", 0.828, "On the challenge's final test set.", n=FINAL, subjects=None),
    _unseen("Mondal", 2021, "f1_weighted", 0.886),
    _unseen("Mondal", 2021, "roc_auc", 0.941),
    _unseen(
        "Albzour", 2026, "roc_auc", 0.913, f"{_CHALLENGE} Also reports that a split by image inflates the AUC by 0.04.",
        source="arXiv 2606.24944",
    ),
    _unseen("ALL-Lightweight-ViT", 2026, "balanced_accuracy", 0.947, _CHOSEN, network="TinyViT"),
    _unseen("ALL-Lightweight-ViT", 2026, "balanced_accuracy", 0.942, _CHOSEN, network="ConvNeXt-T"),
    _unseen("ALL-Lightweight-ViT", 2026, "balanced_accuracy", 0.919, _CHOSEN, network="ResNet50"),
    _unseen(
        "ALL-Lightweight-ViT", 2026, "balanced_accuracy", 0.819,
        "One fold; the epoch was chosen on it, which flatters.", network="DinoBloom-B, frozen",
    ),
    Published(
        "", None, "accuracy", 0.962, None, None, "by image", "Kassani", 2019,
        "Cells of the same people are in training and test.",
    ),
    Published(
        "", None, "accuracy", math.nan, None, None, "by image", "Braga & Dantas", 2026,
        "The text says by patient; the notebook splits by image, so its results are not for new people.",
        stated="by subject", source="arXiv 2601.01026",
    ),
)  # fmt: skip


def published_table(rows: tuple[Published, ...] = PUBLISHED) -> pd.DataFrame:
    """Return results as a table with the interval in the columns low and high (NaN if there is none)."""
    found = [asdict(row) | dict(zip(("low", "high"), row.interval or (None, None), strict=True)) for row in rows]
    whole = dict.fromkeys(("k", "n", "subjects"), "Int64")
    return pd.DataFrame(found).astype({**whole, "low": float, "high": float})
