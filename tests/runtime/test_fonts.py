"""Fonts that have the characters of class names."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from aqd_mmdet.errors import UserError
from aqd_mmdet.runtime import Detections, fonts
from aqd_mmdet.runtime.fonts import can_draw, write_names
from aqd_mmdet.runtime.images import draw

# Beside matplotlib, so that tests need no font of the system: it has Latin,
# Greek, Cyrillic and Arabic letters, but no Chinese.
DEJAVU = Path(
    pytest.importorskip('matplotlib').get_data_path(),
    'fonts/ttf/DejaVuSans.ttf',
)
LATIN = ('cat', 'traffic light', 'a~z')
GREEK, CYRILLIC, CHINESE, UNKNOWN = 'γάτα', 'кошка', '猫', '\ufdd0'


@pytest.fixture
def only_dejavu(monkeypatch):
    monkeypatch.setattr(fonts, 'system_fonts', lambda: [DEJAVU])


@pytest.fixture
def no_fonts(monkeypatch):
    monkeypatch.setattr(fonts, 'system_fonts', lambda: [])


def drawn(font: fonts.Font, text: str) -> np.ndarray:
    canvas = Image.new('L', (120, 30))
    ImageDraw.Draw(canvas).text((2, 2), text, 255, font)
    return np.asarray(canvas)


def test_latin_names_need_no_search(monkeypatch):
    monkeypatch.setattr(fonts, 'system_fonts', lambda: pytest.fail())
    names = write_names(LATIN)
    assert names.texts == LATIN
    assert names.missing == ()
    default = ImageFont.load_default()
    assert all(x.getname() == default.getname() for x in names.fonts)


def test_names_of_other_alphabets_take_a_font_that_has_them(only_dejavu):
    names = write_names([*LATIN, GREEK, CYRILLIC])
    assert names.texts == (*LATIN, GREEK, CYRILLIC)
    assert names.missing == ()
    families = [font.getname()[0] for font in names.fonts]
    assert families[0] != 'DejaVu Sans'
    assert families[-2:] == ['DejaVu Sans', 'DejaVu Sans']
    # No two letters are the same box.
    letters = {drawn(names.fonts[-1], x).tobytes() for x in set(CYRILLIC)}
    assert len(letters) == len(set(CYRILLIC))


@pytest.mark.parametrize('name', [CHINESE, f'cat {CHINESE}', UNKNOWN, '🍎'])
def test_names_that_no_font_has_are_numbers(only_dejavu, name):
    names = write_names(['cat', name, CYRILLIC])
    assert names.texts == ('cat', '#1', CYRILLIC)
    assert names.missing == (1,)


def test_a_font_that_is_named_comes_first(no_fonts):
    names = write_names(['cat', CYRILLIC, CHINESE], DEJAVU)
    assert names.texts == ('cat', CYRILLIC, '#2')
    assert [x.getname()[0] for x in names.fonts[:2]] == ['DejaVu Sans'] * 2
    assert names.missing == (2,)


def test_white_space_and_empty_names(no_fonts):
    names = write_names(['a\nb', ' \t', 'c\u200bd', '\u200b'])
    assert names.texts == ('a b', '#1', 'cd', '#3')
    assert names.missing == ()


def test_a_font_must_have_the_digits_of_scores(monkeypatch):
    """A font of symbols alone would draw boxes behind the name."""
    monkeypatch.setattr(
        fonts,
        '_glyph',
        lambda font, character: (
            (b'\0', (1, 1)) if character.isdigit() else (b'\1', (2, 2))
        ),
    )
    assert not can_draw(ImageFont.load_default(), fonts.SCORE)


@pytest.mark.parametrize(
    'content, message',
    [
        (None, 'no such file'),
        (b'', 'not a font'),
        (b'text', 'not a font'),
        (DEJAVU.read_bytes()[:3000], 'not a font'),
    ],
)
def test_files_that_are_no_fonts(tmp_path, content, message):
    path = tmp_path / 'my.ttf'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        write_names(['cat'], path)
    assert f'--font {path}' in str(caught.value)


def test_folders_are_searched_plain_faces_first(tmp_path, monkeypatch):
    for name in (
        'a/Sans-Bold.ttf', 'b/Sans.OTF', 'readme.txt', 'c/LastResort.otf',
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b'')
    nothing = tmp_path / 'nothing'
    monkeypatch.setattr(fonts, '_folders', lambda: [tmp_path, nothing])
    found = [path.name for path in fonts.system_fonts()]
    assert found == ['Sans.OTF', 'Sans-Bold.ttf']
    # Damaged ones are passed over.
    assert write_names([CHINESE]).missing == (0,)


@pytest.mark.parametrize(
    'platform, variables, folder',
    [
        ('linux', {'XDG_DATA_DIRS': '/x:/y'}, '/y/fonts'),
        ('linux', {}, '/usr/share/fonts'),
        ('linux', {'XDG_DATA_HOME': '/home/me/data'}, '/home/me/data/fonts'),
        ('darwin', {}, '/System/Library/Fonts'),
        ('win32', {'WINDIR': '/c/windows'}, '/c/windows/Fonts'),
    ],
)
def test_folders_of_systems(monkeypatch, platform, variables, folder):
    for name in ('XDG_DATA_DIRS', 'XDG_DATA_HOME', 'WINDIR'):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(fonts.sys, 'platform', platform)
    assert Path(folder) in fonts._folders()


def test_a_user_without_a_home(monkeypatch):
    """As in containers that run by the number of a user."""

    def fail() -> Path:
        raise RuntimeError('Could not determine home directory.')

    monkeypatch.setattr(fonts.Path, 'home', fail)
    monkeypatch.setattr(fonts.sys, 'platform', 'linux')
    monkeypatch.setenv('XDG_DATA_DIRS', '/x')
    assert Path('/x/fonts') in fonts._folders()


def test_names_are_drawn_in_their_fonts():
    image = np.zeros((60, 160, 3), np.uint8)
    found = Detections(
        np.array([[10, 30, 100, 50]], np.int32) * 256,
        np.array([1], np.int32),
        np.array([2**23], np.int32),
    )
    names = write_names(['cat', CYRILLIC], DEJAVU)
    named = np.asarray(draw(image, found, names.texts, 0.3, names.fonts))
    boxes = np.asarray(draw(image, found, names.texts, 0.3))
    assert not np.array_equal(named, boxes)
    # The name stands on its ground above the box, whole.
    rows = np.flatnonzero(named[:, 20].any(-1))
    assert rows[0] >= 10 and rows[0] < 30
    assert (named[30:51, 10] != 0).any(-1).all()
