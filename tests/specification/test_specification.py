"""The documents say all: what was written from them finds the same integers.

`executor.py` and its reader were written from `docs/integer_contract.md` and
`docs/file_format.md` alone. Here they run the same files as the engine and as
the functions in Python.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.detector import (
    Anchors,
    CompiledDetector,
    Product,
    Sigmoid,
    Softmax,
)
from aqd_mmdet.runtime import Detector, reference
from tests.operators import run_program, two_stage
from tests.random_detectors import DECODERS, SCORES, random_detector
from tests.specification import executor, network, reader, records
from tests.specification.documents import kinds
from tests.specification.random_operators import random_operator

# Kinds by their names; a kind that is missing there fails its test.
DECODER = {kind.__name__: kind for kind in DECODERS}
SCORE = {kind.__name__: kind for kind in SCORES}
seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(st.integers(1, 30), st.integers(1, 30))


def noise(seed: int, *size: int) -> np.ndarray:
    """Pixels of few values, so that ranks tie."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, rng.integers(2, 8))
    return values[rng.integers(0, len(values), (*size, 3))].astype(np.uint8)


def check(
    compiled: CompiledDetector, image: np.ndarray
) -> tuple[records.Detector, int]:
    """Compare what is found, and the raw outputs of the network.

    Returns:
        What the executor's reader read, and how many objects it found.
    """
    content = file.to_bytes(compiled)
    compiled = file.from_bytes(content)
    read = reader.read(content)
    expected = executor.detect(read, image)
    pixels, _ = network.network_image(
        read.preprocess, read.program.stride, image
    )
    raw = network.run(read.program, pixels)
    for run in (None, reference.run):
        detector = Detector(compiled, 1, run)
        for found, wanted in zip(detector(image), expected, strict=True):
            assert np.array_equal(found, wanted)
        outputs = detector.run(compiled.program, pixels[None].astype(np.uint8))
        compare(read.program, outputs, 0, raw)
    return read, len(expected.labels)


def compare(
    program: records.Program,
    found: dict[str, np.ndarray],
    image: int,
    expected: list[list[np.ndarray]],
) -> None:
    """Compare the outputs of a program for an image of a batch."""
    for output, tensors in zip(program.outputs, expected, strict=True):
        for name, values in zip(output.tensors, tensors, strict=True):
            assert np.array_equal(found[name][image], values)


def name_of(value: object) -> str:
    return type(value).__name__


def explore(same: Callable[[int, tuple, bool], None], first: int) -> None:
    """Call it with the `first` seeds, then with whatever is drawn.

    What a test must have seen it has seen in the first ones, which are always
    the same.
    """
    for seed in range(first):
        same(seed, (20, 30), False)
    drawn = given(seeds, sizes, st.booleans())(same)
    settings(deadline=None, max_examples=6)(drawn)()


@pytest.mark.parametrize('scores', kinds('### Scores'))
@pytest.mark.parametrize('decoder', kinds('### Decoders'))
def test_heads(decoder, scores):
    seen = []

    def same(seed, size, wild):
        image = noise(seed, *size)
        compiled = random_detector(
            seed, DECODER[decoder], SCORE[scores], 0, wild
        )
        read, found = check(compiled, image)
        assert name_of(read.postprocess.decoder) == decoder
        assert name_of(read.postprocess.scores) == scores
        seen.append(found)

    explore(same, 6)
    assert sum(seen[:6]) > 10


@pytest.mark.parametrize('scores', [Sigmoid, Softmax])
@pytest.mark.parametrize('stages', [1, 2, 3])
def test_second_stages(stages, scores):
    seen = []

    def same(seed, size, wild):
        image = noise(seed, *size)
        compiled = random_detector(seed, Anchors, scores, stages, wild)
        read, found = check(compiled, image)
        assert len(read.regions.stages) == stages
        for stage in read.regions.stages:
            by_output = {op.output: op for op in stage.program.ops}
            codes = by_output[stage.program.outputs[1].tensors[0]]
            shared = codes.channels < 4 * len(read.labels)
            seen.append((found > 0, shared, stage.samples > 0))

    explore(same, 20)
    # Box codes of each class and shared, with samples that are given or not.
    expected = {(True, *each) for each in product([False, True], repeat=2)}
    assert expected <= set(seen[: 20 * stages])


@pytest.mark.parametrize('scores', kinds('### Scores'))
def test_ranks_that_are_the_threshold(scores):
    compiled = random_detector(0, Anchors, SCORE[scores])
    image = noise(0, 20, 30)
    read = reader.read(file.to_bytes(compiled))
    pixels, size = network.network_image(read.preprocess, 4, image)
    raw = network.run(read.program, pixels)
    post = compiled.postprocess
    last = executor.candidates(read, raw, size)[-1]
    limits = [replace(post, threshold=int(last.chosen))]
    if scores == 'Product':
        least = replace(post.scores, least=int(raw[2][0].max()))
        limits.append(replace(post, scores=least, threshold=-(2**48)))
    for limit in limits:
        assert check(replace(compiled, postprocess=limit), image)[1] > 0


def test_scores_of_a_second_stage_that_are_the_threshold():
    compiled = random_detector(3, Anchors, Sigmoid, 1)
    image = noise(3, 20, 30)
    read = reader.read(file.to_bytes(compiled))
    lowest = int(executor.detect(read, image).scores[-1])
    how = replace(compiled.regions, threshold=lowest)
    assert check(replace(compiled, regions=how), image)[1] > 0


@pytest.mark.parametrize('overlap, fewer', [(2**16, False), (2**16 - 1, True)])
def test_boxes_that_are_the_same(overlap, fewer):
    """All boxes are the whole image; none is more than all of another."""
    compiled = random_detector(0, Anchors, Sigmoid)
    post = compiled.postprocess
    wide = np.array([0, 0, 2**24, 2**24], np.int32)
    levels = tuple(
        replace(each, base=np.broadcast_to(wide, each.base.shape))
        for each in post.decoder.levels
    )
    how = replace(post.decoder, levels=levels)
    post = replace(post, decoder=how, margin=0, overlap=overlap, keep=50)
    image = noise(0, 20, 30)
    found = check(replace(compiled, postprocess=post), image)[1]
    assert found > 0 and (found <= len(compiled.labels)) == fewer


def test_a_second_stage_may_read_fewer_levels():
    compiled = random_detector(0, Anchors, Sigmoid, 1)
    assert len(compiled.postprocess.decoder.levels) > 1
    *heads, maps = compiled.program.outputs
    maps = replace(maps, tensors=maps.tensors[:1])
    program = replace(compiled.program, outputs=(*heads, maps))
    stage = replace(compiled.regions.stages[0], strides=(1,))
    how = replace(compiled.regions, stages=(stage,), threshold=0)
    compiled = replace(compiled, program=program, regions=how)
    assert check(compiled, noise(0, 20, 30))[1] > 0


@pytest.mark.parametrize('kind', kinds('**Operators.**'))
def test_operators(kind):
    if kind == 'Image':
        read, _ = check(random_detector(0, Anchors, Product), noise(0, 9, 9))
        assert name_of(read.program.ops[0]) == kind
        return

    @settings(deadline=None, max_examples=30)
    @given(seeds)
    def same(seed):
        program, values = random_operator(kind, seed)
        read = reader.read(file.to_bytes(two_stage(program)))
        stage = read.regions.stages[0].program
        assert kind in {name_of(op) for op in stage.ops}
        found = [run_program(program, values), reference.run(program, values)]
        for image, each in enumerate(values):
            expected = network.run(stage, each.astype(np.int64))
            for outputs in found:
                compare(stage, outputs, image, expected)

    same()


@settings(deadline=None, max_examples=30)
@given(seeds)
def test_windows_that_lie_outside_altogether(seed):
    """They give the lowest code of a grid that is wider than the input's."""
    program, values = random_operator('MaxPool', seed)
    *ops, pool = program.ops
    program = replace(program, ops=(*ops, replace(pool, grid=ir.INT32)))
    stage = reader.read(file.to_bytes(two_stage(program))).regions.stages[0]
    for run in (run_program, reference.run):
        found = run(program, values)
        for image, each in enumerate(values):
            expected = network.run(stage.program, each.astype(np.int64))
            compare(stage.program, found, image, expected)


@pytest.mark.parametrize(
    'stretch, whole, bgr', list(product([False, True], repeat=3))
)
@settings(deadline=None, max_examples=6)
@given(seed=seeds, size=st.tuples(st.integers(1, 70), st.integers(1, 70)))
def test_preprocessing(stretch, whole, bgr, seed, size):
    compiled = random_detector(seed, Anchors, Sigmoid)
    pre = compiled.preprocess
    long = pre.long if stretch else pre.short
    pre = replace(pre, stretch=stretch, whole=whole, bgr=bgr, short=long)
    check(replace(compiled, preprocess=pre), noise(seed, *size))


@pytest.mark.parametrize('size', [(1, 200), (82, 16384)])
@pytest.mark.parametrize('beyond', [0, 1])
@pytest.mark.parametrize('flat', [False, True])
def test_sizes_of_images(size, beyond, flat):
    image = np.zeros((size[0], size[1] + beyond, 3), np.uint8)
    image = image.swapaxes(0, 1) if flat else image
    compiled = random_detector(0, Anchors, Sigmoid)
    if not beyond:
        check(compiled, image)
        return
    with pytest.raises(ValueError, match='refused'):
        executor.detect(reader.read(file.to_bytes(compiled)), image)
    for run in (None, reference.run):
        with pytest.raises(UserError):
            Detector(compiled, 1, run)(image)


PIXELS = ir.Grid(-255, 255)
ONE = (1, 1)
# The network's image is `p`; `half` has every second row of it.
HALF = ir.Slice('half', ('p',), 3, PIXELS, 0, (0, 0), (2, 1))
REFUSED = {
    'no rows': [ir.Slice('s', ('p',), 3, PIXELS, 0, (255, 0), ONE)],
    'no window': [
        ir.MaxPool('y', ('p',), 3, PIXELS, (255, 1), ONE, (0, 0), ONE)
    ],
    'addends': [HALF, ir.Add('y', ('p', 'half'), 3, PIXELS)],
    'factors': [HALF, ir.Multiply('y', ('p', 'half'), 3, ir.INT32)],
    'joined': [HALF, ir.Concatenate('y', ('p', 'half'), 6, PIXELS)],
}


@pytest.mark.parametrize('added', REFUSED)
def test_sizes_of_tensors_that_are_refused(added):
    compiled = random_detector(0, Anchors, Sigmoid)
    ops = (*compiled.program.ops, *REFUSED[added])
    refused(replace(compiled, program=replace(compiled.program, ops=ops)))


def test_maps_of_a_level_have_one_size():
    compiled = random_detector(0, Anchors, Sigmoid)
    logits, codes = compiled.program.outputs
    name = codes.tensors[0]
    last = next(op for op in compiled.program.ops if op.output == name)
    half = replace(HALF, output='z', inputs=(name,), channels=last.channels)
    half = replace(half, grid=ir.INT32)
    codes = replace(codes, tensors=('z', *codes.tensors[1:]))
    program = replace(
        compiled.program,
        ops=(*compiled.program.ops, half),
        outputs=(logits, codes),
    )
    refused(replace(compiled, program=program))


def refused(compiled: CompiledDetector) -> None:
    """The file is read, and an image is refused."""
    content, image = file.to_bytes(compiled), noise(0, 9, 9)
    with pytest.raises(ValueError, match='refused'):
        executor.detect(reader.read(content), image)
    for run in (None, reference.run):
        detector = Detector(file.from_bytes(content), 1, run)
        with pytest.raises(UserError):
            detector(image)


def test_all_kinds_are_records():
    """The executor's records are those of the tables, and no others."""
    for base, heading in (
        (records.Op, '**Operators.**'),
        (records.Scores, '### Scores'),
        (records.Decoder, '### Decoders'),
    ):
        known = [kind.__name__ for kind in reader.kinds(base)]
        assert sorted(known) == sorted(kinds(heading))
