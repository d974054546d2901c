"""Drawn pictures: their files, and which files they may replace."""

import io
import os
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..errors import UserError
from ..files import part_of, write_whole

# PNG text chunk that marks this tool's own pictures. Only these are replaced.
MARK = ('Software', 'aqd_mmdet')


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
    try:
        with Image.open(path, formats=['PNG']) as image:
            return image.info.get(MARK[0]) == MARK[1]
    except Exception:  # Pillow raises errors of any kind
        return False


def check_targets(images: list[Path], targets: list[Path]) -> None:
    """Raise if a target would replace anything but this tool's own pictures.

    Raises:
        UserError: If a target is an input, another file, a link or a folder,
            or if its name is too long.
    """
    inputs = {path.resolve() for path in images}
    for target in targets:
        part_of(target)  # refuses long names
        if not os.path.lexists(target):
            continue
        if target.resolve() in inputs:
            obstacle = 'is one of the images'
        elif target.is_symlink() or not is_ours(target):
            obstacle = 'exists and was not drawn by this tool'
        else:
            continue
        raise UserError(
            f'--out {target.parent}: {target.name} {obstacle}: move it or '
            'choose another --out'
        )


def make_folders(out: Path, targets: list[Path]) -> None:
    """Create the folders of the targets and check that they are writable.

    Args:
        out: Output folder, for the message.
        targets: Files in it, or below it.

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
