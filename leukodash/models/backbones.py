"""The ImageNet networks that a run can start from: one row each in `BACKBONES`, readable without importing Keras.

Everything that LeukoDash knows about a backbone is in its row; docs/extending.md says how to add one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any

HEAD, ALL = "head", "all"  # values of train_from that every backbone has, besides the names of its blocks

# Preprocessing: scale and offset of RGB (or BGR) values 0 to 255, in the order of the channels that the network sees.
SCALING: dict[str, tuple[Any, Any]] = {
    "tf": (1 / 127.5, -1.0),
    "torch": ([1 / (255 * s) for s in (0.229, 0.224, 0.225)], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]),
    "caffe": (1.0, [-103.939, -116.779, -123.68]),
    "bvlc": (1.0, [-104.0, -117.0, -123.0]),
    "divide_by_255": (1 / 255, 0.0),
}
BGR = ("caffe", "bvlc")
# Names of layers: prefix of those that average the maps after a block; the one that normalizes all averages.
POOLED, SCALED = "pool_", "head_scaled"
EVERY_BLOCK = ("blocks", "cell")  # ways of pooling that give the head the maps after every block

KERAS_FILES = "https://storage.googleapis.com/tensorflow/keras-applications"


@dataclass(frozen=True)
class Block:
    """A part of a backbone from which training can begin.

    Args:
        name: what its paper or Keras calls it, for example ``"block5"``.
        after: name of the last frozen layer. Training "from this block on" freezes that layer and every layer
            that it depends on; the rest of the backbone is trained.
        compute_share: share of the backbone's multiply-adds that the layers from this block on take.
        crossing_values: values per image that pass from the frozen to the trained layers, at ``input_size``.
    """

    name: str
    after: str
    compute_share: float
    crossing_values: int


@dataclass(frozen=True)
class WeightFile:
    """A pretrained weight file without the 1000-way ImageNet classifier.

    Args:
        name: file name that is looked for in ``LEUKODASH_WEIGHTS`` and in Keras' own cache.
        url: address of the publisher's file.
        licence: terms of the weights.
        size_bytes: length of the publisher's file.
        sha256: hex digest of the publisher's file.
        md5: hex digest of the publisher's file, if that is what is published.
        values_sha256: hex digest of the values in it (`weights.values_digest`), if no digest of the file is published.
        reader: ``"module:name"`` of a function that reads the publisher's file as `weight_conversion.Layers`; None
            for a file in Keras' format, which needs no conversion.
        shipped: the file below ``leukodash/assets`` with these weights in three bytes a value, if LeukoDash comes
            with one; see `models.program`.
        shipped_sha256: hex digest of the file that `shipped` was rounded from: the identity of these weights.
    """

    name: str
    url: str
    licence: str
    size_bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None
    values_sha256: str | None = None
    reader: str | None = None
    shipped: str | None = None
    shipped_sha256: str | None = None

    @property
    def published_name(self) -> str:
        """File name at the publisher, which can differ from the one that Keras stores it under."""
        return PurePosixPath(self.url).name


@dataclass(frozen=True)
class Backbone:
    """A network pretrained on ImageNet, without its classifier.

    Args:
        name: its key in `BACKBONES`.
        title: its name on pages and in reports.
        year: year of the first publication.
        parameters: number of parameters without the ImageNet classifier, moving statistics included.
        paper: short citation; ``paper_url`` leads to it.
        one_line: what is special about it, for a reader without a course in deep learning.
        color: its color in every figure, different from all others.
        symbol: its Plotly marker in every figure, different from all others.
        constructor: ``"module:name"`` of a function with the signature of ``keras.applications``.
        input_size: side of the square input that the weights were trained on, in pixels.
        min_size: smallest side that it can be built for.
        preprocessing: what it expects of RGB values 0 to 255. ``"tf"``: x / 127.5 - 1. ``"caffe"``: BGR minus
            (103.939, 116.779, 123.68). ``"bvlc"``: BGR minus (104, 117, 123). ``"torch"``: RGB / 255, minus
            ImageNet's mean, divided by its standard deviation. ``"none"``: the network does it itself.
        output_shape: (height, width, channels) of the last feature maps at ``input_size``.
        cam_layer: the last layer with a spatial extent that Grad-CAM is taken from.
        cam_layer_is_output: whether `cam_layer` gives the maps that are pooled; False where a pooling layer or an
            activation follows.
        blocks: where training can begin, from the input side to the output side.
        activations: values in the outputs of all layers of a run's model for one image at ``input_size``, in millions.
        images_per_second: forward pass at ``input_size`` in (float32, bfloat16), on two cores with bfloat16 units
            that multiply matrices at `jobs.estimate.GFLOPS`.
        bfloat16: whether features in bfloat16 stay true to float32 (cosine similarity 0.9997 or more for each
            of 192 C-NMC cells); None if nobody has measured it.
        weights: its pretrained weights.
    """

    name: str
    title: str
    year: int
    parameters: int
    paper: str
    paper_url: str
    one_line: str
    color: str
    symbol: str
    constructor: str
    input_size: int
    min_size: int
    preprocessing: str
    output_shape: tuple[int, int, int]
    cam_layer: str
    blocks: tuple[Block, ...]
    activations: float
    images_per_second: tuple[float, float]
    bfloat16: bool | None
    weights: WeightFile
    cam_layer_is_output: bool = True

    @property
    def size_mb(self) -> float:
        """Megabytes (10^6 bytes) of its parameters as float32."""
        return round(4 * self.parameters / 1e6, 1)

    def block(self, name: str) -> Block:
        """Return the block of this name."""
        return next(block for block in self.blocks if block.name == name)


def load_function(path: str) -> Callable[..., Any]:
    """Import the function that ``"module:name"`` names."""
    module, name = path.split(":")
    return getattr(import_module(module), name)


def constructor(backbone: Backbone) -> Callable[..., Any]:
    """Import the function that builds the network. The first call imports Keras, which takes seconds.

    Returns:
        A function with the signature of ``keras.applications``: it takes ``include_top``, ``weights``,
        ``input_tensor``, ``input_shape`` and so on, and returns a ``keras.Model``.
    """
    return load_function(backbone.constructor)


# Colors: Okabe and Ito (2008) without black and yellow, which vanish on a dark or a light page; the last two were
# searched for the largest distance from all others in normal, protanope and deuteranope sight, visible on both pages.
_ROWS = (
    Backbone(
        name="mobilenet",
        title="MobileNet",
        year=2017,
        parameters=3_228_864,
        paper="Howard et al., 2017: MobileNets",
        paper_url="https://arxiv.org/abs/1704.04861",
        one_line="Small and fast enough for a phone: it filters each channel by itself and then mixes the channels, "
        "which takes about a ninth of the usual arithmetic.",
        color="#E69F00",
        symbol="circle",
        constructor="keras.applications:MobileNet",
        input_size=224,
        min_size=32,
        preprocessing="tf",
        output_shape=(7, 7, 1024),
        cam_layer="conv_pw_13_relu",
        blocks=(
            Block("block1", "conv1_relu", 0.98, 401_408),
            Block("block2", "conv_pw_1_relu", 0.93, 802_816),
            Block("block3", "conv_pw_2_relu", 0.88, 401_408),
            Block("block4", "conv_pw_3_relu", 0.78, 401_408),
            Block("block5", "conv_pw_4_relu", 0.74, 200_704),
            Block("block6", "conv_pw_5_relu", 0.64, 200_704),
            Block("block7", "conv_pw_6_relu", 0.6, 100_352),
            Block("block8", "conv_pw_7_relu", 0.51, 100_352),
            Block("block9", "conv_pw_8_relu", 0.41, 100_352),
            Block("block10", "conv_pw_9_relu", 0.32, 100_352),
            Block("block11", "conv_pw_10_relu", 0.23, 100_352),
            Block("block12", "conv_pw_11_relu", 0.14, 100_352),
            Block("block13", "conv_pw_12_relu", 0.09, 50_176),
        ),
        activations=17.0,
        images_per_second=(104.0, 112.0),
        bfloat16=False,  # minimum cosine similarity 0.942, and no faster
        weights=WeightFile(
            name="mobilenet_1_0_224_tf_no_top.h5",
            url=f"{KERAS_FILES}/mobilenet/mobilenet_1_0_224_tf_no_top.h5",
            licence="Apache-2.0",
            size_bytes=17_225_924,
            values_sha256="d2e90612f98ae2f2d18b73238ab3a3c342cd9c9fc78a6c7a8ee1cf4b997addd0",  # the file has none
            shipped="mobilenet.onnx",
            shipped_sha256="7dee85589794aa9f80808ffa5c319135f5b3107a10c63c0c9e60e3e6560ee937",
        ),
    ),
    Backbone(
        name="vgg16",
        title="VGG16",
        year=2014,
        parameters=14_714_688,
        paper="Simonyan & Zisserman, 2014: Very deep convolutional networks",
        paper_url="https://arxiv.org/abs/1409.1556",
        one_line="Thirteen plain layers of 3×3 filters, one after the other: easy to follow, good at texture and slow "
        "on a CPU.",
        color="#0072B2",
        symbol="square",
        constructor="keras.applications:VGG16",
        input_size=224,
        min_size=32,
        preprocessing="caffe",
        output_shape=(7, 7, 512),
        cam_layer="block5_conv3",
        cam_layer_is_output=False,
        blocks=(
            Block("block2", "block1_pool", 0.87, 802_816),
            Block("block3", "block2_pool", 0.69, 401_408),
            Block("block4", "block3_pool", 0.39, 200_704),
            Block("block5", "block4_pool", 0.09, 100_352),
        ),
        activations=15.4,
        images_per_second=(8.7, 63.6),
        bfloat16=True,
        weights=WeightFile(
            name="vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            url=f"{KERAS_FILES}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            licence="CC BY 4.0",
            size_bytes=58_889_256,
            md5="6d6bbae143d832006294945121d1f1fc",
        ),
    ),
    Backbone(
        name="resnet50",
        title="ResNet50",
        year=2015,
        parameters=23_587_712,
        paper="He et al., 2015: Deep residual learning",
        paper_url="https://arxiv.org/abs/1512.03385",
        one_line="Fifty layers deep, with shortcuts that carry the signal past each block, so that even the first "
        "layers can learn.",
        color="#009E73",
        symbol="diamond",
        constructor="keras.applications:ResNet50",
        input_size=224,
        min_size=32,
        preprocessing="caffe",
        output_shape=(7, 7, 2048),
        cam_layer="conv5_block3_out",
        blocks=(
            Block("conv2", "pool1_pool", 0.97, 200_704),
            Block("conv3", "conv2_block3_out", 0.8, 802_816),
            Block("conv4", "conv3_block4_out", 0.55, 401_408),
            Block("conv5", "conv4_block6_out", 0.19, 200_704),
            Block("conv5_block2", "conv5_block1_out", 0.11, 100_352),
            Block("conv5_block3", "conv5_block2_out", 0.06, 100_352),
        ),
        activations=37.3,
        images_per_second=(24.8, 32.9),
        bfloat16=True,
        weights=WeightFile(
            name="resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
            url=f"{KERAS_FILES}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
            licence="MIT",
            size_bytes=94_765_736,
            md5="4d473c1dd8becc155b73f8504c6f6626",
        ),
    ),
    Backbone(
        name="googlenet",
        title="GoogLeNet",
        year=2014,
        parameters=5_973_552,
        paper="Szegedy et al., 2014: Going deeper with convolutions",
        paper_url="https://arxiv.org/abs/1409.4842",
        one_line="Looks at every place with small, medium and large filters at once, and stays small by squeezing the "
        "channels first.",
        color="#CC79A7",
        symbol="triangle-up",
        constructor="leukodash.models.googlenet:GoogLeNet",
        input_size=224,
        min_size=32,
        preprocessing="bvlc",
        output_shape=(7, 7, 1024),
        cam_layer="inception_5b_output",
        blocks=(
            Block("conv2", "pool1_norm1", 0.93, 200_704),
            Block("inception_3a", "pool2_3x3_s2", 0.7, 150_528),
            Block("inception_3b", "inception_3a_output", 0.62, 200_704),
            Block("inception_4a", "pool3_3x3_s2", 0.42, 94_080),
            Block("inception_4b", "inception_4a_output", 0.38, 100_352),
            Block("inception_4c", "inception_4b_output", 0.32, 100_352),
            Block("inception_4d", "inception_4c_output", 0.26, 100_352),
            Block("inception_4e", "inception_4d_output", 0.18, 103_488),
            Block("inception_5a", "pool4_3x3_s2", 0.08, 40_768),
            Block("inception_5b", "inception_5a_output", 0.04, 40_768),
        ),
        activations=7.1,
        images_per_second=(54.9, 118.1),
        bfloat16=True,
        weights=WeightFile(
            name="googlenet_bvlc_weights_tf_notop.h5",
            url="https://github.com/onnx/models/raw/4c46cd00fbdb7cd30b6c1c17ab54f2e1f4f7b177/validated/vision/"
            "classification/inception_and_googlenet/googlenet/model/googlenet-7.onnx",
            licence="unrestricted use (BVLC)",
            size_bytes=28_020_232,
            sha256="5725ccfd90845735ce5897faf7843c3f9b13acda3c4f3bff82cb21c9337c9de8",
            reader="leukodash.models.weight_conversion:read_googlenet",
        ),
    ),
    Backbone(
        name="inceptionv3",
        title="Inception v3",
        year=2015,
        parameters=21_802_784,
        paper="Szegedy et al., 2015: Rethinking the Inception architecture",
        paper_url="https://arxiv.org/abs/1512.00567",
        one_line="GoogLeNet's successor: large filters are replaced by chains of small ones, and it looks at larger "
        "images.",
        color="#56B4E9",
        symbol="triangle-down",
        constructor="keras.applications:InceptionV3",
        input_size=299,
        min_size=75,
        preprocessing="tf",
        output_shape=(8, 8, 2048),
        cam_layer="mixed10",
        blocks=(
            Block("mixed1", "mixed0", 0.71, 313_600),
            Block("mixed2", "mixed1", 0.65, 352_800),
            Block("mixed3", "mixed2", 0.59, 352_800),
            Block("mixed4", "mixed3", 0.52, 221_952),
            Block("mixed5", "mixed4", 0.45, 221_952),
            Block("mixed6", "mixed5", 0.37, 221_952),
            Block("mixed7", "mixed6", 0.28, 221_952),
            Block("mixed8", "mixed7", 0.18, 221_952),
            Block("mixed9", "mixed8", 0.12, 81_920),
            Block("mixed10", "mixed9", 0.07, 131_072),
        ),
        activations=32.8,
        images_per_second=(25.0, 38.0),
        bfloat16=None,
        weights=WeightFile(
            name="inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
            url=f"{KERAS_FILES}/inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
            licence="Apache-2.0",
            size_bytes=87_910_968,
            md5="bcbd6486424b2319ff4ef7d526e38f63",
        ),
    ),
    Backbone(
        name="nasnetmobile",
        title="NASNet Mobile",
        year=2017,
        parameters=4_269_716,
        paper="Zoph et al., 2017: Learning transferable architectures",
        paper_url="https://arxiv.org/abs/1707.07012",
        one_line="Its building blocks were not drawn by people: a computer search found them.",
        color="#D55E00",
        symbol="cross",
        constructor="keras.applications:NASNetMobile",
        input_size=224,
        min_size=32,
        preprocessing="tf",
        output_shape=(7, 7, 1056),
        cam_layer="normal_concat_12",  # the ReLU after it has a name that Keras numbers anew in each process
        cam_layer_is_output=False,
        blocks=(
            Block("normal_0", "reduction_concat_stem_2", 0.9, 206_976),
            Block("reduction_4", "normal_concat_3", 0.66, 413_952),
            Block("normal_5", "reduction_concat_reduce_4", 0.56, 275_968),
            Block("reduction_8", "normal_concat_8", 0.32, 206_976),
            Block("normal_9", "reduction_concat_reduce_8", 0.23, 137_984),
            Block("normal_12", "normal_concat_11", 0.06, 103_488),
        ),
        activations=27.8,
        images_per_second=(90.0, 105.0),
        bfloat16=None,
        weights=WeightFile(
            name="nasnet_mobile_no_top.h5",
            url=f"{KERAS_FILES}/nasnet/NASNet-mobile-no-top.h5",
            licence="Apache-2.0",
            size_bytes=19_993_432,
            md5="1ed92395b5b598bdda52abe5c0dbfd63",
        ),
    ),
    Backbone(
        name="alexnet",
        title="AlexNet",
        year=2012,
        parameters=2_469_696,
        paper="Krizhevsky et al., 2012; the one-GPU variant: Krizhevsky, 2014",
        paper_url="https://arxiv.org/abs/1404.5997",
        one_line="The network that started deep learning on images in 2012: five layers of filters, large ones first.",
        color="#9E2A2B",
        symbol="x",
        constructor="leukodash.models.alexnet:AlexNet",
        input_size=224,
        min_size=63,
        preprocessing="torch",
        output_shape=(6, 6, 256),
        cam_layer="conv5",
        cam_layer_is_output=False,
        blocks=(
            Block("conv2", "pool1", 0.89, 46_656),
            Block("conv3", "pool2", 0.55, 32_448),
            Block("conv4", "conv3", 0.38, 64_896),
            Block("conv5", "conv4", 0.15, 43_264),
        ),
        activations=1.0,
        images_per_second=(144.0, 270.0),
        bfloat16=None,
        weights=WeightFile(
            name="alexnet_torchvision_weights_tf_notop.h5",
            url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            licence="BSD-3-Clause",
            size_bytes=244_408_911,
            sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",  # its name has the beginning
            reader="leukodash.models.weight_conversion:read_alexnet",
        ),
    ),
    Backbone(
        name="efficientnetv2b0",
        title="EfficientNetV2-B0",
        year=2021,
        parameters=5_919_312,
        paper="Tan & Le, 2021: EfficientNetV2",
        paper_url="https://arxiv.org/abs/2104.00298",
        one_line="Depth, width and image size balanced by a search for accuracy per second of training.",
        color="#A020F0",
        symbol="star",
        constructor="keras.applications:EfficientNetV2B0",
        input_size=224,
        min_size=32,
        preprocessing="none",
        output_shape=(7, 7, 1280),
        cam_layer="top_activation",
        blocks=(
            Block("block2", "block1a_project_activation", 0.9, 200_704),
            Block("block3", "block2b_add", 0.68, 100_352),
            Block("block4", "block3b_add", 0.53, 37_632),
            Block("block5", "block4c_add", 0.47, 18_816),
            Block("block6", "block5e_add", 0.26, 21_952),
            Block("top_conv", "block6h_add", 0.02, 9_408),
        ),
        activations=16.2,
        images_per_second=(99.0, 150.0),
        bfloat16=None,
        weights=WeightFile(
            name="efficientnetv2-b0_notop.h5",
            url=f"{KERAS_FILES}/efficientnet_v2/efficientnetv2-b0_notop.h5",
            licence="Apache-2.0",
            size_bytes=24_274_472,
            md5="893217f2bb855e2983157299931e43ff",
        ),
    ),
)

BACKBONES: dict[str, Backbone] = {spec.name: spec for spec in _ROWS}
