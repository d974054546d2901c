"""Changes of a file, whose lengths and checksums are right again."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aqd_mmdet.program import container
from tests.damage import of_version, sections, signed


@dataclass(frozen=True)
class Refusal:
    """One change.

    Attributes:
        name: For test reports.
        change: Makes the bad content from a good one.
        message: Part of what aqd_mmdet.program says of it.
    """

    name: str
    change: Callable[[bytes], bytes]
    message: str


def with_text(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Change the text of the structure."""

    def apply(content: bytes) -> bytes:
        text, data = sections(content)
        return signed(change(text), data)

    return apply


def with_tree(change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    """Change the structure."""

    def apply(text: bytes) -> bytes:
        tree = json.loads(text)
        change(tree)
        return json.dumps(tree).encode()

    return with_text(apply)


def setting(path: str, value: Any) -> Callable[[bytes], bytes]:
    """Set the value at a path such as ``program.ops.0.kind``."""

    def change(tree: Any) -> None:
        *parents, key = (int(k) if k.isdigit() else k for k in path.split('.'))
        for parent in parents:
            tree = tree[parent]
        tree[key] = value

    return with_tree(change)


def without(path: str) -> Callable[[bytes], bytes]:
    def change(tree: Any) -> None:
        *parents, key = (int(k) if k.isdigit() else k for k in path.split('.'))
        for parent in parents:
            tree = tree[parent]
        del tree[key]

    return with_tree(change)


def as_version(
    version: int,
    change: Callable[[bytes], bytes] = lambda content: content,
) -> Callable[[bytes], bytes]:
    """Change the file as an earlier release wrote it."""

    def apply(content: bytes) -> bytes:
        changed = change(of_version(version, content))
        return signed(*sections(changed), version)

    return apply


def with_block(block: bytes) -> Callable[[bytes], bytes]:
    """Put other bytes in the place of the compressed text."""

    def apply(content: bytes) -> bytes:
        _, data = sections(content)
        return container.sealed(container.VERSION, block, data)

    return apply


def with_numbers(
    path: str, dtype: str, content: bytes, *shape: int
) -> Callable[[bytes], bytes]:
    """Set the array at a path to numbers of its own."""

    def apply(whole: bytes) -> bytes:
        text, data = sections(whole)
        node = dict(dtype=dtype, shape=list(shape), at=len(data))
        changed = setting(path, node)(signed(text, data))
        return signed(sections(changed)[0], data + content)

    return apply


def with_ops(*ops: dict) -> Callable[[bytes], bytes]:
    """Append operators to the network."""
    return with_tree(lambda tree: tree['program']['ops'].extend(ops))


def operator(
    kind: str, *inputs: str, lo: int = 0, hi: int = 255, **more: Any
) -> dict:
    """Return an operator of two channels, or of other ones."""
    grid = dict(lo=lo, hi=hi)
    op = dict(kind=kind, output=kind, inputs=list(inputs), channels=2)
    return op | dict(grid=grid) | more


OPS, POST = 'program.ops', 'postprocess'
BOX = f'{OPS}.4'  # a requantisation per channel
