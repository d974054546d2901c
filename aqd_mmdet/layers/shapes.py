"""Sizes of what windows make of a map."""

from collections.abc import Sequence


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
