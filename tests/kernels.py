"""Which kernels of the engine this machine has, and how to choose one."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from unittest import mock

import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file
from aqd_mmdet.runtime.engine import Engine
from tests.program.test_file import detector


@contextmanager
def chosen(name: str) -> Iterator[None]:
    """Let detectors that are loaded run by these kernels."""
    with mock.patch.dict(os.environ, AQD_ISA=name):
        yield


@cache
def names() -> tuple[str, ...]:
    """Return what AQD_ISA may be here, by the engine's own message."""
    small = detector()
    with (
        chosen('none'),
        pytest.raises(UserError, match='what this machine has') as told,
    ):
        Engine(small, file.to_bytes(small), 1)
    return tuple(re.split(', ', str(told.value).rsplit(': ', 1)[1]))
