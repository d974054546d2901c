"""Budgets, what widths cost, and how a program is fitted."""

from typing import Any

import numpy as np
import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.models.quantized_detector import quantized_layers
from aqd_mmdet.post_training import budget as module
from aqd_mmdet.post_training.budget import (
    WIDTHS,
    Budget,
    Job,
    fit,
    gains,
    packed_bytes,
    read_budget,
)
from aqd_mmdet.post_training.recipe import find_recipe
from aqd_mmdet.post_training.stems import find_stems
from aqd_mmdet.post_training.widths import options_of_layers
from aqd_mmdet.program.packing import pack
from tests.post_training.small import pictures, small

# What the file of a small detector has beside its weights.
REST = 1000
# Of stem, depthwise convolution and head.
COUNTS = (216, 72, 32)


@pytest.mark.parametrize(
    ('text', 'limit', 'unit'),
    [
        ('0.5MB', 5e5, 'bytes'),
        ('500kB', 5e5, 'bytes'),
        ('.5 MB', 5e5, 'bytes'),
        ('20ms', 20, 'ms'),
    ],
)
def test_budgets_are_read(text, limit, unit):
    assert read_budget(text) == Budget(limit, unit)


@pytest.mark.parametrize('text', ['', '20', 'ms', '-1MB', '0MB', '1mb', '1s'])
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(UserError, match='kB, MB, ms'):
        read_budget(text)


@pytest.mark.parametrize('bits', WIDTHS)
@pytest.mark.parametrize('count', [1, 31, 32, 33, 216])
def test_packed_bytes_are_those_of_a_file(count, bits):
    packed = len(pack(np.zeros(count, np.uint8), bits))
    assert 0 <= packed_bytes(count, bits) - packed < 8
    assert packed_bytes(count, bits) % 8 == 0


def test_small_gains_are_chance():
    assert gains([10, 9.9, 9.8, 10.2, 8, 7.9]) == [10, 10, 10, 10, 8, 8]


class SmallJob(Job):
    """A job whose programs are the quantised detectors themselves.

    Attributes:
        tables: Bytes that files with narrow weights have more than others.
    """

    tables = 0

    def compile(self, student: Any) -> Any:
        return student


@pytest.fixture
def job(monkeypatch) -> Job:
    def to_bytes(student: Any) -> bytes:
        weights = sum(
            packed_bytes(x.weight.numel(), x.weight_quantizer.grid.bits)
            for x in quantized_layers(student).values()
        )
        tables = SmallJob.tables if weights < sum(COUNTS) else 0
        return bytes(weights + REST + tables)

    monkeypatch.setattr(module.file, 'to_bytes', to_bytes)
    detector = small()
    recipe = find_recipe(detector, find_stems(detector), 8, 8)
    image = np.zeros((32, 32, 3), np.uint8)
    return SmallJob(
        detector, recipe, pictures(4), 'calibrate', print, Any, image
    )


def widths_of(recipe: Any) -> dict[str, int]:
    layers = options_of_layers(small(), recipe)
    return {n: o.weight_bits or 0 for n, o in layers.items()}


def sizes(widths: dict[str, int]) -> int:
    pairs = zip(COUNTS, widths.values(), strict=True)
    return sum(packed_bytes(count, bits) for count, bits in pairs)


@pytest.mark.parametrize('limit', [REST + x for x in (96, 150, 250, 320)])
def test_a_size_is_kept(job, limit):
    fitted = fit(job, Budget(limit, 'bytes'))
    widths = widths_of(fitted.recipe)
    assert sizes(widths) + REST <= limit
    layers = quantized_layers(fitted.quantized.detector)
    assert {
        n: x.weight_quantizer.grid.bits for n, x in layers.items()
    } == widths
    assert fitted.compiled is fitted.quantized.detector


def test_wide_budgets_narrow_nothing(job):
    fitted = fit(job, Budget(10**6, 'bytes'))
    assert set(widths_of(fitted.recipe).values()) == {8}


def test_a_file_that_is_longer_than_expected_is_chosen_again(job, monkeypatch):
    limit = REST + 250
    first = sizes(widths_of(fit(job, Budget(limit, 'bytes')).recipe))
    monkeypatch.setattr(SmallJob, 'tables', 30)
    second = sizes(widths_of(fit(job, Budget(limit, 'bytes')).recipe))
    assert second + 30 + REST <= limit < first + 30 + REST


def test_the_least_size_is_told(job):
    # 216, 72 and 32 weights of 2 bits.
    least = REST + 56 + 24 + 8
    fit(job, Budget(least, 'bytes'))
    with pytest.raises(UserError, match=r'the least .* is 0\.002MB'):
        fit(job, Budget(least - 1, 'bytes'))
    with pytest.raises(UserError, match=r'^--budget 0\.001kB: widths'):
        fit(job, read_budget('0.001kB'))


def test_times_are_divided_by_multiplications(job, monkeypatch):
    times = dict(zip(WIDTHS, (10, 10, 10, 8, 6, 4), strict=True))

    def milliseconds(programs, image):
        result = []
        for student in programs:
            layers = quantized_layers(student)
            bits = {n: x.weight_quantizer.grid.bits for n, x in layers.items()}
            result.append(
                sum(times[bits[n]] * macs[n] for n in bits)
                / sum(macs.values())
            )
        return result

    # Of 16 x 16 outputs each.
    macs = {'stem': 216, 'depthwise': 72, 'bbox_head.output': 32}
    monkeypatch.setattr(module, 'milliseconds', milliseconds)
    monkeypatch.setattr(module, 'library', lambda: True)
    fitted = fit(job, Budget(7, 'ms'))
    assert milliseconds([fitted.compiled], None)[0] <= 7
    assert set(widths_of(fitted.recipe).values()) <= {8, 4, 3, 2}
    with pytest.raises(UserError, match=r'the least .* is 4\.00ms'):
        fit(job, Budget(3.9, 'ms'))


def test_times_need_the_engine(job, monkeypatch):
    monkeypatch.setattr(module, 'library', lambda: None)
    with pytest.raises(UserError, match='not built'):
        fit(job, Budget(7, 'ms'))
