"""A program file as an array in C: what compilers make of it is the file."""

import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from aqd_mmdet.export.c_header import export
from aqd_mmdet.program import file
from aqd_mmdet.program.detector import Anchors, CompiledDetector, Sigmoid
from tests.factories import detector
from tests.random_detectors import random_detector

# Writes the array, and fails where it is not aligned.
PROGRAM = """\
#include "model.h"
#include <stdint.h>
#include <stdio.h>
int main(void) {
  if ((uintptr_t)model_aqd % 8 || sizeof model_aqd != model_aqd_size) return 1;
  return fwrite(model_aqd, 1, model_aqd_size, stdout) != model_aqd_size;
}
"""
LABELS = ('*/ int x;', 'dög', 'line\nend', '??/', '/* "', 'back\\')


def labelled() -> CompiledDetector:
    """A detector whose labels would end a comment, or are not ASCII."""
    return replace(detector(), labels=LABELS)


def text(compiled: CompiledDetector) -> str:
    return export(compiled).decode('ascii')


@pytest.mark.parametrize(
    'compiler, suffix',
    [
        (('gcc', '-std=c99'), 'c'),
        (('gcc', '-std=c11', '-pedantic-errors'), 'c'),
        (('g++', '-std=c++17', '-pedantic-errors'), 'cpp'),
    ],
)
def test_compilers_read_the_file(compiler, suffix, tmp_path):
    if shutil.which(compiler[0]) is None:
        pytest.skip(f'there is no {compiler[0]} here')
    compiled = labelled()
    (tmp_path / 'model.h').write_bytes(export(compiled))
    (tmp_path / f'main.{suffix}').write_text(PROGRAM)
    flags = ('-Wall', '-Wextra', '-Werror', '-I', tmp_path)
    program = tmp_path / 'main'
    source = tmp_path / f'main.{suffix}'
    subprocess.run([*compiler, *flags, source, '-o', program], check=True)
    found = subprocess.run([program], check=True, capture_output=True).stdout
    assert found == file.to_bytes(compiled)


def test_two_detectors_in_one_source(tmp_path):
    """The second is not left out without a word."""
    if shutil.which('gcc') is None:
        pytest.skip('there is no gcc here')
    (tmp_path / 'a.h').write_bytes(export(detector()))
    (tmp_path / 'b.h').write_bytes(export(labelled()))
    compiles = {}
    for second in ('a.h', 'b.h'):
        source = tmp_path / 'main.c'
        source.write_text(f'#include "a.h"\n#include "{second}"\n')
        run = subprocess.run(
            ['gcc', '-std=c99', '-fsyntax-only', source],
            capture_output=True,
            text=True,
        )
        compiles[second] = run.returncode == 0
    assert compiles == {'a.h': True, 'b.h': False}
    assert 'redefinition of' in run.stderr


def test_the_numbers_are_those_of_the_file():
    for stages in (0, 2):
        compiled = random_detector(0, Anchors, Sigmoid, stages)
        body = text(compiled).split('{\n')[1].split('\n}')[0]
        content = file.to_bytes(compiled)
        assert bytes(map(int, body.rstrip(',').split(','))) == content
        assert f'model_aqd_size = {len(content)};' in text(compiled)


def test_the_comment_says_what_is_inside():
    comment = text(labelled()).split('*/')[0]
    size = len(file.to_bytes(labelled()))
    assert comment.splitlines()[2:] == [
        f' * File: {size} bytes, version 5 of the format.',
        ' * Network: 5 operators, 18 weights of 2 and 8 bits.',
        ' * Images: resized to fit 160 x 160 pixels.',
        ' * Detections: 100 of an image at most.',
        r' * 6 labels: ["*\u002f int x;", "d\u00f6g", "line\nend", '
        r'"??\u002f", "\u002f*',
        r' *   \"", "back\\"]',
        ' ',
    ]


def test_what_others_have_inside():
    compiled = random_detector(0, Anchors, Sigmoid, 2)
    pre = replace(compiled.preprocess, short=40, long=40, stretch=True)
    comment = text(replace(compiled, preprocess=pre)).split('*/')[0]
    assert 'with those of 2 second stages' in comment
    assert 'stretched to 40 x 40 pixels' in comment
    assert compiled.regions is not None
    assert f'Detections: {compiled.regions.keep} of' in comment


def test_lines_are_short_and_the_file_is_reproducible():
    many = replace(detector(), labels=tuple(f'{i} of many' for i in range(99)))
    assert max(map(len, text(many).splitlines())) <= 79
    assert export(many) == export(many)
    words = re.sub(r'\s+\*\s+', ' ', text(many))
    assert len(re.findall(r'\d+ of many', words)) == 99
