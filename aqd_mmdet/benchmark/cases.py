"""What is run: whole detectors at two sizes, and single layers."""

from dataclasses import dataclass

from ..errors import UserError, nearest
from .layers import Chain

# MMDetection's usual size, as its pad_size_divisor leaves it, and a small one.
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
    """A detector from pixels to logits and box codes, 80 classes.

    Attributes:
        detector: A key of ``CONFIGS``.
        size: Height and width of the image.
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
    # Widths that differ can only be chained in turns, so this is two layers.
    Chain('conv1x1', ((256, 1024), (1024, 256)), 1, (50, 84)),
)


def select(names: list[str], known: dict[str, object], what: str) -> list[str]:
    """Return the names that were asked for, or all if there are none.

    Args:
        names: That were asked for.
        known: All of them.
        what: How to call one in a message.
    """
    for name in names:
        if name not in known:
            raise UserError(f'{what} {name!r}: {nearest(name, known)}')
    return [name for name in known if name in names or not names]
