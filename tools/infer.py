"""Detect with a compiled detector: no PyTorch, no MMDetection, no floats."""

import argparse
import io
import os
import sys
import tempfile
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from aqd_mmdet.errors import UserError, one_line
from aqd_mmdet.files import write_whole
from aqd_mmdet.program.detector import SCORE_BITS
from aqd_mmdet.runtime import Detector
from aqd_mmdet.runtime.fonts import Names, write_names
from aqd_mmdet.runtime.images import draw, read_image

# Suffixes of the pictures in a folder, as in training.
SUFFIXES = (
    '.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff', '.gif',
    '.ppm', '.pgm', '.pbm', '.jp2', '.avif',
)  # fmt: skip
# PNG text chunk that marks this tool's own pictures. Only these are replaced.
MARK = ('Software', 'aqd_mmdet')
MAX_NAMES = 5  # class names in a message


@one_line
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('model', type=Path, help='a file model.aqd')
    parser.add_argument(
        'images',
        type=Path,
        nargs='+',
        help='image files, or folders of images; a file that is named twice '
        'is drawn once',
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('detections'),
        help="folder for the drawn pictures; only this tool's own pictures "
        'are replaced',
    )
    parser.add_argument(
        '--score',
        type=float,
        default=0.3,
        help='lowest score to draw; default: 0.3',
    )
    parser.add_argument(
        '--font',
        type=Path,
        help="font file with the characters of the class names; the system's "
        'fonts are searched, too',
    )
    infer(parser.parse_args())


def infer(args: argparse.Namespace) -> None:
    """Check all arguments, then draw the pictures."""
    if not 0 <= args.score <= 1:
        raise UserError(f'--score {args.score:g}: give a number from 0 to 1')
    # File names can have bytes that the output's encoding cannot represent.
    sys.stdout.reconfigure(errors='backslashreplace')
    detector = Detector(args.model)
    oriented = detector.compiled.preprocess.oriented
    names = write_names(detector.labels, args.font)
    images = distinct(gather(args.images))
    targets = targets_of(images, args.out)
    check_targets(images, targets)
    make_folders(args.out, targets)
    report_missing(names, detector.labels)
    for number, (path, target) in enumerate(
        zip(images, targets, strict=True), 1
    ):
        image = read_image(path, oriented)
        detections = detector(image, f'image {path}')
        count = int((detections.scores >= args.score * 2**SCORE_BITS).sum())
        picture = draw(image, detections, names.texts, args.score, names.fonts)
        save(picture, target)
        print(
            f'{number}/{len(images)} {path}: {count} objects, {target}',
            flush=True,
        )


def gather(paths: Iterable[Path]) -> list[Path]:
    """Return the image files; replace each folder with its pictures.

    Raises:
        UserError: If a file is missing or a folder has no pictures.
    """
    images: list[Path] = []
    for path in paths:
        if path.is_dir():
            images += pictures_in(path)
        elif path.is_file():
            images.append(path)
        else:
            raise UserError(f'image {path}: no such file or folder')
    return images


def pictures_in(folder: Path) -> list[Path]:
    """Return a folder's pictures in the order of their names.

    Hidden files are skipped. Pictures that this tool drew are skipped, too,
    so that --out can be the same folder.

    Raises:
        UserError: If the folder cannot be read or has no pictures.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise UserError(
            f'folder {folder}: cannot be read ({error.strerror})'
        ) from None
    pictures = [
        path
        for path in files
        if path.suffix.lower() in SUFFIXES
        and not path.name.startswith('.')
        and not is_ours(path)
    ]
    skipped = len(files) - len(pictures)
    if not pictures:
        raise UserError(
            f'folder {folder}: none of its {skipped} files is an image, '
            "except this tool's own pictures; expected files with one of the "
            f'suffixes {", ".join(SUFFIXES)} (subfolders are not searched)'
        )
    if skipped:
        print(
            f'{folder}: {len(pictures)} pictures; {skipped} other files or '
            'pictures of this tool are skipped',
            flush=True,
        )
    return pictures


def distinct(paths: Iterable[Path]) -> list[Path]:
    """Return each file once, even if several paths lead to it."""
    by_file: dict[Path, Path] = {}
    for path in paths:
        by_file.setdefault(path.resolve(), path)
    return list(by_file.values())


def targets_of(images: list[Path], out: Path) -> list[Path]:
    """Return a distinct file in the output folder for each picture.

    A picture keeps its name. If two names are equal, all pictures keep their
    folders below the common parent folder as well. Where this is not enough,
    pictures also keep their suffixes, as in ``1.jpg.png``.

    Args:
        images: Distinct image files.
        out: Output folder.
    """
    flat = [Path(f'{path.stem}.png') for path in images]
    if not repeated(flat):
        return [out / name for name in flat]
    # Resolve links in folders, but keep the name of a link to a file.
    absolute = [path.parent.resolve() / path.name for path in images]
    try:
        root = os.path.commonpath([path.parent for path in absolute])
    except ValueError:  # on Windows, two drives have no common folder
        raise UserError(
            'images on two drives have the same name: run this tool once for '
            'each drive, with another --out'
        ) from None
    relative = [path.relative_to(root) for path in absolute]
    short = [path.with_name(f'{path.stem}.png') for path in relative]
    full = [path.with_name(f'{path.name}.png') for path in relative]
    ambiguous = repeated(short)
    names = [
        long if key(brief) in ambiguous else brief
        for brief, long in zip(short, full, strict=True)
    ]
    # With '1.jpg', '1.png' and '1.jpg.bmp', short and full names still
    # collide. Full names alone are always distinct.
    return [out / name for name in (full if repeated(names) else names)]


def key(path: Path) -> str:
    """Return a key that is equal for paths that some file systems treat as the
    same: those that differ in case or Unicode normalisation."""
    return unicodedata.normalize('NFC', str(path)).casefold()


def repeated(paths: list[Path]) -> set[str]:
    """Return the keys that two or more paths share."""
    counts = Counter(map(key, paths))
    return {name for name, count in counts.items() if count > 1}


def is_ours(path: Path) -> bool:
    """Return whether this tool drew a picture."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            with Image.open(path, formats=['PNG']) as image:
                return image.info.get(MARK[0]) == MARK[1]
        except Exception:  # Pillow raises errors of any kind
            return False


def check_targets(images: list[Path], targets: list[Path]) -> None:
    """Raise if a target would replace anything but this tool's own pictures.

    Raises:
        UserError: If a target is an input, another file, a link or a folder.
    """
    inputs = {path.resolve() for path in images}
    for target in targets:
        # files.write_whole writes to the .part file first.
        for path in (target, target.with_name(f'{target.name}.part')):
            if not os.path.lexists(path):
                continue
            if path.resolve() in inputs:
                obstacle = 'is one of the images'
            elif path.is_symlink() or not is_ours(path):
                obstacle = 'exists and was not drawn by this tool'
            else:
                continue
            raise UserError(
                f'--out {target.parent}: {path.name} {obstacle}: move it or '
                'choose another --out'
            )


def make_folders(out: Path, targets: list[Path]) -> None:
    """Create the folders of the targets and check that they are writable.

    Raises:
        UserError: If a folder cannot be created or written to.
    """
    for folder in sorted({target.parent for target in targets}):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            reason = error.strerror or type(error).__name__
            if isinstance(error, FileExistsError | NotADirectoryError):
                reason = 'a file is in its place'
            raise UserError(
                f'--out {out}: cannot write to the folder {folder} '
                f'({reason}); choose another --out'
            ) from None


def report_missing(names: Names, labels: tuple[str, ...]) -> None:
    """Print in one line which class names cannot be drawn."""
    if not names.missing:
        return
    listed = ', '.join(
        f'#{x} {" ".join(labels[x].split())}'
        for x in names.missing[:MAX_NAMES]
    )
    more = len(names.missing) - MAX_NAMES
    print(
        f'no font has the characters of {listed}'
        f'{f" and {more} more" if more > 0 else ""}: numbers are drawn '
        'instead; choose a font that has them with --font FILE',
        file=sys.stderr,
        flush=True,
    )


def save(picture: Image.Image, target: Path) -> None:
    """Write a picture with this tool's mark.

    Raises:
        UserError: If the file cannot be written.
    """
    mark = PngInfo()
    mark.add_text(*MARK)
    content = io.BytesIO()
    picture.save(content, format='png', pnginfo=mark)
    try:
        write_whole(target, content.getvalue())
    except OSError as error:
        raise UserError(
            f'cannot write {target}: {error.strerror}; free some space or '
            'choose another --out'
        ) from None


if __name__ == '__main__':
    main()
