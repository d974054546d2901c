"""Sizes of what windows make of a map, and the borders around it."""

from collections.abc import Sequence

from torch import nn

from ..errors import UserError


def windows(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int] = (1, 1),
) -> tuple[int, ...]:
    """Return how many windows a map has along each axis.

    Args:
        size: Height and width of the map, numbers or symbols.
        kernel, stride, padding, dilation: As of ``torch.nn.Conv2d``.
    """
    return tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(
            size, kernel, stride, padding, dilation, strict=True
        )
    )


def padding_of(conv: nn.Conv2d) -> tuple[int, ...]:
    """Return a padding, which may be 'same' or 'valid', as numbers of pixels.

    Args:
        conv: A convolution.

    Raises:
        UserError: If one side of a window is padded more than the other.
    """
    if not isinstance(conv.padding, str):
        return tuple(conv.padding)
    if conv.padding == 'valid':
        return (0, 0)
    # Of all pixels around which a window reaches.
    reach = [
        dilation * (side - 1)
        for side, dilation in zip(conv.kernel_size, conv.dilation, strict=True)
    ]
    if any(pixels % 2 for pixels in reach):
        raise UserError(
            f"{conv}: padding='same' pads one side of this window more than "
            'the other; a program pads both alike: take an odd kernel_size, '
            'or give padding as numbers'
        )
    return tuple(pixels // 2 for pixels in reach)
