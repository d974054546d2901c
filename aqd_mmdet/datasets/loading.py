"""Reads images for training and refuses damaged or ambiguous ones."""

import warnings
from pathlib import Path

from mmcv.transforms import LoadImageFromFile
from PIL import Image, UnidentifiedImageError

from ..errors import UserError
from ..registry import TRANSFORMS
from ..runtime.images import (
    check_header,
    exif_block,
    orientation,
    read_image,
)

# Last bytes of JPEG and PNG files. A file with another end may still be whole,
# because cameras append data. Only such files are decoded to check them.
ENDINGS = (b'\xff\xd9', b'IEND\xaeB`\x82')
TAIL = 64  # bytes that are searched for an end
# EXIF orientations that exchange width and height.
TRANSPOSED = (5, 6, 7, 8)
# OpenCV blends the transparent pixels of these formats. Whether an image has
# any is known only after its pixels are decoded.
BLENDED_FORMATS = ('GIF', 'TIFF')


@TRANSFORMS.register_module()
class LoadWholeImage(LoadImageFromFile):
    """mmcv's LoadImageFromFile, but damaged files are errors.

    OpenCV reads a truncated JPEG without an error and fills the rest with
    grey. mmdet does not compare the size of an image with the size in its
    annotations; if they differ, the boxes are misplaced. A detector would
    learn from both.
    """

    def transform(self, results: dict) -> dict | None:
        """Read ``results['img_path']``.

        Raises:
            UserError: If the file is missing, is no image or is truncated,
                or if its size differs from the size in the annotations.
        """
        path = Path(results['img_path'])
        if self.backend_args is None:
            # Configs that choose another decoder, other channels or other
            # bit depths do so on purpose.
            is_usual = self.imdecode_backend == 'cv2' and str(
                self.color_type
            ) in ('color', 'color_ignore_orientation')
            _check(path, is_usual)
        try:
            loaded = super().transform(results)
        except Exception as error:
            raise UserError(
                f'{path}: not an image that can be read ({_first_line(error)})'
            ) from error
        if loaded is not None and {'width', 'height'} <= loaded.keys():
            height, width = loaded['img_shape']
            check_size(
                str(path),
                (width, height),
                (loaded['width'], loaded['height']),
            )
        return loaded


def check_size(
    label: str, size: tuple[int, int], annotated: tuple[float, float]
) -> None:
    """Raise if an image has another size than its annotations say.

    Args:
        label: The image's name, for the message.
        size: Width and height of the image after decoding.
        annotated: Width and height in the annotations.

    Raises:
        UserError: With both sizes.
    """
    if tuple(size) != tuple(annotated):
        raise UserError(
            f'{label}: the image is {size[0]} x {size[1]} pixels after '
            f'decoding, but its annotations say {annotated[0]:g} x '
            f'{annotated[1]:g}: correct width and height in the annotations; '
            'if an EXIF orientation turns the image, correct the boxes, too'
        )


def image_size(path: Path, oriented: bool = True) -> tuple[int, int] | None:
    """Return the size of an image file without decoding the pixels.

    Args:
        path: The file.
        oriented: Whether the reader applies the EXIF orientation. It does
            unless ``color_type`` is ``color_ignore_orientation``.

    Returns:
        tuple: Width and height; None if Pillow cannot identify the image.
    """
    try:
        with path.open('rb') as file, Image.open(file) as image:
            width, height = image.size
            if oriented and orientation(exif_block(image)) in TRANSPOSED:
                return height, width
            return width, height
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def _check(path: Path, is_usual: bool) -> None:
    """Raise if a file is truncated or the runtime would read other pixels.

    Args:
        path: The image file.
        is_usual: Whether training reads it as the runtime does.
    """
    if not path.is_file():
        raise UserError(f'{path}: no such image file')
    with path.open('rb') as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL))
        tail = file.read()
    is_whole = any(ending in tail for ending in ENDINGS)
    try:
        with warnings.catch_warnings(), path.open('rb') as file:
            warnings.simplefilter('ignore')  # about metadata
            with Image.open(file) as image:
                if is_usual:
                    check_header(image, path)
                can_blend = is_usual and image.format in BLENDED_FORMATS
                if not is_whole and not can_blend:
                    image.load()
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(f'{path}: not an image') from None
    except Image.DecompressionBombError as error:
        raise UserError(
            f'{path}: too many pixels ({_first_line(error)}); resize it'
        ) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f'{path}: the image is damaged ({_first_line(error)}); replace '
            'it or remove it from the annotations'
        ) from None
    if can_blend:
        read_image(path)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
