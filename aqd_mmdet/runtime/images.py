"""Image files: reading them as training does, and drawing on them.

Training and validation read by OpenCV, this by Pillow, so that detecting
needs nothing else. Compared with OpenCV 4.12 and 5.0, pixel by pixel:

- JPEG (baseline, progressive, of any subsampling, grey), PNG, WebP, AVIF, BMP,
  PPM, GIF and TIFF are equal: both decode by the same libraries, and both drop
  transparency. CMYK in JPEG is equal by OpenCV's own formula.
- JPEG and PNG are turned by their EXIF orientation, TIFF by its tag. AVIF is
  not, nor is anything by XMP.
- What OpenCV's versions read in different ways is refused: WebP that EXIF
  turns, and JPEG with several blocks of metadata that do not agree.
- Of several frames the first is read.
- What OpenCV reads otherwise is refused: more or fewer than 8 bits a channel,
  transparent pixels of GIF and TIFF, which it mixes with something, and a PNG
  whose animation starts with another picture.
- JPEG 2000 in YCC is off by up to 19 levels, and of more than 8 bits by one;
  neither can be told from RGB by what Pillow says of a file.
"""

import io
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFile, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from ..errors import UserError
from ..program.detector import BOX_BITS, SCORE_BITS
from .fonts import Font
from .prediction import Detections
from .preprocess import MAX_SIDE

# Modes of 8 bits a channel; others would lose bits without a word.
MODES = ('1', 'L', 'P', 'LA', 'PA', 'RGB', 'RGBA', 'CMYK')
# How Pillow calls pixels of other widths that it gives in one of these modes:
# of 5 or 16 bits.
OTHER_WIDTHS = (';15', ';16')
# What is read of an unknown sender. Pillow runs Ghostscript for EPS, and the
# picture in an icon or an AVIF may be larger than its header says.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'PPM', 'GIF', 'TIFF', 'JPEG2000')
# Encoders write up to about 70. A scan may be of a few bytes, and costs a pass
# over all pixels.
MAX_SCANS = 100
# Metadata is cut into segments of 64 KB, of which Pillow reads each by itself.
MAX_SEGMENTS = 2000
# The markers of a JPEG that a length follows, and its end.
MARKER = re.compile(rb'\xff([^\x00\x01\xd0-\xd8\xff])')
JPEG_START, END, SCAN = b'\xff\xd8', b'\xd9', b'\xda'
TILE_WIDTH, TILE_LENGTH = 322, 323  # tags of a TIFF
# Told apart on photographs and by most colour-blind eyes.
COLOURS = ('#ffd000', '#00c8ff', '#ff5ea8', '#5dff6e', '#ff8a3c', '#b48cff')
# What brings a stored picture upright, by its EXIF orientation.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# How an EXIF block of a JPEG begins.
EXIF = b'Exif\0\0'
# EXIF entries: the orientation, those with text, and how many fractions
# others have. Their sizes are of EXIF: a header of 6 bytes in front of the
# block, 12 bytes an entry, 4 of them for the value or the place of it.
ORIENTATION = 0x0112
TEXTS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x8298)
FRACTIONS = {0x11A: 1, 0x11B: 1, 0x13E: 2, 0x13F: 6, 0x211: 3, 0x214: 6}
HEADER, ENTRY, VALUE = 6, 12, 4
# Width of a box's lines.
LINE = 2


def read_image(path: Path, oriented: bool = True) -> np.ndarray:
    """Return an image file as RGB, uint8 (H, W, 3), as training reads it.

    Args:
        path: Any format that Pillow reads but EPS, 8 bits a channel;
            transparent pixels lose their transparency.
        oriented: Whether JPEG and PNG are turned by their EXIF orientation.
            A TIFF always is, as by OpenCV.

    Raises:
        UserError: If it is missing, no image, damaged or of other than 8
            bits, or if OpenCV would read other pixels.
    """
    if path.is_dir():
        raise UserError(f'image {path}: it is a folder; name a file in it')
    if not path.is_file():
        raise UserError(f'image {path}: no such file')
    # Given a path, Pillow would map a grey TIFF that is to be turned into
    # memory by the sides that it has afterwards.
    with _told(path), path.open('rb') as file, Image.open(file) as image:
        if image.format == 'EPS':
            raise UserError(
                f'image {path}: EPS is a program that Ghostscript would run: '
                'save it as PNG'
            )
        return _pixels(image, path, oriented)


def decode_image(
    content: bytes, name: Path, oriented: bool = True, most: int | None = None
) -> np.ndarray:
    """Return the image in a file's content, as :func:`read_image` does.

    Args:
        content: The whole file, of one of :data:`FORMATS`.
        name: How to call it in a message.
        oriented: Whether JPEG and PNG are turned by their EXIF orientation.
        most: How many pixels it may have; more are refused before they are
            decoded.

    Raises:
        UserError: As of :func:`read_image`.
    """
    kinds = f' of these formats: {", ".join(FORMATS)}'
    file = io.BytesIO(content)
    _check_segments(content, name)
    with _told(name, kinds), Image.open(file, formats=FORMATS) as image:
        for width, height in (image.size, _tile_size(image)):
            if most is not None and width * height > most:
                raise UserError(
                    f'image {name}: {width} x {height} is too large: at most '
                    f'{most} pixels'
                )
        return _pixels(image, name, oriented)


@contextmanager
def _told(path: Path, kinds: str = '') -> Iterator[None]:
    """Tell what is wrong with an image in one line.

    Args:
        path: Of the image, for the message.
        kinds: Of images that are read, for the message.

    Raises:
        UserError: For whatever Pillow raises.
    """
    try:
        yield
    except (UserError, MemoryError, Warning):
        raise
    except UnidentifiedImageError:
        raise UserError(f'image {path}: not an image{kinds}') from None
    except Image.DecompressionBombError:
        raise UserError(
            f'image {path}: it has too many pixels: resize it'
        ) from None
    except PermissionError as error:
        raise UserError(
            f'image {path}: it cannot be read ({error.strerror})'
        ) from None
    # Pillow has no common error: a damaged file gives what the decoder of its
    # format happens to meet.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f'image {path}: the file is damaged ({reason})'
        ) from None


def check_header(image: ImageFile.ImageFile, path: Path) -> None:
    """Raise if OpenCV reads other pixels than Pillow, as its header tells.

    Args:
        image: Opened, its pixels not yet read.
        path: Its file, for the message.

    Raises:
        UserError: With what to do.
    """
    if image.mode not in MODES or _is_of_other_width(image):
        raise UserError(
            f'image {path}: pixels of mode {image.mode}, or not of 8 bits a '
            'channel: convert it to RGB of 8 bits a channel'
        )
    if len(orientations(image)) > 1:
        raise UserError(
            f'image {path}: its EXIF orientation is read in different ways by '
            'versions of OpenCV: save the picture upright, without EXIF'
        )
    if getattr(image, 'default_image', False):
        raise UserError(
            f'image {path}: an animated PNG whose first picture is not of '
            'its frames: save the one that is meant by itself'
        )


def _pixels(
    image: ImageFile.ImageFile, path: Path, oriented: bool
) -> np.ndarray:
    if max(image.size) > MAX_SIDE:
        width, height = image.size
        raise UserError(
            f'image {path}: {width} x {height} is too large: at most '
            f'{MAX_SIDE} pixels a side'
        )
    check_header(image, path)
    # Pillow would turn a TIFF by it.
    image.info.pop('xmp', None)
    covered = image.format != 'GIF' or _covers_canvas(image)
    image.load()
    if not covered or _is_mixed(image):
        raise UserError(
            f'image {path}: transparent pixels of a {image.format}, which '
            'training reads otherwise: save it as PNG without transparency'
        )
    # Said of pixels that no longer are; Pillow would warn of it.
    image.info.pop('transparency', None)
    turn = TURNS.get(orientation(exif_block(image))) if oriented else None
    upright = image if turn is None else image.transpose(turn)
    if isinstance(image, JpegImageFile) and image.mode == 'CMYK':
        return _without_inks(np.asarray(upright))
    return np.asarray(upright.convert('RGB'))


def _tile_size(image: ImageFile.ImageFile) -> tuple[int, int]:
    """Return width and height of a TIFF's tiles; 0 without tiles.

    A tile is decoded as a whole, though the image may have less of it.
    """
    if not isinstance(image, TiffImageFile):
        return 0, 0
    tags = image.tag_v2
    return tags.get(TILE_WIDTH, 0), tags.get(TILE_LENGTH, 0)


def _check_segments(content: bytes, name: Path) -> None:
    """Refuse a JPEG that takes long though it is small."""
    if not content.startswith(JPEG_START):
        return
    at, scans, segments = len(JPEG_START), 0, 0
    while (found := MARKER.search(content, at)) and found[1] != END:
        at = found.end()
        at += int.from_bytes(content[at : at + 2], 'big')
        scans += found[1] == SCAN
        segments += 1
        if scans > MAX_SCANS or segments > MAX_SEGMENTS:
            raise UserError(
                f'image {name}: a JPEG of more than {MAX_SCANS} scans or '
                f'{MAX_SEGMENTS} segments: save it with fewer'
            )


def _is_of_other_width(image: ImageFile.ImageFile) -> bool:
    """Whether Pillow makes 8 bits of more or fewer."""
    for _, _, _, how in image.tile:
        if any(width in str(how) for width in OTHER_WIDTHS):
            return True
        # The largest value of a PPM, which Pillow spreads and OpenCV keeps.
        if image.format == 'PPM' and isinstance(how, tuple) and how[1] != 255:
            return True
    return False


def _covers_canvas(image: ImageFile.ImageFile) -> bool:
    return all(
        extents == (0, 0, *image.size) for _, extents, _, _ in image.tile
    )


def _is_mixed(image: ImageFile.ImageFile) -> bool:
    """Whether OpenCV mixes transparent pixels with a background."""
    if image.format == 'GIF' and 'transparency' in image.info:
        return bool((np.asarray(image) == image.info['transparency']).any())
    if image.format == 'TIFF' and image.mode == 'RGBA':
        return image.getextrema()[-1] != (255, 255)
    return False


def _without_inks(inks: np.ndarray) -> np.ndarray:
    """Return RGB of CMYK, 0 being no ink, rounded as OpenCV does."""
    light = 255 - inks[..., 3:].astype(np.int32)
    return (light - (inks[..., :3] * light >> 8)).astype(np.uint8)


def orientations(image: ImageFile.ImageFile) -> set[int]:
    """Return what versions of OpenCV may take for a picture's orientation.

    OpenCV 4 takes the first block of a JPEG for EXIF, whatever it is, and 5
    looks for one that is; 4 leaves WebP as it is, and 5 turns it.
    """
    found = [orientation(exif_block(image))]
    if isinstance(image, JpegImageFile):
        blocks = [block for name, block in image.applist if name == 'APP1']
        if blocks and not blocks[0].startswith(EXIF):
            found.append(1)
        found += [
            orientation(block[HEADER:])
            for block in blocks
            if block.startswith(EXIF)
        ]
    elif image.format == 'WEBP':
        block = image.info.get('exif', b'')
        found.append(orientation(block.removeprefix(EXIF)))
    return {turn if turn in TURNS else 1 for turn in found}


def exif_block(image: ImageFile.ImageFile) -> bytes:
    """Return the EXIF block that OpenCV reads, without its header."""
    if isinstance(image, JpegImageFile):
        blocks = [block for name, block in image.applist if name == 'APP1']
        return blocks[0][HEADER:] if blocks else b''
    if image.format == 'PNG':
        return image.info.get('exif', b'')[HEADER:]
    return b''


def orientation(block: bytes) -> int:
    """Return what an EXIF block says of a picture, as OpenCV reads it.

    Entries are read in order, up to the first that points outside of the
    block; none is checked for its type.

    Args:
        block: From its byte order on.

    Returns:
        int: 1 to 8, or a number without a meaning; 1 if nothing is said.
    """
    order = {b'II*\0': '<', b'MM\0*': '>'}.get(block[:4])
    if order is None:
        return 1

    def number(kind: str, at: int) -> int:
        return struct.unpack_from(order + kind, block, at)[0]

    try:
        start = number('I', 4)
        for entry in range(number('H', start)):
            at = start + 2 + ENTRY * entry
            tag = number('H', at)
            if tag == ORIENTATION:
                return number('H', at + 8)
            needed = 0
            if tag in TEXTS and number('I', at + 4) > VALUE:
                needed = number('I', at + 8) + number('I', at + 4)
            elif tag in FRACTIONS:
                needed = number('I', at + 8) + 8 * FRACTIONS[tag]
            if needed > len(block):
                break
    except struct.error:
        pass
    return 1


def draw(
    image: np.ndarray,
    found: Detections,
    labels: Sequence[str],
    score: float,
    fonts: Sequence[Font] | None = None,
) -> Image.Image:
    """Return a picture of an image with its detections.

    Args:
        image: RGB, uint8 (H, W, 3).
        found: Detections in it, the best one first.
        labels: Class names, or what is written for them.
        score: Least score that is drawn.
        fonts: One for each label; Pillow's own by default.
    """
    picture = Image.fromarray(image)
    canvas = ImageDraw.Draw(picture)
    # The best one is first in what is found, and on top of what is drawn.
    for corners, label, units in reversed(list(zip(*found, strict=True))):
        share = units / 2**SCORE_BITS
        if share < score:
            continue
        x0, y0, x1, y1 = (corners / 2**BOX_BITS).tolist()
        colour = COLOURS[label % len(COLOURS)]
        canvas.rectangle((x0, y0, x1, y1), outline=colour, width=LINE)
        text = f'{labels[label]} {share:.2f}'
        font = fonts[label] if fonts else None
        room = canvas.textbbox((0, 0), text, font)[3]
        # Above the box, or inside it where there is no room above.
        at = (x0, y0 - room if y0 >= room else y0 + LINE)
        canvas.rectangle(canvas.textbbox(at, text, font), fill=colour)
        canvas.text(at, text, 'black', font)
    return picture
