"""The engine in C++: whole networks, and sizes that it refuses."""

import os
import signal
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.fixed_point import Multipliers
from aqd_mmdet.runtime import reference
from aqd_mmdet.runtime.arrays import need_writable
from aqd_mmdet.runtime.engine import Engine
from tests import kernels
from tests.damage import of_version
from tests.factories import detector, engine_of, narrow_program


class Case(NamedTuple):
    """A program, images (N, 3, H, W) and what the reference makes of them."""

    program: ir.Program
    images: list[np.ndarray]
    expected: list[dict[str, np.ndarray]]


@pytest.fixture(
    scope='module',
    params=[*((bits, 'retinanet') for bits in (2, 3, 4, 8)), (2, 'fcos')],
    ids=str,
)
def network(request) -> Case:
    program = narrow_program(*request.param)
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, 256, shape, np.uint8)
        for shape in [(1, 3, 64, 96), (3, 3, 96, 32), (1, 3, 64, 96)]
    ]
    return Case(program, images, [reference.run(program, x) for x in images])


@pytest.mark.parametrize('isa', kernels.names())
def test_networks_are_the_references(network, isa, monkeypatch):
    monkeypatch.setenv('AQD_ISA', isa)
    program = network.program
    runner = engine_of(replace(detector(), program=program), 3)
    for image, expected in zip(network.images, network.expected, strict=True):
        found = runner.run(program, image)
        assert found.keys() == expected.keys()
        for tensor, values in expected.items():
            assert np.array_equal(found[tensor], values)


def test_outputs_are_written_where_they_are_wanted():
    small = detector()
    runner = engine_of(small)
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 1, 3, 16, 24), np.uint8)
    out = runner.run(small.program, first)
    assert runner.run(small.program, second, out) is out
    for name, values in reference.run(small.program, second).items():
        assert np.array_equal(out[name], values)


@pytest.mark.parametrize(
    'change',
    [
        np.ascontiguousarray,
        lambda x: x.astype(np.int16),
        lambda x: x.astype('>i4'),
        lambda x: x[:, :, :2, :2],
        lambda x: x.transpose(0, 1, 3, 2),
        lambda x: np.broadcast_to(x[:, :1], x.shape),
        lambda x: np.lib.stride_tricks.as_strided(x, writeable=False),
        lambda x: x[0],
    ],
)
def test_outputs_that_cannot_be_written_are_refused(change):
    small = detector()
    runner = engine_of(small)
    image = np.zeros((1, 3, 16, 24), np.uint8)
    out = runner.run(small.program, image)
    name, values = next(iter(out.items()))
    wrong = out | {name: change(values)}
    for call in (runner.run, runner.profile):
        with pytest.raises(ValueError, match=f"'{name}'.*: expected what"):
            call(small.program, image, wrong)
        with pytest.raises(ValueError, match='out: expected'):
            call(small.program, image, {'other': values})
    none = np.zeros((0, 3, 16, 24), np.uint8)
    with pytest.raises(ValueError, match='expected one input, got 0'):
        runner.profile(small.program, none, runner.run(small.program, none))


def test_two_outputs_in_one_memory_are_refused():
    small = detector()
    runner = engine_of(small)
    image = np.zeros((1, 3, 16, 24), np.uint8)
    shapes = {n: x.shape for n, x in runner.run(small.program, image).items()}
    common = np.empty(max(np.prod(x) for x in shapes.values()), np.int32)
    out = {
        name: common[: n * c * h * w].reshape(n, h, w, c).transpose(0, 3, 1, 2)
        for name, (n, c, h, w) in shapes.items()
    }
    first, second, *_ = out
    match = f"out.'{first}'. and out.'{second}'.: .* memory in common"
    with pytest.raises(ValueError, match=match):
        runner.run(small.program, image, out)


def test_outputs_in_the_memory_of_the_input_are_refused():
    values = np.zeros((1, 3, 4, 4), np.int32)
    with pytest.raises(ValueError, match='values: .* memory in common'):
        need_writable(
            {'x': values.transpose(0, 3, 1, 2)}, {'x': values.shape}, values
        )


def test_inputs_that_are_no_pixels_are_refused():
    """The engine would read what lies behind them in memory."""
    small, pixels = detector(), np.zeros((1, 3, 16, 24), np.uint8)
    runner = engine_of(small)
    for odd in (pixels[:, :1], pixels[0], pixels.astype(np.float32)):
        with pytest.raises(ValueError, match=r'expected integers \(N, 3, H'):
            runner.run(small.program, odd)
    for number in (-1, 256):
        with pytest.raises(
            ValueError, match='expected integers from 0 to 255'
        ):
            runner.run(small.program, np.full(pixels.shape, number))
    expected = runner.run(small.program, pixels)
    found = runner.run(small.program, pixels.astype(np.int64))
    for name, values in expected.items():
        assert np.array_equal(found[name], values)


def test_unknown_instructions_are_named(monkeypatch):
    monkeypatch.setenv('AQD_ISA', 'sse9')
    with pytest.raises(UserError, match="AQD_ISA: expected one of .*'sse9'"):
        engine_of(detector())


def test_many_detectors_leave_no_memory_behind():
    resource = pytest.importorskip('resource')
    small = detector()
    pixels = np.zeros((1, 3, 64, 64), np.uint8)

    def use(count: int) -> int:
        for _ in range(count):
            engine_of(small).run(small.program, pixels)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    use(50)
    # In KiB; each would leave an arena of 200.
    assert use(300) - use(1) < 8000


def test_a_forked_process_runs_it_too():
    small = detector()
    runner = engine_of(small, 2)
    pixels = np.zeros((1, 3, 64, 64), np.uint8)
    expected = runner.run(small.program, pixels)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        found = runner.run(small.program, pixels)
        same = all(np.array_equal(found[n], x) for n, x in expected.items())
        del runner
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_sizes_that_a_program_does_not_take():
    small = detector()
    runner = engine_of(small)
    for side in (0, 7, 12):
        with pytest.raises(UserError, match='does not take'):
            runner.run(small.program, np.zeros((1, 3, 8, side), np.uint8))


def test_a_window_larger_than_its_map_is_refused():
    small = detector()
    first = small.program.ops[1]
    wide = replace(first, kernel=(9, 1))
    codes = np.ones((2, 3, 9, 1), np.int8)
    program = replace(
        small.program,
        ops=(small.program.ops[0], wide, *small.program.ops[2:]),
        weights={**small.program.weights, 'c': ir.Weights.of(codes, 2)},
    )
    runner = engine_of(replace(small, program=program))
    with pytest.raises(UserError, match='does not take'):
        runner.run(program, np.zeros((1, 3, 8, 8), np.uint8))


def test_a_tensor_can_leave_a_program_twice():
    small = detector()
    boxes, codes = ir.Output(('cls',), 1.0), ir.Output(('box',), 1.0)
    outputs = (boxes, boxes, codes, boxes)
    program = replace(small.program, outputs=outputs)
    pixels = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(1, 3, 8, 8)
    found = engine_of(replace(small, program=program)).run(program, pixels)
    expected = reference.run(program, pixels)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert np.array_equal(found[name], values)


def test_the_memory_of_an_output_is_lent_once():
    # Two tensors that live together, each more than half of it.
    rng, rounding = np.random.default_rng(0), Multipliers(
        np.ones(1, np.int32), np.zeros(1, np.int64), np.full(1, 9, np.uint8)
    )  # fmt: skip
    ops: list[ir.Op] = [detector().program.ops[0]]
    weights = {}
    one, three = (1, 1), (3, 3)
    for name, channels in (('a', 20), ('b', 20), ('d', 20), ('c', 8)):
        x = ops[-1]
        codes = rng.integers(-127, 128, (channels, x.channels, *three))
        weights[name] = ir.Weights.of(codes.astype(np.int16), 8)
        ops += [
            ir.Convolution(
                name, (x.output,), channels, ir.INT32, three, one, one, one,
                name, 1,
            ),
            ir.Requantize(
                f'{name}.codes', (name,), channels, ir.Grid(0, 255), rounding
            ),
        ]  # fmt: skip
    sums = ir.Output(('c',), 1.0)
    program = ir.Program(tuple(ops[:-1]), weights, (sums, sums), 8)
    pixels = rng.integers(0, 256, (1, 3, 64, 64), np.uint8)
    found = engine_of(replace(detector(), program=program)).run(
        program, pixels
    )
    assert np.array_equal(found['c'], reference.run(program, pixels)['c'])


def test_maps_of_no_pixels_are_not_pooled():
    # The border of a pool is as high as its window needs: the map is not.
    small = detector()
    image, first, _, rounded = small.program.ops[:4]
    wide = replace(first, kernel=(9, 1))
    pool = ir.MaxPool(
        'pool', (rounded.output,), 2, rounded.grid, (2, 2), (2, 2), (1, 1),
        (1, 1),
    )  # fmt: skip
    program = ir.Program(
        (image, wide, rounded, pool),
        {'c': ir.Weights.of(np.ones((2, 3, 9, 1), np.int8), 2)},
        (ir.Output(('pool',), 1.0),),
        8,
    )
    runner = engine_of(replace(small, program=program))
    with pytest.raises(UserError, match='does not take'):
        runner.run(program, np.zeros((1, 3, 8, 8), np.uint8))
    pixels = np.arange(3 * 16 * 8, dtype=np.uint8).reshape(1, 3, 16, 8)
    found = runner.run(program, pixels)['pool']
    assert np.array_equal(found, reference.run(program, pixels)['pool'])


def test_additions_of_other_sizes_are_refused():
    small = detector()
    ops = small.program.ops
    part = ir.Slice('part', ('c',), 2, ir.INT32, 0, (0, 0), (2, 2))
    grid = ir.Grid(-9, 9)
    low = replace(ops[3], output='low', grid=grid)
    half = replace(low, output='half', inputs=('part',))
    total = ir.Add('sum', ('low', 'half'), 2, ir.Grid(0, 9))
    program = replace(small.program, ops=(*ops, part, low, half, total))
    runner = engine_of(replace(small, program=program))
    with pytest.raises(UserError, match='does not take'):
        runner.run(program, np.zeros((1, 3, 8, 8), np.uint8))


@pytest.mark.parametrize('isa', kernels.names())
@pytest.mark.parametrize(
    'zero', [(0,), (100,), (200,), (-200,), (5, -100, 255), (-255, 0, 3)]
)
def test_zero_points_of_pixels(isa, zero, monkeypatch):
    """Means of 104 to 124 and zero points, which may exceed a byte."""
    monkeypatch.setenv('AQD_ISA', isa)
    whole = detector()
    program = whole.program
    ops = list(program.ops)
    ops[1] = replace(ops[1], kernel=(3, 3), padding=(1, 1), zero=zero)
    rng = np.random.default_rng(0)
    codes = rng.choice([-3, -1, 1, 3], (2, 3, 3, 3)).astype(np.int8)
    weights = {**program.weights, 'c': ir.Weights.of(codes, 2)}
    program = replace(program, ops=tuple(ops), weights=weights)
    image = rng.integers(0, 256, (1, 3, 16, 24), np.uint8)
    found = engine_of(replace(whole, program=program)).run(program, image)
    expected = reference.run(program, image)
    assert np.array_equal(found['cls'], expected['cls'])


@pytest.mark.parametrize('version', [3, 4])
def test_a_file_of_an_earlier_version_runs_as_the_newest(version):
    whole = detector()
    image, conv, *others = whole.program.ops
    table = np.arange(255, -256, -1, dtype=np.int32)
    turned = ir.Lookup('l', ('p',), 3, image.grid, table, -255)
    ops = (image, turned, replace(conv, inputs=('l',)), *others)
    program = replace(whole.program, ops=ops)
    whole = replace(whole, program=program)
    content = of_version(version, file.to_bytes(whole))
    pixels = np.random.default_rng(0).integers(
        0, 256, (1, 3, 16, 24), np.uint8
    )
    expected = reference.run(program, pixels)
    again = reference.run(file.from_bytes(content).program, pixels)
    found = Engine(whole, content, 1).run(program, pixels)
    for name in ('cls', 'box'):
        assert len(np.unique(expected[name])) > 9
        assert np.array_equal(again[name], expected[name])
        assert np.array_equal(found[name], expected[name])
