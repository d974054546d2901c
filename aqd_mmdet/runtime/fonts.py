"""Fonts that have the characters of class names. Pillow alone.

Characters are drawn one after another, left to right where Pillow was built
without Raqm: scripts that join or reorder them are legible, not beautiful.
"""

import os
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from PIL import ImageFont

from ..errors import UserError

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
# In pixels; scripts of many strokes are legible from 12 on.
SIZE = 12
SUFFIXES = ('.ttf', '.ttc', '.otf', '.otc')
# A code point that will never be a character: fonts draw for it what they
# draw for each that they lack.
NO_CHARACTER = '\uffff'
# Written behind a name, by the same font.
SCORE = ' 0.123456789'
# Of faces that are taken only where no plain one has the characters.
STYLES = (
    'black', 'bold', 'condensed', 'italic', 'light', 'math', 'mono',
    'oblique', 'thin',
)  # fmt: skip
# It has a picture of each script for its characters: no name can be read.
NOT_FOR_READING = 'lastresort'


class Names(NamedTuple):
    """How classes are written.

    Attributes:
        texts: Their names, or their numbers as ``#3`` where no font has the
            characters.
        fonts: What each is drawn with.
        missing: The numbers of those that cannot be written.
    """

    texts: tuple[str, ...]
    fonts: tuple[Font, ...]
    missing: tuple[int, ...]


def write_names(labels: Sequence[str], named: Path | None = None) -> Names:
    """Find a font for each class name.

    Args:
        labels: Class names.
        named: A font file that is tried before Pillow's own font; those of
            the system follow.

    Raises:
        UserError: If the named file is no font.
    """
    default = ImageFont.load_default()
    first = [default] if named is None else [named_font(named), default]
    names = [visible(label) for label in labels]
    fonts: dict[int, Font] = {}
    waiting = [number for number, name in enumerate(names) if name]
    for font in _candidates(first):
        able = [x for x in waiting if can_draw(font, names[x] + SCORE)]
        fonts |= dict.fromkeys(able, font)
        waiting = [number for number in waiting if number not in fonts]
        if not waiting:
            break
    numbers = range(len(names))
    return Names(
        tuple(names[x] if x in fonts else f'#{x}' for x in numbers),
        tuple(fonts.get(x, default) for x in numbers),
        tuple(waiting),
    )


def visible(label: str) -> str:
    """Return a name in one line, without characters that show nothing."""
    return ''.join(
        character
        for character in ' '.join(label.split())
        # Cc, Cf: what controls other characters; and what selects a variant.
        if unicodedata.category(character) not in ('Cc', 'Cf')
        and not '\ufe00' <= character <= '\ufe0f'
    )


def _candidates(first: list[Font]) -> Iterator[Font]:
    yield from first
    for path in system_fonts():
        font = _load(path)
        if font is not None:
            yield font


def named_font(path: Path) -> Font:
    """Return the font in a file.

    Raises:
        UserError: If it is missing or no font.
    """
    if not path.is_file():
        raise UserError(f'--font {path}: no such file')
    font = _load(path)
    if font is None:
        raise UserError(
            f'--font {path}: not a font that Pillow reads; name a file that '
            f'ends in {", ".join(SUFFIXES)}'
        )
    return font


def _load(path: Path) -> Font | None:
    try:
        return ImageFont.truetype(path, SIZE)
    # Damaged, of other sizes alone, or Pillow without FreeType.
    except (OSError, ValueError, ImportError):
        return None


def can_draw(font: Font, text: str) -> bool:
    """Whether a font has all characters of a text.

    Args:
        font: Of any kind.
        text: Its spaces need no glyph.
    """
    if isinstance(font, ImageFont.ImageFont):
        # Pillow's own without FreeType, which refuses what it lacks.
        return text.isascii()
    nothing = _glyph(font, NO_CHARACTER)
    for character in set(text) - {' '}:
        glyph = _glyph(font, character)
        if glyph == nothing or not any(glyph[0]):
            return False
    return True


@lru_cache(maxsize=4096)
def _glyph(
    font: ImageFont.FreeTypeFont, character: str
) -> tuple[bytes, tuple[int, int]]:
    """Return how a font draws a character."""
    try:
        mask = font.getmask(character)
    except OSError:  # a damaged glyph
        return b'', (0, 0)
    return bytes(mask), mask.size


def system_fonts() -> list[Path]:
    """Return the files of installed fonts, plain faces first."""
    found = {
        path
        for folder in _folders()
        for path in _files(folder)
        if path.suffix.lower() in SUFFIXES
        and NOT_FOR_READING not in path.stem.lower()
    }
    return sorted(found, key=lambda path: (_is_styled(path), path))


def _is_styled(path: Path) -> bool:
    return any(style in path.stem.lower() for style in STYLES)


def _files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        yield from (Path(root, name) for name in names)


def _folders() -> list[Path]:
    try:
        home = Path.home()
    except RuntimeError:  # of a user that the system does not know
        home = Path(os.devnull)
    if sys.platform == 'win32':
        local = os.environ.get('LOCALAPPDATA', home / 'AppData/Local')
        return [
            Path(os.environ.get('WINDIR', r'C:\Windows'), 'Fonts'),
            Path(local, 'Microsoft/Windows/Fonts'),
        ]
    if sys.platform == 'darwin':
        return [
            Path('/System/Library/Fonts'),
            Path('/Library/Fonts'),
            home / 'Library/Fonts',
        ]
    shared = os.environ.get('XDG_DATA_DIRS') or '/usr/local/share:/usr/share'
    own = os.environ.get('XDG_DATA_HOME') or home / '.local/share'
    return [
        *(Path(folder, 'fonts') for folder in shared.split(':')),
        Path(own, 'fonts'),
        home / '.fonts',
    ]
