"""From bytes to boxes in the engine: equal to the functions in Python."""

import ctypes
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file
from aqd_mmdet.program.detector import (
    Anchors,
    CompiledDetector,
    Sigmoid,
    Softmax,
)
from aqd_mmdet.runtime import Detections, Detector, engine, reference
from aqd_mmdet.runtime.engine import Engine
from tests.damage import changed_files, load
from tests.factories import detector, noise, read_back
from tests.random_detectors import DECODERS, SCORES, random_detector


def in_python(compiled: CompiledDetector, image: np.ndarray) -> Detections:
    return Detector(compiled, run=reference.run)(image)


def check(compiled: CompiledDetector, image: np.ndarray) -> Detections:
    """Detect in both ways and return what is found."""
    found = Detector(compiled, threads=2)(image)
    expected = in_python(compiled, image)
    for values, wanted in zip(found, expected, strict=True):
        assert values.dtype == wanted.dtype
        assert values.shape == wanted.shape
        assert np.array_equal(values, wanted)
    return found


seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(st.integers(1, 30), st.integers(1, 30))


@pytest.mark.parametrize('scores', SCORES)
@pytest.mark.parametrize('decoder', DECODERS)
@settings(deadline=None, max_examples=25)
@given(seed=seeds, size=sizes, wild=st.booleans())
def test_boxes_are_pythons(decoder, scores, seed, size, wild):
    compiled = random_detector(seed, decoder, scores, wild=wild)
    check(read_back(compiled), noise(seed, *size))


@pytest.mark.parametrize('scores', [Sigmoid, Softmax])
@pytest.mark.parametrize('stages', [1, 3])
@settings(deadline=None, max_examples=40)
@given(seed=seeds, size=sizes, wild=st.booleans())
def test_boxes_of_regions_are_pythons(scores, stages, seed, size, wild):
    compiled = random_detector(seed, Anchors, scores, stages, wild)
    check(read_back(compiled), noise(seed, *size))


def test_random_detectors_find_something():
    found = [
        len(check(random_detector(seed, how, good, n), noise(1, 20, 30))[0])
        for seed in range(4)
        for how, good, n in [
            *((d, s, 0) for d in DECODERS for s in SCORES),
            (Anchors, Sigmoid, 1),
            (Anchors, Softmax, 2),
        ]
    ]
    assert np.mean(np.array(found) > 2) > 0.6


@pytest.mark.parametrize(
    'size', [(1, 1), (1, 200), (200, 1), (16384, 82), (3000, 2000)]
)
@pytest.mark.parametrize('stretch, whole', [(False, False), (True, True)])
def test_extreme_sizes(size, stretch, whole):
    small = detector()
    pre = replace(small.preprocess, stretch=stretch, whole=whole, bgr=whole)
    rng = np.random.default_rng(0)
    check(
        replace(small, preprocess=pre),
        rng.integers(0, 256, (*size, 3), np.uint8),
    )


@pytest.mark.parametrize('scores', SCORES)
def test_a_large_level_is_shared_among_threads(scores):
    compiled = random_detector(4, Anchors, scores)
    side = 600
    pre = replace(compiled.preprocess, short=side, long=side, whole=True)
    post = replace(compiled.postprocess, candidates=500, total=900, keep=400)
    compiled = replace(compiled, preprocess=pre, postprocess=post)
    # As many logits as several threads rank, of which many tie.
    assert side * side * len(compiled.labels) > 2**19
    check(read_back(compiled), noise(2, side // 2, side))


def test_rows_may_be_apart_or_upside_down():
    runner = Detector(detector())
    image = noise(0, 40, 60)
    assert len(runner(image).labels) > 0
    views = (
        *(image[:, 5:31], image[::-1], image[3::2], image[:, ::-1]),
        *(np.broadcast_to(image[:1], (n, 60, 3)) for n in (1, 40)),
    )
    for view in views:
        expected = runner(view.copy())
        for values, wanted in zip(runner(view), expected, strict=True):
            assert np.array_equal(values, wanted)


def test_a_batch_is_its_images():
    images = [noise(i, 20 + i, 50 - i) for i in range(3)]
    for runner in (
        Detector(detector()),
        Detector(detector(), run=reference.run),
    ):
        found = runner(images)
        assert isinstance(found, list) and len(found) == 3
        for one, image in zip(found, images, strict=True):
            for values, wanted in zip(one, runner(image), strict=True):
                assert np.array_equal(values, wanted)
        assert runner([]) == []
        with pytest.raises(UserError, match='photo 1: expected uint8'):
            runner([images[0], images[1] / 2], 'photo')


def test_threads_find_the_same():
    compiled = read_back(random_detector(7, Anchors, Softmax, 2))
    images = [noise(i, 25, 30) for i in range(8)]
    expected = [in_python(compiled, image) for image in images]
    same = [False] * 8

    def work(number: int) -> None:
        runner = Detector(compiled, threads=1 + number % 3)
        same[number] = all(
            np.array_equal(x, y)
            for _ in range(10)
            for image, wanted in zip(images, expected, strict=True)
            for x, y in zip(runner(image), wanted, strict=True)
        )

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * 8


def test_many_images_leave_no_memory_behind():
    resource = pytest.importorskip('resource')
    runner = Detector(read_back(random_detector(3, Anchors, Sigmoid, 1)), 1)
    image = noise(0, 8, 8)

    def use(count: int) -> int:
        for _ in range(count):
            runner(image)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = use(1000)
    # In KiB: not a tenth of a byte an image.
    assert use(20000) - before < 200


class Detection(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int32)
        for name in ('x0', 'y0', 'x1', 'y1', 'label', 'score')
    ]


class Model:
    """A model by the C API alone."""

    def __init__(self, compiled: CompiledDetector) -> None:
        self.library = engine.library()
        self.library.aqd_label.restype = ctypes.c_char_p
        self.engine = Engine(compiled, file.to_bytes(compiled), 1)
        self.handle = self.engine._model

    def detect(self, image, capacity, size=None, stride=None):
        height, width = size or image.shape[:2]
        found = (Detection * 100)()
        count = ctypes.c_int32(-1)
        status = self.library.aqd_detect(
            self.handle,
            None if image is None else image.ctypes.data,
            height,
            width,
            3 * width if stride is None else stride,
            found,
            capacity,
            ctypes.byref(count),
        )
        return status, count.value, found


def test_no_more_are_written_than_there_is_room_for():
    model, image = Model(detector()), noise(0, 40, 60)
    status, count, all_found = model.detect(image, 100)
    assert status == 0
    assert 3 < count <= model.library.aqd_max_detections(model.handle) == 100
    for capacity in (0, 2):
        status, again, found = model.detect(image, capacity)
        assert (status, again) == (0, count)
        half = ctypes.sizeof(Detection) * capacity
        assert bytes(found)[:half] == bytes(all_found)[:half]
        assert not any(bytes(found)[half:])


@pytest.mark.parametrize(
    'change',
    [
        dict(size=(0, 3)),
        dict(size=(3, -1)),
        dict(size=(1, 201)),
        dict(size=(16385, 16385)),
        dict(size=(4, 4), stride=11),
        dict(size=(4, 4), stride=-11),
        dict(image=None, size=(4, 4)),
    ],
)
def test_what_is_no_image(change):
    image = change.pop('image', noise(0, 8, 8))
    assert Model(detector()).detect(image, 9, **change)[:2] == (2, 0)


def test_labels_are_utf8():
    names = ('cat', 'dög', '猫', '🐈', 'a"b\\/\n\t\u0001', '\ud83d', '')
    model = Model(replace(detector(), labels=names))
    # Half of a character has no UTF-8.
    expected = [name.replace('\ud83d', '\ufffd') for name in names]
    assert model.library.aqd_label_count(model.handle) == len(names)
    found = [
        model.library.aqd_label(model.handle, i).decode()
        for i in range(len(names))
    ]
    assert found == expected
    for index in (-1, len(names)):
        assert model.library.aqd_label(model.handle, index) is None


def test_a_network_runs_whose_boxes_are_refused():
    small = detector()
    bad = replace(small, labels=('cat',))
    status, message = load(file.to_bytes(bad))
    assert status == 0
    assert message.startswith('level 0: expected a map of ')
    runner = Engine(bad, file.to_bytes(bad), 1)
    pixels = np.zeros((1, 3, 8, 8), np.uint8)
    expected = reference.run(small.program, pixels)
    for name, values in runner.run(small.program, pixels).items():
        assert np.array_equal(values, expected[name])
    with pytest.raises(UserError, match='level 0: expected a map'):
        runner.detect(noise(0, 8, 8))
    assert Model(bad).detect(noise(0, 8, 8), 9)[:2] == (1, 0)


@pytest.mark.slow
def test_what_python_reads_the_engine_detects_with():
    image = noise(5, 12, 17)
    accepted = refused = 0
    for content in changed_files(1200):
        status, message = load(content)
        try:
            read = file.from_bytes(content)
        except UserError:
            assert message
            refused += 1
            continue
        accepted += 1
        assert (status, message) == (0, '')
        check(read, image)
    assert accepted > 40
    assert refused > 400
