"""The ImageNet networks that a run can start from: one row each, readable without importing Keras."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import PurePosixPath

HEAD, ALL = "head", "all"  # the two cuts that every backbone has, besides its blocks

# Preprocessing: scale and offset of RGB (or BGR) values 0 to 255, in the order of the channels that the network sees.
SCALING: dict[str, tuple] = {
    "tf": (1 / 127.5, -1.0),
    "torch": ([1 / (255 * s) for s in (0.229, 0.224, 0.225)], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]),
    "caffe": (1.0, [-103.939, -116.779, -123.68]),
    "bvlc": (1.0, [-104.0, -117.0, -123.0]),
    "divide_by_255": (1 / 255, 0.0),
}
BGR = ("caffe", "bvlc")

KERAS_FILES = "https://storage.googleapis.com/tensorflow/keras-applications"


@dataclass(frozen=True)
class Block:
    """A part of a backbone from which training can begin.

    Args:
        name: what its paper or Keras calls it, for example ``"block5"``.
        after: name of the last frozen layer. Training "from this block on" freezes that layer and every layer
            that it depends on; whatever else the backbone has is trained.
    """

    name: str
    after: str


@dataclass(frozen=True)
class WeightFile:
    """A pretrained weight file without the 1000-way ImageNet classifier.

    Args:
        name: file name that is looked for in ``LEUKODASH_WEIGHTS`` and in Keras' own cache.
        url: where its publisher has it.
        sha256: hex digest of the publisher's file, or the first digits of it where only those are published.
        md5: hex digest of the publisher's file, where that is what is published.
        size_bytes: length of the publisher's file.
        licence: terms of the weights.
        converts: whether the publisher's file is not in Keras' format and is converted after the download.
    """

    name: str
    url: str
    sha256: str | None
    md5: str | None
    size_bytes: int | None
    licence: str
    converts: bool = False

    @property
    def published_name(self) -> str:
        """File name at the publisher, which can differ from the one that Keras stores it under."""
        return PurePosixPath(self.url).name


@dataclass(frozen=True)
class Backbone:
    """A network pretrained on ImageNet, without its classifier.

    Args:
        name: its key in `BACKBONES`.
        title: its name for people.
        year: when it was first shown.
        parameters: number of parameters without the ImageNet classifier, moving statistics included.
        paper: short citation; ``paper_url`` leads to it.
        input_size: side of the square input that the weights were trained on, in pixels.
        min_size: smallest side that it can be built for.
        preprocessing: what it expects of RGB values 0 to 255. ``"tf"``: x / 127.5 - 1. ``"caffe"``: BGR minus
            (103.939, 116.779, 123.68). ``"bvlc"``: BGR minus (104, 117, 123). ``"torch"``: RGB / 255, minus
            ImageNet's mean, divided by its standard deviation. ``"none"``: the network does it itself.
        cam_layer: the last layer with a spatial extent that Grad-CAM is taken from.
        blocks: where training can begin, from the input side to the output side.
        weights: its pretrained weights.
        constructor: ``"module:Name"`` of a function with the signature of ``keras.applications``.
        bfloat16: whether features in bfloat16 stay true to float32 (cosine similarity 0.9997 or more for each
            of 192 C-NMC cells); None where nobody has measured it.
        one_line: what is special about it, for a reader without a course in deep learning.
    """

    name: str
    title: str
    year: int
    parameters: int
    paper: str
    paper_url: str
    input_size: int
    min_size: int
    preprocessing: str
    cam_layer: str
    blocks: tuple[Block, ...]
    weights: WeightFile
    constructor: str
    bfloat16: bool | None
    one_line: str

    @property
    def size_mb(self) -> float:
        """Megabytes (10^6 bytes) of its parameters as float32."""
        return round(4 * self.parameters / 1e6, 1)


def constructor(backbone: Backbone) -> Callable:
    """Import the function that builds the network. The first call imports Keras, which takes seconds.

    Returns:
        A function with the signature of ``keras.applications``: it takes ``include_top``, ``weights``,
        ``input_tensor``, ``input_shape`` and so on, and returns a ``keras.Model``.
    """
    module, name = backbone.constructor.split(":")
    return getattr(import_module(module), name)


_ROWS = (
    Backbone(
        name="mobilenet",
        title="MobileNet",
        year=2017,
        parameters=3_228_864,
        paper="Howard et al., 2017: MobileNets",
        paper_url="https://arxiv.org/abs/1704.04861",
        input_size=224,
        min_size=32,
        preprocessing="tf",
        cam_layer="conv_pw_13_relu",
        blocks=(
            Block("block1", "conv1_relu"),
            *(Block(f"block{n}", f"conv_pw_{n - 1}_relu") for n in range(2, 14)),
        ),
        weights=WeightFile(
            name="mobilenet_1_0_224_tf_no_top.h5",
            url=f"{KERAS_FILES}/mobilenet/mobilenet_1_0_224_tf_no_top.h5",
            sha256=None,  # nothing is published for this file: its size and its layers are checked instead
            md5=None,
            size_bytes=17_225_924,
            licence="Apache-2.0",
        ),
        constructor="keras.applications:MobileNet",
        bfloat16=False,  # minimum cosine similarity 0.942, and no faster
        one_line="Small and fast enough for a phone: it filters each channel by itself and then mixes the "
        "channels, which takes about a ninth of the usual arithmetic.",
    ),
    Backbone(
        name="vgg16",
        title="VGG16",
        year=2014,
        parameters=14_714_688,
        paper="Simonyan & Zisserman, 2014: Very deep convolutional networks",
        paper_url="https://arxiv.org/abs/1409.1556",
        input_size=224,
        min_size=32,
        preprocessing="caffe",
        cam_layer="block5_conv3",
        blocks=tuple(Block(f"block{n}", f"block{n - 1}_pool") for n in range(2, 6)),
        weights=WeightFile(
            name="vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            url=f"{KERAS_FILES}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            sha256=None,
            md5="6d6bbae143d832006294945121d1f1fc",
            size_bytes=58_889_256,
            licence="CC BY 4.0",
        ),
        constructor="keras.applications:VGG16",
        bfloat16=True,
        one_line="Thirteen plain layers of 3×3 filters, one after the other: easy to follow, good at texture "
        "and slow on a CPU.",
    ),
    Backbone(
        name="resnet50",
        title="ResNet50",
        year=2015,
        parameters=23_587_712,
        paper="He et al., 2015: Deep residual learning",
        paper_url="https://arxiv.org/abs/1512.03385",
        input_size=224,
        min_size=32,
        preprocessing="caffe",
        cam_layer="conv5_block3_out",
        blocks=(
            Block("conv2", "pool1_pool"),
            Block("conv3", "conv2_block3_out"),
            Block("conv4", "conv3_block4_out"),
            Block("conv5", "conv4_block6_out"),
            Block("conv5_block2", "conv5_block1_out"),
            Block("conv5_block3", "conv5_block2_out"),
        ),
        weights=WeightFile(
            name="resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
            url=f"{KERAS_FILES}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
            sha256=None,
            md5="4d473c1dd8becc155b73f8504c6f6626",
            size_bytes=94_765_736,
            licence="MIT",
        ),
        constructor="keras.applications:ResNet50",
        bfloat16=True,
        one_line="Fifty layers deep, with shortcuts that carry the signal past each block, so that even the "
        "first layers can learn.",
    ),
    Backbone(
        name="googlenet",
        title="GoogLeNet",
        year=2014,
        parameters=5_973_552,
        paper="Szegedy et al., 2014: Going deeper with convolutions",
        paper_url="https://arxiv.org/abs/1409.4842",
        input_size=224,
        min_size=32,
        preprocessing="bvlc",
        cam_layer="inception_5b_output",
        blocks=(
            Block("conv2", "pool1_norm1"),
            Block("inception_3a", "pool2_3x3_s2"),
            Block("inception_3b", "inception_3a_output"),
            Block("inception_4a", "pool3_3x3_s2"),
            Block("inception_4b", "inception_4a_output"),
            Block("inception_4c", "inception_4b_output"),
            Block("inception_4d", "inception_4c_output"),
            Block("inception_4e", "inception_4d_output"),
            Block("inception_5a", "pool4_3x3_s2"),
            Block("inception_5b", "inception_5a_output"),
        ),
        weights=WeightFile(
            name="googlenet_bvlc_weights_tf_notop.h5",
            url="https://github.com/onnx/models/raw/4c46cd00fbdb7cd30b6c1c17ab54f2e1f4f7b177/validated/vision/"
            "classification/inception_and_googlenet/googlenet/model/googlenet-7.onnx",
            sha256="5725ccfd90845735ce5897faf7843c3f9b13acda3c4f3bff82cb21c9337c9de8",
            md5=None,
            size_bytes=28_020_232,
            licence="unrestricted use (BVLC)",
            converts=True,
        ),
        constructor="leukodash.models.googlenet:GoogLeNet",
        bfloat16=True,
        one_line="Looks at every place with small, medium and large filters at once, and stays small by "
        "squeezing the channels first.",
    ),
    Backbone(
        name="inceptionv3",
        title="Inception v3",
        year=2015,
        parameters=21_802_784,
        paper="Szegedy et al., 2015: Rethinking the Inception architecture",
        paper_url="https://arxiv.org/abs/1512.00567",
        input_size=299,
        min_size=75,
        preprocessing="tf",
        cam_layer="mixed10",
        blocks=tuple(Block(f"mixed{n}", f"mixed{n - 1}") for n in range(1, 11)),
        weights=WeightFile(
            name="inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
            url=f"{KERAS_FILES}/inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
            sha256=None,
            md5="bcbd6486424b2319ff4ef7d526e38f63",
            size_bytes=87_910_968,
            licence="Apache-2.0",
        ),
        constructor="keras.applications:InceptionV3",
        bfloat16=None,
        one_line="GoogLeNet's successor: large filters are replaced by chains of small ones, and it looks at "
        "larger images.",
    ),
    Backbone(
        name="nasnetmobile",
        title="NASNet Mobile",
        year=2017,
        parameters=4_269_716,
        paper="Zoph et al., 2017: Learning transferable architectures",
        paper_url="https://arxiv.org/abs/1707.07012",
        input_size=224,
        min_size=32,
        preprocessing="tf",
        cam_layer="normal_concat_12",  # the ReLU after it has a name that Keras numbers anew in each process
        blocks=(
            Block("normal_0", "reduction_concat_stem_2"),
            Block("reduction_4", "normal_concat_3"),
            Block("normal_5", "reduction_concat_reduce_4"),
            Block("reduction_8", "normal_concat_8"),
            Block("normal_9", "reduction_concat_reduce_8"),
            Block("normal_12", "normal_concat_11"),
        ),
        weights=WeightFile(
            name="nasnet_mobile_no_top.h5",
            url=f"{KERAS_FILES}/nasnet/NASNet-mobile-no-top.h5",
            sha256=None,
            md5="1ed92395b5b598bdda52abe5c0dbfd63",
            size_bytes=19_993_432,
            licence="Apache-2.0",
        ),
        constructor="keras.applications:NASNetMobile",
        bfloat16=None,
        one_line="Its building blocks were not drawn by people: a computer search found them.",
    ),
    Backbone(
        name="alexnet",
        title="AlexNet",
        year=2012,
        parameters=2_469_696,
        paper="Krizhevsky et al., 2012; the one-GPU variant: Krizhevsky, 2014",
        paper_url="https://arxiv.org/abs/1404.5997",
        input_size=224,
        min_size=63,
        preprocessing="torch",
        cam_layer="conv5",
        blocks=(
            Block("conv2", "pool1"),
            Block("conv3", "pool2"),
            Block("conv4", "conv3"),
            Block("conv5", "conv4"),
        ),
        weights=WeightFile(
            name="alexnet_torchvision_weights_tf_notop.h5",
            url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            sha256="7be5be79",  # PyTorch publishes the first eight digits, in the file's name
            md5=None,
            size_bytes=None,
            licence="BSD-3-Clause",
            converts=True,
        ),
        constructor="leukodash.models.alexnet:AlexNet",
        bfloat16=None,
        one_line="The network that began it all in 2012: five layers of filters, large ones first.",
    ),
    Backbone(
        name="efficientnetv2b0",
        title="EfficientNetV2-B0",
        year=2021,
        parameters=5_919_312,
        paper="Tan & Le, 2021: EfficientNetV2",
        paper_url="https://arxiv.org/abs/2104.00298",
        input_size=224,
        min_size=32,
        preprocessing="none",
        cam_layer="top_activation",
        blocks=(
            Block("block2", "block1a_project_activation"),
            Block("block3", "block2b_add"),
            Block("block4", "block3b_add"),
            Block("block5", "block4c_add"),
            Block("block6", "block5e_add"),
            Block("top_conv", "block6h_add"),
        ),
        weights=WeightFile(
            name="efficientnetv2-b0_notop.h5",
            url=f"{KERAS_FILES}/efficientnet_v2/efficientnetv2-b0_notop.h5",
            sha256=None,
            md5="893217f2bb855e2983157299931e43ff",
            size_bytes=24_274_472,
            licence="Apache-2.0",
        ),
        constructor="keras.applications:EfficientNetV2B0",
        bfloat16=None,
        one_line="Depth, width and image size balanced by a search for accuracy per second of training.",
    ),
)

BACKBONES: dict[str, Backbone] = {row.name: row for row in _ROWS}
