"""Class activation maps: at which places of a layer the network finds what speaks for a class.

A method is its weighting rule alone: feature maps and gradients (from `gradients.GradientModel`) in, one map out.
Score-CAM needs no gradients: it asks the network again, about the image seen through its own feature maps. Light: no
Keras.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from leukodash.errors import RunError

ASKED = 64  # feature maps that Score-CAM looks through
AT_ONCE = 16  # images in one question to the network

Ask = Callable[[int, np.ndarray], np.ndarray]
Rule = Callable[[np.ndarray, np.ndarray], np.ndarray] | Callable[[np.ndarray, np.ndarray, Ask], np.ndarray]


@dataclass(frozen=True)
class Method:
    """A way to turn a layer's feature maps into one map.

    Attributes:
        title: its name for people.
        one_line: what it does, for the reader of a page.
        paper: short citation.
        rule: (activations, gradients), both float32 (n, h, w, channels), → maps (n, h, w), any sign, any scale.
        asks: the rule takes a third argument, what `masked_class_probability` returns: many forward passes a cell.
    """

    title: str
    one_line: str
    paper: str
    rule: Rule
    asks: bool = False


def grad_cam(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Each channel weighs its gradient, averaged over all places. Selvaraju et al. (2017), equations 1 and 2."""
    return np.einsum("nhwc,nc->nhw", activations, gradients.mean(axis=(1, 2)))


def grad_cam_plus_plus(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Each channel weighs its positive gradients, each place by a share of its own.

    Chattopadhay et al. (2018), section 3, for a score that is the exponential of the logit. With gradient g and the
    channel's sum S of activations, a place's share g² / (2 g² + S g³) is 1 / (2 + S g), and 0 where g is 0. As in the
    authors' program, the shares of a channel are divided by their sum.
    """
    total = activations.sum(axis=(1, 2), keepdims=True)
    share = _quotient(1.0, 2 + total * gradients) * (gradients != 0)
    share = _quotient(share, share.sum(axis=(1, 2), keepdims=True))
    return np.einsum("nhwc,nc->nhw", activations, (share * np.maximum(gradients, 0)).sum(axis=(1, 2)))


def hires_cam(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Activation times gradient, place by place. Draelos & Carin (2020), section 3."""
    return np.einsum("nhwc,nhwc->nhw", activations, gradients)


def layer_cam(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Activation times positive gradient, place by place. Jiang et al. (2021), section 3."""
    return np.einsum("nhwc,nhwc->nhw", activations, np.maximum(gradients, 0))


def eigen_cam(activations: np.ndarray, _: np.ndarray) -> np.ndarray:
    """The first principal component of the activations, whatever the class. Muhammad & Yeasin (2020).

    A singular vector has no sign of its own: the one is taken that makes the map positive on the whole.
    """
    n, height, width, channels = activations.shape
    left, values, _ = np.linalg.svd(activations.reshape(n, height * width, channels), full_matrices=False)
    maps = (left[:, :, 0] * values[:, :1]).reshape(n, height, width)
    return maps * np.where(maps.sum(axis=(1, 2), keepdims=True) < 0, -1, 1)


def score_cam(activations: np.ndarray, _: np.ndarray, ask: Ask) -> np.ndarray:
    """Each channel weighs how likely the class is when the image is seen through that channel alone.

    Wang et al. (2020), section 3.2. As in the authors' program, the weight is the probability, without that of a black
    image taken off, and a channel that is the same everywhere is left out: it has nothing to look through. Only the
    `ASKED` channels that vary most are asked about; the others weigh as much as those on average.
    """
    maps = np.empty(activations.shape[:3], np.float32)
    for number, image in enumerate(activations):
        spread = image.std(axis=(0, 1))
        order = np.argsort(-spread, kind="stable")[: np.count_nonzero(spread)]
        asked, rest = order[:ASKED], order[ASKED:]
        weights = ask(number, image[..., asked].transpose(2, 0, 1)) if len(asked) else np.zeros(0)
        maps[number] = image[..., asked] @ weights
        if len(rest):
            maps[number] += image[..., rest].sum(axis=-1) * weights.mean()
    return maps


METHODS = {
    "gradcam": Method(
        "Grad-CAM",
        "weighs each feature by how much the class rises with it on average",
        "Selvaraju et al., 2017",
        grad_cam,
    ),
    "gradcam++": Method(
        "Grad-CAM++",
        "as Grad-CAM, but counts only what raises the class",
        "Chattopadhay et al., 2018",
        grad_cam_plus_plus,
    ),
    "hirescam": Method(
        "HiResCAM",
        "shows exactly the places that the class score was made from",
        "Draelos & Carin, 2020",
        hires_cam,
    ),
    "layercam": Method(
        "LayerCAM",
        "weighs each place by itself, which keeps small details",
        "Jiang et al., 2021",
        layer_cam,
    ),
    "scorecam": Method(
        "Score-CAM",
        "dims the cell by each feature and looks how sure the network still is; slow",
        "Wang et al., 2020",
        score_cam,
        asks=True,
    ),
    "eigencam": Method(
        "Eigen-CAM",
        "shows what stands out most to the network, whatever the class",
        "Muhammad & Yeasin, 2020",
        eigen_cam,
    ),
}


def heat(method: str, activations: np.ndarray, gradients: np.ndarray, ask: Ask | None = None) -> np.ndarray:
    """Apply a method and scale each map to its own maximum; what speaks against the class becomes 0.

    Args:
        method: a key of `METHODS`.
        activations, gradients: float32 (n, h, w, channels).
        ask: from `masked_class_probability`, for the same images; only methods with `Method.asks` need it.

    Returns:
        float32 (n, h, w), 0 to 1. A map in which nothing speaks for the class is 0 everywhere.

    Raises:
        RunError: there is no such method.
    """
    if method not in METHODS:
        raise RunError(f"There is no heat map method '{method}'. Choose one of {', '.join(METHODS)}.")
    chosen = METHODS[method]
    raw = chosen.rule(activations, gradients, ask) if chosen.asks else chosen.rule(activations, gradients)
    maps = np.maximum(raw, 0)
    return _quotient(maps, maps.max(axis=(1, 2), keepdims=True)).astype(np.float32)


def masked_class_probability(
    images: np.ndarray, classes: np.ndarray, probabilities: Callable[[np.ndarray], np.ndarray]
) -> Ask:
    """Return a function that asks how likely an image's class is when it is seen through maps.

    Args:
        images: float32 (n, size, size, 3).
        classes: int (n,), the class of each that is asked about.
        probabilities: images, float32 (m, size, size, 3) → (m, classes). Called for `AT_ONCE` images at a time.

    Returns:
        (number of an image, maps float32 (k, h, w)) → float64 (k,): the probability of its class when the image is
        multiplied by each map, scaled up to the image and to 0..1.
    """
    size = images.shape[2], images.shape[1]

    def ask(number: int, maps: np.ndarray) -> np.ndarray:
        found = []
        for start in range(0, len(maps), AT_ONCE):
            large = np.stack(
                [cv2.resize(one, size, interpolation=cv2.INTER_LINEAR) for one in maps[start : start + AT_ONCE]]
            )
            large -= large.min(axis=(1, 2), keepdims=True)
            seen = images[number] * _quotient(large, large.max(axis=(1, 2), keepdims=True))[..., None]
            found.append(probabilities(seen)[:, classes[number]])
        return np.concatenate(found)

    return ask


def _quotient(over: np.ndarray | float, under: np.ndarray) -> np.ndarray:
    """Divide, with 0 where the divisor is 0."""
    return np.where(under == 0, 0, over / np.where(under == 0, 1, under))
