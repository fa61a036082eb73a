"""What others have printed about the same question, with the interval that their counts allow.

None of these rows was measured on your test images, so they stand beside a comparison and take no part in it.
"""

from dataclasses import asdict, dataclass

import pandas as pd

from leukodash.evaluation.metrics import wilson

# The best published weighted F1 on subjects never seen in training is 0.925: what lies above 0.93 on a
# subject-disjoint test is more likely a leak than a discovery.
LEAK_ALARM = 0.93


@dataclass(frozen=True)
class Published:
    """One printed number.

    Args:
        network: what the source calls it.
        backbone: its key in `BACKBONES`, or None where it is none of them.
        metric: "accuracy" or "f1_weighted", as in `metrics.evaluate`.
        value: the printed number, 0..1.
        k: images right, or None where the metric is no count.
        n: images tested on.
        split: "by image", "by fold" or "by subject".
        paper: short name of the source.
        year: of the source.
        note: what a reader must know to judge the number, one sentence.
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
        """Wilson's 95 % interval; cells of one subject are not independent, so the truth is wider still."""
        return None if self.k is None else wilson(self.k, self.n)


_DHURI = ("by image", "Dhuri & Guinde", 2020)
_MAMAEV = ("by image", "Mamaev", 2023)
_HERE = ("by fold", "measured here, not published", 2026)
_TEST = "Test set of 35 ALL and 35 normal cells; cells of one patient are in training and test."
_CHANCE = f"{_TEST} No better than chance, which fits known faults of the set-up."
_ROUNDED = "Validation images, no test set; the count right is worked back from a printed percentage."
_BEST = f"{_ROUNDED} From the notebook, the best of its epochs, chosen on these images."
_FROZEN = "Frozen ImageNet features with logistic regression: training on C-NMC's fold 0, test on fold 1."


def _percentage(network: str, backbone: str, percent: float, note: str) -> Published:
    """A row of Mamaev's 705 validation images, of which only a percentage is printed."""
    return Published(network, backbone, "accuracy", percent / 100, round(percent * 7.05), 705, *_MAMAEV, note)


def _frozen(network: str, backbone: str, value: float) -> Published:
    return Published(network, backbone, "accuracy", value, round(value * 3581), 3581, *_HERE, _FROZEN)


PUBLISHED: tuple[Published, ...] = (
    Published("VGG16", "vgg16", "accuracy", 65 / 70, 65, 70, *_DHURI, _TEST),
    Published("MobileNet", "mobilenet", "accuracy", 64 / 70, 64, 70, *_DHURI, _TEST),
    Published("ResNet50", "resnet50", "accuracy", 36 / 70, 36, 70, *_DHURI, _CHANCE),
    _percentage("ResNet50", "resnet50", 85.0, _ROUNDED),
    _percentage("GoogLeNet", "googlenet", 74.0, _ROUNDED),
    _percentage("VGG16", "vgg16", 74.0, f"{_ROUNDED} The notebook's own best epoch has 85.1 %."),
    _percentage("ResNet50, best epoch", "resnet50", 85.6, _BEST),
    _percentage("GoogLeNet, best epoch", "googlenet", 73.1, _BEST),
    _percentage("VGG16, best epoch", "vgg16", 85.1, _BEST),
    _frozen("MobileNet, frozen", "mobilenet", 0.858),
    _frozen("ResNet50, frozen", "resnet50", 0.830),
    _frozen("VGG16, frozen", "vgg16", 0.818),
    Published(
        "ISBI 2019 winner",
        None,
        "f1_weighted",
        0.925,
        None,
        1867,
        "by subject",
        "C-NMC challenge, preliminary",
        2019,
        "Subjects never seen in training; weighted F1 is no count, so it has no Wilson interval.",
    ),
    Published(
        "ISBI 2019 winner",
        None,
        "f1_weighted",
        0.910,
        None,
        2586,
        "by subject",
        "C-NMC challenge, final",
        2019,
        "Subjects never seen in training; weighted F1 is no count, so it has no Wilson interval.",
    ),
)


def published_table() -> pd.DataFrame:
    """`PUBLISHED` as a table: its fields, and low and high, NaN where there is no interval."""
    rows = [asdict(row) | dict(zip(("low", "high"), row.interval or (None, None), strict=True)) for row in PUBLISHED]
    table = pd.DataFrame(rows)
    return table.astype({"k": "Int64", "low": float, "high": float})
