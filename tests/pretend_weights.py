"""Weight files with random numbers, in the layout of the pretrained ones: frozen features without a download."""

import itertools

import h5py
import numpy as np

ALEXNET = {
    "conv1": (11, 11, 3, 64),
    "conv2": (5, 5, 64, 192),
    "conv3": (3, 3, 192, 384),
    "conv4": (3, 3, 384, 256),
    "conv5": (3, 3, 256, 256),
}
MOBILENET_CHANNELS = (32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)


def _mobilenet():
    layers = {"conv1": (3, 3, 3, 32), "conv1_bn": None}
    pairs = itertools.pairwise(MOBILENET_CHANNELS)
    for block, (before, after) in enumerate(pairs, start=1):
        layers |= {f"conv_dw_{block}": (3, 3, before, 1), f"conv_dw_{block}_bn": None}
        layers |= {f"conv_pw_{block}": (1, 1, before, after), f"conv_pw_{block}_bn": None}
    return layers


def write_pretend_weights(folder):
    """Write files for AlexNet and MobileNet into a folder, as He et al. (2015) initialize them; returns the folder."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    for name, layers, bias in (
        ("alexnet_torchvision_weights_tf_notop.h5", ALEXNET, True),
        ("mobilenet_1_0_224_tf_no_top.h5", _mobilenet(), False),
    ):
        with h5py.File(folder / name, "w") as file:
            file.attrs["source_sha256"] = "5" * 64
            file.attrs["layer_names"] = list(layers)
            channels = 0
            for layer, shape in layers.items():
                if shape:
                    inputs = np.prod(shape[:3]) if shape[3] > 1 else np.prod(shape[:2])
                    channels = shape[3] if shape[3] > 1 else shape[2]
                    arrays = {"kernel": rng.normal(0, np.sqrt(2 / inputs), shape)}
                    arrays |= {"bias": np.zeros(channels)} if bias else {}
                else:
                    ones, zeros = np.ones(channels), np.zeros(channels)
                    arrays = {"gamma": ones, "beta": zeros, "moving_mean": zeros, "moving_variance": ones}
                group = file.create_group(layer)
                group.attrs["weight_names"] = [f"{layer}/{part}" for part in arrays]
                for part, values in arrays.items():
                    group[f"{layer}/{part}"] = values.astype(np.float32)
    return folder
