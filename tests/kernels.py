"""Which kernels of the engine this machine has, and how to choose one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from aqd_mmdet.runtime.engine import instruction_sets


@contextmanager
def chosen(name: str) -> Iterator[None]:
    """Let detectors that are loaded run by these kernels."""
    with mock.patch.dict(os.environ, AQD_ISA=name):
        yield


def names() -> tuple[str, ...]:
    """Return what AQD_ISA may be here."""
    sets = instruction_sets()
    assert sets, 'the engine is not built'
    return sets
