"""The trained detector and the picture that come with the runtime."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np

from aqd_mmdet.runtime import Detector, example
from tests.factories import ROOT

# What is written in the picture, and where: x0, y0, x1, y1 in pixels.
DIGITS = [
    ('0', (7, 20, 29, 46)),
    ('4', (38, 43, 68, 92)),
    ('4', (62, 125, 79, 150)),
]


def run(folder: Path, *arguments: str) -> list[str]:
    """Run the command in a folder and return the lines that it prints."""
    result = subprocess.run(
        [sys.executable, '-m', 'aqd_mmdet.runtime', *arguments],
        cwd=folder,
        env={'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, '')
    return result.stdout.splitlines()


def test_its_digits_are_found():
    found = Detector(example.MODEL).predict(example.PICTURE, score=0.5)
    pairs = sorted(zip(found.names, found.boxes.tolist(), strict=True))
    for (name, box), (digit, place) in zip(pairs, DIGITS, strict=True):
        assert name == digit
        assert np.abs(np.subtract(box, place)).max() < 6


def test_it_is_small():
    assert example.MODEL.stat().st_size < 500_000
    assert example.PICTURE.stat().st_size < 100_000


def test_the_command_says_how_to_go_on(tmp_path):
    drawn, following = run(tmp_path, 'example')
    target = 'detections/digits.png'
    count = len(Detector(example.MODEL).predict(example.PICTURE, score=0.3))
    assert drawn == f'1/1 {example.PICTURE}: {count} objects, {target}'
    assert (tmp_path / target).is_file()
    start = 'next: python -m aqd_mmdet.runtime '
    assert following.startswith(start) and following.endswith(' PICTURES')
    words = shlex.split(following.removeprefix(start))
    (again,) = run(tmp_path, words[0], str(example.PICTURE))
    assert again == drawn


def test_it_takes_the_options_of_the_command(tmp_path):
    run(tmp_path, 'example', '--json', 'found.json')
    found = Detector(example.MODEL).predict(example.PICTURE)
    content = json.loads((tmp_path / 'found.json').read_text())
    assert content == found.to_coco('digits')
