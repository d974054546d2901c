"""From bytes to the network's image: docs/integer_contract.md, section 6."""

import re

import numpy as np

from ..errors import UserError
from ..program.detector import PreProcess
from ..program.limits import MAX_SIDE

POSITION_BITS = 11
# One side of an image, and the ratio of both: beyond them it is a mistake,
# and the resized image would have a side of nothing.
MAX_RATIO = 200


def check_image(image: object, name: str = 'image') -> np.ndarray:
    """Return an image if it is one that the detector reads.

    Args:
        image: Pixels.
        name: How to call it in a message.

    Raises:
        UserError: If it is not uint8 (H, W, 3), or too large or too thin.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, 'dtype', type(image).__name__)
        raise UserError(
            f'{name}: expected uint8 pixels (height, width, 3), got {kind}; '
            'convert it to 8-bit RGB'
        )
    if isinstance(image, np.ma.MaskedArray):
        raise UserError(
            f'{name}: expected pixels, got a masked array, whose mask has no '
            'meaning here; give its data'
        )
    if image.ndim != 3 or image.shape[2] != 3:
        raise UserError(
            f'{name}: expected RGB pixels (height, width, 3), got the shape '
            f'{image.shape}; convert it to RGB'
        )
    height, width = image.shape[:2]
    if not (height and width):
        raise UserError(f'{name}: the image of {width} x {height} is empty')
    sides = sorted((height, width))
    if sides[1] > MAX_SIDE or sides[1] > MAX_RATIO * sides[0]:
        raise UserError(
            f'{name}: the image of {width} x {height} is too large or too '
            f'thin: at most {MAX_SIDE} pixels a side and 1:{MAX_RATIO}'
        )
    return image


def fitted_size(height: int, width: int, pre: PreProcess) -> tuple[int, int]:
    """Return the size at which an image fits the frame."""
    if pre.stretch:
        return pre.long, pre.long
    big, small = max(height, width), min(height, width)
    p, q = pre.long, big
    if pre.short * big < pre.long * small:
        p, q = pre.short, small
    new_height, new_width = (
        max(1, (2 * n * p + q) // (2 * q)) for n in (height, width)
    )
    return new_height, new_width


def _positions(n: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return neighbours and weight of n outputs from k pixels."""
    one = 1 << POSITION_BITS
    i = np.arange(n, dtype=np.int64)
    position = ((2 * i + 1) * k * one - n * one) // (2 * n)
    inside = np.clip(position, 0, (k - 1) * one)
    j = inside >> POSITION_BITS
    return j, np.minimum(j + 1, k - 1), inside & (one - 1)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize by the contract's bilinear rule.

    Args:
        image: uint8 (H, W, C).
        height: New height.
        width: New width.

    Returns:
        np.ndarray: uint8 (height, width, C).
    """
    one = 1 << POSITION_BITS
    top, bottom, fy = _positions(height, image.shape[0])
    left, right, fx = _positions(width, image.shape[1])
    fy, fx = fy[:, None, None], fx[:, None]
    # 8 + 11 + 11 bits: int32 would do; int64 is what fy and fx are.
    across = image[:, left] * (one - fx) + image[:, right] * fx
    sums = across[top] * (one - fy) + across[bottom] * fy
    half = 1 << (2 * POSITION_BITS - 1)
    return ((sums + half) >> (2 * POSITION_BITS)).astype(np.uint8)


def bordered_size(
    size: tuple[int, int], pre: PreProcess, stride: int
) -> tuple[int, int]:
    """Return height and width of an image with its border."""
    if pre.whole:
        size = (pre.long, pre.long)
    height, width = (-(-n // stride) * stride for n in size)
    return height, width


def chosen_size(
    size: str | None, pre: PreProcess, stride: int
) -> tuple[int, int]:
    """Return height and width of the network's image that a user chose.

    Args:
        size: What was given, ``HxW``. A detector that resizes all images to
            one size needs none.
        pre: The frame of the detector.
        stride: What sides must be multiples of.

    Raises:
        UserError: If it is needed, or is no size or none that is taken.
    """
    example = f'{stride * 10}x{stride * 10}'
    if size is None:
        if pre.whole or pre.stretch:
            return bordered_size((pre.long, pre.long), pre, stride)
        raise UserError(
            'the size of the image is missing, as the detector takes several: '
            f'give --size HxW, for example --size {example}'
        )
    found = re.fullmatch(r'(\d{1,5})x(\d{1,5})', size)
    height, width = map(int, found.groups()) if found else (0, 0)
    if not all(side and side % stride == 0 for side in (height, width)):
        raise UserError(
            f'--size {size}: expected height x width in pixels, multiples of '
            f'{stride}, for example {example}'
        )
    return height, width


def prepare(
    image: np.ndarray, pre: PreProcess, stride: int
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the network's image and its size without the border.

    Args:
        image: uint8 (H, W, 3), RGB.
        pre: The frame, the order of channels, the border.
        stride: What sides are padded to a multiple of.

    Returns:
        tuple: uint8 (1, 3, H', W'), and height and width before the border.
    """
    height, width = fitted_size(image.shape[0], image.shape[1], pre)
    small = resize(image, height, width)
    if pre.bgr:
        small = small[..., ::-1]
    sides = bordered_size((height, width), pre, stride)
    padded = np.empty((1, 3, *sides), np.uint8)
    padded[:] = np.array(pre.fill, np.uint8)[:, None, None]
    padded[0, :, :height, :width] = small.transpose(2, 0, 1)
    return padded, (height, width)
