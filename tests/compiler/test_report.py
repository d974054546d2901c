"""What a compilation came to."""

import torch
from torch import nn

from aqd_mmdet.compiler.report import (
    LayerReport,
    Sizes,
    float32_bytes,
    lines,
    make_report,
)
from aqd_mmdet.compiler.verify import Agreement
from tests.factories import detector

SIZES = Sizes(4 * 2**20, 2 * 2**20, 2**19)
METRICS = {'coco/bbox_mAP': 0.321}


def test_float_state_alone_is_counted():
    # Four numbers and their statistics; the count of batches is no float.
    assert float32_bytes(nn.BatchNorm2d(2)) == 4 * 8
    assert float32_bytes(nn.Conv2d(1, 2, 1).to(torch.float16)) == 4 * 4


def test_a_layer_is_reported_with_its_input():
    agreements = {
        'p': Agreement(
            count=8, equal_per_layer=7, worst_per_layer=1, equal_end_to_end=6
        )
    }
    report = make_report([detector().program], agreements, SIZES, METRICS)
    narrow, wide = report.layers
    assert narrow == LayerReport('c', 2, 4, 511, 20.68, 7 / 8, 1, 6 / 8)
    assert (wide.name, wide.weight_bits, wide.input_codes) == ('b', 8, 511)
    # Of 31 bits, less those of the largest sum: weights of a channel x 255.
    assert wide.headroom == 14.71
    assert report.codes == 8
    assert (report.equal_per_layer, report.worst_per_layer) == (7 / 8, 1)


def test_lines_without_and_with_a_comparison():
    report = make_report([detector().program], {}, SIZES, METRICS)
    text = list(lines(report))
    assert text[0] == (
        'layer  bits  weights  inputs  headroom    by layer  end to end'
    )
    assert text[1].split()[:4] == ['c', '2', '4', '511']
    assert text[3:] == [
        '',
        'size: float32 4.00 MiB, float16 2.00, this file 0.50 (1/8.0)',
        'coco/bbox_mAP: 0.321',
    ]
    compared = make_report(
        [detector().program], {'p': Agreement(8, 7, 1, 6)}, SIZES, {}
    )
    assert list(lines(compared))[4] == (
        '8 codes compared with the float simulation: 87.500000% equal where '
        "each layer is given the simulation's codes, none off by more than "
        '1; 75.000000% end to end'
    )


def test_nothing_compared_is_none():
    report = make_report([], {}, SIZES, {})
    assert report.codes == 0
    assert report.equal_per_layer is report.worst_per_layer is None
