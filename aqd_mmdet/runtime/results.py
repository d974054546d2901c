"""Detections in COCO's format of results, and the ids in them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError, nearest
from ..files import check_output, parse_json, write_whole

# Keys of a result. Only files of such results are replaced.
KEYS = {'image_id', 'category_id', 'bbox', 'score'}
Id = int | str


def ids_by_name(images: Sequence[Path]) -> list[Id]:
    """Return image ids for pictures without annotations.

    The id is the name without its suffix; a number, if that is one:
    ``000000000139.jpg`` is 139, as in COCO.

    Args:
        images: The pictures.

    Raises:
        UserError: If two have the same id.
    """
    found: dict[Id, Path] = {}
    for path in images:
        stem = path.stem
        is_number = stem.isascii() and stem.isdecimal()
        image_id = int(stem) if is_number else stem
        if image_id in found:
            raise UserError(
                f'--json: {found[image_id]} and {path} have the same id '
                f'{image_id!r}: give them other names, or a COCO file with '
                '--annotations'
            )
        found[image_id] = path
    return list(found)


class Annotations:
    """The ids of a COCO file of annotations.

    Args:
        path: The file.

    Raises:
        UserError: If it is missing or no such file.
    """

    def __init__(self, path: Path) -> None:
        self.where = f'--annotations {path}'
        try:
            content = parse_json(path.read_bytes())
        except OSError as error:
            raise UserError(
                f'{self.where}: cannot be read ({error.strerror})'
            ) from None
        except ValueError as error:
            raise UserError(
                f'{self.where}: expected JSON, found {error}'
            ) from None
        self.images = self._ids(content, 'images', 'file_name', Id)
        self.categories = self._ids(content, 'categories', 'name', int)

    def _ids(
        self, content: Any, key: str, name: str, kind: Any
    ) -> dict[str, Any]:
        """Return the ids of a list's entries, of a kind, by their names."""
        what = 'an integer' if kind is int else 'an integer or a text'
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise UserError(
                f'{self.where}: expected a COCO file with a list {key!r}, '
                'found none'
            )
        ids: dict[str, Any] = {}
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict) or not (
                isinstance(entry.get(name), str)
                and isinstance(entry.get('id'), kind)
                and not isinstance(entry['id'], bool)
            ):
                raise UserError(
                    f'{self.where}: expected {what} as id and a text as '
                    f'{name} in entry {number} of {key!r}, found '
                    f'{str(entry)[:60]}'
                )
            if entry[name] in ids:
                raise UserError(
                    f'{self.where}: {name} {entry[name]!r} is twice in {key!r}'
                )
            ids[entry[name]] = entry['id']
        by_id = {number: name for name, number in ids.items()}
        for each, number in ids.items():
            if by_id[number] != each:
                raise UserError(
                    f'{self.where}: {each!r} and {by_id[number]!r} in {key!r} '
                    f'have the same id {number!r}'
                )
        return ids

    def image_ids(self, images: Sequence[Path]) -> list[Id]:
        """Return the ids of pictures: those whose names their paths end with.

        Args:
            images: The pictures.

        Raises:
            UserError: If one is not in the file, or two are the same in it.
        """
        found: dict[Id, Path] = {}
        for path in images:
            parts = path.absolute().parts
            # The longest of the names that fit: 'a/1.jpg' before '1.jpg'.
            ends = ('/'.join(parts[at:]) for at in range(1, len(parts)))
            name = next((end for end in ends if end in self.images), None)
            if name is None:
                raise UserError(
                    f'{self.where}: it has no image {path.name}; '
                    f'{nearest(path.name, self.images)}'
                )
            image_id = self.images[name]
            if image_id in found:
                raise UserError(
                    f'{self.where}: {found[image_id]} and {path} are the same '
                    f'image {name} in it: detect in one of them'
                )
            found[image_id] = path
        return list(found)

    def category_ids(self, labels: Sequence[str]) -> list[int]:
        """Return the id of each class, by its name.

        Args:
            labels: Class names of the detector.

        Raises:
            UserError: If the file has no category of a name.
        """
        for label in labels:
            if label not in self.categories:
                raise UserError(
                    f'{self.where}: it has no category {label!r}, which the '
                    f'detector finds; {nearest(label, self.categories)}'
                )
        return [self.categories[label] for label in labels]


def check_results(path: Path) -> None:
    """Refuse a file of results that could not be written, or that would
    replace a file of another kind.

    Args:
        path: File to write.

    Raises:
        UserError: With what to do.
    """
    check_output('--json', path, '.json')
    is_link = path.is_symlink()
    if is_link or (path.exists() and not _are_results(path)):
        what = 'is a link' if is_link else 'is no file of results'
        raise UserError(
            f'--json {path}: {path.name} exists and {what}, which results '
            'would replace: move it or choose another name'
        )


def _are_results(path: Path) -> bool:
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, list) and all(
        isinstance(entry, dict) and entry.keys() == KEYS for entry in content
    )


def write_results(path: Path, results: list[dict[str, Any]]) -> None:
    """Write a file of results.

    Args:
        path: Where to.
        results: Of all pictures, as of ``Prediction.to_coco``.

    Raises:
        UserError: If it cannot be written.
    """
    try:
        write_whole(path, f'{json.dumps(results)}\n'.encode())
    except OSError as error:
        raise UserError(
            f'cannot write {path}: {error.strerror}; free some space or '
            'choose another --json'
        ) from None
