"""What was found in an image: as integers, and as people expect it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError
from ..program.detector import BOX_BITS, SCORE_BITS
from .optional import need

# Least score that is drawn.
DRAWN_SCORE = 0.3


class Detections(NamedTuple):
    """What was found in one image, best first; integers alone.

    Attributes:
        boxes: int32 (N, 4): x0, y0, x1, y1 in 256ths of a pixel of the
            image.
        labels: int32 (N,), indices of the detector's labels.
        scores: int32 (N,), in units of 2^-24.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, eq=False)
class Prediction:
    """What was found in one image, best first, in pixels.

    Attributes:
        found: The integers. Floats of 32 bits hold each of them exactly.
        classes: Names of all classes.
        size: Height and width of the image.
        path: File of the image, if it was given as one.
        image: RGB, uint8 (H, W, 3), if it was given as an array: the same
            array, not a copy. That of a file is read again where it is
            needed, so that the predictions of many files take little memory.
        oriented: Whether the file is turned by its EXIF orientation.
    """

    found: Detections = field(repr=False)
    classes: tuple[str, ...] = field(repr=False)
    size: tuple[int, int]
    path: Path | None = None
    image: np.ndarray | None = field(default=None, repr=False)
    oriented: bool = field(default=True, repr=False)

    def __len__(self) -> int:
        return len(self.found.labels)

    @property
    def boxes(self) -> np.ndarray:
        """x0, y0, x1, y1 in pixels of the image, float32 (N, 4)."""
        return self.found.boxes.astype(np.float32) / 2**BOX_BITS

    @property
    def scores(self) -> np.ndarray:
        """From 0 to 1, float32 (N,)."""
        return self.found.scores.astype(np.float32) / 2**SCORE_BITS

    @property
    def labels(self) -> np.ndarray:
        """Indices of :attr:`classes`, int32 (N,)."""
        return self.found.labels

    @property
    def names(self) -> tuple[str, ...]:
        """The class of each object."""
        return tuple(self.classes[label] for label in self.labels)

    def plot(
        self, score: float = DRAWN_SCORE, font: str | Path | None = None
    ) -> np.ndarray:
        """Return the image with boxes, RGB, uint8 (H, W, 3).

        Args:
            score: Least score that is drawn, from 0 to 1.
            font: Font file with the characters of the class names; Pillow's
                font and the system's are tried behind it.

        Raises:
            UserError: If Pillow or the image's file is missing, the file has
                another size now, the score is none, or the font is none.
        """
        check_score(score)
        need('PIL', 'pillow', 'drawing')
        from .images import draw, read_image

        image = self.image
        if image is None:
            assert self.path is not None
            image = read_image(self.path, self.oriented)
            if image.shape[:2] != self.size:
                raise UserError(
                    f'image {self.path}: it has another size than it had when '
                    'objects were looked for; predict again'
                )
        named = None if font is None else Path(font)
        names = class_names(self.classes, named)
        picture = draw(image, self.found, names.texts, score, names.fonts)
        return np.array(picture)

    def to_coco(
        self,
        image_id: int | str,
        category_ids: Sequence[int] | None = None,
    ) -> list[dict[str, Any]]:
        """Return the objects in COCO's format of results.

        Args:
            image_id: Of the image in the annotations.
            category_ids: Of each class; by default its index, from 0 on.

        Returns:
            list: A dict for each object, with ``image_id``, ``category_id``,
            ``bbox`` (x, y, width, height in pixels) and ``score``.

        Raises:
            UserError: If there are not as many ids as classes.
        """
        ids = (
            range(len(self.classes)) if category_ids is None else category_ids
        )
        if len(ids) != len(self.classes):
            raise UserError(
                f'category_ids: expected {len(self.classes)}, one for each '
                f'class, found {len(ids)}'
            )
        if not all(isinstance(each, Integral) for each in ids):
            raise UserError('category_ids: expected integers')
        boxes = self.boxes
        sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
        return [
            {
                'image_id': image_id,
                'category_id': int(ids[label]),
                'bbox': box,
                'score': score,
            }
            for label, box, score in zip(
                self.labels, sides.tolist(), self.scores.tolist(), strict=True
            )
        ]

    def to_supervision(self) -> Any:
        """Return ``supervision.Detections``, class names in their data.

        Raises:
            UserError: If supervision is not installed.
        """
        supervision = need('supervision', 'supervision', 'to_supervision')
        return supervision.Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=self.labels.astype(int),
            data={'class_name': np.array(self.names, str)},
        )


def above(found: Detections, score: float) -> Detections:
    """Return the detections that have a score or a higher one.

    Args:
        found: Of one image.
        score: From 0 to 1.
    """
    keep = found.scores >= score * 2**SCORE_BITS
    return Detections(*(each[keep] for each in found))


def check_score(score: float, name: str = 'score') -> None:
    """Refuse what is not a number from 0 to 1.

    Args:
        score: A least score.
        name: How to call it in the message.

    Raises:
        UserError: If it is none.
    """
    if not isinstance(score, Real) or not 0 <= score <= 1:
        raise UserError(f'{name} {score!r}: give a number from 0 to 1')


@lru_cache(maxsize=8)
def class_names(classes: tuple[str, ...], font: Path | None) -> Any:
    """Return how classes are written, as ``fonts.write_names`` finds it.

    It is kept, since looking for a font takes long where Pillow's own lacks
    characters.
    """
    from .fonts import write_names

    return write_names(classes, font)
