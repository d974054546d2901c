"""The benchmark cases: whole detectors at two sizes, and single layers."""

from dataclasses import dataclass

from ..errors import UserError, nearest
from .layers import Chain

# MMDetection's usual 800x1333, padded to a multiple of the stride, and a small
# size.
SIZES = ((800, 1344), (320, 320))
CONFIGS = {
    'retinanet-r18': 'aqd/retinanet_r18_fpn_bn_1x_coco.py',
    'retinanet-r50': 'aqd/retinanet_r50_fpn_bn_1x_coco.py',
    'fcos-r18': 'aqd/fcos_r18_fpn_bn_1x_coco.py',
}
TITLES = {
    'retinanet-r18': 'RetinaNet R18',
    'retinanet-r50': 'RetinaNet R50',
    'fcos-r18': 'FCOS R18',
}


@dataclass(frozen=True)
class Network:
    """A detector of 80 classes, from pixels to logits and box codes.

    Attributes:
        detector: A key of ``CONFIGS``.
        size: Height and width of the image in pixels.
    """

    detector: str
    size: tuple[int, int]

    @property
    def name(self) -> str:
        return f'{self.detector}-{self.size[0]}'

    @property
    def title(self) -> str:
        return f'{TITLES[self.detector]}, {self.size[0]}x{self.size[1]}'


Case = Network | Chain
CASES: tuple[Case, ...] = (
    *(Network(detector, size) for detector in CONFIGS for size in SIZES),
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
