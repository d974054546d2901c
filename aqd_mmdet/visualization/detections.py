"""Draws the detections of several detectors side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..files import write_whole

# These colours stand out on photographs, and most people with colour
# blindness can tell them apart.
COLOURS = (
    '#ffd000',
    '#00c8ff',
    '#ff5ea8',
    '#5dff6e',
    '#ff8a3c',
    '#b48cff',
    '#f4f4f4',
    '#00e0b0',
    '#ff4040',
    '#7fb2ff',
)
PANEL_INCHES = 3.0


@dataclass(frozen=True)
class Box:
    """A labelled box.

    Attributes:
        x, y: Left and upper edge in pixels.
        width, height: Size in pixels.
        label: Class index; it selects the colour.
        name: Text above the box.
    """

    x: float
    y: float
    width: float
    height: float
    label: int
    name: str


def draw_comparison(
    path: Path,
    images: Sequence[np.ndarray],
    columns: dict[str, Sequence[Sequence[Box]]],
) -> None:
    """Write one picture with a row per image and a column per detector.

    Args:
        path: PNG file to write. An earlier file stays until the new one is
            complete.
        images: RGB images, (H, W, 3), uint8.
        columns: Title of each column, and the boxes of each image in it; the
            first one is on top.
    """
    rows = len(images)
    figure = Figure((PANEL_INCHES * len(columns), PANEL_INCHES * rows + 0.3))
    grid = figure.subplots(rows, len(columns), squeeze=False)
    for row, image in enumerate(images):
        for column, (title, boxes) in enumerate(columns.items()):
            axes = grid[row][column]
            axes.imshow(image)
            axes.set_axis_off()
            if row == 0:
                axes.set_title(title, fontsize=10)
            for box in reversed(boxes[row]):
                colour = COLOURS[box.label % len(COLOURS)]
                axes.add_patch(
                    Rectangle(
                        (box.x, box.y),
                        box.width,
                        box.height,
                        fill=False,
                        color=colour,
                        linewidth=1.5,
                    )
                )
                axes.text(
                    box.x,
                    box.y - 1,
                    box.name,
                    fontsize=7,
                    color='black',
                    va='bottom',
                    bbox=dict(facecolor=colour, linewidth=0, pad=0.8),
                )
    figure.tight_layout(pad=0.4)
    content = BytesIO()
    figure.savefig(content, format='png', dpi=110)
    write_whole(path, content.getvalue())
