"""Gives all engines as many candidates of boxes as trained detectors have.

The time behind a network depends on their number. Rounding changes the scores
of a detector with random weights, whose candidates all have nearly the same
score: with one threshold, its float network would have thousands, and its
network of 2 bits a few. So each file has a threshold of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..program import file
from ..program.detector import CompiledDetector, PostProcess
from ..runtime.engine import Engine
from ..runtime.postprocess import priors_of
from ..runtime.preprocess import prepare
from ..runtime.scores import first_ranks
from .pipeline import Frame, Pipeline
from .runners import onnxruntime_session

# Candidates of a picture on the mean: what has a score above the threshold.
# YOLOX-nano as trained on COCO has 227 on the mean of 24 of its pictures.
CANDIDATES = 200
# Below all scores that could be among them.
LEAST_SCORE = 1e-6
_ALL = int(np.iinfo(np.int64).max)

# Scores of all boxes in a picture, uint8 (H, W, 3).
Scores = Callable[[np.ndarray], np.ndarray]


def threshold_of(
    scores: Scores, pictures: Sequence[np.ndarray]
) -> np.floating | np.integer:
    """Return the score that :data:`CANDIDATES` of a picture reach.

    Args:
        scores: Of a picture.
        pictures: The pictures.
    """
    count = CANDIDATES * len(pictures)
    best = np.concatenate([_best(scores(x), count) for x in pictures])
    return _best(best, count).min()


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """Return the largest scores."""
    if len(scores) <= count:
        return scores
    return np.partition(scores, -count)[-count:]


def with_peer_threshold(
    pipeline: Pipeline, network: Path, pictures: Sequence[np.ndarray]
) -> Pipeline:
    """Return what is around an exported network, with its threshold.

    Args:
        pipeline: What is around it.
        network: ONNX file of the network, which ONNX Runtime runs for this.
        pictures: The pictures.
    """
    session, frame = onnxruntime_session(network, 1), Frame(pipeline)
    (argument,) = session.get_inputs()
    all_scores = replace(
        pipeline.decoding, threshold=LEAST_SCORE, candidates=_ALL
    )

    def scores(picture: np.ndarray) -> np.ndarray:
        frame.put(picture)
        maps = session.run(None, {argument.name: frame.image})
        levels = all_scores.candidates_of(maps)
        return np.concatenate([level.scores for level in levels])

    reached = np.float32(threshold_of(scores, pictures))
    # mmdet's sigmoids and softmaxes are to be above the threshold.
    below = float(np.nextafter(reached, np.float32(0)))
    return replace(
        pipeline, decoding=replace(pipeline.decoding, threshold=below)
    )


def with_our_threshold(
    path: Path, pictures: Sequence[np.ndarray]
) -> CompiledDetector:
    """Return a compiled detector with its threshold.

    Args:
        path: Its file.
        pictures: The pictures.
    """
    compiled, content = file.load(path)
    engine, post = Engine(compiled, content, 1), compiled.postprocess

    def scores(picture: np.ndarray) -> np.ndarray:
        program = compiled.program
        pixels, _ = prepare(picture, compiled.preprocess, program.stride)
        outputs = engine.run(program, pixels)
        kinds = [
            [outputs[name][0] for name in out.tensors]
            for out in program.outputs
        ]
        return np.concatenate(
            [
                _ranks(post, level, maps)
                for level, maps in enumerate(zip(*kinds, strict=True))
            ]
        )

    threshold = int(threshold_of(scores, pictures))
    return replace(compiled, postprocess=replace(post, threshold=threshold))


def _ranks(
    post: PostProcess, level: int, maps: Sequence[np.ndarray]
) -> np.ndarray:
    """Return the ranks of all boxes of a level, int64 (N,).

    Args:
        post: How boxes are ranked.
        level: Index of the level.
        maps: Its maps, int32 (C, H, W): logits first, factors last.
    """
    places = maps[0][0].size * priors_of(post.decoder, level)
    logits, factors = (
        x.transpose(1, 2, 0).reshape(places, -1).astype(np.int64)
        for x in (maps[0], maps[-1])
    )
    return first_ranks(post.scores, logits, factors[:, 0]).ravel()
