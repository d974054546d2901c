"""Maps of an exported file beside the engine's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aqd_mmdet.errors import UserError
from aqd_mmdet.export import onnx_model, qdq_model
from aqd_mmdet.export.onnx_check import Agreement, agreement, differences
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.detector import CompiledDetector
from aqd_mmdet.runtime import Detector, reference
from tests.factories import detector, noise


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = []
    for seed in range(2):
        paths.append(tmp_path / f'{seed}.png')
        Image.fromarray(noise(seed, 20 + seed, 30)).save(paths[-1])
    return paths


def other_biases(compiled: CompiledDetector) -> CompiledDetector:
    """The detector, all of whose codes are 1 more where they can be."""

    def moved(op: ir.Op) -> ir.Op:
        if not isinstance(op, ir.Requantize):
            return op
        old = op.multipliers
        new = old.b + (np.int64(1) << old.s.astype(np.int64))
        return replace(op, multipliers=replace(old, b=new))

    program = compiled.program
    ops = tuple(moved(op) for op in program.ops)
    return replace(compiled, program=replace(program, ops=ops))


@pytest.mark.parametrize('build', [onnx_model, qdq_model])
def test_equal_maps(build, pictures):
    compiled = detector()
    runner = Detector(compiled, 1, reference.run)
    found = agreement(build.export(compiled), runner, pictures)
    assert found.codes > 0
    assert found == Agreement(2, found.codes, 0, 0)
    assert str(found) == (
        f"2 pictures, {found.codes:,} codes of maps: all are the engine's"
    )


def test_other_maps(pictures):
    """Those of integers are a fault, and those of real values are counted."""
    compiled = detector()
    runner = Detector(other_biases(compiled), 1, reference.run)
    with pytest.raises(
        UserError, match=r"image .*0\.png: .* not the engine's"
    ):
        agreement(onnx_model.export(compiled), runner, pictures)
    found = agreement(qdq_model.export(compiled), runner, pictures)
    assert (found.different > 0) and found.largest >= 1
    assert f"{found.different:,} are not the engine's" in str(found)


def test_real_values_are_codes_of_their_scale():
    ops = (ir.Image('p', ('image',), 1, ir.Grid(0, 255), (0,)),)
    program = ir.Program(ops, {}, (ir.Output(('p',), 0.25),), 1)
    codes = np.array([[[[0, 1, 200]]]], np.int32)
    values = np.array([[[[0.01, 0.24, 50.5]]]], np.float32)
    for maps, exact, off in (
        (codes, True, [0, 0, 0]),
        (codes + 2, True, [2, 2, 2]),
        (values, False, [0, 0, 2]),
    ):
        ((name, was_exact, found),) = differences(
            program, [maps], {'p': codes}
        )
        assert (name, was_exact) == ('p', exact)
        assert found.ravel().tolist() == off
