"""What precedes a detector's network, as integers.

Every transform of a test pipeline and every option of one is either in the
program or refused by name: what is passed over would be in the validation of
a detector and not in what ships.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.registry import TRANSFORMS

from ..config import class_of, type_name
from ..errors import UserError
from ..options import Options
from ..program.detector import PreProcess
from .owners import is_known

TURNED, STORED = 'color', 'color_ignore_orientation'


def image_mean(pre: Any) -> tuple[int, ...]:
    """Return the integer mean that a detector's images are freed of.

    Args:
        pre: Its data preprocessor.

    Raises:
        UserError: If its normalisation is not a difference of integers.
    """
    if not getattr(pre, '_enable_normalize', True):
        return (0, 0, 0)
    mean = [float(x) for x in pre.mean.flatten()]
    std = [float(x) for x in pre.std.flatten()]
    if any(x != int(x) for x in mean) or any(x != 1 for x in std):
        raise UserError(
            f'data_preprocessor has mean={mean} and std={std}: a program '
            'reads pixels minus whole numbers; set them as '
            'configs/_base_/models/retinanet_r50_fpn_bn.py does'
        )
    # One number stands for all channels.
    return tuple(int(x) for x in mean * (3 // len(mean)))


@dataclass
class _Pipeline:
    """What the transforms that were read so far do.

    Attributes:
        oriented: Whether images are turned by their EXIF orientation; None
            before one is read.
        short: Longest that the short side may become; 0 before Resize.
        long: Longest that the long side may become.
        stretch: Whether images become a square without keeping their ratio.
        border: Values of Pad's border in the order of the image's channels;
            None without Pad.
    """

    oriented: bool | None = None
    short: int = 0
    long: int = 0
    stretch: bool = False
    border: tuple[int, ...] | None = None


def read_preprocess(pre: Any, pipeline: Sequence) -> PreProcess:
    """Return how images are brought to the network's size.

    Args:
        pre: The detector's data preprocessor.
        pipeline: The config's list of transforms for testing.

    Raises:
        UserError: Naming the first transform, option or preprocessor that a
            program has not.
    """
    if not is_known(type(pre)) or type(pre).__name__ != 'DetDataPreprocessor':
        raise UserError(
            f'data_preprocessor ({type(pre).__name__}): a program has what '
            "mmdet's DetDataPreprocessor does only"
        )
    steps = _Pipeline()
    for number, transform in enumerate(pipeline):
        _read_transform(steps, transform, f'test pipeline, {number}')
    for name, is_there in (
        ('LoadImageFromFile', steps.oriented is not None),
        ('Resize', steps.long > 0),
    ):
        if not is_there:
            raise UserError(
                f'the test pipeline has no {name}: a program reads an image '
                'and fits it into a frame'
            )
    assert steps.oriented is not None
    # mmdet reads images as BGR and exchanges channels where it is told to.
    bgr = not pre._channel_conversion
    return PreProcess(
        steps.short,
        steps.long,
        bgr,
        _border(pre, steps, bgr),
        steps.border is not None,
        steps.stretch,
        steps.oriented,
    )


def _border(pre: Any, steps: _Pipeline, bgr: bool) -> tuple[int, ...]:
    """Return the bytes of the one border that a program has."""
    outside = _fill(pre, image_mean(pre))
    if steps.border is None:
        return outside
    stride = int(pre.pad_size_divisor)
    fill = steps.border if bgr else tuple(reversed(steps.border))
    if steps.long % stride and fill != outside:
        raise UserError(
            f'the test pipeline pads to {steps.long} with {fill}, and '
            f'data_preprocessor on to a multiple of {stride} with '
            f'{outside}: a program has one border; give Resize and Pad a '
            f'multiple of {stride}'
        )
    return fill


def _fill(pre: Any, mean: tuple[int, ...]) -> tuple[int, ...]:
    """Return the bytes that stand for the preprocessor's border."""
    # The border is added behind the difference from the mean.
    fill = [float(pre.pad_value) + m for m in mean]
    if any(x != int(x) or not 0 <= x <= 255 for x in fill):
        raise UserError(
            f'data_preprocessor.pad_value={pre.pad_value}: with '
            f'mean={list(mean)} the border would be {fill} before the mean is '
            'subtracted; a program has bytes, whole numbers from 0 to 255'
        )
    return tuple(int(x) for x in fill)


def _read_transform(steps: _Pipeline, transform: Any, where: str) -> None:
    """Add what one transform does."""
    name = type_name(transform)
    read, cls = _READ.get(name), class_of(TRANSFORMS, transform['type'])
    if read is not None and cls is None:
        raise UserError(
            f'{where}: {name} is not registered: call '
            'mmdet.utils.register_all_modules() first'
        )
    if read is None or not is_known(cls):
        raise UserError(
            f'{where}: a program has no {name}; it has {", ".join(_READ)}'
        )
    options = Options(f'{where}: {name}', transform)
    options.ignore('type')
    read(steps, options)
    options.finish()


def _read_image(steps: _Pipeline, options: Options) -> None:
    if steps.oriented is not None:
        raise UserError(f'{options.where}: a program reads one image')
    options.expect('to_float32', False)
    options.expect('imdecode_backend', 'cv2')
    steps.oriented = options.expect('color_type', TURNED, STORED) == TURNED
    # Where files come from, and what to do without one.
    options.ignore('file_client_args', 'backend_args', 'ignore_empty')


def _read_resize(steps: _Pipeline, options: Options) -> None:
    if steps.oriented is None or steps.long or steps.border is not None:
        raise UserError(
            f'{options.where}: a program resizes once, between '
            'LoadImageFromFile and Pad'
        )
    scale = options.take('scale', None)
    if scale is None:
        raise UserError(
            f'{options.where}: a program fits images into a frame; give it '
            'scale=(width, height) instead of scale_factor'
        )
    options.ignore('scale_factor')  # not read where there is a scale
    sides = (scale, scale) if isinstance(scale, int) else scale
    if (
        not isinstance(sides, tuple)
        or len(sides) != 2
        or not all(type(side) is int and side > 0 for side in sides)
    ):
        raise UserError(
            f'{options.where}.scale={scale!r}: expected a tuple of two '
            'positive whole numbers, (width, height)'
        )
    options.expect('backend', 'cv2')
    options.expect('interpolation', 'bilinear')
    options.ignore('clip_object_border')  # of annotated boxes
    steps.stretch = not options.expect('keep_ratio', False, True)
    steps.short, steps.long = sorted(sides)
    if steps.stretch and steps.short != steps.long:
        raise UserError(
            f'{options.where}.scale={scale!r} without keep_ratio=True: a '
            'program stretches to squares only'
        )


def _read_pad(steps: _Pipeline, options: Options) -> None:
    if not steps.long or steps.border is not None:
        raise UserError(f'{options.where}: a program pads once, behind Resize')
    side = steps.long
    size = options.take('size', None)
    square = options.expect('pad_to_square', False, True)
    divisor = options.take('size_divisor', None)
    fits = steps.short == side and (square or size == (side, side))
    if not fits or divisor is not None:
        raise UserError(
            f'{options.where}: a program pads to the square of {side} x '
            f'{side} that Resize fits images into, or not at all; found '
            f'size={size}, pad_to_square={square}, size_divisor={divisor}'
        )
    options.expect('padding_mode', 'constant')
    value = options.take('pad_val', 0)
    if isinstance(value, dict):
        value = value.get('img', 0)
    if not isinstance(value, (int, tuple, list)) and value != 0:
        # OpenCV fills the first channel with it, and the others with 0.
        raise UserError(
            f'{options.where}.pad_val={value!r}: mmcv takes one whole number '
            'for all channels, and others for the first alone; give a whole '
            'number, or three, dict(img=(114, 114, 114))'
        )
    border = tuple(value) if isinstance(value, (tuple, list)) else (value,) * 3
    if len(border) != 3 or any(
        x != int(x) or not 0 <= x <= 255 for x in border
    ):
        raise UserError(
            f'{options.where}.pad_val={value!r}: a program has bytes, one or '
            'three whole numbers from 0 to 255'
        )
    steps.border = tuple(int(x) for x in border)


def _read_annotations(steps: _Pipeline, options: Options) -> None:
    """Read nothing: what they do does not reach the image."""
    options.ignore(
        *('with_bbox', 'with_label', 'with_mask', 'with_seg', 'poly2mask'),
        *('with_keypoints', 'box_type', 'reduce_zero_label', 'ignore_index'),
        *('imdecode_backend', 'backend_args', 'file_client_args'),
        *('seg_with_rgb', 'meta_keys', 'mapping_table'),
    )


_READ: dict[str, Callable[[_Pipeline, Options], None]] = {
    'LoadImageFromFile': _read_image,
    'LoadWholeImage': _read_image,
    'Resize': _read_resize,
    'Pad': _read_pad,
    'LoadAnnotations': _read_annotations,
    'PackDetInputs': _read_annotations,
}
