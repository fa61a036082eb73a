"""Two checks of whether a heat map can be trusted. Both query the network, and a map can fail them.

Deletion and insertion (Petsiuk et al. 2018, "RISE"): when the hottest regions are covered first, or revealed first, the
probability should change sooner than for random orders of the cell's regions. Randomization (Adebayo et al. 2018,
"Sanity checks for saliency maps"): a map of what was learned must change when the learned weights are randomized.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import keras
import numpy as np
from scipy.stats import spearmanr

from leukodash.cam.localization import cell_mask, ideal_map, resize_map
from leukodash.data.images import square
from leukodash.inference.classifier import MODEL_LOCK, Classifier
from leukodash.models.build import build, trained_layers
from leukodash.progress import Progress

STEPS = 16  # of a curve; it has one point more
RANDOM_ORDERS = 4  # that a map is compared with
RANDOM_NETWORKS = 3  # networks with random weights that a map is compared with
BLUR = 5 / 224  # standard deviation of the blur that insertion starts from, in image widths (Petsiuk et al.)


class DeletionInsertion(NamedTuple):
    """Probability of a class while pixels are covered (deletion) or revealed (insertion).

    Attributes:
        shares: float (STEPS + 1,), 0 to 1, fraction of the image that is covered or revealed.
        deletion, insertion: float (STEPS + 1,), probabilities with the pixels in the order of the map.
        random_deletion, random_insertion: float (RANDOM_ORDERS, STEPS + 1), the same in random orders.
    """

    shares: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray
    random_deletion: np.ndarray
    random_insertion: np.ndarray

    @property
    def gain(self) -> float:
        """Area under insertion minus area under deletion, −1 to 1: the higher, the better."""
        return area(self.shares, self.insertion) - area(self.shares, self.deletion)

    @property
    def random_gains(self) -> list[float]:
        """The gain of each random order."""
        both = zip(self.random_insertion, self.random_deletion, strict=True)
        return [area(self.shares, shown) - area(self.shares, hidden) for shown, hidden in both]


class Randomization(NamedTuple):
    """Maps of a run, and of the same network with random weights.

    Attributes:
        own: float32 (n, h, w), maps of the run.
        untrained: float32 (n, h, w), with the trained layers randomized; None if the run trained all layers.
        random: float32 (n, h, w), with every layer randomized.
        untrained_similarity, random_similarity: mean rank correlation with `own`, −1 to 1.
    """

    own: np.ndarray
    untrained: np.ndarray | None
    random: np.ndarray
    untrained_similarity: float | None
    random_similarity: float


def area(shares: np.ndarray, values: np.ndarray) -> float:
    """Return the area under a curve by the trapezoidal rule; both (points,)."""
    return float(np.trapezoid(values, shares))


def deletion_insertion(
    classifier: Classifier,
    image: np.ndarray,
    heat: np.ndarray,
    target: str,
    progress: Progress | None = None,
    seed: int = 0,
) -> DeletionInsertion:
    """Cover a cell with black, and reveal it from a blurred one, in the order of its map and in random orders.

    Random orders come from maps of the same resolution with random heat on the cell and none beside it: a map beats
    them only if it knows more than where the cell is.

    Calls the classifier on at most `(RANDOM_ORDERS + 1) · 2 · STEPS` images.

    Args:
        image: uint8 (H, W, 3), RGB.
        heat: float (h, w), 0 to 1, its map for the class `target`.
        seed: of the random orders, and of the order of pixels with equal heat.
    """
    size, rng = classifier.size, np.random.default_rng(seed)
    whole = square(image, size)
    blurred = cv2.GaussianBlur(whole, (0, 0), BLUR * size)
    on_cell = ideal_map(cell_mask(whole), heat.shape)
    maps = [heat, *(on_cell * rng.random(heat.shape) for _ in range(RANDOM_ORDERS))]
    shape = size, size
    orders = [_ranks(resize_map(values, shape), resize_map(rng.random(heat.shape), shape)) for values in maps]
    counts = np.linspace(0, size * size, STEPS + 1).round()
    first = [(ranks < count)[..., None] for ranks in orders for count in counts[1:-1]]
    edited = [np.where(mask, 0, whole) for mask in first] + [np.where(mask, whole, blurred) for mask in first]
    ends = [whole, np.zeros_like(whole), blurred]
    probabilities = classifier.predict(np.stack([*ends, *edited]), progress, single_view=True)
    answers = probabilities[:, classifier.classes.index(target)]
    full, black, blur = answers[:3]
    inner = answers[3:].reshape(2, len(orders), STEPS - 1)
    deletion = np.pad(inner[0], ((0, 0), (1, 1)), constant_values=((0, 0), (full, black)))
    insertion = np.pad(inner[1], ((0, 0), (1, 1)), constant_values=((0, 0), (blur, full)))
    return DeletionInsertion(counts / size**2, deletion[0], insertion[0], deletion[1:], insertion[1:])


def randomization_test(
    classifier: Classifier,
    images: Sequence[np.ndarray],
    method: str,
    target: str,
    layer: str | None = None,
    progress: Progress | None = None,
    draws: int = RANDOM_NETWORKS,
) -> Randomization:
    """Compute maps with the run's network, with its trained layers randomized, and with all layers randomized.

    The returned maps are those of the first of `draws` random networks.

    Args:
        images: uint8 (H, W, 3), RGB.
        method, layer: as in `Classifier.answer`.
        target: the class to explain, ideally one that the run predicts for all images.
    """

    def maps(network: Classifier) -> np.ndarray:
        return network.classify_with_maps(images, method, target=target, layer=layer)[1]

    say = progress or (lambda fraction, words: None)
    say(0, "the run's own maps")
    own = maps(classifier)
    trained = trained_layers(classifier.model)
    frozen = [number for number, layer in enumerate(classifier.model.layers) if layer.weights and layer not in trained]
    untrained, random = [], []
    twin = Classifier(classifier.run, classifier.precision, _random_network(classifier, 1))
    for draw in range(draws):
        say((1 + 2 * draw) / (1 + 2 * draws), f"random network {draw + 1} of {draws}")
        if draw:
            with MODEL_LOCK:
                twin.model.set_weights(_random_network(classifier, 1 + draw).get_weights())
        random.append(maps(twin))
        if frozen:
            say((2 + 2 * draw) / (1 + 2 * draws), f"randomized trained layers, {draw + 1} of {draws}")
            with MODEL_LOCK:
                for number in frozen:
                    twin.model.layers[number].set_weights(classifier.model.layers[number].get_weights())
            untrained.append(maps(twin))
    twins = (untrained[0], _similarity(own, untrained)) if untrained else (None, None)
    return Randomization(own, twins[0], random[0], twins[1], _similarity(own, random))


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Spearman's correlation of two maps (h, w); 0 where a map is constant and so has no ranks."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a.ravel(), b.ravel()).statistic)


def _random_network(classifier: Classifier, draw: int) -> keras.Model:
    config = classifier.run.trained
    with MODEL_LOCK:
        return build(config.changed(seed=config.seed + draw), len(classifier.classes), None, classifier.precision)


def _similarity(own: np.ndarray, others: Sequence[np.ndarray]) -> float:
    pairs = [pair for maps in others for pair in zip(own, maps, strict=True)]
    return float(np.mean([rank_correlation(*pair) for pair in pairs]))


def _ranks(heat: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Return the rank of each pixel, 0 for the hottest; where heat is equal, the higher value of `ties` comes first."""
    order = np.lexsort((-ties.ravel(), -heat.ravel()))
    ranks = np.empty(order.size, np.int64)
    ranks[order] = np.arange(order.size)
    return ranks.reshape(heat.shape)
