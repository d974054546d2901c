"""Reading images, with an error for those that are not as they should be."""

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

# How the two common formats end. A file that ends otherwise may still be
# whole (cameras append data), so that only such files are decoded strictly.
ENDINGS = (b'\xff\xd9', b'IEND\xaeB`\x82')
TAIL = 64
# EXIF orientations that exchange width and height.
TURNED = (5, 6, 7, 8)
# Formats whose transparent pixels OpenCV mixes with something: to know it,
# pixels have to be read.
MIXED = ('GIF', 'TIFF')


@TRANSFORMS.register_module()
class LoadWholeImage(LoadImageFromFile):
    """mmcv's LoadImageFromFile, except that wrong files are errors.

    OpenCV reads a truncated JPEG as an image with a grey rest, without a
    word, and nobody compares an image with its annotations, whose boxes then
    lie elsewhere; a detector would learn from both.
    """

    def transform(self, results: dict) -> dict | None:
        """Read ``results['img_path']``.

        Raises:
            UserError: If the file is missing, no image, cut off, or of
                another size than its annotations say.
        """
        path = Path(results['img_path'])
        if self.backend_args is None:
            # Other decoders and other numbers of channels or bits are meant.
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
    label: str, found: tuple[int, int], written: tuple[float, float]
) -> None:
    """Raise if an image is not as large as its annotations say.

    Args:
        label: How to call the image.
        found: Width and height as it is read.
        written: Of its entry in the annotations.

    Raises:
        UserError: With both sizes.
    """
    if tuple(found) != tuple(written):
        raise UserError(
            f'{label}: the image is {found[0]} x {found[1]} as it is read, '
            f'its annotations say {written[0]:g} x {written[1]:g}: mend '
            'width and height there, and the boxes, if the image is turned '
            'by its EXIF orientation'
        )


def image_size(path: Path, oriented: bool = True) -> tuple[int, int] | None:
    """Return width and height of an image file without decoding it.

    Args:
        path: The file.
        oriented: Whether it is turned by its EXIF orientation, as it is
            unless ``color_type`` says ``color_ignore_orientation``.

    Returns:
        tuple: Both; None if it is no image that Pillow knows.
    """
    try:
        with path.open('rb') as file, Image.open(file) as image:
            width, height = image.size
            if oriented and orientation(exif_block(image)) in TURNED:
                return height, width
            return width, height
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def _check(path: Path, is_usual: bool) -> None:
    """Raise for a file that is cut off or that the runtime reads otherwise."""
    if not path.is_file():
        raise UserError(f'{path}: no such image')
    with path.open('rb') as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL))
        tail = file.read()
    is_whole = any(ending in tail for ending in ENDINGS)
    try:
        with warnings.catch_warnings(), path.open('rb') as file:
            warnings.simplefilter('ignore')  # Pillow's, about metadata
            with Image.open(file) as image:
                if is_usual:
                    check_header(image, path)
                is_mixed = is_usual and image.format in MIXED
                if not is_whole and not is_mixed:
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
            f'{path}: the image is damaged '
            f'({_first_line(error)}); replace it or take it out '
            'of the annotations'
        ) from None
    if is_mixed:
        read_image(path)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
