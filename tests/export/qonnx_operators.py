"""Operators of QONNX, by their specification, for ONNX's evaluator."""

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops import op_max_pool

from aqd_mmdet.export.onnx_proto import QONNX
from aqd_mmdet.program import ops as ir
from aqd_mmdet.runtime import reference
from tests.export.models import Maps


class Quant(OpRun):
    """Integers of a step and a zero point, as the floats that they mean."""

    op_domain = QONNX

    def _run(
        self, x, scale, zero, bits, signed=None, narrow=None,
        rounding_mode=None,
    ):  # fmt: skip
        assert rounding_mode == 'ROUND'
        assert {each.dtype for each in (x, scale, zero, bits)} == {
            np.dtype(np.float32)
        }
        count = 2.0 ** int(bits)
        low = (narrow - count / 2) if signed else 0
        high = count / 2 - 1 if signed else count - 1 - narrow
        codes = np.rint(np.clip(x / scale + zero, low, high))
        return (((codes - zero) * scale).astype(np.float32),)


class MultiThreshold(OpRun):
    """The number of thresholds that each value reaches, and a bias."""

    op_domain = QONNX

    def _run(
        self, x, thresholds, out_dtype=None, out_bias=None, data_layout=None
    ):
        assert data_layout == 'NCHW'
        assert len(thresholds) in (1, x.shape[1])
        assert (np.diff(thresholds) >= 0).all()
        counts = np.zeros_like(x)
        for column in thresholds.T:
            counts += x >= column[:, None, None]
        return (counts + np.float32(out_bias),)


class MaxPool(op_max_pool.MaxPool):
    """With pads as ONNX has them: all beginnings, then all ends.

    Where all strides are 1, that of onnx 1.23 takes them for pairs, first the
    beginning and the end of the rows.
    """

    op_domain = ''

    def _run(self, x, **attributes):
        return self._max_pool(x, **attributes)


def evaluate(exported: onnx.ModelProto, image: np.ndarray) -> Maps:
    """What ONNX's evaluator finds for an image, uint8."""
    names = [each.name for each in exported.graph.output]
    evaluator = ReferenceEvaluator(
        exported, new_ops=[Quant, MultiThreshold, MaxPool]
    )
    found = evaluator.run(None, {'image': image.astype(np.float32)})
    return dict(zip(names, found, strict=True))


def execute(exported: onnx.ModelProto, image: np.ndarray) -> Maps:
    """What the executor of the package qonnx finds for an image, uint8."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx

    wrapper = ModelWrapper(exported)
    return execute_onnx(wrapper, {'image': image.astype(np.float32)})


def check_maps(program: ir.Program, image: np.ndarray, found: Maps) -> None:
    """Compare maps with the reference's, without tolerance."""
    expected = reference.run(program, image)
    assert found.keys() == expected.keys()
    for name, codes in expected.items():
        assert found[name].dtype == np.int32
        assert np.array_equal(found[name], codes), name
