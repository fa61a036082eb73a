"""Class activation maps: which regions of a layer's feature maps support a class.

A method is a weighting rule: it takes feature maps and gradients (from `gradients.GradientModel`) and returns one map.
Score-CAM needs no gradients: it classifies the image again, masked by each feature map. Does not import Keras.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from leukodash.errors import RunError

MASK_CHANNELS = 64  # feature maps that Score-CAM masks the image with
MASK_BATCH = 16  # masked images in one forward pass

MaskedProbability = Callable[[int, np.ndarray], np.ndarray]
Rule = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Method:
    """A method that turns a layer's feature maps into one map.

    Attributes:
        title: display name.
        one_line: what it does, as shown on the page.
        paper: short citation.
        rule: (activations, gradients), both float32 (n, h, w, channels), → maps (n, h, w), of any sign and scale.
        needs_predictions: the rule takes a third argument, the function that `masked_class_probability` returns, and
            needs many forward passes per cell.
    """

    title: str
    one_line: str
    paper: str
    rule: Rule
    needs_predictions: bool = False


def grad_cam(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Weight each channel by its gradient, averaged over all positions. Selvaraju et al. (2017), equations 1 and 2."""
    return np.einsum("nhwc,nc->nhw", activations, gradients.mean(axis=(1, 2)))


def grad_cam_plus_plus(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Weight each channel by its positive gradients, each position with a coefficient of its own.

    Chattopadhay et al. (2018), section 3, for a score that is the exponential of the logit. With gradient g and the
    channel's sum S of activations, the coefficient g² / (2 g² + S g³) is 1 / (2 + S g), and 0 where g is 0. As in the
    authors' code, the coefficients of a channel are divided by their sum.
    """
    total = activations.sum(axis=(1, 2), keepdims=True)
    alpha = _divide(1.0, 2 + total * gradients) * (gradients != 0)
    alpha = _divide(alpha, alpha.sum(axis=(1, 2), keepdims=True))
    return np.einsum("nhwc,nc->nhw", activations, (alpha * np.maximum(gradients, 0)).sum(axis=(1, 2)))


def hires_cam(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Activation times gradient, position by position. Draelos & Carin (2020), section 3."""
    return np.einsum("nhwc,nhwc->nhw", activations, gradients)


def layer_cam(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Activation times positive gradient, position by position. Jiang et al. (2021), section 3."""
    return np.einsum("nhwc,nhwc->nhw", activations, np.maximum(gradients, 0))


def eigen_cam(activations: np.ndarray, _: np.ndarray) -> np.ndarray:
    """The first principal component of the activations, which does not depend on the class. Muhammad & Yeasin (2020).

    The sign of a singular vector is arbitrary: the one that makes the sum of the map positive is used.
    """
    n, height, width, channels = activations.shape
    left, values, _ = np.linalg.svd(activations.reshape(n, height * width, channels), full_matrices=False)
    maps = (left[:, :, 0] * values[:, :1]).reshape(n, height, width)
    return maps * np.where(maps.sum(axis=(1, 2), keepdims=True) < 0, -1, 1)


def score_cam(activations: np.ndarray, _: np.ndarray, masked_probability: MaskedProbability) -> np.ndarray:
    """Weight each channel by the probability of the class when the image is masked by that channel.

    Wang et al. (2020), section 3.2. As in the authors' code, the weight is the probability itself, without subtracting
    that of a black image, and channels that are constant are skipped, since they mask nothing. Only the
    `MASK_CHANNELS` channels with the largest standard deviation are tested; the others get the mean weight.
    """
    maps = np.empty(activations.shape[:3], np.float32)
    for number, image in enumerate(activations):
        spread = image.std(axis=(0, 1))
        order = np.argsort(-spread, kind="stable")[: np.count_nonzero(spread)]
        tested, rest = order[:MASK_CHANNELS], order[MASK_CHANNELS:]
        weights = masked_probability(number, image[..., tested].transpose(2, 0, 1)) if len(tested) else np.zeros(0)
        maps[number] = image[..., tested] @ weights
        if len(rest):
            maps[number] += image[..., rest].sum(axis=-1) * weights.mean()
    return maps


METHODS = {
    "evidence": Method(
        "Evidence",
        "adds up what each place contributes to the score of the class, against the other classes",
        "Zhou et al., 2016; where more than a head was trained, HiResCAM of the last layer",
        hires_cam,
    ),
    "gradcam": Method(
        "Grad-CAM",
        "weights each feature map by its average influence on the class score",
        "Selvaraju et al., 2017",
        grad_cam,
    ),
    "gradcam++": Method(
        "Grad-CAM++",
        "like Grad-CAM, but counts only what raises the class score",
        "Chattopadhay et al., 2018",
        grad_cam_plus_plus,
    ),
    "hirescam": Method("HiResCAM", "multiplies each position by its own gradient", "Draelos & Carin, 2020", hires_cam),
    "layercam": Method(
        "LayerCAM", "weights each position separately, which keeps small details", "Jiang et al., 2021", layer_cam
    ),
    "scorecam": Method(
        "Score-CAM",
        "masks the cell with each feature map and measures how confident the network remains; slow",
        "Wang et al., 2020",
        score_cam,
        needs_predictions=True,
    ),
    "eigencam": Method(
        "Eigen-CAM",
        "shows the strongest pattern in the feature maps, whatever the class",
        "Muhammad & Yeasin, 2020",
        eigen_cam,
    ),
}

# Once one of these is computed, the others cost next to nothing.
GRADIENT_METHODS = ("gradcam", "gradcam++", "hirescam", "layercam")


def heat_maps(
    method: str, activations: np.ndarray, gradients: np.ndarray, masked_probability: MaskedProbability | None = None
) -> np.ndarray:
    """Apply a method, set evidence against the class to 0, and scale each map to its own maximum.

    Args:
        method: a key of `METHODS`.
        activations, gradients: float32 (n, h, w, channels).
        masked_probability: from `masked_class_probability`, for the same images; only for methods with
            `Method.needs_predictions`.

    Returns:
        float32 (n, h, w), 0 to 1. A map without evidence for the class is 0 everywhere.

    Raises:
        RunError: there is no such method.
    """
    if method not in METHODS:
        raise RunError(f"There is no heat map method '{method}'. Choose one of {', '.join(METHODS)}.")
    chosen = METHODS[method]
    extra = (masked_probability,) if chosen.needs_predictions else ()
    return scaled(chosen.rule(activations, gradients, *extra))


def scaled(raw: np.ndarray) -> np.ndarray:
    """Set evidence against the class to 0, and scale each map (n, h, w) to its own maximum: float32, 0 to 1."""
    maps = np.maximum(raw, 0)
    return _divide(maps, maps.max(axis=(1, 2), keepdims=True)).astype(np.float32)


def masked_class_probability(
    images: np.ndarray, classes: np.ndarray, probabilities: Callable[[np.ndarray], np.ndarray]
) -> MaskedProbability:
    """Return a function that gives the probability of an image's class when the image is masked by maps.

    Args:
        images: float32 (n, size, size, 3).
        classes: int (n,), the class of each image whose probability is returned.
        probabilities: images, float32 (m, size, size, 3) → (m, classes). Called for `MASK_BATCH` images at a time.

    Returns:
        (index of an image, maps float32 (k, h, w)) → float64 (k,): the probability of its class when the image is
        multiplied by each map, resized to the image and scaled to 0..1.
    """
    size = images.shape[2], images.shape[1]

    def masked_probability(number: int, maps: np.ndarray) -> np.ndarray:
        scores = []
        for start in range(0, len(maps), MASK_BATCH):
            batch = maps[start : start + MASK_BATCH]
            masks = np.stack([cv2.resize(small, size, interpolation=cv2.INTER_LINEAR) for small in batch])
            masks -= masks.min(axis=(1, 2), keepdims=True)
            masked = images[number] * _divide(masks, masks.max(axis=(1, 2), keepdims=True))[..., None]
            scores.append(probabilities(masked)[:, classes[number]])
        return np.concatenate(scores)

    return masked_probability


def _divide(over: np.ndarray | float, under: np.ndarray) -> np.ndarray:
    """Divide, with 0 where the divisor is 0."""
    return np.where(under == 0, 0, over / np.where(under == 0, 1, under))
