"""The engine in C++: whole networks, sizes that it refuses, damaged files."""

import ctypes
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import zlib
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.detector import CompiledDetector
from aqd_mmdet.program.fixed_point import Multipliers
from aqd_mmdet.runtime import engine, reference
from aqd_mmdet.runtime.engine import Engine
from tests import kernels
from tests.factories import ROOT, compile_narrow
from tests.program.test_file import detector
from tests.program.test_operators import program_of, run_program


def engine_of(compiled: CompiledDetector, threads: int = 1) -> Engine:
    return Engine(compiled, file.to_bytes(compiled), threads)


@pytest.mark.parametrize(
    ('name', 'bits'),
    [*(('retinanet', bits) for bits in (2, 3, 4, 8)), ('fcos', 2)],
)
@pytest.mark.parametrize('isa', kernels.names())
def test_networks_are_the_references(name, bits, isa, monkeypatch):
    monkeypatch.setenv('AQD_ISA', isa)
    program = compile_narrow(18, bits, name).folded.program
    runner = engine_of(replace(detector(), program=program), 3)
    for shape in [(1, 3, 64, 96), (3, 3, 96, 32), (1, 3, 64, 96)]:
        pixels = torch.randint(0, 256, shape).to(torch.uint8).numpy()
        expected = reference.run(program, pixels)
        found = runner.run(program, pixels)
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
    with pytest.raises(ValueError, match='other sizes'):
        runner.run(small.program, np.zeros((1, 3, 8, 8), np.uint8), out)


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


@pytest.mark.parametrize('grid', [(0, 255), (-127, 127), (-1, 2), None])
@pytest.mark.parametrize('shift', [0, 1, 9, 31])
@pytest.mark.parametrize('beyond', [0, 1])
def test_shifted_numbers_at_the_edge_of_32_bits(beyond, shift, grid):
    """Vectors clamp the lower halves of numbers that are proven to fit."""
    most = 2 ** (31 + shift) - 1 + beyond
    channels = 20
    # Of both signs; sums are those of one weight.
    for factor, sign, weight in product((1, -1), (1, -1), (0, 127, -127)):
        largest = 127 * (abs(weight) or 1)
        m = 2**16 + 1
        b = most - largest * m
        rounding = Multipliers(
            np.array([factor * m], np.int32),
            np.array([sign * b], np.int64),
            np.array([shift], np.uint8),
        )
        x = np.resize(np.arange(-127, 128), (1, channels, 3, 37))
        x[..., ::5], x[..., 1::5] = 127, -127
        assert (abs(x * (weight or 1) * factor * m + sign * b)).max() == most
        last = ir.Requantize(
            'z', ('x',), channels, ir.Grid(*grid) if grid else ir.INT32,
            rounding,
        )  # fmt: skip
        ops: list[ir.Op] = [last]
        weights = {}
        if weight:
            one = (1, 1)
            codes = weight * np.eye(channels, dtype=np.int16)
            weights['w'] = ir.Weights.of(codes[..., None, None], 8)
            sums = ir.Convolution(
                'y', ('x',), channels, ir.INT32, one, one, (0, 0), one, 'w', 1
            )
            ops = [sums, replace(last, inputs=('y',))]
        program, given = program_of(
            ops[0], [x.astype(np.int8)], weights, tuple(ops[1:]),
            ir.Grid(-127, 127),
        )  # fmt: skip
        found = run_program(program, given)
        expected = reference.run(program, given)
        assert np.array_equal(found['z'], expected['z'])


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


def signed(text: bytes, data: bytes) -> bytes:
    """A file of two sections whose checksums are right."""
    parts = (text, data)
    return b''.join(
        [
            file.HEADER.pack(file.MAGIC, file.VERSION, 2),
            *(
                file.SECTION.pack(tag, zlib.crc32(part), len(part))
                for tag, part in zip(file.TAGS, parts, strict=True)
            ),
            *parts,
        ]
    )


def sections(content: bytes) -> tuple[bytes, bytes]:
    at = file.HEADER.size
    _, _, length = file.SECTION.unpack_from(content, at)
    start = at + 2 * file.SECTION.size
    return content[start : start + length], content[start + length :]


def mutated(content: bytes, seed: int) -> bytes:
    """A file with a few changes that checksums do not tell."""
    rng = np.random.default_rng(seed)
    text, data = sections(content)
    tree = json.loads(text)
    for _ in range(rng.integers(1, 4)):
        change(tree, rng)
    text = json.dumps(tree).encode()
    if rng.random() < 0.3:
        broken = bytearray(text)
        broken[rng.integers(len(broken))] = rng.integers(256)
        text = bytes(broken)
    if rng.random() < 0.3:
        data = data[: rng.integers(len(data))]
    return signed(text, data)


NUMBERS = (0, 1, -1, 2, 3, 255, 2**16, 2**31 - 1, -(2**31), 2**62, 1.5, None)


def change(tree: object, rng: np.random.Generator) -> None:
    """Change one leaf, or drop one child, anywhere."""
    node = tree
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        if not len(keys):
            return
        key = keys[rng.integers(len(keys))]
        child = node[key]
        if isinstance(child, (dict, list)) and child and rng.random() < 0.95:
            node = child
        elif rng.random() < 0.1:
            del node[key]
            return
        else:
            node[key] = NUMBERS[rng.integers(len(NUMBERS))]
            return


def load(content: bytes) -> tuple[int, str]:
    """Load a file in the engine and return its status and message."""
    model, message = ctypes.c_void_p(), ctypes.create_string_buffer(300)
    status = engine.library().aqd_load(
        content,
        ctypes.c_size_t(len(content)),
        None,
        ctypes.byref(model),
        message,
        ctypes.c_size_t(300),
    )
    engine.library().aqd_free(model)
    return status, message.value.decode(errors='replace')


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


@pytest.mark.parametrize('isa', kernels.names())
def test_sanitizers_find_nothing(replay, isa, monkeypatch):
    monkeypatch.setenv('AQD_ISA', isa)
    small = file.to_bytes(detector())
    program = compile_narrow(18, 2).folded.program
    whole = file.to_bytes(replace(detector(), program=program))
    contents = [small, whole]
    contents += [mutated(small, seed) for seed in range(1500)]
    contents += [mutated(whole, seed) for seed in range(40)]
    loaded, ran, detected = replay(contents)
    assert 1 <= detected <= ran <= loaded < len(contents)


def test_lookups_come_before_what_is_added(tmp_path):
    """Pairs of both in turn are slower, and compilers make such pairs."""
    objdump = shutil.which('objdump')
    if platform.machine() != 'x86_64' or objdump is None:
        pytest.skip('no objdump of x86-64 here')
    path = next((ROOT / 'aqd_mmdet/runtime').glob('_engine*.so'))
    listing = subprocess.run(
        [objdump, '-d', '--no-show-raw-insn', path],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    names = re.findall(r'\t(v[a-z0-9]+)\s+%', listing)
    run = ' '.join(names)
    assert run.count('vpermb ' * 4 + 'vpaddusb ' * 4) >= 4
