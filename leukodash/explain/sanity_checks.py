"""Whether a heat map can be trusted: two checks that ask the network, and that a map can fail.

Hiding (Petsiuk et al. 2018, "RISE"): where the map is hot first covered, or first shown, the probability should move
sooner than with places of the cell taken in any order. Forgetting (Adebayo et al. 2018, "Sanity checks for saliency
maps"): a map of what was learnt must change when the learnt weights are replaced by random ones.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import keras
import numpy as np
from scipy.stats import spearmanr

from leukodash.cam.localization import cell_map, cell_mask, scaled
from leukodash.data.images import square
from leukodash.inference.classifier import Classifier
from leukodash.models.build import build, trained_layers

STEPS = 16  # points of a curve after the first
ORDERS = 4  # random orders that a map is compared with
DRAWS = 3  # networks of random weights that a map is compared with
BLUR = 5 / 224  # standard deviation of the blur that insertion starts from, in widths of the image, as Petsiuk et al.

Progress = Callable[[float, str], None]


class Curves(NamedTuple):
    """How the probability of a class moves while places are covered (deletion) or uncovered (insertion).

    Attributes:
        shares: float (STEPS + 1,), 0 to 1, how much of the picture is covered, or shown.
        deletion, insertion: float (STEPS + 1,), probabilities with the places in the order of the map.
        random_deletion, random_insertion: float (ORDERS, STEPS + 1), the same in random orders.
    """

    shares: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray
    random_deletion: np.ndarray
    random_insertion: np.ndarray

    @property
    def gain(self) -> float:
        """Area under insertion minus area under deletion, −1 to 1: the more, the better the map's order."""
        return area(self.shares, self.insertion) - area(self.shares, self.deletion)

    @property
    def random_gains(self) -> list[float]:
        """The same for each of the random orders."""
        both = zip(self.random_insertion, self.random_deletion, strict=True)
        return [area(self.shares, shown) - area(self.shares, hidden) for shown, hidden in both]


class Forgetting(NamedTuple):
    """A run's maps beside those of the same network with random weights.

    Attributes:
        own: float32 (n, h, w), maps of the run.
        untrained: float32 (n, h, w), with the layers that the run trained at random; None where it trained all.
        random: float32 (n, h, w), with every layer at random.
        untrained_likeness, random_likeness: rank correlation with `own`, −1 to 1, mean over cells and draws.
    """

    own: np.ndarray
    untrained: np.ndarray | None
    random: np.ndarray
    untrained_likeness: float | None
    random_likeness: float


def area(shares: np.ndarray, values: np.ndarray) -> float:
    """Return the area under a curve by the trapezoidal rule; both (points,)."""
    return float(np.trapezoid(values, shares))


# ------------------------------------------------------------------------------------------------ hiding


def deletion_insertion(
    classifier: Classifier,
    image: np.ndarray,
    heat: np.ndarray,
    target: str,
    progress: Progress | None = None,
    seed: int = 0,
) -> Curves:
    """Cover a cell with black, and uncover a blurred one, in the order of its map and in random orders.

    Random orders are those of maps as coarse as this one, with random heat on the cell and none beside it: a map is
    only better than they are if it knows more than where the cell is.

    Args:
        classifier: asked `(ORDERS + 1) · 2 · STEPS` times at the most.
        image: uint8 (H, W, 3), RGB.
        heat: float (h, w), 0 to 1, its map for `target`.
        target: a class of the classifier.
        progress: hears the share that is done.
        seed: of the random orders, and of the order of places that have the same heat.
    """
    size, rng = classifier.size, np.random.default_rng(seed)
    whole = square(image, size)
    blurred = cv2.GaussianBlur(whole, (0, 0), BLUR * size)
    ground = cell_map(cell_mask(whole), heat.shape)
    maps = [heat, *(ground * rng.random(heat.shape) for _ in range(ORDERS))]
    orders = [_ranks(scaled(one, (size, size)), scaled(rng.random(heat.shape), (size, size))) for one in maps]
    counts = np.linspace(0, size * size, STEPS + 1).round()
    shown = [np.where((ranks < count)[..., None], 0, whole) for ranks in orders for count in counts[1:-1]]
    shown += [np.where((ranks < count)[..., None], whole, blurred) for ranks in orders for count in counts[1:-1]]
    ends = [whole, np.zeros_like(whole), blurred]
    answers = classifier.predict(np.stack([*ends, *shown]), progress, upright=True)
    answers = answers[:, classifier.classes.index(target)]
    full, black, blur = answers[:3]
    inner = answers[3:].reshape(2, len(orders), STEPS - 1)
    deletion = np.pad(inner[0], ((0, 0), (1, 1)), constant_values=((0, 0), (full, black)))
    insertion = np.pad(inner[1], ((0, 0), (1, 1)), constant_values=((0, 0), (blur, full)))
    return Curves(counts / size**2, deletion[0], insertion[0], deletion[1:], insertion[1:])


# ------------------------------------------------------------------------------------------------ randomized


def randomization_test(
    classifier: Classifier,
    images: Sequence[np.ndarray],
    method: str,
    target: str,
    layer: str | None = None,
    progress: Progress | None = None,
    draws: int = DRAWS,
) -> Forgetting:
    """Map cells with the run's network, with its trained layers at random, and with all of it at random.

    Args:
        classifier: the run.
        images: uint8 (H, W, 3), RGB; the maps that come back are those of the first draw.
        method: a key of `cam.METHODS`.
        target: the class that is explained; best one that the run finds in all of the images.
        layer: of the maps; by default the backbone's last.
        progress: hears the share that is done.
        draws: networks of random weights to compare with.
    """

    def maps(asked: Classifier) -> np.ndarray:
        return asked.classify_with_maps(images, method, target=target, layer=layer)[1]

    say = progress or (lambda fraction, words: None)
    say(0, "the run's own maps")
    own = maps(classifier)
    trained = trained_layers(classifier.model)
    frozen = [place for place, one in enumerate(classifier.model.layers) if one.weights and one not in trained]
    untrained, random = [], []
    twin = Classifier(classifier.run, _random(classifier, 1), classifier.precision)
    for draw in range(draws):
        say((1 + 2 * draw) / (1 + 2 * draws), f"random network {draw + 1} of {draws}")
        if draw:
            twin.model.set_weights(_random(classifier, 1 + draw).get_weights())
        random.append(maps(twin))
        if frozen:
            say((2 + 2 * draw) / (1 + 2 * draws), f"trained layers at random, {draw + 1} of {draws}")
            for place in frozen:
                twin.model.layers[place].set_weights(classifier.model.layers[place].get_weights())
            untrained.append(maps(twin))
    return Forgetting(
        own,
        untrained[0] if untrained else None,
        random[0],
        _likeness(own, untrained) if untrained else None,
        _likeness(own, random),
    )


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return Spearman's correlation of two maps (h, w); 0 where a map is the same everywhere and so ranks nothing."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


# ------------------------------------------------------------------------------------------------ helpers


def _random(classifier: Classifier, draw: int) -> keras.Model:
    config = classifier.run.config
    return build(config.changed(seed=config.seed + draw), len(classifier.classes), None, classifier.precision)


def _likeness(own: np.ndarray, others: Sequence[np.ndarray]) -> float:
    pairs = [pair for maps in others for pair in zip(own, maps, strict=True)]
    return float(np.mean([rank_correlation(*pair) for pair in pairs]))


def _ranks(heat: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Return each place's rank, 0 for the hottest; among places of the same heat, the one with the higher tie."""
    order = np.lexsort((-ties.ravel(), -heat.ravel()))
    ranks = np.empty(order.size, np.int64)
    ranks[order] = np.arange(order.size)
    return ranks.reshape(heat.shape)
