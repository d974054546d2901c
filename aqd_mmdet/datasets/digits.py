"""The embedded dataset: scenes composed of real handwritten digits.

scikit-learn ships 1,797 digits of 8x8 pixels and two photographs, so a fresh
machine has real input without a download. Training and validation use
different digits and different halves of the photographs.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from ..errors import UserError
from ..files import check_folder, make_folder, part_of

CLASSES = tuple('0123456789')
SPLITS = ('train', 'val')
# scikit-learn's digits have pixel values from 0 to 16.
MAX_INK = 16
# The box of a digit encloses the pixels with more than this coverage by ink.
BOX_ALPHA = 0.25
# Share of each class's digits that training uses; validation uses the rest.
TRAIN_SHARE = 0.8
# A background is at least half as wide as the image, and at most half of a
# photograph of 640 pixels.
MAX_SIZE = 638


@dataclass(frozen=True)
class DigitScenes:
    """Parameters of the scenes.

    Attributes:
        train: Number of training images.
        val: Number of validation images.
        size: Side of the square images in pixels.
        min_digit: Smallest height of a digit in pixels.
        max_digit: Largest height of a digit in pixels. Heights are drawn
            from a log-uniform distribution, so most digits are small.
        max_digits: Largest number of digits in a scene; at least 1.
        contrast: Smallest difference in brightness between a digit and its
            background, 0 to 120 grey levels. Lower values are harder.
        clutter: Largest number of unlabelled halves of digits in a scene.
        max_overlap: Largest share of a digit's box that another box may
            cover.
        seed: Seed of the random generator. The same attributes always give
            the same scenes.

    Raises:
        UserError: If a value is out of range.
    """

    train: int = 1200
    val: int = 200
    size: int = 160
    min_digit: int = 16
    max_digit: int = 56
    max_digits: int = 7
    contrast: int = 80
    clutter: int = 3
    max_overlap: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ('train', 'val', 'max_digits'):
            if getattr(self, name) < 1:
                raise UserError(
                    f'{name}={getattr(self, name)}: give at least 1'
                )
        if not 8 <= self.min_digit <= self.max_digit <= self.size:
            raise UserError(
                f'digits of {self.min_digit} to {self.max_digit} pixels in '
                f'images of {self.size}: give 8 <= min <= max <= size'
            )
        if self.size > MAX_SIZE:
            raise UserError(
                f'size={self.size}: give at most {MAX_SIZE}, for the '
                'photographs behind the digits are no larger'
            )
        if not 0 <= self.contrast <= 120:
            raise UserError(f'contrast={self.contrast}: give 0 to 120')
        for name in ('clutter', 'seed'):
            if getattr(self, name) < 0:
                raise UserError(
                    f'{name}={getattr(self, name)}: give at least 0'
                )
        if not 0 <= self.max_overlap <= 1:  # NaN is not, either
            raise UserError(f'max_overlap={self.max_overlap}: give 0 to 1')


@dataclass(frozen=True)
class _Material:
    """Digits and photographs of one split."""

    digits: np.ndarray  # (N, 8, 8), coverage by ink, 0..1
    labels: np.ndarray  # (N,)
    photos: list[np.ndarray]  # (H, W, 3), uint8


def _material(split: str) -> _Material:
    digits = load_digits()
    rank = np.zeros(len(digits.target), int)
    for label in range(len(CLASSES)):
        indices = np.flatnonzero(digits.target == label)
        rank[indices] = np.arange(len(indices)) / len(indices) * 100
    in_train = rank < TRAIN_SHARE * 100
    in_split = in_train if split == 'train' else ~in_train
    photos = []
    for photo in load_sample_images().images:
        middle = photo.shape[1] // 2
        photos.append(
            photo[:, :middle] if split == 'train' else photo[:, middle:]
        )
    return _Material(
        digits.images[in_split] / MAX_INK, digits.target[in_split], photos
    )


def _background(
    rng: np.random.Generator, photos: list[np.ndarray], size: int
) -> np.ndarray:
    photo = photos[rng.integers(len(photos))]
    side = int(rng.integers(size // 2, min(photo.shape[:2])))
    top = rng.integers(photo.shape[0] - side + 1)
    left = rng.integers(photo.shape[1] - side + 1)
    crop = photo[top : top + side, left : left + side]
    image = np.asarray(
        Image.fromarray(crop).resize((size, size), Image.Resampling.BILINEAR),
        np.float64,
    )
    # Vary contrast, colour cast and brightness, as lighting does.
    gain = rng.uniform(0.5, 1.1) * rng.uniform(0.85, 1.15, 3)
    return np.clip((image - 128) * gain + 128 + rng.uniform(-40, 40), 0, 255)


def _stamp(
    rng: np.random.Generator, digit: np.ndarray, height: int
) -> np.ndarray:
    """Return a digit's coverage by ink, (height, about height), 0..1."""
    width = max(8, round(height * rng.uniform(0.75, 1.1)))
    ink = Image.fromarray((digit * 255).astype(np.uint8))
    tilt = rng.uniform(-12, 12)
    ink = ink.resize((width, height), Image.Resampling.BICUBIC)
    ink = ink.rotate(tilt, Image.Resampling.BILINEAR)
    return np.clip(np.asarray(ink, np.float64) / 255 * 1.3, 0, 1)


def _paint(
    rng: np.random.Generator,
    image: np.ndarray,
    alpha: np.ndarray,
    top: int,
    left: int,
    contrast: int,
) -> None:
    region = image[top : top + alpha.shape[0], left : left + alpha.shape[1]]
    background = region.mean()
    # Dark backgrounds get bright digits, bright ones dark digits; in between,
    # either has enough contrast.
    is_extreme = abs(background - 128) > 60
    bright = background < 128 if is_extreme else rng.random() < 0.5
    room = 255 - background if bright else background
    distance = rng.uniform(min(contrast, room), room)
    level = background + distance if bright else background - distance
    colour = np.clip(level + rng.uniform(-40, 40, 3), 0, 255)
    region += (colour - region) * alpha[..., None]


def _box(alpha: np.ndarray, top: int, left: int) -> tuple[int, ...]:
    rows = np.flatnonzero((alpha > BOX_ALPHA).any(1))
    columns = np.flatnonzero((alpha > BOX_ALPHA).any(0))
    return (
        int(left + columns[0]),
        int(top + rows[0]),
        int(columns[-1] - columns[0] + 1),
        int(rows[-1] - rows[0] + 1),
    )


def _overlap(box: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Return the intersection of two boxes (x, y, w, h) as a share of the
    smaller box."""
    width = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    height = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    shared = max(0, width) * max(0, height)
    return shared / min(box[2] * box[3], other[2] * other[3])


def _scene(
    rng: np.random.Generator, material: _Material, scenes: DigitScenes
) -> tuple[np.ndarray, list[tuple]]:
    image = _background(rng, material.photos, scenes.size)

    def place() -> tuple[int, np.ndarray, int, int]:
        index = int(rng.integers(len(material.labels)))
        low, high = np.log([scenes.min_digit, scenes.max_digit])
        height = round(float(np.exp(rng.uniform(low, high))))
        alpha = _stamp(rng, material.digits[index], height)
        alpha = alpha[: scenes.size, : scenes.size]
        top = int(rng.integers(scenes.size - alpha.shape[0] + 1))
        left = int(rng.integers(scenes.size - alpha.shape[1] + 1))
        return index, alpha, top, left

    for _ in range(int(rng.integers(scenes.clutter + 1))):
        _, alpha, top, left = place()
        half = (
            alpha[: alpha.shape[0] // 2]
            if rng.random() < 0.5
            else alpha[:, : alpha.shape[1] // 2]
        )
        _paint(rng, image, half, top, left, scenes.contrast)
    objects: list[tuple] = []
    for _ in range(int(rng.integers(1, scenes.max_digits + 1))):
        index, alpha, top, left = place()
        box = _box(alpha, top, left)
        if any(_overlap(box, b) > scenes.max_overlap for b, _ in objects):
            continue
        _paint(rng, image, alpha, top, left, scenes.contrast)
        objects.append((box, int(material.labels[index])))
    noise = rng.normal(0, rng.uniform(0, 8), image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), objects


def _write_split(root: Path, split: str, scenes: DigitScenes) -> Iterator[int]:
    material = _material(split)
    (root / split).mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(getattr(scenes, split)):
        # One generator per image, so that an image does not depend on the
        # number of images.
        rng = np.random.default_rng([scenes.seed, SPLITS.index(split), number])
        pixels, objects = _scene(rng, material, scenes)
        name = f'{number:05d}.png'
        Image.fromarray(pixels).save(root / split / name)
        images.append(
            dict(
                id=number,
                file_name=name,
                width=scenes.size,
                height=scenes.size,
            )
        )
        for box, label in objects:
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=number,
                    category_id=label,
                    bbox=list(box),
                    area=box[2] * box[3],
                    iscrowd=0,
                )
            )
        yield number
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES)]
    # All keys of the COCO format, because some readers need every one.
    content = dict(
        info=dict(description='scenes of handwritten digits'),
        licenses=[],
        images=images,
        annotations=annotations,
        categories=categories,
    )
    (root / f'{split}.json').write_text(json.dumps(content))


def write_digits(
    root: Path,
    scenes: DigitScenes,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Write the scenes as PNG and COCO JSON, unless the folder holds them.

    Args:
        root: Folder to create. It gets ``train/``, ``val/``, ``train.json``,
            ``val.json``, and the parameters in ``scenes.json``.
        scenes: Parameters of the scenes.
        progress: Called after each image with the number of images that are
            done and the total number.

    Returns:
        bool: Whether anything was written.

    Raises:
        UserError: If the folder holds other files, or cannot be made.
    """
    if not root.name:  # the current folder, which cannot be replaced
        raise UserError(f'--out {root}: give a folder with a name')
    check_folder('--out', root)
    stamp = json.dumps(vars(scenes), sort_keys=True)
    if root.exists():
        written = root / 'scenes.json'
        if written.is_file() and written.read_text() == stamp:
            return False
        if any(root.iterdir()):
            raise UserError(
                f'{root} holds something else than these scenes: remove the '
                'folder or choose another'
            )
    part = part_of(root)
    make_folder(part)
    total = scenes.train + scenes.val
    steps = (_write_split(part, split, scenes) for split in SPLITS)
    try:
        for done, _ in enumerate(chain.from_iterable(steps), 1):
            if progress is not None:
                progress(done, total)
        (part / 'scenes.json').write_text(stamp)
        if root.exists():
            root.rmdir()
        part.rename(root)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return True
