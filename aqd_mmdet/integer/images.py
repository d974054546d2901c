"""What precedes a detector's network, as integers."""

from typing import Any

from torch import nn

from ..errors import UserError
from .detector import PreProcess


def image_mean(detector: nn.Module) -> tuple[int, ...]:
    """Return the integer mean that a detector's images are freed of.

    Raises:
        UserError: If its normalisation is not a difference of integers.
    """
    pre: Any = detector.data_preprocessor
    if not getattr(pre, '_enable_normalize', True):
        return (0, 0, 0)
    mean = [float(x) for x in pre.mean.flatten()]
    std = [float(x) for x in pre.std.flatten()]
    if any(x != int(x) for x in mean) or any(x != 1 for x in std):
        raise UserError(
            f'data_preprocessor has mean={mean} and std={std}: a program '
            'reads pixels minus whole numbers; set them as '
            'configs/_base_/retinanet_bn.py does'
        )
    return tuple(int(x) for x in mean)


def read_preprocess(detector: nn.Module, pipeline: Any) -> PreProcess:
    """Return how images are brought to the network's size.

    Args:
        detector: The detector.
        pipeline: The config's list of transforms for testing.

    Raises:
        UserError: If images are not resized with their ratio kept, or padded
            in a way that the program has not.
    """
    by_type = {str(t['type']).split('.')[-1]: t for t in pipeline}
    resize = by_type.get('Resize', {})
    short, long = sorted(resize.get('scale') or (0, 1))
    stretch = not resize.get('keep_ratio')
    if stretch and short != long:
        raise UserError(
            'the test pipeline has no Resize with keep_ratio=True, nor one '
            'to a square: the program has no other way to resize'
        )
    pre: Any = detector.data_preprocessor
    # mmdet reads images as BGR and exchanges channels where it is told to.
    bgr = not pre._channel_conversion
    pad = by_type.get('Pad')
    if pad is None:
        fill = image_mean(detector)
        return PreProcess(short, long, bgr, fill, False, stretch)
    square = pad.get('pad_to_square') or pad.get('size') == (long, long)
    if not square or short != long:
        raise UserError(
            f'the test pipeline has Pad={dict(pad)}: the program pads to the '
            'square that Resize fits images into, or not at all'
        )
    value = pad.get('pad_val', 0)
    value = value.get('img', 0) if isinstance(value, dict) else value
    border = [
        int(x) for x in (value if isinstance(value, tuple) else [value] * 3)
    ]
    return PreProcess(
        short,
        long,
        bgr,
        tuple(border if bgr else reversed(border)),
        True,
        stretch,
    )
