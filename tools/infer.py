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

# What is taken from a folder: what training reads as well.
SUFFIXES = (
    '.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff', '.gif',
    '.ppm', '.pgm', '.pbm', '.jp2', '.avif',
)  # fmt: skip
# A text chunk of the pictures that are drawn here; others are not replaced.
MARK = ('Software', 'aqd_mmdet')
# Of names in a message.
SHOWN = 5


@one_line
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('model', type=Path, help='a file model.aqd')
    parser.add_argument(
        'images',
        type=Path,
        nargs='+',
        help='image files, and folders, of which the pictures are taken; a '
        'file that is named twice is drawn once',
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('detections'),
        help='folder to draw to; pictures that were drawn by this tool are '
        'replaced, others never',
    )
    parser.add_argument(
        '--score', type=float, default=0.3, help='least score that is drawn'
    )
    parser.add_argument(
        '--font',
        type=Path,
        help='file of a font that has the characters of the class names; '
        'those of the system are searched as well',
    )
    infer(parser.parse_args())


def infer(args: argparse.Namespace) -> None:
    """Check everything, then draw picture after picture."""
    if not 0 <= args.score <= 1:
        raise UserError(f'--score {args.score:g}: give a number from 0 to 1')
    # A name of a file need not be text that the output's encoding has.
    sys.stdout.reconfigure(errors='backslashreplace')
    detector = Detector(args.model)
    oriented = detector.compiled.preprocess.oriented
    names = write_names(detector.labels, args.font)
    images = distinct(gather(args.images))
    targets = targets_of(images, args.out)
    check_targets(images, targets)
    make_folders(args.out, targets)
    tell_missing(names, detector.labels)
    for number, (path, target) in enumerate(
        zip(images, targets, strict=True), 1
    ):
        image = read_image(path, oriented)
        found = detector(image, f'image {path}')
        shown = int((found.scores >= args.score * 2**SCORE_BITS).sum())
        picture = draw(image, found, names.texts, args.score, names.fonts)
        save(picture, target)
        print(
            f'{number}/{len(images)} {path}: {shown} objects, {target}',
            flush=True,
        )


def gather(paths: Iterable[Path]) -> list[Path]:
    """Return the image files; a folder's own pictures stand for it.

    Raises:
        UserError: If a file is missing or a folder has no pictures.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += pictures_in(path)
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f'image {path}: no such file or folder')
    return found


def pictures_in(folder: Path) -> list[Path]:
    """Return a folder's pictures in the order of their names.

    Hidden files are none, and pictures that were drawn here are passed over,
    so that a folder can be its own --out.

    Raises:
        UserError: If there are none.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise UserError(
            f'folder {folder}: it cannot be read ({error.strerror})'
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
            f'folder {folder}: none of its {skipped} files is a picture that '
            'this tool has not drawn; expected files (folders in it are not '
            f'searched) that end in {", ".join(SUFFIXES)}'
        )
    if skipped:
        print(
            f'{folder}: {len(pictures)} pictures; {skipped} other files, or '
            'drawn by this tool, are skipped',
            flush=True,
        )
    return pictures


def distinct(paths: Iterable[Path]) -> list[Path]:
    """Return each file once, whatever ways to it were named."""
    by_file: dict[Path, Path] = {}
    for path in paths:
        by_file.setdefault(path.resolve(), path)
    return list(by_file.values())


def targets_of(images: list[Path], out: Path) -> list[Path]:
    """Return where each picture is drawn to: no two to the same file.

    By its name; where two would have the same, all keep the folders below
    their common one, and those that still are the same their suffix.

    Args:
        images: Different files.
        out: Folder of all.
    """
    flat = [Path(f'{path.stem}.png') for path in images]
    if not repeated(flat):
        return [out / name for name in flat]
    # Folders without links and dots; the file's own name, if it is a link.
    placed = [path.parent.resolve() / path.name for path in images]
    try:
        root = os.path.commonpath([path.parent for path in placed])
    except ValueError:  # two drives of Windows
        raise UserError(
            'images on two drives have the same name: draw those of one '
            'drive after the other, with another --out'
        ) from None
    kept = [path.relative_to(root) for path in placed]
    short = [path.with_name(f'{path.stem}.png') for path in kept]
    full = [path.with_name(f'{path.name}.png') for path in kept]
    twice = repeated(short)
    names = [
        long if key(brief) in twice else brief
        for brief, long in zip(short, full, strict=True)
    ]
    # '1.jpg', '1.png' and '1.jpg.bmp': only whole names are surely different.
    return [out / name for name in (full if repeated(names) else names)]


def key(path: Path) -> str:
    """Return what is the same if any file system takes two paths for one."""
    return unicodedata.normalize('NFC', str(path)).casefold()


def repeated(paths: list[Path]) -> set[str]:
    """Return the keys that more than one path has."""
    counts = Counter(map(key, paths))
    return {each for each, count in counts.items() if count > 1}


def is_ours(path: Path) -> bool:
    """Whether a file is a picture that this tool drew."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            with Image.open(path, formats=['PNG']) as image:
                return image.info.get(MARK[0]) == MARK[1]
        except Exception:  # of any kind, if it is no image
            return False


def check_targets(images: list[Path], targets: list[Path]) -> None:
    """Refuse to replace what this tool did not draw.

    Raises:
        UserError: If a target is such a file, a link or a folder.
    """
    inputs = {path.resolve() for path in images}
    for target in targets:
        # What is not whole yet has another name: files.write_whole.
        for path in (target, target.with_name(f'{target.name}.part')):
            if not os.path.lexists(path):
                continue
            if path.resolve() in inputs:
                what = 'is one of the images'
            elif path.is_symlink() or not is_ours(path):
                what = 'is there and was not drawn by this tool'
            else:
                continue
            raise UserError(
                f'--out {target.parent}: {path.name} {what}: move it or '
                'choose another --out'
            )


def make_folders(out: Path, targets: list[Path]) -> None:
    """Make the folders of targets, and see that they can be written to.

    Raises:
        UserError: If one cannot be made or written to.
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


def tell_missing(names: Names, labels: tuple[str, ...]) -> None:
    """Say in one line which class names cannot be drawn."""
    if not names.missing:
        return
    shown = names.missing[:SHOWN]
    told = ', '.join(f'#{x} {" ".join(labels[x].split())}' for x in shown)
    more = len(names.missing) - SHOWN
    print(
        f'no font has the characters of {told}'
        f'{f" and {more} more" if more > 0 else ""}: numbers are drawn; '
        'name a font that has them by --font FILE',
        file=sys.stderr,
        flush=True,
    )


def save(picture: Image.Image, target: Path) -> None:
    """Write a picture that can be told from others.

    Raises:
        UserError: If it cannot be written.
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
