"""Files with changes that no checksum tells, and how the engine loads them."""

import ctypes
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from aqd_mmdet.program import container, file, lz4
from aqd_mmdet.program.detector import (
    Anchors,
    Sigmoid,
)
from aqd_mmdet.program.encode import KINDS
from aqd_mmdet.runtime import engine
from tests.random_detectors import DECODERS, SCORES, random_detector


def sections(content: bytes) -> tuple[bytes, bytes]:
    """The JSON of a file and its numbers, whatever its version."""
    _, text, data = container.split(content)
    return text, bytes(data)


def signed(
    text: bytes, data: bytes, version: int = container.VERSION
) -> bytes:
    """A file of two sections whose checksums are right."""
    if version == container.VERSION:
        text = lz4.sequence(text)  # of literals alone, which is quick
    return container.sealed(version, text, data)


def of_version(version: int, content: bytes) -> bytes:
    """The file as an earlier release wrote it; it must have no more in it."""
    data = bytearray()
    tree = as_earlier(file.from_bytes(content), data)
    # A copy: a change may put something else in a stage's place.
    stages = [*(tree['regions'] or {}).get('stages', [])]
    for program in (tree['program'], *(each['program'] for each in stages)):
        for op in program['ops']:
            for key in ('zero', 'rows'):
                if version == 3:
                    assert op.pop(key, [0]) == [0]
    return signed(json.dumps(tree).encode(), bytes(data), version)


def as_earlier(value: Any, data: bytearray) -> Any:
    """The structure of earlier versions: arrays are those of the program."""
    if isinstance(value, np.ndarray):
        at = len(data)
        data += value.tobytes() + bytes(-value.nbytes % 8)
        return dict(dtype=value.dtype.name, shape=list(value.shape), at=at)
    if is_dataclass(value):
        node = {
            f.name: as_earlier(getattr(value, f.name), data)
            for f in fields(value)
        }
        cls = type(value)
        return {'kind': cls.__name__, **node} if cls in KINDS else node
    if isinstance(value, Mapping):
        return {key: as_earlier(child, data) for key, child in value.items()}
    if isinstance(value, tuple):
        return [as_earlier(child, data) for child in value]
    return value


NUMBERS = (0, 1, -1, 2, 3, 255, 2**16, 2**31 - 1, -(2**31), 2**62, 1.5, None)


def change(tree: object, rng: np.random.Generator) -> None:
    """Change one leaf, or drop one child, anywhere."""
    node = tree
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        if not len(keys):
            return
        key = keys[rng.integers(len(keys))]
        child = node[key]
        if isinstance(child, (dict, list)) and child and rng.random() < 0.95:
            node = child
        elif rng.random() < 0.1:
            del node[key]
            return
        else:
            node[key] = NUMBERS[rng.integers(len(NUMBERS))]
            return


def mutated(content: bytes, seed: int) -> bytes:
    """A file with a few changes that checksums do not tell."""
    rng = np.random.default_rng(seed)
    text, data = sections(content)
    tree = json.loads(text)
    for _ in range(rng.integers(1, 4)):
        change(tree, rng)
    text = json.dumps(tree).encode()
    if rng.random() < 0.3:
        broken = bytearray(text)
        broken[rng.integers(len(broken))] = rng.integers(256)
        text = bytes(broken)
    if rng.random() < 0.3:
        data = data[: rng.integers(len(data))]
    return signed(text, data)


def load(content: bytes) -> tuple[int, str]:
    """Load a file in the engine and return its status and message."""
    model, message = ctypes.c_void_p(), ctypes.create_string_buffer(300)
    status = engine.library().aqd_load(
        content,
        ctypes.c_size_t(len(content)),
        None,
        ctypes.byref(model),
        message,
        ctypes.c_size_t(300),
    )
    engine.library().aqd_free(model)
    return status, message.value.decode(errors='replace')


# Of all decoders and scores, and of two stages.
EXAMPLES = [
    random_detector(1, *pair)
    for pair in zip((*DECODERS, Anchors), SCORES, strict=True)
] + [random_detector(2, Anchors, Sigmoid, 2)]


def in_the_open(content: bytes, seed: int) -> bytes:
    """A file with a few changes outside of its networks."""
    rng = np.random.default_rng(seed)
    text, data = sections(content)
    tree = json.loads(text)
    program = tree.pop('program')
    # A copy: a change may put something else in a stage's place.
    stages = [*(tree['regions'] or {}).get('stages', [])]
    programs = [stage.pop('program') for stage in stages]
    for _ in range(rng.integers(1, 4)):
        change(tree, rng)
    tree['program'] = program
    for stage, each in zip(stages, programs, strict=True):
        stage['program'] = each
    if rng.random() < 0.1:
        data = data[: rng.integers(len(data))]
    if rng.random() < 0.3:
        broken = bytearray(data)
        broken[rng.integers(len(data))] = rng.integers(256)
        data = bytes(broken)
    return signed(json.dumps(tree).encode(), data)


def changed_files(count: int) -> list[bytes]:
    contents = [file.to_bytes(example) for example in EXAMPLES]
    return [
        in_the_open(contents[seed % len(contents)], seed)
        for seed in range(count)
    ]
