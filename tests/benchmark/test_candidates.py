"""Thresholds that give all engines as many candidates."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from aqd_mmdet.benchmark import candidates
from aqd_mmdet.benchmark.candidates import (
    threshold_of,
    with_our_threshold,
    with_peer_threshold,
)
from aqd_mmdet.benchmark.pipeline import Decoding, Pipeline
from aqd_mmdet.program import file
from aqd_mmdet.program.detector import PreProcess
from aqd_mmdet.runtime import reference
from aqd_mmdet.runtime.postprocess import level_boxes
from aqd_mmdet.runtime.preprocess import prepare
from tests.factories import detector

COUNT = 3


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(candidates, 'CANDIDATES', COUNT)


def test_threshold_is_of_all_pictures_together():
    # Three of a picture on the mean: all of one picture, none of the other.
    scores = [np.arange(10, 16), np.arange(5)]
    assert threshold_of(lambda index: scores[index], [0, 1]) == 10
    # There are fewer than that.
    assert threshold_of(lambda index: scores[index][:2], [0, 1]) == 0


def test_our_threshold(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (40, 56, 3), np.uint8) for _ in range(4)]
    file.save(detector(), tmp_path / 'model.aqd')
    compiled = with_our_threshold(tmp_path / 'model.aqd', pictures)
    program, post = compiled.program, compiled.postprocess
    counts = []
    for picture in pictures:
        pixels, size = prepare(picture, compiled.preprocess, program.stride)
        outputs = reference.run(program, pixels)
        kinds = [
            [outputs[name][0] for name in out.tensors]
            for out in program.outputs
        ]
        many = replace(post, candidates=10**6)
        counts.append(
            sum(
                len(level_boxes(many, level, maps, size)[0].labels)
                for level, maps in enumerate(zip(*kinds, strict=True))
            )
        )
    # Equal scores may be more.
    assert COUNT <= np.mean(counts) < 3 * COUNT
    assert compiled.postprocess.threshold != detector().postprocess.threshold
    file.save(compiled, tmp_path / 'again.aqd')


class Session:
    """A network that is given an image and returns it, and distances."""

    def get_inputs(self):
        return [SimpleNamespace(name='image')]

    def run(self, outputs, inputs):
        return [inputs['image'], np.ones((1, 4, 8, 8), np.float32)]


def test_threshold_of_a_peer(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (8, 8, 3), np.uint8) for _ in range(4)]
    decoding = Decoding(
        *('sigmoid', False, (1,), (np.ones((64, 4), np.float32),)),
        *(np.ones(4, np.float32), np.inf, False, 0.5, 1.0, 10, 10),
    )
    table = np.tile(np.linspace(-4, 4, 256, dtype=np.float32), (3, 1))
    pipeline = Pipeline(
        *((8, 8), PreProcess(8, 8, False, (0, 0, 0), True, False)),
        *(table, decoding),
    )
    monkeypatch.setattr(
        candidates, 'onnxruntime_session', lambda path, threads: Session()
    )
    found = with_peer_threshold(pipeline, tmp_path, pictures).decoding
    assert found == replace(decoding, threshold=found.threshold)
    counts = []
    for picture in pictures:
        logits = table[0][picture].transpose(2, 0, 1)[None]
        (level,) = found.candidates_of([logits, logits])
        counts.append(len(level.scores))
    # Equal scores may be more.
    assert COUNT <= np.mean(counts) < 2 * COUNT
