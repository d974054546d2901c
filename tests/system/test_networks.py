"""Whole networks: all executors equal in every integer of every layer."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from aqd_mmdet.compiler.executor import Executor
from aqd_mmdet.models.integer_aware import IntegerNetwork, integer_aware
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.bounds import prove
from aqd_mmdet.runtime import reference
from tests import oracle
from tests.factories import narrow_model, narrow_program, normalised, pixels


def every_tensor(program: ir.Program, image: torch.Tensor):
    program = replace(program, stride=1)  # so that it takes all sides
    found: dict[str, np.ndarray] = {}
    faster: dict[str, np.ndarray] = {}
    reference.run(
        program,
        image.numpy(),
        lambda op, values: found.__setitem__(op.output, values),
    )
    Executor(program).run(
        image,
        lambda op, values: faster.__setitem__(op.output, values.numpy()),
    )
    return found, faster


DETECTORS = ('retinanet', 'fcos')
# Each depth with each width, and each detector with both.
NETWORKS = [
    pytest.param(
        (depth, bits, DETECTORS[(i + j) % 2]),
        marks=pytest.mark.slow if depth > 18 else (),
    )
    for (i, depth), (j, bits) in product(
        enumerate([18, 34, 50]), enumerate([2, 3, 4, 8])
    )
]


@pytest.fixture(scope='module', params=NETWORKS, ids=str)
def network(request) -> IntegerNetwork:
    """A detector of a depth, a width and a head, which is captured once."""
    torch.manual_seed(0)
    return IntegerNetwork(narrow_model(*request.param))


def test_oracle_reference_and_executor_are_equal(network):
    program = network.folded.program
    prove(program)
    image = pixels(1, 3, 37, 45)  # odd sides, down to a map of 1 x 1
    found, faster = every_tensor(program, image)
    expected = oracle.run(program, image[0].tolist())
    assert len(expected) == len(program.ops) + 1
    for op in program.ops:
        values = found[op.output]
        assert values.dtype == op.grid.dtype == faster[op.output].dtype
        assert values[0].tolist() == expected[op.output], op.output
        assert np.array_equal(values, faster[op.output]), op.output


def test_evaluation_gives_the_programs_integers(network):
    program, model = network.folded.program, network.detector
    image = pixels(2, 3, 64, 96)
    expected = reference.run(program, image.numpy())
    with integer_aware(network), torch.no_grad():
        found = model(normalised(image), mode='tensor')
    for out, maps in zip(program.outputs, found, strict=True):
        for name, values in zip(out.tensors, maps, strict=True):
            codes = (values.double() / out.scale).round().numpy()
            # float32 holds 24 bits of a logit; these have fewer.
            assert np.array_equal(codes, expected[name])


def test_batches_of_three():
    program = narrow_program()
    image = pixels(3, 3, 64, 40)
    found, faster = every_tensor(program, image)
    for name, values in found.items():
        assert np.array_equal(values, faster[name]), name
    alone, _ = every_tensor(program, image[1:2])
    for name, values in alone.items():
        assert np.array_equal(values, found[name][1:2]), name
