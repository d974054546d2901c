"""Suppression as a Loop: ONNX keeps the boxes that the runtime keeps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqd_mmdet.export.onnx_graph import Graph
from aqd_mmdet.export.onnx_suppression import suppress
from aqd_mmdet.runtime import postprocess
from aqd_mmdet.runtime.postprocess import Boxes
from tests.export.models import results

# The longest side of a file's images and margins, in 256ths of a pixel.
MOST = 46340 * 256


def check(boxes: Boxes, overlap: int, keep: int, with_evaluator: bool = True):
    """Compare with the runtime, and return what is kept."""
    expected = postprocess.suppress(boxes.real(), overlap, keep)
    about = np.stack([boxes.ranks, boxes.labels], 1)
    graph = Graph({})
    edges, ranks, labels = suppress(graph, 'edges', 'about', overlap, keep)
    rows = graph.node('Unsqueeze', ranks, np.array([1]))
    more = graph.node('Unsqueeze', labels, np.array([1]))
    name = graph.node('Concat', edges, rows, more, axis=1)
    for (found,) in results(
        graph, [name], 2, with_evaluator, edges=boxes.corners, about=about
    ):
        assert np.array_equal(found[:, :4], expected.corners)
        assert np.array_equal(found[:, 4], expected.ranks)
        assert np.array_equal(found[:, 5], expected.labels)
    return expected


def random_boxes(
    seed: int, count: int, side: int, classes: int, ranks: int
) -> Boxes:
    """Boxes on a square, some of which have no width or height."""
    rng = np.random.default_rng(seed)
    return Boxes(
        rng.integers(0, side, (count, 4), endpoint=True),
        rng.integers(0, classes, count),
        rng.integers(0, ranks, count, endpoint=True),
    )


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 40),
    side=st.sampled_from([1, 4, 20, MOST]),
    classes=st.sampled_from([1, 2, 80]),
    ranks=st.sampled_from([0, 3, 2**48]),
    overlap=st.integers(0, 2**16),
    keep=st.integers(1, 20),
)
@settings(max_examples=60, deadline=None)
def test_random_boxes(seed, count, side, classes, ranks, overlap, keep):
    check(random_boxes(seed, count, side, classes, ranks), overlap, keep)


@pytest.mark.parametrize('count', [0, 1])
def test_none_and_one(count):
    edges = np.array([[0, 0, 8, 8]] * count, np.int64).reshape(-1, 4)
    numbers = np.zeros(count, np.int64)
    kept = check(Boxes(edges, numbers, numbers), 2**15, 9)
    assert len(kept.labels) == count


def test_boxes_without_a_side_do_not_count():
    edges = np.array([[0, 0, 0, 8], [0, 8, 8, 8], [8, 0, 0, 8], [0, 0, 8, 8]])
    kept = check(Boxes(edges, np.zeros(4, int), np.arange(4)[::-1]), 0, 9)
    assert kept.corners.tolist() == [[0, 0, 8, 8]]


@pytest.mark.parametrize('overlap, expected', [(2**15, 2), (2**15 - 1, 1)])
def test_overlap_of_exactly_the_threshold_stays(overlap, expected):
    edges = np.array([[0, 0, 10, 10], [5, 0, 10, 10]])
    kept = check(Boxes(edges, np.ones(2, int), np.array([9, 8])), overlap, 9)
    assert len(kept.labels) == expected


def test_of_equal_ranks_the_first_is_kept():
    edges = np.array([[i, 0, i + 100, 100] for i in range(50)])
    numbers = np.zeros(50, int)
    kept = check(Boxes(edges, numbers, numbers), 2**15, 9)
    assert kept.corners[0].tolist() == [0, 0, 100, 100]


def test_the_largest_areas():
    edges = np.array([[0, 0, MOST, MOST]] * 2)
    edges[1, 0] = 1
    kept = check(
        Boxes(edges, np.zeros(2, int), np.zeros(2, int)), 2**16 - 1, 9
    )
    assert len(kept.labels) == 1


def test_many_boxes():
    boxes = random_boxes(0, 3000, 3000, 3, 5)
    kept = check(boxes, 2**15, 2000, with_evaluator=False)
    assert len(kept.labels) > 500
