"""Writes files atomically, and reads JSON."""

import json
import os
import tempfile
from pathlib import Path
from secrets import token_hex
from typing import Any

from .errors import UserError

MAX_NAME = 255  # bytes of a file's name, on all usual file systems


def parse_json(text: str | bytes) -> Any:
    """Return what a text of JSON holds.

    Args:
        text: The text.

    Raises:
        ValueError: If it is no JSON, or nested deeper than Python reads.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from None


def part_of(path: Path) -> Path:
    """Return a name beside a file, under which it is written first.

    It is another one in each call, so that no file of a user has it.

    Args:
        path: File to write.

    Raises:
        UserError: If the name is too long.
    """
    part = path.with_name(f'{path.name}.{token_hex(4)}.part')
    if len(os.fsencode(part.name)) > MAX_NAME:
        raise UserError(
            f'{path}: too long a name for a file; take a shorter one'
        )
    return part


def write_whole(path: Path, content: bytes) -> None:
    """Write a file. An earlier one stays until the new one is complete.

    Args:
        path: File to write.
        content: The whole content.

    Raises:
        UserError: If the name is too long.
    """
    part = part_of(path)
    try:
        with part.open('xb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def make_folder(folder: Path) -> None:
    """Make a folder, and those around it; it may be there already.

    Args:
        folder: The folder.

    Raises:
        UserError: If it cannot be made, as where a file has its name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f'folder {folder}: it cannot be made ({error.strerror}); choose '
            'another one'
        ) from None


def check_folder(option: str, folder: Path) -> None:
    """Refuse a folder that could not be made, before the work is done.

    Args:
        option: That named the folder.
        folder: Folder that is made after the work; it may be there.

    Raises:
        UserError: If it, or what would hold it, is a file or not writable.
    """
    present = next(p for p in (folder, *folder.parents) if p.exists())
    if not present.is_dir() or not os.access(present, os.W_OK):
        what = 'cannot be written to' if present.is_dir() else 'is a file'
        raise UserError(
            f'{option} {folder}: {present} {what}; choose another {option}'
        )


def write_all(folder: Path, contents: dict[str, bytes]) -> list[Path]:
    """Write files to a folder, which is made, and return their paths.

    Args:
        folder: The folder. Earlier files are replaced.
        contents: By the files' names.

    Raises:
        UserError: If the folder cannot be made.
    """
    make_folder(folder)
    for name, content in contents.items():
        write_whole(folder / name, content)
    return [folder / name for name in contents]


def begins_with(path: Path, start: str) -> bool:
    """Say whether a path is a file that begins with a text.

    Args:
        path: The path; nothing need be there.
        start: The text.
    """
    if not path.is_file():
        return False
    with path.open('rb') as file:
        return file.read(len(start.encode())) == start.encode()


def check_output(option: str, path: Path, suffix: str) -> None:
    """Refuse a file that could not be written, before the work is done.

    Args:
        option: That named the file.
        path: File to write.
        suffix: Of its name.

    Raises:
        UserError: If its name has another suffix, is too long or is that of
            a folder, or if its folder is missing or not writable.
    """
    if path.suffix != suffix:
        raise UserError(f'{option} {path}: give a name that ends in {suffix}')
    part_of(path)  # refuses long names
    if path.is_dir():
        raise UserError(
            f'{option} {path}: it is a folder; choose another {option}'
        )
    if not path.parent.is_dir():
        raise UserError(
            f'{option} {path}: there is no folder {path.parent}; create it or '
            f'choose another {option}'
        )
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(
            f'{option} {path}: cannot write to the folder {path.parent} '
            f'({error.strerror}); choose another {option}'
        ) from None
