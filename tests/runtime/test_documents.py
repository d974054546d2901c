"""What docs/runtime.md shows is run as it stands."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aqd_mmdet.program import file
from aqd_mmdet.runtime import video_backends
from tests.factories import ROOT, detector

TEXT = (ROOT / 'docs/runtime.md').read_text()


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    """The model, pictures and video that the examples name."""
    file.save(detector(), tmp_path / 'model.aqd')
    (tmp_path / 'pictures').mkdir()
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 256, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'pictures/{seed}.jpg')


def blocks(language: str) -> list[str]:
    return re.findall(rf'```{language}\n(.*?)```', TEXT, re.DOTALL)


def run(folder: Path, *arguments: str) -> None:
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ''


def test_examples_in_python(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text('\n'.join(blocks('python')))
    assert script.read_text().count('predict') >= 4
    run(tmp_path, 'script.py')


def test_examples_of_the_command(tmp_path):
    lines = [
        shlex.split(line, comments=True)
        for block in blocks('bash')
        for line in block.splitlines()
    ]
    lines = [
        x for x in lines if x[:3] == ['python', '-m', 'aqd_mmdet.runtime']
    ]
    # test_serve_command.py starts the server, and stops it.
    lines = [x for x in lines if 'serve' not in x]
    assert len(lines) >= 3
    if any('clip.mp4' in line for line in lines):
        pytest.importorskip('cv2')
        rate = video_backends.RATE
        made = video_backends.OpenCv()
        writer = made.writer(tmp_path / 'clip.mp4', rate, (40, 60))
        writer.write(np.zeros((40, 60, 3), np.uint8))
        writer.close()
    for line in lines:
        run(tmp_path, *line[1:])
    assert (tmp_path / 'results.json').is_file()
    names = {x.name for x in (tmp_path / 'detections').iterdir()}
    assert names == {'1.png', '2.png', 'clip.mp4', 'digits.png'}
