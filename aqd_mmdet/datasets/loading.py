"""Reading images, with an error for those that are not whole."""

from pathlib import Path

from mmcv.transforms import LoadImageFromFile
from PIL import Image, UnidentifiedImageError

from ..errors import UserError
from ..registry import TRANSFORMS

# How the two common formats end. A file that ends otherwise may still be
# whole (cameras append data), so that only such files are decoded strictly.
ENDINGS = (b'\xff\xd9', b'IEND\xaeB`\x82')
TAIL = 64


@TRANSFORMS.register_module()
class LoadWholeImage(LoadImageFromFile):
    """mmcv's LoadImageFromFile, except that broken files are errors.

    OpenCV reads a truncated JPEG as an image with a grey rest, without a
    word; a detector would learn from it.
    """

    def transform(self, results: dict) -> dict | None:
        """Read ``results['img_path']``.

        Raises:
            UserError: If the file is missing, no image, or cut off.
        """
        path = Path(results['img_path'])
        if self.backend_args is None:
            _check(path)
        try:
            loaded = super().transform(results)
        except Exception as error:
            raise UserError(
                f'{path}: not an image that can be read ({_first_line(error)})'
            ) from error
        return loaded


def _check(path: Path) -> None:
    if not path.is_file():
        raise UserError(f'{path}: no such image')
    with path.open('rb') as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL))
        tail = file.read()
    if any(ending in tail for ending in ENDINGS):
        return
    try:
        with Image.open(path) as image:
            image.load()
    except UnidentifiedImageError:
        raise UserError(f'{path}: not an image') from None
    except OSError as error:
        raise UserError(
            f'{path}: the image is damaged '
            f'({_first_line(error)}); replace it or take it out '
            'of the annotations'
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
