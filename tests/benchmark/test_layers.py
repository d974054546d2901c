"""Chains are valid detectors; engine and reference agree on them."""

import numpy as np
import pytest

from aqd_mmdet.benchmark.cases import CASES
from aqd_mmdet.benchmark.layers import Chain, chain_detector, normal_weights
from aqd_mmdet.program import file
from aqd_mmdet.runtime import reference
from aqd_mmdet.runtime.engine import Engine

TINY = Chain('tiny', ((8, 16), (16, 8)), 3, (5, 7))


@pytest.mark.parametrize('bits', [8, 4, 3, 2])
def test_chain_in_the_engine(bits):
    content = file.to_bytes(chain_detector(TINY, bits, 2))
    compiled = file.from_bytes(content)  # checks the program
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 5, 7), np.uint8)
    outputs = Engine(compiled, content, 1).run(compiled.program, image)
    expected = reference.run(compiled.program, image)
    for name, values in expected.items():
        assert np.array_equal(outputs[name], values)


@pytest.mark.parametrize('bits', [8, 4, 3, 2])
def test_codes_are_spread(bits):
    """Neither zeros nor clipped codes take over along a chain."""
    compiled = chain_detector(TINY, bits, 5)
    program = compiled.program
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 5, 7), np.uint8)
    tensors = {'image': image}
    for op in program.ops[:21]:
        inputs = [tensors[name] for name in op.inputs]
        tensors[op.output] = reference.run_op(op, inputs, program)
    codes = tensors['10']
    assert (codes == 0).mean() > 0.1
    assert (codes == 2**bits - 1).mean() < 0.5
    assert len(np.unique(codes)) > 2


def test_weights_are_on_the_grid():
    rng = np.random.default_rng(0)
    codes = normal_weights((64, 64), 2, rng).codes
    assert np.unique(codes).tolist() == [-3, -1, 1, 3]
    assert abs(normal_weights((64, 64), 8, rng).codes).max() <= 127


def test_macs_of_a_link():
    assert TINY.macs == 2 * 8 * 16 * 9 * 35
    by_name = {case.name: case for case in CASES}
    assert by_name['conv3x3'].macs == 9909043200


def test_names_are_unique():
    assert len({case.name for case in CASES}) == len(CASES)
