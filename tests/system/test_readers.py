"""Both readers judge a file alike, whichever of its parts is changed.

Every key of random detectors is taken away, every object is given a key that
is not in the format, and every number is set to ones beyond its limits.
"""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file
from aqd_mmdet.program.detector import Anchors, Softmax
from tests.damage import load, sections, signed
from tests.factories import detector
from tests.random_detectors import DECODERS, SCORES, random_detector

# Below and above all limits, no integer, and no number.
BEYOND = (-(2**63), -1, 2**31, 2**62, 2**63, 0.5, None)
Path = tuple[str | int, ...]


@cache
def contents() -> dict[str, bytes]:
    """Files of all decoders and scores, and of two stages."""
    detectors = {
        'small': detector(),
        'regions': random_detector(2, Anchors, Softmax, 2),
    }
    for index, scores in enumerate(SCORES):
        decoder = DECODERS[index % len(DECODERS)]
        name = f'{decoder.__name__}-{scores.__name__}'
        detectors[name] = random_detector(1, decoder, scores)
    return {name: file.to_bytes(each) for name, each in detectors.items()}


NAMES = list(contents())


def places(tree: Any, kind: str = '', path: Path = ()) -> Iterator[tuple]:
    """Yield every node of a structure but those that are like an earlier one.

    Args:
        tree: The structure.
        kind: What tells it from others: its keys, or the kinds around it.
        path: From the root.

    Yields:
        tuple: The path of a node, the node, and what it is like.
    """
    yield path, tree, kind
    if isinstance(tree, dict):
        name = f'{kind}/{tree.get("kind", "")}'
        for key, child in tree.items():
            yield from places(child, f'{name}.{key}', (*path, key))
    elif isinstance(tree, list):
        for index, child in enumerate(tree):
            yield from places(child, f'{kind}.*', (*path, index))


def first_places(tree: Any) -> Iterator[tuple[Path, Any]]:
    """Yield the first node of each kind."""
    seen = set()
    for path, node, kind in places(tree):
        if kind not in seen:
            seen.add(kind)
            yield path, node


def parent_of(tree: Any, path: Path) -> Any:
    for key in path[:-1]:
        tree = tree[key]
    return tree


def is_read(tree: Any, data: bytes, change: object) -> bool:
    """Return whether both readers read a file; they must agree."""
    content = signed(json.dumps(tree).encode(), data)
    try:
        file.from_bytes(content)
        message = ''
    except UserError as error:
        message = str(error)
    _, refusal = load(content)
    assert bool(refusal) == bool(message), (change, message, refusal)
    return not message


@pytest.mark.parametrize('name', NAMES)
def test_every_key_is_required(name):
    text, data = sections(contents()[name])
    tree = json.loads(text)
    count = 0
    for path, node in list(first_places(tree)):
        if path and isinstance(path[-1], str):
            parent = parent_of(tree, path)
            del parent[path[-1]]
            assert not is_read(tree, data, path)
            parent[path[-1]] = node
            count += 1
    assert count > 40


@pytest.mark.parametrize('name', NAMES)
def test_no_object_has_an_unknown_key(name):
    text, data = sections(contents()[name])
    tree = json.loads(text)
    objects = [p for p in first_places(tree) if isinstance(p[1], dict)]
    for path, node in objects:
        node['unknown'] = 1
        assert not is_read(tree, data, path)
        del node['unknown']
    assert len(objects) > 10


@pytest.mark.parametrize('name', NAMES)
def test_numbers_beyond_their_limits(name):
    text, data = sections(contents()[name])
    tree = json.loads(text)
    refused = total = 0
    for path, node in list(first_places(tree)):
        if not isinstance(node, int | float):
            continue
        parent = parent_of(tree, path)
        for value in BEYOND:
            parent[path[-1]] = value
            refused += not is_read(tree, data, (path, value))
            total += 1
        parent[path[-1]] = node
    assert total / 2 < refused <= total
