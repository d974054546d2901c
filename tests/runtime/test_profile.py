"""What the engine tells of each operator that it executes."""

from dataclasses import replace
from math import prod

import numpy as np
import pytest

from aqd_mmdet.benchmark.layers import Chain, chain_detector
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.detector import CompiledDetector
from aqd_mmdet.runtime.engine import OpProfile
from tests import kernels
from tests.factories import detector, engine_of
from tests.random_programs import RandomProgram

LAYERS = Chain('layers', ((16, 32), (32, 16)), 3, (5, 7))


def profile(compiled: CompiledDetector, *size: int) -> list[OpProfile]:
    """Profile a network on an image of a size, and check that it runs as it
    does without being measured."""
    runner = engine_of(compiled)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 3, *size), np.uint8)
    expected = runner.run(compiled.program, image)
    out = {name: np.zeros_like(x) for name, x in expected.items()}
    found = runner.profile(compiled.program, image, out)
    for name, values in expected.items():
        assert np.array_equal(out[name], values)
    return found


def without_time(found: list[OpProfile]) -> list[OpProfile]:
    assert all(op.nanoseconds > 0 for op in found)
    return [replace(op, nanoseconds=0) for op in found]


def test_literal_figures_of_plain_kernels(monkeypatch):
    monkeypatch.setenv('AQD_ISA', 'portable')
    assert without_time(profile(detector(), 8, 16)) == [
        # Bytes become codes of 16 bits.
        OpProfile('p', 'Image', (3, 8, 16), 0, 0, 0, 0, 3 * 128 * (1 + 2)),
        # Codes, weights, a multiplier for each channel (13 bytes), numbers of
        # 32 bits. Outputs of the first kind come last.
        OpProfile(
            'b', 'portable', (4, 8, 16), 0, 1536, 1536, 16,
            3 * 128 * 2 + 12 + 4 * 13 + 4 * 128 * 4,
        ),
        OpProfile(
            'c', 'portable', (2, 8, 16), 0, 768, 768, 16,
            3 * 128 * 2 + 6 + 13 + 2 * 128 * 4,
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(
    'isa, width, kind, products, bits',
    [
        ('portable', 2, 'portable', 9 * 512 * 35, 8),
        # 4 x 4 outputs at 36 points: 2 x 2 tiles.
        ('avx2', 4, 'winograd', 36 * 512 * 4, 16),
        # 3 x 4 outputs at 30 points: 2 x 2 tiles.
        ('avx2', 2, 'winograd', 30 * 512 * 4, 8),
        ('avx512', 2, 'winograd', 30 * 512 * 4, 8),
        ('amx', 2, 'amx', 9 * 512 * 35, 8),
    ],
)
def test_products_are_those_of_the_algorithm(
    isa, width, kind, products, bits, monkeypatch
):
    if isa not in kernels.names():
        pytest.skip(f'this machine has no {isa}')
    monkeypatch.setenv('AQD_ISA', isa)
    found = profile(chain_detector(LAYERS, width, 1), 5, 7)
    layers = [op for op in found if op.name in ('c2', 'c3')]
    assert [op.shape for op in layers] == [(32, 5, 7), (16, 5, 7)]
    for op in layers:
        assert op.macs == 9 * 512 * 35
        assert (op.kind, op.products, op.operand_bits) == (
            kind,
            products,
            bits,
        )


def depthwise() -> CompiledDetector:
    """A detector with an addition that follows a depthwise convolution, and a
    table."""
    compiled = chain_detector(Chain('x', ((8, 8),), 3, (5, 7)), 8, 1)
    program = compiled.program
    convolution = program.ops[3]
    assert isinstance(convolution, ir.Convolution)
    ops = list(program.ops)
    ops[3] = replace(convolution, groups=8)
    at = next(i for i, op in enumerate(ops) if isinstance(op, ir.Slice))
    codes = ir.Grid(0, 255)
    ops[at:at] = [
        ir.Add('sum', ('1', '2'), 8, ir.Grid(0, 510)),
        ir.Lookup(
            'table', ('sum',), 8, codes,
            np.arange(511, dtype=np.int32) // 2, 0, (0,) * 8,
        ),
    ]  # fmt: skip
    for i in range(at + 2, len(ops)):
        if isinstance(ops[i], ir.Slice):
            ops[i] = replace(ops[i], inputs=('table',))
    weights = dict(program.weights)
    weights['w2'] = ir.Weights.of(weights['w2'].codes[:, :1], 8)
    program = replace(program, ops=tuple(ops), weights=weights)
    return replace(compiled, program=program)


@pytest.mark.parametrize('isa', kernels.names())
def test_kinds_and_bytes(isa, monkeypatch):
    monkeypatch.setenv('AQD_ISA', isa)
    found = {op.name: op for op in profile(depthwise(), 5, 7)}
    layer = found['c2']
    assert layer.kind == ('portable' if isa == 'portable' else 'depthwise')
    assert (layer.macs, layer.products) == (9 * 8 * 35, 9 * 8 * 35)
    # Its codes, which are also what is added, and those of the table; weights,
    # multipliers and where rows of the table begin.
    codes = 8 * 35 * (1 + 1)
    assert codes + 72 + 4 * 8 < layer.bytes < codes + 2000
    assert not {'sum', 'table'} & set(found)


@pytest.mark.parametrize('isa', kernels.names())
def test_all_multiplications_are_counted_once(isa, monkeypatch):
    monkeypatch.setenv('AQD_ISA', isa)
    for seed in range(30):
        program = RandomProgram(seed).program()
        found = profile(replace(detector(), program=program), 24, 16)
        sizes = program.sizes((24, 16))
        expected = {
            op.output: prod(program.weights[op.weights].codes.shape)
            * prod(sizes[op.output])
            for op in program.ops
            if isinstance(op, ir.Convolution)
        }
        assert {op.name: op.macs for op in found if op.macs} == expected
        assert len({op.name for op in found}) == len(found)


def test_threads_change_times_alone():
    compiled = detector()
    image = np.zeros((1, 3, 8, 16), np.uint8)
    profiles = []
    for threads in (1, 2):
        runner = engine_of(compiled, threads)
        out = runner.run(compiled.program, image)
        profiles.append(runner.profile(compiled.program, image, out))
    assert without_time(profiles[0]) == without_time(profiles[1])
