"""Published results on the same task, with the intervals that follow from their counts.

They were measured on other test images, so a comparison shows them for reference but does not test against them.
"""

from dataclasses import asdict, dataclass

import pandas as pd

from leukodash.evaluation.statistics import wilson

# The best published weighted F1 on subjects not seen in training is 0.925. A higher result than 0.93 on a
# subject-disjoint test set is more likely due to a leak than to a better network.
LEAK_ALARM = 0.93


@dataclass(frozen=True)
class Published:
    """One published result.

    Attributes:
        network: the network's name in the source.
        backbone: its key in `BACKBONES`, or None.
        metric: "accuracy" or "f1_weighted", as in `metrics.evaluate`.
        value: the published number, 0..1.
        k: number of correct images, or None if the metric is not a proportion of images.
        n: number of test images.
        split: "by image", "by fold" or "by subject".
        paper: short name of the source.
        year: year of the source.
        note: what a reader must know to judge the number, in one or two sentences.
    """

    network: str
    backbone: str | None
    metric: str
    value: float
    k: int | None
    n: int
    split: str
    paper: str
    year: int
    note: str

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95% interval. It is too narrow, as cells of one subject are not independent."""
        return None if self.k is None else wilson(self.k, self.n)


_DHURI = ("by image", "Dhuri & Guinde", 2020)
_MAMAEV = ("by image", "Mamaev", 2023)
_UNSEEN = "Subjects not seen in training. Weighted F1 is not a proportion, so it has no Wilson interval."
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
    return Published(network, backbone, "accuracy", value, round(value * 3581), 3581, *_HERE, _FROZEN)


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
    Published("ISBI 2019 winner", None, "f1_weighted", 0.925, None, 1867, *_ISBI_PRELIMINARY),
    Published("ISBI 2019 winner", None, "f1_weighted", 0.910, None, 2586, *_ISBI_FINAL),
)


def published_table() -> pd.DataFrame:
    """Return `PUBLISHED` as a table with the interval in the columns low and high (NaN if there is none)."""
    rows = [asdict(row) | dict(zip(("low", "high"), row.interval or (None, None), strict=True)) for row in PUBLISHED]
    table = pd.DataFrame(rows)
    return table.astype({"k": "Int64", "low": float, "high": float})
