"""What this machine can do at most."""

import pytest

from aqd_mmdet.benchmark import peaks
from aqd_mmdet.benchmark.peaks import Peaks
from aqd_mmdet.runtime.engine import OpProfile
from tests import kernels

PEAKS = Peaks({8: 100e9, 16: 50e9}, {1000: 10e9, 4000: 8e9, 16000: 2e9})


def op(products: int, bits: int, size: int) -> OpProfile:
    return OpProfile('x', 'direct', (1, 1, 1), 9, 0, products, bits, size)


@pytest.mark.parametrize(
    'products, bits, size, expected',
    [
        (0, 0, 1000, (1000 / 10e9, 'memory')),
        # The rate is that of the smallest block that holds all.
        (0, 0, 1001, (1001 / 8e9, 'memory')),
        (0, 0, 99999, (99999 / 2e9, 'memory')),
        (50000, 8, 1000, (50000 / 100e9, 'products')),
        (50000, 16, 1000, (50000 / 50e9, 'products')),
        (50000, 8, 4001, (4001 / 2e9, 'memory')),
    ],
)
def test_bound(products, bits, size, expected):
    assert PEAKS.bound(op(products, bits, size)) == expected


@pytest.mark.parametrize('isa', kernels.names())
def test_rates_are_measured_for_both_widths(isa, monkeypatch):
    monkeypatch.setenv('AQD_ISA', isa)
    monkeypatch.setattr(peaks, 'ROUNDS', 2)
    rates = peaks.product_rates()
    assert rates.keys() == {8, 16}
    assert rates[16] > 1e6 and rates[8] > 1e6


def test_rates_are_of_all_threads(monkeypatch):
    monkeypatch.setattr(peaks, 'product_rates', lambda: {8: 3.0, 16: 2.0})
    monkeypatch.setattr(peaks, 'copy_rate', float)
    found = peaks.measure(4)
    assert found.products == {8: 12.0, 16: 8.0}
    assert found.copies == {size: 4.0 * size for size in peaks.BLOCKS}


def test_a_copy_has_a_rate(monkeypatch):
    monkeypatch.setattr(peaks, 'ROUNDS', 3)
    assert 1e7 < peaks.copy_rate(2**20) < 1e13
