"""Image files: reading them, and drawing on them. Pillow alone."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, UnidentifiedImageError

from ..errors import UserError
from ..integer.detector import BOX_BITS, SCORE_BITS
from .detector import Detections
from .preprocess import MAX_SIDE

# Modes of 8 bits a channel; others would lose bits without a word.
MODES = ('1', 'L', 'P', 'LA', 'PA', 'RGB', 'RGBA', 'CMYK', 'YCbCr')
# Told apart on photographs and by most colour-blind eyes.
COLOURS = ('#ffd000', '#00c8ff', '#ff5ea8', '#5dff6e', '#ff8a3c', '#b48cff')


def read_image(path: Path) -> np.ndarray:
    """Return an image file as RGB, uint8 (H, W, 3).

    Args:
        path: Any format that Pillow reads, 8 bits a channel; transparent
            pixels lose their transparency.

    Raises:
        UserError: If it is missing, no image, damaged or of more bits.
    """
    if not path.is_file():
        raise UserError(f'image {path}: no such file')
    try:
        with Image.open(path) as image:
            if max(image.size) > MAX_SIDE:
                width, height = image.size
                raise UserError(
                    f'image {path}: {width} x {height} is too large: at most '
                    f'{MAX_SIDE} pixels a side'
                )
            if image.mode not in MODES:
                raise UserError(
                    f'image {path}: pixels of mode {image.mode}: convert it '
                    'to 8 bits a channel'
                )
            return np.asarray(image.convert('RGB'))
    except UnidentifiedImageError:
        raise UserError(f'image {path}: not an image') from None
    except (OSError, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f'image {path}: the file is damaged ({reason})'
        ) from None


def draw(
    image: np.ndarray,
    found: Detections,
    labels: tuple[str, ...],
    score: float,
) -> Image.Image:
    """Return a picture of an image with its detections.

    Args:
        image: RGB, uint8 (H, W, 3).
        found: Detections in it.
        labels: Class names.
        score: Least score that is drawn.
    """
    picture = Image.fromarray(image)
    canvas = ImageDraw.Draw(picture)
    for corners, label, units in zip(*found, strict=True):
        share = units / 2**SCORE_BITS
        if share < score:
            continue
        x0, y0, x1, y1 = (corners / 2**BOX_BITS).tolist()
        colour = COLOURS[label % len(COLOURS)]
        canvas.rectangle((x0, y0, x1, y1), outline=colour, width=2)
        text = f'{labels[label]} {share:.2f}'
        # Above the box, or inside it where there is no room above.
        at = (x0, y0 - 11 if y0 >= 11 else y0 + 2)
        canvas.rectangle(canvas.textbbox(at, text), fill=colour)
        canvas.text(at, text, fill='black')
    return picture
