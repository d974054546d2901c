"""The benchmark cases: whole detectors, from bytes to boxes, and layers."""

from dataclasses import dataclass

from PIL import Image

from ..errors import UserError, nearest
from .layers import Chain

# MMDetection's usual 800x1333, padded to a multiple of the stride, and a small
# size.
SIZES = ((800, 1344), (320, 320))
# Pictures of 4:3, the most common ones, as MMDetection's pipeline resizes and
# pads them. Peers' networks read one size.
ASPECT = (3, 4)
ASPECT_SIZE = (800, 1088)
# Callers from bytes to boxes that ask one detector at the same time.
CALLERS = (1, 2, 4)
ZOO = 'mmdet::'


@dataclass(frozen=True)
class Source:
    """Where a detector comes from.

    Attributes:
        title: Name in tables.
        config: Config of a quantised detector, in ``configs``; or, after
            ``mmdet::``, MMDetection's config of a float detector, which is
            quantised after training.
        sizes: Heights and widths of the images in pixels.
    """

    title: str
    config: str
    sizes: tuple[tuple[int, int], ...]

    @property
    def is_zoo(self) -> bool:
        """Whether the config is MMDetection's."""
        return self.config.startswith(ZOO)


DETECTORS = {
    'retinanet-r18': Source(
        'RetinaNet R18', 'aqd/retinanet_r18_fpn_bn_1x_coco.py', SIZES
    ),
    'retinanet-r50': Source(
        'RetinaNet R50', 'aqd/retinanet_r50_fpn_bn_1x_coco.py', SIZES
    ),
    'fcos-r18': Source('FCOS R18', 'aqd/fcos_r18_fpn_bn_1x_coco.py', SIZES),
    # Each of these has the size of its own test pipeline.
    'yolox-nano': Source(
        'YOLOX nano', f'{ZOO}yolox/yolox_nano_8xb8-300e_coco.py', ((416, 416),)
    ),
    'yolox-tiny': Source(
        'YOLOX tiny', f'{ZOO}yolox/yolox_tiny_8xb8-300e_coco.py', ((416, 416),)
    ),
    'yolox-s': Source(
        'YOLOX s', f'{ZOO}yolox/yolox_s_8xb8-300e_coco.py', ((640, 640),)
    ),
    'rtmdet-tiny': Source(
        'RTMDet tiny',
        f'{ZOO}rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
        ((640, 640),),
    ),
    'ssdlite': Source(
        'SSDLite MobileNetV2',
        f'{ZOO}ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py',
        ((320, 320),),
    ),
}


@dataclass(frozen=True)
class Network:
    """A detector of 80 classes, from pixels to logits and box codes.

    Attributes:
        detector: A key of ``DETECTORS``.
        size: Height and width of the image in pixels.
    """

    detector: str
    size: tuple[int, int]

    @property
    def source(self) -> Source:
        return DETECTORS[self.detector]

    @property
    def name(self) -> str:
        return f'{self.detector}-{self.size[0]}'

    @property
    def title(self) -> str:
        return f'{self.source.title}, {self.size[0]}x{self.size[1]}'


@dataclass(frozen=True)
class Boxes:
    """A detector of 80 classes, from pictures in memory to boxes.

    Attributes:
        network: Its network.
        pictures: Files of the pictures, which callers take in turns.
    """

    network: Network
    pictures: tuple[str, ...]

    @property
    def name(self) -> str:
        return f'{self.network.name}-boxes'

    @property
    def title(self) -> str:
        return f'{self.network.title}, from bytes to boxes'

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's image in pixels."""
        return self.network.size


def boxes_case(network: Network, pictures: tuple[str, ...]) -> Boxes:
    """Return the case of a network from pictures to boxes.

    Args:
        network: The network.
        pictures: Files of the pictures.

    Raises:
        UserError: If none of them has the aspect that the network needs.
    """
    if network.source.is_zoo:
        return Boxes(network, pictures)
    fitting = tuple(path for path in pictures if _has_aspect(path))
    if not fitting:
        raise UserError(
            f'{network.detector}: none of {len(pictures)} pictures is '
            f'{ASPECT[1]}:{ASPECT[0]} (width:height): give some, such as of '
            '640 x 480 pixels'
        )
    return Boxes(Network(network.detector, ASPECT_SIZE), fitting)


def _has_aspect(path: str) -> bool:
    with Image.open(path) as picture:
        width, height = picture.size
    return width * ASPECT[0] == height * ASPECT[1]


Case = Network | Boxes | Chain
CASES: tuple[Network | Chain, ...] = (
    *(
        Network(detector, size)
        for detector, source in DETECTORS.items()
        for size in source.sizes
    ),
    Chain('conv3x3', ((256, 256),), 3, (100, 168)),
    # A chain repeats its layers, so its last width must equal its first. A
    # layer that widens needs a second one that narrows.
    Chain('conv1x1', ((256, 1024), (1024, 256)), 1, (50, 84)),
)


def select(
    names: list[str], known: dict[str, object], option: str
) -> list[str]:
    """Return the valid names that a user chose; all if the user chose none.

    Args:
        names: Names that the user chose.
        known: All valid names, in the order of the result.
        option: The tool's option, for the message.

    Raises:
        UserError: If a name is unknown.
    """
    for name in names:
        if name not in known:
            raise UserError(
                f'{option} {name!r}: unknown name ({nearest(name, known)})'
            )
    return [name for name in known if name in names or not names]
