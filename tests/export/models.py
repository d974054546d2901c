"""Runs exported programs, and makes programs that can be exported."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

from aqd_mmdet.export import onnx_session
from aqd_mmdet.export.onnx_graph import Graph, Value
from aqd_mmdet.export.onnx_model import Build, model_of
from aqd_mmdet.export.onnx_proto import proto_of
from aqd_mmdet.program import ops as ir
from aqd_mmdet.runtime import reference

Maps = dict[str, np.ndarray]
PIXELS = ir.Grid(-255, 255)


def session(content: bytes) -> onnxruntime.InferenceSession:
    """A session of ONNX Runtime on one thread."""
    return onnx_session.session(onnx.load_from_string(content), 1)


def model(program: ir.Program, build: Build = model_of) -> onnx.ModelProto:
    """A program as a model, checked, whose outputs have its tensors' names."""
    names = program.output_names()
    exported = build(program, dict(zip(names, names, strict=True)), {})
    onnx.checker.check_model(exported, full_check=True)
    return exported


def run_onnxruntime(exported: onnx.ModelProto, **inputs: np.ndarray) -> Maps:
    runner = session(exported.SerializeToString())
    names = [each.name for each in runner.get_outputs()]
    found = runner.run(None, inputs)
    return dict(zip(names, found, strict=True))


def run_evaluator(exported: onnx.ModelProto, **inputs: np.ndarray) -> Maps:
    names = [each.name for each in exported.graph.output]
    with warnings.catch_warnings():
        # It pads maxima with a NaN, by zero pixels.
        warnings.simplefilter('ignore', RuntimeWarning)
        found = ReferenceEvaluator(exported).run(None, inputs)
    return dict(zip(names, found, strict=True))


def check(
    program: ir.Program, image: np.ndarray, with_evaluator: bool = True
) -> Maps:
    """Compare ONNX Runtime, and ONNX's evaluator, with the reference.

    Returns:
        The outputs, which are equal.
    """
    exported = model(program)
    expected = reference.run(program, image)
    runners = [run_onnxruntime, *([run_evaluator] * with_evaluator)]
    for run in runners:
        found = run(exported, image=image)
        assert found.keys() == expected.keys()
        for name, codes in expected.items():
            assert found[name].dtype == np.int32
            assert np.array_equal(found[name], codes), (run.__name__, name)
    return expected


def results(
    graph: Graph,
    names: Sequence[str],
    rank: int = 1,
    with_evaluator: bool = True,
    **inputs: np.ndarray,
) -> list[list[np.ndarray]]:
    """What ONNX Runtime, and ONNX's evaluator, find for tensors of int64.

    Args:
        graph: The graph.
        names: The tensors.
        rank: Number of their axes.
        with_evaluator: Whether the evaluator runs it as well.
        inputs: What it is given.
    """
    given = [
        Value(name, str(x.dtype), tuple(f'{name}.{i}' for i in range(x.ndim)))
        for name, x in inputs.items()
    ]
    wanted = [
        Value(name, 'int64', tuple(f'{name}.{i}' for i in range(rank)))
        for name in names
    ]
    exported = proto_of(graph, given, wanted, {})
    onnx.checker.check_model(exported, full_check=True)
    runners = [run_onnxruntime, *([run_evaluator] * with_evaluator)]
    return [[*run(exported, **inputs).values()] for run in runners]


def from_pixels(
    program: ir.Program, values: np.ndarray
) -> tuple[ir.Program, np.ndarray]:
    """A network that computes what a program of a second stage does.

    A pixel is the number of its place, from which a table of each channel
    makes the value.

    Args:
        program: It begins with a Region.
        values: What it is given, (N, C, H, W), up to 256 places.

    Returns:
        The network, and its image.
    """
    region, *others = program.ops
    number, channels, height, width = values.shape
    places = np.arange(number * height * width, dtype=np.uint8)
    assert len(set(places.tolist())) == number * height * width
    image = places.reshape(number, 1, height, width).repeat(channels, 1)
    tables = np.zeros((channels, len(PIXELS)), np.int32)
    tables[:, 255 : 255 + len(places)] = values.swapaxes(0, 1).reshape(
        channels, -1
    )
    means = (0,) * channels
    ops = (
        ir.Image('pixels', ('image',), channels, PIXELS, means),
        ir.Lookup(
            region.output, ('pixels',), channels, region.grid,
            tables.reshape(-1), -255, tuple(range(channels)),
        ),
    )  # fmt: skip
    return replace(program, ops=(*ops, *others)), image


def requantize(
    name: str, source: str, channels: int, grid: ir.Grid, *integers: int
) -> ir.Requantize:
    """A Requantize of one multiplier, bias and shift."""
    m, b, s = integers
    table = ir.Multipliers(
        np.array([m], np.int32), np.array([b]), np.array([s], np.uint8)
    )
    return ir.Requantize(name, (source,), channels, grid, table)
