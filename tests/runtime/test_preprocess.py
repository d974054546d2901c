import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqd_mmdet.errors import UserError
from aqd_mmdet.program.detector import PreProcess
from aqd_mmdet.runtime.preprocess import (
    check_image,
    chosen_size,
    fitted_size,
    prepare,
    resize,
)


def oracle_resize(image: list, height: int, width: int) -> list:
    """The contract's section 6.2 for one channel, in plain integers."""

    def position(i: int, n: int, k: int) -> tuple[int, int, int]:
        p = ((2 * i + 1) * k * 2048 - n * 2048) // (2 * n)
        p = min(max(p, 0), (k - 1) * 2048)
        return p // 2048, min(p // 2048 + 1, k - 1), p % 2048

    result = []
    for y in range(height):
        top, bottom, fy = position(y, height, len(image))
        row = []
        for x in range(width):
            left, right, fx = position(x, width, len(image[0]))
            total = (
                image[top][left] * (2048 - fy) * (2048 - fx)
                + image[top][right] * (2048 - fy) * fx
                + image[bottom][left] * fy * (2048 - fx)
                + image[bottom][right] * fy * fx
            )
            row.append((total + 2**21) >> 22)
        result.append(row)
    return result


sides = st.integers(1, 9)


@given(
    data=st.data(), old=st.tuples(sides, sides), new=st.tuples(sides, sides)
)
def test_resize_is_the_contracts(data, old, new):
    count = old[0] * old[1]
    drawn = data.draw(
        st.lists(st.integers(0, 255), min_size=count, max_size=count)
    )
    image = np.array(drawn, np.uint8).reshape(*old, 1)
    found = resize(image, *new)[..., 0]
    assert found.tolist() == oracle_resize(image[..., 0].tolist(), *new)


def test_the_same_size_is_the_same_image():
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    assert np.array_equal(resize(image, 7, 5), image)


def test_it_is_near_opencvs():
    import cv2

    image = np.random.default_rng(0).integers(0, 256, (60, 45, 3), np.uint8)
    found = resize(image, 91, 70).astype(int)
    assert np.abs(found - cv2.resize(image, (70, 91))).max() <= 1


@pytest.mark.parametrize(
    'size, expected',
    [
        ((480, 640), (800, 1067)),  # by the short side: 1066.67
        ((640, 480), (1067, 800)),
        ((100, 1000), (133, 1333)),  # by the long side: 133.3
        ((1, 1), (800, 800)),
        ((1, 200), (7, 1333)),  # 6.665
    ],
)
def test_sizes(size, expected):
    assert (
        fitted_size(
            *size, PreProcess(800, 1333, False, (0, 0, 0), False, False)
        )
        == expected
    )


@given(height=st.integers(1, 3000), width=st.integers(1, 3000))
def test_sizes_are_mmcvs(height, width):
    from mmcv import rescale_size

    found = fitted_size(
        height, width, PreProcess(800, 1333, False, (0, 0, 0), False, False)
    )
    new_width, new_height = rescale_size((width, height), (1333, 800))
    # mmcv multiplies by a rounded quotient, and may give a side of nothing.
    assert abs(found[0] - max(1, new_height)) <= 1
    assert abs(found[1] - max(1, new_width)) <= 1


def test_border_and_order_of_channels():
    image = np.zeros((2, 3, 3), np.uint8) + np.array([1, 2, 3], np.uint8)
    pre = PreProcess(2, 3, True, (9, 8, 7), False, False)
    pixels, size = prepare(image, pre, 4)
    assert size == (2, 3)
    assert pixels.shape == (1, 3, 4, 4)
    assert pixels[0, :, 0, 0].tolist() == [3, 2, 1]
    assert pixels[0, :, 2, 0].tolist() == [9, 8, 7]
    assert pixels[0, :, 0, 3].tolist() == [9, 8, 7]


@pytest.mark.parametrize(
    'image, message',
    [
        (np.zeros((0, 0, 3), np.uint8), '0 x 0 is empty'),
        (np.zeros((10, 20000, 3), np.uint8), '20000 x 10 is too large'),
        (np.zeros((1, 300, 3), np.uint8), 'too thin'),
        (np.zeros((4, 4), np.uint8), 'convert it to RGB'),
        (np.zeros((4, 4, 4), np.uint8), 'convert it to RGB'),
        (np.zeros((4, 4, 3), np.uint16), 'got uint16'),
        ('cat.jpg', 'got str'),
    ],
)
def test_what_is_no_image(image, message):
    with pytest.raises(UserError, match=message):
        check_image(image, 'it')


def test_a_square_without_the_ratio():
    pre = PreProcess(4, 4, False, (0, 0, 0), False, True)
    image = np.random.default_rng(0).integers(0, 256, (3, 9, 3), np.uint8)
    pixels, size = prepare(image, pre, 1)
    assert size == (4, 4)
    assert np.array_equal(pixels[0].transpose(1, 2, 0), resize(image, 4, 4))


@pytest.mark.parametrize(
    'size, whole, found',
    [
        ('32x64', False, (32, 64)),
        ('32x64', True, (32, 64)),
        (None, True, (64, 64)),
        (None, False, 'the size of the image is missing'),
        ('32', False, '--size 32: expected height x width in pixels'),
        ('32x40', False, '--size 32x40: expected .* multiples of 32'),
        ('0x32', False, '--size 0x32: expected'),
    ],
)
def test_chosen_sizes(size, whole, found):
    pre = PreProcess(40, 60, False, (0, 0, 0), whole, False)
    if isinstance(found, str):
        with pytest.raises(UserError, match=f'^{found}'):
            chosen_size(size, pre, 32)
    else:
        assert chosen_size(size, pre, 32) == found
