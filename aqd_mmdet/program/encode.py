"""From a detector to what its file holds: docs/file_format.md, section 2."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args

import numpy as np

from . import arrays
from . import ops as ir
from .container import ALIGNMENT
from .detector import CompiledDetector, Decoder, Scores
from .fixed_point import Multipliers, whole_steps
from .limits import LIMITS

# Classes that stand where an annotation names a base or a choice.
KINDS = (*ir.OPERATORS, *get_args(Decoder), *get_args(Scores))
# Multipliers have 24 bits, and biases about 40. They are copied when they are
# read; all other arrays have types of C.
ANY_WIDTH = tuple(range(1, 9))


class _Data:
    """The block of numbers while it is written."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.length = 0
        # Where each content is: tables of one function are written once.
        self.places: dict[bytes, int] = {}

    def add(self, array: np.ndarray, *widths: int) -> dict:
        name = arrays.smallest(array, widths or arrays.C_WIDTHS)
        content = arrays.to_bytes(array, name)
        at = self.places.setdefault(content, self.length)
        if at == self.length:
            gap = -len(content) % ALIGNMENT
            self.parts.append(content + b'\0' * gap)
            self.length += len(content) + gap
        return dict(dtype=name, shape=list(array.shape), at=at)


def encode(detector: CompiledDetector) -> tuple[Any, bytes]:
    """Return the structure of a file, for JSON, and its numbers."""
    data = _Data()
    tree = _encode(detector, data)
    return tree, b''.join(data.parts)


def _encode(value: Any, data: _Data) -> Any:
    if isinstance(value, np.ndarray):
        return data.add(value)
    if isinstance(value, Multipliers):
        return _encode_multipliers(value, data)
    if is_dataclass(value):
        node = {f.name: getattr(value, f.name) for f in fields(value)}
        if isinstance(value, ir.Lookup):
            count = max(value.rows) + 1
            node['table'] = tuple(np.split(value.table, count))
            node['rows'] = _per_channel(value.rows)
        if isinstance(value, ir.Convolution):
            node['zero'] = _per_channel(value.zero)
        node = _encode(node, data)
        cls = type(value)
        return {'kind': cls.__name__, **node} if cls in KINDS else node
    if isinstance(value, Mapping):
        return {key: _encode(child, data) for key, child in value.items()}
    if isinstance(value, tuple):
        return [_encode(child, data) for child in value]
    return value


def _per_channel(numbers: tuple[int, ...]) -> Any:
    return np.array(numbers) if len(numbers) > 1 else numbers


def _encode_multipliers(table: Multipliers, data: _Data) -> dict:
    """Biases of 40 bits that are offsets of a few bits are stored as these."""
    shift = table.s.astype(np.int64)
    offset = table.b >> shift
    limit = LIMITS['Multipliers.offset']
    near = (offset >= limit.least) & (offset <= limit.most)
    whole = bool((near & (whole_steps(offset, shift) == table.b)).all())
    return dict(
        m=data.add(table.m, *ANY_WIDTH),
        b=data.add(offset) if whole else data.add(table.b, *ANY_WIDTH),
        s=data.add(table.s),
        whole=whole,
    )
