"""tools/infer.py: where it draws, and which files it never replaces."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aqd_mmdet.program import file
from tests.factories import detector
from tests.pictures import exif, exif_block, jpeg
from tests.tool import error_line, run_tool

USER = b'a picture of the user'


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file.save(detector(), tmp_path / 'model.aqd')
    return tmp_path / 'model.aqd'


@pytest.fixture
def make(tmp_path: Path):
    """Writes pictures of different widths and returns their paths."""

    def write(*names: str) -> list[Path]:
        paths = [tmp_path / name for name in names]
        for number, path in enumerate(paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new('RGB', (40 + number, 30), 'navy').save(path)
        return paths

    return write


def infer(model: Path, *arguments: object, out: Path | None = None):
    out = out or model.parent / 'out'
    return run_tool(
        'tools/infer.py', model, '--score', 0, *arguments, '--out', out
    )


def drawn(result, out: Path) -> dict[str, int]:
    """Return the path and width of each drawn picture."""
    assert result.returncode == 0, result.stderr
    widths = {}
    for path in out.rglob('*'):
        if path.is_file():
            with Image.open(path) as image:
                widths[str(path.relative_to(out))] = image.width
    return widths


@pytest.mark.parametrize(
    'images, targets',
    [
        (['a/1.png', 'b/2.jpg'], ['1.png', '2.png']),
        (['a/1.png', 'b/1.png'], ['a/1.png', 'b/1.png']),
        (['a/1.png', 'b/1.png', 'b/2.png'], ['a/1.png', 'b/1.png', 'b/2.png']),
        (['a/x/1.png', 'a/y/1.png'], ['x/1.png', 'y/1.png']),
        (['1.png', 'b/1.png'], ['1.png', 'b/1.png']),
        (['1.jpg', '1.png'], ['1.jpg.png', '1.png.png']),
        (['1.jpg', '1.png', '2.png'], ['1.jpg.png', '1.png.png', '2.png']),
        (
            ['a/1.jpg', 'a/1.png', 'b/1.png'],
            ['a/1.jpg.png', 'a/1.png.png', 'b/1.png'],
        ),
        (
            ['1.jpg', '1.png', '1.jpg.bmp'],
            ['1.jpg.png', '1.png.png', '1.jpg.bmp.png'],
        ),
        (['A.png', 'b/a.png'], ['A.png', 'b/a.png']),
    ],
)
def test_each_picture_gets_its_own_file(
    model, make, tmp_path, images, targets
):
    result = infer(model, *make(*images))
    widths = drawn(result, tmp_path / 'out')
    assert widths == {name: 40 + x for x, name in enumerate(targets)}
    for name in targets:
        assert str(tmp_path / 'out' / name) in result.stdout


def test_several_paths_to_a_file_count_once(model, make, tmp_path):
    (path,) = make('a/1.png')
    (tmp_path / 'link').symlink_to(tmp_path / 'a')
    result = infer(
        model,
        path,
        os.path.relpath(path, Path(__file__).parents[2]),
        tmp_path / 'a/../a/1.png',
        tmp_path / 'link/1.png',
        tmp_path / 'a',
    )
    assert drawn(result, tmp_path / 'out') == {'1.png': 40}
    assert result.stdout.startswith('1/1 ')


def test_links_keep_their_names(model, make, tmp_path):
    """Not the names of the files that they point to."""
    make('store/8f/data.png', 'store/c2/data.png')
    (tmp_path / 'a.png').symlink_to(tmp_path / 'store/8f/data.png')
    (tmp_path / 'b.png').symlink_to(tmp_path / 'store/c2/data.png')
    result = infer(model, tmp_path / 'a.png', tmp_path / 'b.png')
    assert drawn(result, tmp_path / 'out') == {'a.png': 40, 'b.png': 41}


def test_a_folder_stands_for_its_pictures(model, make, tmp_path):
    make('in/2.png', 'in/1.JPG', 'in/10.webp', 'in/.hidden.png', 'in/x/3.png')
    (tmp_path / 'in/notes.txt').write_text('mine')
    (tmp_path / 'in/gone.png').symlink_to(tmp_path / 'nothing.png')
    result = infer(model, tmp_path / 'in')
    assert drawn(result, tmp_path / 'out') == {
        '1.png': 41, '10.png': 42, '2.png': 40,
    }  # fmt: skip
    assert 'in: 3 pictures; 2 other files' in result.stdout
    order = [line.split()[1] for line in result.stdout.splitlines()[1:]]
    assert [Path(x[:-1]).name for x in order] == ['1.JPG', '10.webp', '2.png']


def test_equal_names_in_two_folders(model, make, tmp_path):
    make('in/a/1.png', 'in/b/1.png')
    result = infer(model, tmp_path / 'in/a', tmp_path / 'in/b')
    assert drawn(result, tmp_path / 'out') == {'a/1.png': 40, 'b/1.png': 41}


def test_a_folder_without_pictures(model, tmp_path):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in/notes.txt').write_text('mine')
    line = error_line(infer(model, tmp_path / 'in'))
    assert f'folder {tmp_path}/in: none of its 1 files' in line
    assert not (tmp_path / 'out').exists()


def test_a_missing_image_is_an_error_before_the_start(model, make, tmp_path):
    line = error_line(infer(model, *make('1.png'), tmp_path / '2.png'))
    assert '2.png: no such file or folder' in line
    assert not (tmp_path / 'out').exists()


def test_own_pictures_are_replaced(model, make, tmp_path):
    out = tmp_path / 'out'
    (path,) = make('1.png')
    infer(model, path)
    with Image.open(out / '1.png') as image:
        assert image.info['Software'] == 'aqd_mmdet'
    Image.new('RGB', (77, 30)).save(path)
    assert drawn(infer(model, path), out) == {'1.png': 77}


def user_file(path: Path) -> None:
    path.write_bytes(USER)


def user_png(path: Path) -> None:
    Image.new('RGB', (9, 9)).save(path, 'png')


def user_folder(path: Path) -> None:
    path.mkdir()


def user_link(path: Path) -> None:
    path.symlink_to(path.with_name('elsewhere'))


def state(path: Path) -> tuple[int, int, int]:
    stat = path.lstat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


@pytest.mark.parametrize('put', [user_file, user_png, user_folder, user_link])
def test_other_files_are_not_replaced(model, make, tmp_path, put):
    out = tmp_path / 'out'
    out.mkdir()
    put(out / '1.png')
    before = state(out / '1.png')
    paths = make('0.png', '1.jpg')
    line = error_line(infer(model, *paths))
    assert f'--out {out}: 1.png exists and was not drawn by' in line
    assert state(out / '1.png') == before
    assert [x.name for x in out.iterdir()] == ['1.png']


def test_output_into_the_input_folder(model, make, tmp_path):
    make('in/1.jpg', 'in/2.png')
    original = (tmp_path / 'in/2.png').read_bytes()
    line = error_line(infer(model, tmp_path / 'in', out=tmp_path / 'in'))
    assert '2.png is one of the images' in line
    assert (tmp_path / 'in/2.png').read_bytes() == original
    assert not (tmp_path / 'in/1.png').exists()
    # Without 2.png, drawing works, and a second run skips the drawn pictures.
    (tmp_path / 'in/2.png').rename(tmp_path / '2.png')
    for _ in range(2):
        result = infer(model, tmp_path / 'in', out=tmp_path / 'in')
        assert drawn(result, tmp_path / 'in') == {'1.jpg': 40, '1.png': 40}
    # An input is never replaced, even if this tool drew it.
    drawing = tmp_path / 'in/1.png'
    line = error_line(infer(model, drawing, out=tmp_path / 'in/../in'))
    assert '1.png is one of the images' in line


@pytest.mark.parametrize('out', ['file', 'file/deeper', '/proc/nothing/x'])
def test_folders_that_cannot_be_written_to(model, make, tmp_path, out):
    (tmp_path / 'file').write_text('mine')
    line = error_line(infer(model, *make('1.png'), out=tmp_path / out))
    assert 'cannot write to the folder' in line
    assert 'choose another --out' in line
    if out.startswith('file'):
        assert 'a file is in its place' in line
    assert (tmp_path / 'file').read_text() == 'mine'


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_a_folder_of_another_user(model, make, tmp_path):
    (tmp_path / 'out').mkdir(mode=0o500)
    line = error_line(infer(model, *make('1.png')))
    assert 'cannot write to the folder' in line


def test_a_file_in_the_place_of_a_folder(model, make, tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/b').write_bytes(USER)
    line = error_line(infer(model, *make('a/1.png', 'b/1.png')))
    assert 'out/b (a file is in its place)' in line
    assert (tmp_path / 'out/b').read_bytes() == USER


def test_names_without_a_font_are_reported_once(make, tmp_path):
    # Unicode reserves these code points as noncharacters, so no font has them.
    compiled = replace(detector(), labels=('cat', '\ufdd0\ufdd1'))
    file.save(compiled, tmp_path / 'model.aqd')
    result = infer(tmp_path / 'model.aqd', *make('1.png', '2.png'))
    assert drawn(result, tmp_path / 'out') == {'1.png': 40, '2.png': 41}
    warnings = [x for x in result.stderr.splitlines() if 'no font has' in x]
    assert len(warnings) == 1
    assert '#1 \ufdd0\ufdd1: numbers are drawn' in warnings[0]
    assert '--font FILE' in warnings[0]


def test_a_file_that_is_not_a_font(model, make, tmp_path):
    line = error_line(infer(model, *make('1.png'), '--font', model))
    assert f'--font {model}: not a font' in line
    assert not (tmp_path / 'out').exists()


def test_the_model_decides_on_exif_orientation(make, tmp_path):
    (path,) = make('1.jpg')
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new('RGB', (40, 30)).save(path, exif=exif)
    sizes = []
    for oriented in (True, False):
        compiled = detector()
        pre = replace(compiled.preprocess, oriented=oriented)
        file.save(replace(compiled, preprocess=pre), tmp_path / 'm.aqd')
        result = infer(tmp_path / 'm.aqd', path)
        assert result.returncode == 0, result.stderr
        with Image.open(tmp_path / 'out/1.png') as image:
            sizes.append(image.size)
    assert sizes == [(30, 40), (40, 30)]


def test_file_names_that_are_not_valid_text(model, make, tmp_path):
    (path,) = make('1.png')
    odd = os.fsdecode(b'\xff\xfe.png')
    path = path.rename(tmp_path / odd)
    result = infer(model, path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / 'out' / odd).is_file()


def test_odd_metadata_is_not_told(model, tmp_path):
    """Of a picture that is read all the same, Pillow would warn."""
    odd = jpeg(exif(exif_block(6, start=9999)))
    (tmp_path / 'a.jpg').write_bytes(odd)
    result = infer(model, tmp_path / 'a.jpg')
    assert result.returncode == 0, result.stderr
    assert 'EXIF' not in result.stderr


@pytest.mark.parametrize('score', [30, -0.1, 'nan'])
def test_score_out_of_range(model, make, score):
    (path,) = make('1.png')
    result = infer(model, path, '--score', score)
    assert 'give a number from 0 to 1' in error_line(result)


def test_pixels_without_detections_are_unchanged(model, make, tmp_path):
    (path,) = make('1.png')
    result = infer(model, path, '--score', 1)
    assert result.returncode == 0, result.stderr
    with (
        Image.open(tmp_path / 'out/1.png') as drawing,
        Image.open(path) as own,
    ):
        assert np.array_equal(np.asarray(drawing), np.asarray(own))
