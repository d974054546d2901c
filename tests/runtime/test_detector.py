"""The runtime by itself: what it imports, what it gives."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file
from aqd_mmdet.runtime import Detector, engine, reference
from aqd_mmdet.runtime.images import draw, read_image
from tests.factories import ROOT, detector
from tests.tool import error_line, run_tool


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file.save(detector(), tmp_path / 'model.aqd')
    return tmp_path / 'model.aqd'


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize('size', [(40, 60), (1, 1), (161, 3)])
def test_integers_come_out(model, size):
    found = Detector(model)(picture(*size))
    assert found.boxes.dtype == np.int32
    assert found.labels.dtype == np.int32
    assert found.scores.dtype == np.int32
    assert len(found.boxes) == len(found.labels) == len(found.scores) > 0
    height, width = size
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, [0, 2]] <= width * 256).all()
    assert (found.boxes[:, [1, 3]] <= height * 256).all()
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize('threads', [0, -3, 2**32 + 1, '2', 2.0])
def test_impossible_numbers_of_threads(model, threads):
    with pytest.raises(UserError, match=f'threads.*{threads}'):
        Detector(model, threads=threads)


def test_threads_in_any_kind_of_integer(model):
    assert len(Detector(model, threads=np.int64(2))(picture()).labels)


def test_without_the_engine_the_reference_runs(model, monkeypatch):
    expected = Detector(model)(picture())
    monkeypatch.setattr(engine, 'library', lambda: None)
    with pytest.warns(RuntimeWarning, match='the engine is not built'):
        slow = Detector(model)
    assert slow.run is reference.run
    for found, wanted in zip(slow(picture()), expected, strict=True):
        assert np.array_equal(found, wanted)


def test_it_imports_neither_torch_nor_mmdet(model):
    script = (
        'import sys, numpy as np\n'
        'from aqd_mmdet.runtime import Detector\n'
        'from aqd_mmdet.runtime.images import draw\n'
        f'Detector({str(model)!r})(np.zeros((9, 9, 3), np.uint8))\n'
        'roots = {name.split(".")[0] for name in sys.modules}\n'
        'print(sorted(roots & {"torch", "mmdet", "mmcv", "mmengine",\n'
        '    "scipy", "cv2", "matplotlib", "sklearn", "tqdm"}))\n'
    )
    result = subprocess.run(
        [sys.executable, '-c', script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == '[]'


def test_infer_draws_with_numpy_and_pillow_alone(model, tmp_path):
    Image.fromarray(picture()).save(tmp_path / 'a.png')
    # A folder of links to the two packages, and nothing else on the path.
    site = tmp_path / 'site'
    site.mkdir()
    for package in (np, Image):
        folder = Path(package.__file__).parent
        for entry in folder.parent.iterdir():
            name = entry.name.lower()
            if name.startswith(('numpy', 'pillow', 'pil')):
                (site / entry.name).unlink(missing_ok=True)
                (site / entry.name).symlink_to(entry)
    result = subprocess.run(
        [
            sys.executable,
            '-S',  # without the environment's packages
            ROOT / 'tools/infer.py',
            model,
            tmp_path / 'a.png',
            '--out',
            tmp_path / 'out',
            '--score',
            '0',
        ],
        env={'PYTHONPATH': f'{ROOT}:{site}'},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert '1/1' in result.stdout
    with Image.open(tmp_path / 'out/a.png') as drawn:
        assert drawn.size == (60, 40)
        assert not np.array_equal(np.asarray(drawn), picture())


def test_only_scores_above_the_least_are_drawn(model):
    image = picture()
    found = Detector(model)(image)
    nothing = draw(image, found, ('a', 'b'), 1.1)
    assert np.array_equal(np.asarray(nothing), image)


@pytest.mark.parametrize('mode', ['L', 'RGBA', 'P', '1'])
def test_other_8_bit_images_are_read(tmp_path, mode):
    Image.fromarray(picture()).convert(mode).save(tmp_path / 'a.png')
    assert read_image(tmp_path / 'a.png').shape == (40, 60, 3)


def write_16_bits(path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(path)


def write_text(path: Path) -> None:
    path.write_text('not an image')


def write_half(path: Path) -> None:
    Image.fromarray(picture()).save(path)
    path.write_bytes(path.read_bytes()[:2000])


def write_thin(path: Path) -> None:
    Image.new('RGB', (20000, 10)).save(path)


@pytest.mark.parametrize(
    'write, message',
    [
        (write_16_bits, '8 bits a channel'),
        (write_text, 'not an image'),
        (write_half, 'damaged'),
        (write_thin, '20000 x 10 is too large'),
        (lambda path: None, 'no such file'),
    ],
)
def test_images_that_are_refused(tmp_path, model, write, message):
    path = tmp_path / 'b.png'
    write(path)
    with pytest.raises(UserError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def test_one_line_from_the_tool(tmp_path, model):
    write_half(tmp_path / 'b.png')
    (tmp_path / 'out').mkdir()
    line = error_line(
        run_tool(
            'tools/infer.py', model, tmp_path / 'b.png', '--out',
            tmp_path / 'out',
        )
    )  # fmt: skip
    assert 'b.png: the file is damaged' in line
    assert not list((tmp_path / 'out').iterdir())
    (tmp_path / 'm.aqd').write_bytes(model.read_bytes()[:100])
    line = error_line(run_tool('tools/infer.py', tmp_path / 'm.aqd', 'a.png'))
    assert 'm.aqd: section JSON: expected ' in line
