import numpy as np
from PIL import Image

from aqd_mmdet.visualization import Box, draw_comparison


def test_a_box_is_drawn_at_its_coordinates(tmp_path):
    image = np.zeros((100, 100, 3), np.uint8)
    boxes = [[Box(20, 30, 40, 50, 0, '0')]]
    path = tmp_path / 'a.png'
    draw_comparison(path, [image], {'with': boxes, 'without': [[]]})
    drawn = np.asarray(Image.open(path).convert('RGB')).astype(int)
    left, right = np.array_split(drawn, 2, axis=1)
    yellow = [
        (abs(half - (255, 208, 0)).sum(-1) < 30) for half in (left, right)
    ]
    assert yellow[0].any()
    assert not yellow[1].any()
    black = left.sum(-1) == 0
    rows, columns = np.nonzero(black)
    scale = (columns.max() - columns.min() + 1) / 100
    # The left side of the frame, at half the height of the box.
    y = round(rows.min() + 55 * scale)
    x = round(columns.min() + 20 * scale)
    assert yellow[0][y, x - 3 : x + 4].any()
    assert not (tmp_path / 'a.part').exists()
