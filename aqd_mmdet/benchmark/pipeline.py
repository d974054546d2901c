"""What is around a peer's network: from bytes to its image, and to boxes.

NumPy and OpenCV do it, as programs that use the peers do. Only what may
become a box is looked at: scores are compared as logits, and boxes are decoded
where a score is high enough.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..program.detector import PreProcess
from ..runtime.preprocess import fitted_size


@dataclass(frozen=True)
class Decoding:
    """How a network's maps become boxes.

    Attributes:
        scores: Key of :data:`SELECT`: what logits are.
        deltas: Whether a box is a delta from its prior, else the distances of
            its sides from the prior's centre.
        anchors: Of each level, the priors at one place.
        priors: Of each level, float32 (A * H * W, 4): centre x, y, width and
            height in pixels.
        stds: float32 (4,), what deltas are multiplied by.
        limit: Of the logarithm of a size's change.
        clip: Whether boxes are limited to the image, and dropped beyond it.
        threshold: A score above it counts.
        overlap: Largest overlap of two boxes of a class.
        candidates: Most candidates of a level.
        keep: Most boxes of an image.
    """

    scores: str
    deltas: bool
    anchors: tuple[int, ...]
    priors: tuple[np.ndarray, ...]
    stds: np.ndarray
    limit: float
    clip: bool
    threshold: float
    overlap: float
    candidates: int
    keep: int

    def candidates_of(self, maps: Sequence[np.ndarray]) -> list['Candidates']:
        """Return the candidates of each level.

        Args:
            maps: Of the network, float32 (1, C, H, W): those of all levels of
                its first output, then those of its second, ...
        """
        levels = len(self.priors)
        return [
            self.best(SELECT[self.scores](maps[i::levels], self, i))
            for i in range(levels)
        ]

    def best(self, found: 'Candidates') -> 'Candidates':
        """Return the best candidates of a level."""
        if len(found.scores) <= self.candidates:
            return found
        best = np.argpartition(found.scores, -self.candidates)
        return Candidates(*(x[best[-self.candidates :]] for x in found))


@dataclass(frozen=True)
class Pipeline:
    """What is around a network that reads images of one size.

    Attributes:
        size: Height and width of the network's image.
        preprocess: How a picture is brought there.
        table: (3, 256), for each channel of the network what it reads instead
            of a byte: float32, or codes of 8 bits.
        decoding: From maps to boxes.
    """

    size: tuple[int, int]
    preprocess: PreProcess
    table: np.ndarray
    decoding: Decoding


def pipeline_file(network: Path) -> Path:
    """Return the file of what is around an exported network."""
    return network.with_name(f'{network.name}.pipeline')


class Candidates(NamedTuple):
    """Boxes that a score was high enough for, at one level.

    Attributes:
        places: Index of the prior, (N,).
        labels: Index of the class, (N,).
        scores: float32 (N,), from 0 to 1.
    """

    places: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


class Found(NamedTuple):
    """What was found in a picture, best first.

    Attributes:
        boxes: float32 (N, 4): x0, y0, x1, y1 in pixels of the picture.
        labels: int (N,).
        scores: float32 (N,), from 0 to 1.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _logit(p: float) -> np.float32:
    return np.float32(np.log(p / (1 - p)))


def _sigmoids(
    maps: Sequence[np.ndarray], decoding: Decoding, level: int
) -> Candidates:
    """Each class of each prior is a candidate (RetinaNet, RTMDet)."""
    logits = maps[0].reshape(maps[0].shape[1], -1)
    chosen = np.flatnonzero(logits > _logit(decoding.threshold))
    channels, places = np.divmod(chosen, logits.shape[1])
    classes = len(logits) // decoding.anchors[level]
    anchors, labels = np.divmod(channels, classes)
    return Candidates(
        anchors * logits.shape[1] + places,
        labels,
        _sigmoid(logits.ravel()[chosen]),
    )


def _products(
    maps: Sequence[np.ndarray], decoding: Decoding, level: int
) -> Candidates:
    """Chosen by class, then times the place's centerness (FCOS)."""
    found = decoding.best(_sigmoids(maps, decoding, level))
    factors = _sigmoid(maps[2].ravel()[found.places])
    return found._replace(scores=found.scores * factors)


def _best_classes(
    maps: Sequence[np.ndarray], decoding: Decoding, level: int
) -> Candidates:
    """The best class of each place, times the place's objectness (YOLOX)."""
    logits = maps[0].reshape(maps[0].shape[1], -1)
    objects = maps[2].ravel()
    # A product of sigmoids is not above one of them.
    places = np.flatnonzero(objects >= _logit(decoding.threshold))
    chosen = logits[:, places]
    labels = chosen.argmax(0)
    scores = _sigmoid(chosen[labels, np.arange(len(places))])
    scores *= _sigmoid(objects[places])
    good = scores >= decoding.threshold
    return Candidates(places[good], labels[good], scores[good])


def _softmax(
    maps: Sequence[np.ndarray], decoding: Decoding, level: int
) -> Candidates:
    """Each class of each prior; the last class is the background (SSD)."""
    logits = maps[0].reshape(
        decoding.anchors[level], -1, maps[0].shape[2] * maps[0].shape[3]
    )
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    objects = shares[:, :-1]
    anchors, labels, places = np.unravel_index(
        np.flatnonzero(objects > decoding.threshold), objects.shape
    )
    return Candidates(
        anchors * logits.shape[2] + places,
        labels,
        objects[anchors, labels, places],
    )


SELECT: dict[
    str, Callable[[Sequence[np.ndarray], Decoding, int], Candidates]
] = {
    'sigmoid': _sigmoids,
    'product': _products,
    'best class': _best_classes,
    'softmax': _softmax,
}


def decode(
    found: Candidates, codes: np.ndarray, decoding: Decoding, level: int
) -> np.ndarray:
    """Return the boxes of candidates, float32 (N, 4).

    Args:
        found: The candidates of a level.
        codes: The level's box codes, float32 (1, A * 4, H, W).
        decoding: What codes are.
        level: Index of the level.
    """
    anchors, places = np.divmod(found.places, codes[0, 0].size)
    chosen = codes.reshape(-1, 4, codes[0, 0].size)[anchors, :, places]
    priors = decoding.priors[level][found.places]
    boxes = np.empty_like(chosen)
    if decoding.deltas:
        chosen = chosen * decoding.stds
        centres = priors[:, :2] + chosen[:, :2] * priors[:, 2:]
        limited = chosen[:, 2:].clip(-decoding.limit, decoding.limit)
        halves = np.exp(limited) * priors[:, 2:] / 2
        np.subtract(centres, halves, out=boxes[:, :2])
        np.add(centres, halves, out=boxes[:, 2:])
    else:
        np.subtract(priors[:, :2], chosen[:, :2], out=boxes[:, :2])
        np.add(priors[:, :2], chosen[:, 2:], out=boxes[:, 2:])
    return boxes


def find_boxes(
    decoding: Decoding,
    maps: Sequence[np.ndarray],
    size: tuple[int, int],
    original: tuple[int, int],
) -> Found:
    """Return what a network's maps say.

    Args:
        decoding: What they mean.
        maps: As of :meth:`Decoding.candidates_of`.
        size: Height and width of the network's image before its border.
        original: Height and width of the picture.
    """
    import cv2

    levels = decoding.candidates_of(maps)
    count = len(levels)
    boxes = np.concatenate(
        [decode(x, maps[count + i], decoding, i) for i, x in enumerate(levels)]
    )
    labels, scores = (
        np.concatenate([getattr(x, name) for x in levels])
        for name in ('labels', 'scores')
    )
    frame = np.array([size[1], size[0]] * 2, np.float32)
    if decoding.clip:
        np.clip(boxes, 0, frame, out=boxes)
        # Boxes beyond the image have nothing left.
        sized = (boxes[:, 2:] > boxes[:, :2]).all(1)
        boxes, labels, scores = boxes[sized], labels[sized], scores[sized]
    corners = boxes.astype(np.float64)
    corners[:, 2:] -= corners[:, :2]  # OpenCV: corner, width and height
    kept = cv2.dnn.NMSBoxesBatched(
        corners, scores, labels.astype(np.int32), 0.0, decoding.overlap
    )
    best = np.asarray(kept, int)[: decoding.keep]
    scale = np.array([original[1], original[0]] * 2, np.float32) / frame
    return Found(boxes[best] * scale, labels[best], scores[best])


class Frame:
    """The memory of a network's image, into which pictures are put.

    Args:
        pipeline: How.

    Attributes:
        image: (1, 3, H, W), what the network reads.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pre = pipeline.preprocess
        # Pictures are RGB. A plane of the network's for each of the picture's.
        order = [2, 1, 0] if self._pre.bgr else [0, 1, 2]
        self._fill = np.array(self._pre.fill, np.uint8)[order]
        self._pixels = np.empty((*pipeline.size, 3), np.uint8)
        self._table = pipeline.table
        self.image = np.empty((1, 3, *pipeline.size), self._table.dtype)
        # YOLOX's bytes are codes: no table is needed.
        self._are_codes = self._table.dtype == np.uint8 and np.array_equal(
            self._table, np.tile(np.arange(256), (3, 1))
        )
        planes = np.empty(self.image.shape, np.uint8)
        self._planes = self.image[0] if self._are_codes else planes[0]
        self._of_picture = [self._planes[channel] for channel in order]

    def put(self, picture: np.ndarray) -> tuple[int, int]:
        """Put a picture into the frame.

        Args:
            picture: uint8 (H, W, 3), RGB.

        Returns:
            tuple: Its height and width in the frame.
        """
        import cv2

        rows, columns = picture.shape[:2]
        height, width = fitted_size(rows, columns, self._pre)
        pixels = self._pixels
        cv2.resize(
            picture,
            (width, height),
            dst=pixels[:height, :width],
            interpolation=cv2.INTER_LINEAR,
        )
        pixels[height:] = self._fill
        pixels[:height, width:] = self._fill
        cv2.split(pixels, self._of_picture)
        if not self._are_codes:
            for plane, row, out in zip(
                self._planes, self._table, self.image[0], strict=True
            ):
                cv2.LUT(plane, row, out)
        return height, width
