"""Instruction sets of the engine on this machine, and how to choose one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from aqd_mmdet.runtime.engine import instruction_sets


@contextmanager
def chosen(name: str) -> Iterator[None]:
    """Load detectors with the kernels of this instruction set."""
    with mock.patch.dict(os.environ, AQD_ISA=name):
        yield


def names() -> tuple[str, ...]:
    """Return the values of AQD_ISA that this machine supports."""
    sets = instruction_sets()
    assert sets, 'the engine is not built'
    return sets
