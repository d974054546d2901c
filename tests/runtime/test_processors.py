"""How many processors a process may use."""

import pytest

from aqd_mmdet.runtime import processors


@pytest.mark.parametrize(
    'quota, expected',
    [
        ('max 100000', 6),
        ('200000 100000', 2),
        ('150000 100000', 2),
        ('5000 100000', 1),
        ('900000 100000', 6),
        ('nonsense', 6),
        (None, 6),
    ],
)
def test_processors_that_may_be_used(tmp_path, monkeypatch, quota, expected):
    path = tmp_path / 'cpu.max'
    if quota is not None:
        path.write_text(quota)
    monkeypatch.setattr(processors, 'QUOTA', path)
    monkeypatch.setattr(processors.os, 'cpu_count', lambda: 64)
    monkeypatch.setattr(
        processors.os, 'sched_getaffinity', lambda pid: set(range(6))
    )
    assert processors.processors() == expected
