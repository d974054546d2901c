"""From maps to boxes: ONNX finds what the runtime does in any maps."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqd_mmdet.export.onnx_graph import Graph, Tensor, integers
from aqd_mmdet.export.onnx_postprocess import detect
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.detector import CompiledDetector, Softmax
from aqd_mmdet.runtime import postprocess
from aqd_mmdet.runtime.scores import shown
from tests.export.models import results
from tests.random_detectors import DECODERS, SCORES, random_detector

MOST = ir.INT32.hi
# What random maps hold: numbers of a size, few of them, ends of the range.
VALUES = {
    'middle': lambda rng, shape: rng.integers(-(2**17), 2**17, shape),
    'ties': lambda rng, shape: rng.choice([-1, 0, 2**13, 2**14], shape),
    'same': lambda rng, shape: np.full(shape, rng.integers(0, 2**16)),
    'ends': lambda rng, shape: rng.choice([-MOST, MOST, 0], shape),
    'any': lambda rng, shape: rng.integers(-MOST, MOST, shape, endpoint=True),
}
SIDES = st.tuples(st.integers(1, 12), st.integers(1, 12))
Maps = list[list[np.ndarray]]


def random_maps(
    compiled: CompiledDetector,
    kinds: tuple[str, ...],
    sides: tuple[int, int],
    seed: int,
) -> Maps:
    """Maps of all levels, each half as large as the one before."""
    rng = np.random.default_rng(seed)
    outputs = compiled.program.outputs
    return [
        [
            VALUES[kind](
                rng,
                (
                    compiled.program.by_output[name].channels,
                    *(-(-side >> level) for side in sides),
                ),
            ).astype(np.int32)
            for level, name in enumerate(out.tensors)
        ]
        for kind, out in zip(kinds, outputs, strict=False)
    ]


def check(
    compiled: CompiledDetector,
    maps: Maps,
    size: tuple[int, int],
    with_evaluator: bool = True,
) -> postprocess.Boxes:
    """Compare with the runtime, and return what it finds."""
    post = compiled.postprocess
    expected = postprocess.detect(post, maps, size)
    graph = Graph({})
    inputs = {
        f'{kind}.{level}': x[None]
        for kind, levels in enumerate(maps)
        for level, x in enumerate(levels)
    }
    tensors = [
        [held(f'{kind}.{level}', len(x)) for level, x in enumerate(levels)]
        for kind, levels in enumerate(maps)
    ]
    edges, labels, scores = detect(
        graph, post, tensors, 'size', len(compiled.labels)
    )
    columns = [
        graph.node('Unsqueeze', x, np.array([1])) for x in (labels, scores)
    ]
    name = graph.node('Concat', edges, *columns, axis=1)
    rows = np.column_stack(
        [expected.corners, expected.labels, shown(post.scores, expected.ranks)]
    )
    inputs['size'] = np.array(size)
    for (found,) in results(graph, [name], 2, with_evaluator, **inputs):
        assert np.array_equal(found, rows)
    return expected


def held(name: str, channels: int) -> Tensor:
    """A map of int32 codes."""
    none = integers(0, channels)
    return Tensor(name, 'int32', none, none - MOST, none + MOST)


@pytest.mark.parametrize('decoder', DECODERS)
@pytest.mark.parametrize('scores', SCORES)
@given(
    seed=st.integers(0, 2**32 - 1),
    wild=st.booleans(),
    sides=SIDES,
    kinds=st.tuples(*[st.sampled_from(list(VALUES))] * 3),
    with_evaluator=st.sampled_from([False, False, True]),
)
@settings(max_examples=12, deadline=None)
def test_random_maps(
    decoder, scores, seed, wild, sides, kinds, with_evaluator
):
    compiled = random_detector(seed, decoder, scores, wild=wild)
    maps = random_maps(compiled, kinds, sides, seed)
    check(compiled, maps, (4 * sides[0], 3 * sides[1]), with_evaluator)


@pytest.mark.parametrize('scores', SCORES)
@pytest.mark.parametrize('threshold', [-(2**48), 2**48])
def test_all_are_candidates_or_none(scores, threshold):
    """Of the share of a class and the like there is nothing above 2^48."""
    compiled = random_detector(3, DECODERS[0], scores)
    post = replace(
        compiled.postprocess, threshold=threshold, candidates=2**20,
        total=2**20, keep=2**20,
    )  # fmt: skip
    if hasattr(post.scores, 'least'):
        post = replace(post, scores=replace(post.scores, least=-(2**31)))
    compiled = replace(compiled, postprocess=post)
    maps = random_maps(compiled, ('ties',) * 3, (9, 7), 0)
    found = check(compiled, maps, (64, 64))
    assert (len(found.labels) > 0) == (threshold < 0)


@pytest.mark.parametrize('total', [1, 7, 2**20])
@pytest.mark.parametrize('candidates', [1, 9, 2**20])
def test_equal_scores_go_to_the_first(candidates, total):
    compiled = random_detector(1, DECODERS[0], SCORES[0])
    post = replace(
        compiled.postprocess, threshold=-(2**48), candidates=candidates,
        total=total, overlap=2**16, keep=2**20,
    )  # fmt: skip
    compiled = replace(compiled, postprocess=post)
    maps = random_maps(compiled, ('same', 'middle'), (16, 16), 0)
    found = check(compiled, maps, (64, 64))
    levels, priors = len(maps[0]), len(post.decoder.levels[0].base)
    places = [x.shape[1] * x.shape[2] * priors for x in maps[0]]
    most = sum(min(candidates, each * len(compiled.labels)) for each in places)
    assert levels > 1
    assert 0 < len(found.labels) <= min(most, total)


def test_ranks_of_48_bits():
    """Two sigmoids of 1 are the largest rank, and a score of 2^24."""
    for scores in SCORES:
        if scores is Softmax:
            continue
        compiled = random_detector(5, DECODERS[2], scores)
        post = compiled.postprocess
        post = replace(post, threshold=-(2**31), candidates=99, total=99)
        compiled = replace(compiled, postprocess=post)
        maps = random_maps(compiled, ('ends',) * 3, (6, 6), 1)
        maps[0][0][:], maps[-1][0][:] = MOST, MOST
        maps[1] = [0 * each for each in maps[1]]
        found = check(compiled, maps, (32, 32))
        largest = shown(post.scores, found.ranks).max()
        assert largest == post.scores.curve.table[-1]


@pytest.mark.parametrize('above, expected', [(0, True), (1, False)])
def test_a_rank_of_exactly_the_threshold_counts(above, expected):
    compiled = random_detector(1, DECODERS[0], SCORES[0])
    maps = random_maps(compiled, ('same', 'middle'), (8, 8), 0)
    post = replace(
        compiled.postprocess, threshold=int(maps[0][0].max()) + above
    )
    maps[0][1:] = [0 * x - MOST for x in maps[0][1:]]
    found = check(replace(compiled, postprocess=post), maps, (32, 32))
    assert (len(found.labels) > 0) == expected
