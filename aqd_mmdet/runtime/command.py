"""Detect with a compiled detector: no PyTorch, no MMDetection, no floats.

Pictures are drawn with their boxes, or their boxes are written to a file.
"""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import UserError
from ..progress import progress
from . import outputs, results
from .detector import Detector
from .images import read_image
from .prediction import (
    DRAWN_SCORE,
    Prediction,
    above,
    check_score,
    class_names,
)
from .sources import distinct, gather
from .video import as_stream, described, draw_stream

MAX_NAMES = 5  # class names in a message


def _path(name: str) -> Path:
    # Python takes an empty name, as of a variable that is not set, for '.'.
    if not name:
        raise argparse.ArgumentTypeError('an empty name')
    return Path(name)


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    made = argparse.ArgumentParser('aqd_mmdet.runtime', description=__doc__)
    made.add_argument('model', type=_path, help='a file model.aqd')
    made.add_argument(
        'sources',
        type=_path,
        nargs='+',
        metavar='SOURCE',
        help='image files, or folders of images (a file that is named twice '
        'is drawn once); or one video file; or the number of a camera',
    )
    made.add_argument(
        '--out',
        type=_path,
        help="folder for the drawn pictures; only this tool's own pictures "
        'are replaced; default: detections, if there is no --json',
    )
    made.add_argument(
        '--json',
        type=_path,
        metavar='FILE',
        help="file for the boxes, in COCO's format of results",
    )
    made.add_argument(
        '--annotations',
        type=_path,
        metavar='FILE',
        help='COCO file with the ids of images and categories for --json; '
        "without it, images have their names' numbers or names, and "
        'categories are numbered from 0',
    )
    made.add_argument(
        '--score',
        type=float,
        help=f'least score; default: {DRAWN_SCORE} to draw, 0 for --json',
    )
    made.add_argument(
        '--font',
        type=_path,
        help="font file with the characters of the class names; the system's "
        'fonts are searched, too',
    )
    return made


def command(arguments: Sequence[str] | None = None) -> None:
    """Check all arguments, then detect.

    Args:
        arguments: Of the command; those of this process by default.

    Raises:
        UserError: If one is not valid, before anything is written.
    """
    args = parser().parse_args(arguments)
    drawn, written = DRAWN_SCORE, 0.0
    if args.score is not None:
        check_score(args.score, '--score')
        drawn = written = args.score
    if args.annotations is not None and args.json is None:
        raise UserError('--annotations: the ids in it are for --json')
    if args.out is None and args.json is None:
        args.out = Path('detections')
    if args.font is not None and args.out is None:
        raise UserError('--font: it is for pictures, which --out draws')
    # File names can have bytes that the output's encoding cannot represent.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')
    detector = Detector(args.model)
    streams = [x for x in map(as_stream, args.sources) if x is not None]
    if not streams:
        _detect_in_pictures(detector, args, drawn, written)
        return
    if len(args.sources) > 1:
        raise UserError(
            f'{described(streams[0])}: a video or a camera goes alone, '
            'without other sources'
        )
    if args.json is not None:
        raise UserError(
            f'--json is of pictures, and {described(streams[0])} is none'
        )
    report_missing(detector.labels, args.font)
    draw_stream(detector, streams[0], args.out, drawn, args.font)


def _detect_in_pictures(
    detector: Detector, args: argparse.Namespace, drawn: float, written: float
) -> None:
    """Check all files, then draw pictures, or write their boxes, or both."""
    images = distinct(gather(args.sources))
    boxes, drawing = None, None
    if args.json is not None:
        boxes = _Boxes(args.json, images, args.annotations, detector.labels)
    if args.out is not None:
        drawing = _Drawing(args.out, images, detector.labels, args.font, drawn)
    least = drawn if boxes is None else written
    oriented = detector.compiled.preprocess.oriented
    # In a log, the lines of drawn pictures say how far it is.
    is_log = drawing is not None and not sys.stdout.isatty()
    with progress(
        total=len(images), desc='detecting', unit='image', disable=is_log
    ) as bar:
        for number, path in enumerate(images):
            image = read_image(path, oriented)
            prediction = detector.predict(image, least, f'image {path}')
            if boxes is not None:
                boxes.add(number, prediction)
            if drawing is not None:
                bar.write(drawing.draw(number, prediction))
            bar.update()
    if boxes is not None:
        boxes.write()


class _Boxes:
    """The boxes of all pictures, for a file of results.

    Args:
        path: The file.
        images: The pictures.
        annotations: COCO file with their ids, or None.
        labels: Class names of the detector.

    Raises:
        UserError: If the file cannot be written, or an id is missing.
    """

    def __init__(
        self,
        path: Path,
        images: list[Path],
        annotations: Path | None,
        labels: tuple[str, ...],
    ) -> None:
        results.check_results(path)
        self.path = path
        self.category_ids: list[int] | None = None
        if annotations is None:
            self.image_ids = results.ids_by_name(images)
        else:
            ids = results.Annotations(annotations)
            self.image_ids = ids.image_ids(images)
            self.category_ids = ids.category_ids(labels)
        self.found: list[dict[str, Any]] = []

    def add(self, number: int, prediction: Prediction) -> None:
        """Keep the boxes of a picture."""
        self.found += prediction.to_coco(
            self.image_ids[number], self.category_ids
        )

    def write(self) -> None:
        """Write the file."""
        results.write_results(self.path, self.found)
        print(f'{len(self.found)} boxes: {self.path}', flush=True)


class _Drawing:
    """The files that pictures are drawn to.

    Args:
        out: Their folder.
        images: The pictures.
        labels: Class names of the detector.
        font: File of a font, or None.
        score: Least score that is drawn.

    Raises:
        UserError: If a file cannot be written, or is not this tool's.
    """

    def __init__(
        self,
        out: Path,
        images: list[Path],
        labels: tuple[str, ...],
        font: Path | None,
        score: float,
    ) -> None:
        class_names(labels, font)  # refuses what is no font
        self.images, self.targets = images, outputs.targets_of(images, out)
        outputs.check_targets(images, self.targets)
        outputs.make_folders(out, self.targets)
        report_missing(labels, font)
        self.font, self.score = font, score

    def draw(self, number: int, prediction: Prediction) -> str:
        """Draw a picture and return what was done."""
        count = len(above(prediction.found, self.score).labels)
        picture = prediction.plot(self.score, self.font)
        target = self.targets[number]
        outputs.save(Image.fromarray(picture), target)
        return (
            f'{number + 1}/{len(self.images)} {self.images[number]}: '
            f'{count} objects, {target}'
        )


def report_missing(labels: tuple[str, ...], font: Path | None) -> None:
    """Print in one line which class names cannot be drawn.

    Args:
        labels: Class names of the detector.
        font: File of a font, or None.
    """
    missing = class_names(labels, font).missing
    if not missing:
        return
    listed = ', '.join(
        f'#{x} {" ".join(labels[x].split())}' for x in missing[:MAX_NAMES]
    )
    more = len(missing) - MAX_NAMES
    print(
        f'no font has the characters of {listed}'
        f'{f" and {more} more" if more > 0 else ""}: numbers are drawn '
        'instead; choose a font that has them with --font FILE',
        file=sys.stderr,
        flush=True,
    )
