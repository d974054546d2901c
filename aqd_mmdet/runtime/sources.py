"""The pictures that a user names: files, and folders of them."""

from collections.abc import Iterable
from pathlib import Path

from ..errors import UserError
from .outputs import is_ours

# Suffixes of the pictures in a folder, as in training.
SUFFIXES = (
    '.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff', '.gif',
    '.ppm', '.pgm', '.pbm', '.jp2', '.avif',
)  # fmt: skip


def gather(paths: Iterable[Path]) -> list[Path]:
    """Return the image files; replace each folder with its pictures.

    Says how many files of a folder are skipped.

    Raises:
        UserError: If a file is missing or a folder has no pictures.
    """
    images: list[Path] = []
    for path in paths:
        if path.is_dir():
            pictures, skipped = pictures_in(path)
            images += pictures
            if skipped:
                print(
                    f'{path}: {len(pictures)} pictures; {skipped} other '
                    'files or pictures of this tool are skipped',
                    flush=True,
                )
        elif path.is_file():
            images.append(path)
        else:
            raise UserError(f'image {path}: no such file or folder')
    return images


def pictures_in(folder: Path) -> tuple[list[Path], int]:
    """Return a folder's pictures in the order of their names.

    Hidden files are skipped. Pictures that this tool drew are skipped, too,
    so that --out can be the same folder.

    Returns:
        tuple: The pictures, and how many other files there are.

    Raises:
        UserError: If the folder cannot be read or has no pictures.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise UserError(
            f'folder {folder}: cannot be read ({error.strerror})'
        ) from None
    pictures = list(filter(is_picture, files))
    skipped = len(files) - len(pictures)
    if not pictures:
        raise UserError(
            f'folder {folder}: none of its {skipped} files is an image, '
            "except this tool's own pictures; expected files with one of the "
            f'suffixes {", ".join(SUFFIXES)} (subfolders are not searched)'
        )
    return pictures, skipped


def is_picture(path: Path) -> bool:
    """Return whether a file of a folder is one of its pictures.

    Hidden files are none, nor are pictures that this tool drew.
    """
    return (
        path.suffix.lower() in SUFFIXES
        and not path.name.startswith('.')
        and not is_ours(path)
    )


def distinct(paths: Iterable[Path]) -> list[Path]:
    """Return each file once that is named twice.

    Two links to a file, and a link beside it, have names of their own: they
    are several pictures.
    """
    by_file: dict[Path, Path] = {}
    for path in paths:
        by_file.setdefault(path.parent.resolve() / path.name, path)
    return list(by_file.values())
