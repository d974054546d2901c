"""Damaged files: both readers refuse the same ones, and say so in a line."""

import numpy as np
import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file
from aqd_mmdet.runtime import reference
from tests.damage import load, mutated
from tests.factories import detector, engine_of


def test_damaged_files_have_one_line():
    content = file.to_bytes(detector())
    assert load(content) == (0, '')
    for cut in range(0, len(content), 7):
        status, message = load(content[:cut])
        assert status == 1
        assert message and '\n' not in message
    for place in range(16, len(content), 11):
        damaged = bytearray(content)
        damaged[place] ^= 4
        assert load(bytes(damaged))[0] == 1


@pytest.mark.slow
def test_what_python_reads_the_engine_reads():
    content = file.to_bytes(detector())
    accepted = 0
    for seed in range(3000):
        changed = mutated(content, seed)
        status, message = load(changed)
        assert status in (0, 1)
        assert message or status == 0
        try:
            read = file.from_bytes(changed)
        except UserError:
            assert message, seed
            continue
        accepted += 1
        assert (status, message) == (0, '')
        runner = engine_of(read)
        pixels = np.zeros((1, 3, *[read.program.stride * 2] * 2), np.uint8)
        if pixels.size > 10**6:
            continue
        expected = reference.run(read.program, pixels)
        found = runner.run(read.program, pixels)
        for tensor, values in expected.items():
            assert np.array_equal(found[tensor], values)
    assert accepted > 50
