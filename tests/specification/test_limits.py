"""Both readers hold files to the table of limits in the file format.

Of each limit, one number of a file is set to either end and to one beyond. A
file with an end in it is one that both readers read, wherever no condition
binds the number to another one; one beyond is what both refuse.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import is_dataclass, replace
from functools import cache
from itertools import islice
from typing import Any, get_type_hints

import numpy as np
import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.detector import (
    Anchors,
    Bins,
    Cells,
    CompiledDetector,
    Exponents,
    Points,
    Product,
    Sigmoid,
    Softmax,
)
from tests.damage import load, sections, signed
from tests.factories import curve, detector
from tests.random_detectors import BYTES, random_detector
from tests.specification import records
from tests.specification.documents import table

LIMITS = {
    field: (least, most)
    for field, least, most in table('## 9. Limits', '| field |')
    if '.' in field and 'Multipliers.offset' not in field
}
# Ends that no file has whose other numbers stay as they are.
BOUND = {
    ('`Array.shape`', 'least'),
    ('`Array.shape`', 'most'),
    ('`Weights.shape`', 'least'),
    ('`Weights.shape`', 'most'),
    ('`Op.channels`', 'most'),
    ('`Lookup.rows`', 'most'),
    ('`Bins.bins`', 'most'),
}


def number(text: str) -> int:
    return int(eval(text.replace('^', '**')))  # such as '-2^31 + 1'


@cache
def files() -> list[bytes]:
    """Small files, with all that the table names."""
    detectors = [detector(), roomy(), regions()]
    detectors += [
        random_detector(seed, decoder, Product, wild=True)
        for decoder in (Anchors, Cells, Points, Exponents, Bins)
        for seed in range(8)
    ]
    detectors += [
        random_detector(seed, Anchors, Softmax, 1) for seed in range(4)
    ]
    return [file.to_bytes(each) for each in detectors]


def roomy() -> CompiledDetector:
    """With a window and a frame that leave room, a curve of one limit, and a
    table."""
    compiled = random_detector(1, Anchors, Sigmoid)
    pixels = compiled.program.ops[0].grid
    pool = ir.MaxPool(
        'pool', ('p',), 3, pixels, (255, 255), (1, 1), (0, 0), (255, 255)
    )
    codes = np.arange(pixels.lo, pixels.hi + 1, dtype=np.int32)
    table = ir.Lookup('table', ('p',), 3, pixels, codes, pixels.lo)
    ops = (*compiled.program.ops, pool, table)
    exp = replace(curve([1] * 4), first=-1)
    post = compiled.postprocess
    return replace(
        compiled,
        program=replace(compiled.program, ops=ops),
        preprocess=replace(compiled.preprocess, short=1, long=2**14),
        postprocess=replace(
            post,
            margin=0,
            decoder=replace(post.decoder, limit=1, exp=exp),
        ),
    )


def regions() -> CompiledDetector:
    """A second stage that takes any number of bins, as it averages them."""
    seed = next(
        seed
        for seed in range(99)
        if random_detector(seed, Anchors, Sigmoid, 1).regions.stages[0].bins
        == 1
    )
    compiled = random_detector(seed, Anchors, Sigmoid, 1)
    stage = compiled.regions.stages[0]
    first, codes, *others = stage.program.ops
    ops = (
        first,
        codes,
        ir.Mean('mean', ('codes',), 2, first.grid),
        replace(codes, output='means', inputs=('mean',), grid=BYTES),
        *(
            replace(op, inputs=('means',)) if 'codes' in op.inputs else op
            for op in others
        ),
    )
    stage = replace(stage, program=replace(stage.program, ops=ops))
    how = replace(compiled.regions, stages=(stage,), exp=curve([1] * 3))
    return replace(compiled, regions=how)


BY_KEYS = {
    frozenset(get_type_hints(kind)): kind
    for kind in vars(records).values()
    if is_dataclass(kind) and not issubclass(kind, records.Kinds)
}


def nodes(tree: Any, outer: str = '') -> Iterator[tuple[set[str], Any]]:
    """Each record of a structure, with the names of what it is.

    These are the names of its class and of those above it. Multipliers have
    that of the record around them as well.
    """
    if isinstance(tree, list):
        for each in tree:
            yield from nodes(each, outer)
    if not isinstance(tree, dict):
        return
    kind = getattr(records, tree.get('kind', ''), None)
    kind = kind or BY_KEYS.get(frozenset(tree))
    names = {each.__name__ for each in kind.__mro__} if kind else {outer}
    if set(tree) == {'dtype', 'shape', 'at'}:
        names = {'Array'}
    yield {*names, outer}, tree
    for value in tree.values():
        yield from nodes(value, kind.__name__ if kind else outer)


def changed(content: bytes, field: str, value: int) -> Iterator[bytes]:
    """The file with one of such fields set to a value, for each of them."""
    text, data = sections(content)
    tree = json.loads(text)
    record, key, _, but = re.fullmatch(
        r'`(\w+)\.(\w+)`(, except in `(\w+)`)?', field
    ).groups()
    for names, node in nodes(tree):
        if record not in names or key not in node or but in names:
            continue
        old, behind, before = node[key], b'', dict(node)
        if key == 'b':
            node['whole'] = False
        if isinstance(old, dict):  # an array, whose numbers are in DATA
            behind = bytes(-len(data) % 8)
            at = len(data) + len(behind)
            node[key] = {**old, 'dtype': 'int64', 'at': at}
            behind += np.full(old['shape'], value, np.int64).tobytes()
        else:
            node[key] = [value] * len(old) if isinstance(old, list) else value
        yield signed(json.dumps(tree).encode(), data + behind)
        node.update(before)


def verdict(content: bytes) -> bool:
    """Whether both readers read it; they agree."""
    try:
        file.from_bytes(content)
        read, message = True, ''
    except UserError as error:
        read, message = False, str(error)
    assert (load(content) == (0, '')) == read, message
    return read


def pairs(field: str, inside: int, beyond: int) -> Iterator[tuple]:
    """Files with a number at its limit, and with the same one beyond it."""
    for content in files():
        yield from zip(
            changed(content, field, inside),
            changed(content, field, beyond),
            strict=True,
        )


@pytest.mark.parametrize('field', LIMITS)
@pytest.mark.parametrize('end', ['least', 'most'])
def test_limits(field, end):
    limit = number(LIMITS[field][end == 'most'])
    beyond = limit + (1 if end == 'most' else -1)
    found = pairs(field, limit, beyond)
    if (field, end) in BOUND:
        for inside, outside in islice(found, 60):
            assert not verdict(inside) and not verdict(outside)
        return
    for inside, outside in found:
        assert not verdict(outside)
        if verdict(inside):
            return
    pytest.fail('no file has a number at this end')


@pytest.mark.parametrize('name', ['labels', 'ops', 'stages'])
def test_lists_that_may_not_be_empty(name):
    lists = [row[0] for row in table('## 9. Limits', '| field |')]
    assert f'length of `{name}`' in lists
    text, data = sections(files()[2])
    tree = json.loads(text)
    node = next(node for _, node in nodes(tree) if name in node)
    node[name] = []
    assert not verdict(signed(json.dumps(tree).encode(), data))
