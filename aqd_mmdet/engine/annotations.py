"""Checks of COCO annotation files, as MMDetection and pycocotools read them.

Both take much on trust: what is missing fails after hours, and what is wrong
trains a detector of other names or gives an AP of something else.
"""

import codecs
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from ..datasets.loading import check_size, image_size
from ..errors import UserError, nearest
from ..files import parse_json

# A box may reach over the image's border by rounding or by intent (objects
# cut off); one that has less than this share of itself inside is a mistake.
MIN_INSIDE = 0.5
# Images whose files are opened before a run, evenly spread: enough to see an
# exporter's mistake, and a second's work on a slow disk. The others are
# compared with their entries when they are read.
OPENED = 100
# Boxes of whole numbers of pixels are hardly ever all inside 1 x 1.
UNIT = 1.0
# What keeps an object from being learned, and from being missed.
FLAGS = ('iscrowd', 'ignore')
# Below it, floats have all whole numbers; pycocotools keeps ids in them.
EXACT = 2**53


@dataclass(frozen=True)
class Use:
    """What a file of annotations is read for.

    Attributes:
        trains: Whether a detector learns from it.
        evaluates: Whether pycocotools compares detections with it.
        sorts: Whether its categories are sorted by their ids first
            (``CocoMetric.sort_categories``).
        has_images: Whether its images are read as well.
        oriented: Whether they are turned by their EXIF orientation.
        masks: Whether objects are read with their masks.
    """

    trains: bool = False
    evaluates: bool = False
    sorts: bool = False
    has_images: bool = True
    oriented: bool = True
    masks: bool = False


def check_annotations(
    path: Path, images: Path, classes: Sequence[str], use: Use
) -> dict[Any, str]:
    """Check a COCO annotation file.

    Args:
        path: The file.
        images: Folder of its images.
        classes: Class names that a config gives for it, in order.
        use: What it is read for.

    Returns:
        dict: Names of the images' files by their ids.

    Raises:
        UserError: Naming the file and its first mistake.
    """
    content = _read(path)
    where = f'annotations {path}:'
    if not (use.trains or use.evaluates):
        content.setdefault('annotations', [])  # a list of images alone will do
    elif 'annotations' not in content:
        raise UserError(f"{where} not in COCO format: no list 'annotations'")
    _check_categories(content['categories'], classes, use, where)
    sizes = _check_images(content['images'], where)
    if use.evaluates:
        _check_kinds_of_ids(content, where)
    _check_entries(content, sizes, classes, use, where)
    if use.has_images:
        _check_files(content['images'], images, where)
        _compare_sizes(content['images'], images, use, where)
    return {i['id']: i['file_name'] for i in content['images']}


def labels_in(path: Path, classes: Iterable[str]) -> tuple[str, ...] | None:
    """Return the classes in the order in which a file numbers its labels.

    Args:
        path: A COCO annotation file; it need not be there.
        classes: Names to look for.

    Returns:
        tuple: The names; None without the file.

    Raises:
        UserError: If it is not in COCO format.
    """
    if not path.is_file():
        return None
    wanted = set(classes)
    names = [
        _field(c, 'name', 'a category') for c in _read(path)['categories']
    ]
    return tuple(name for name in names if name in wanted)


def _read(path: Path) -> dict[str, list[dict]]:
    if not path.is_file():
        hint = (
            '; python tools/make_digits.py makes the embedded dataset'
            if path.parent.name == 'digits'
            else ' (set data_root and ann_file)'
        )
        raise UserError(f'annotations {path}: no such file{hint}')
    raw = path.read_bytes()
    if raw.startswith(
        (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    ):
        raise UserError(
            f'annotations {path}: it begins with a byte-order mark, which '
            'pycocotools cannot read: save it as UTF-8 without one'
        )
    try:
        content = parse_json(raw)
    except ValueError as error:
        raise UserError(f'annotations {path}: not JSON ({error})') from None
    for key in ('images', 'annotations', 'categories'):
        entries = content.get(key) if isinstance(content, dict) else None
        if entries is None and key == 'annotations':
            continue
        if not isinstance(entries, list) or not all(
            isinstance(entry, dict) for entry in entries
        ):
            raise UserError(
                f'annotations {path}: not in COCO format: no list {key!r} '
                'of objects'
            )
    return content


def _field(entry: dict, key: str, label: str, *types: type) -> Any:
    """Return a field of an entry, or raise for one that is not there."""
    if key not in entry:
        raise UserError(f'{label} has no {key!r}, which MMDetection reads')
    value = entry[key]
    allowed = types or (str,)
    if not isinstance(value, allowed) or (
        isinstance(value, bool) and bool not in allowed
    ):
        names = ' or '.join(t.__name__ for t in allowed)
        raise UserError(f'{label} has {key!r}: {value!r}; expected {names}')
    if isinstance(value, float) and not isfinite(value):
        raise UserError(f'{label} has {key!r}: {value!r}, which is no number')
    return value


def _unique_ids(entries: list[dict], what: str, where: str) -> None:
    seen = set()
    for entry in entries:
        number = _field(entry, 'id', f'{where} one {what} entry', int, str)
        if number in seen:
            raise UserError(
                f'{where} two {what} entries have the id {number!r}: '
                'number them uniquely'
            )
        seen.add(number)


def _check_categories(
    categories: list[dict], classes: Sequence[str], use: Use, where: str
) -> None:
    """Check that a file numbers its labels as the config does.

    MMDetection numbers them in the order of the file's categories, whatever
    the order of ``metainfo.classes`` is.
    """
    _unique_ids(categories, 'category', where)
    if use.sorts:
        categories = sorted(categories, key=lambda c: c['id'])
    names = [
        _field(c, 'name', f'{where} category {c["id"]}') for c in categories
    ]
    for name in classes:
        if name not in names:
            raise UserError(
                f'{where} class {name!r} of the config is not among its '
                f'categories ({nearest(name, names)}): set metainfo.classes'
            )
        if names.count(name) > 1:
            raise UserError(
                f'{where} two of its categories are called {name!r}, so that '
                'it would have two labels: rename or remove one'
            )
    order = [name for name in names if name in classes]
    if order != list(classes):
        raise UserError(
            f'{where} its categories come in the order {_some(order)}, by '
            'which MMDetection numbers labels; the config has '
            f'metainfo.classes={_some(classes)}: give them in the order of '
            'the file'
        )


def _some(names: Sequence[str]) -> str:
    shown = ', '.join(names[:6])
    return f'({shown}{", ..." if len(names) > 6 else ""})'


def _check_images(
    entries: list[dict], where: str
) -> dict[Any, tuple[float, float]]:
    """Check the images' entries and return their widths and heights."""
    if not entries:
        raise UserError(f'{where} it has no images')
    _unique_ids(entries, 'image', where)
    sizes = {}
    for image in entries:
        label = f'{where} image {image["id"]!r}'
        _field(image, 'file_name', label)
        sizes[image['id']] = (
            _field(image, 'width', label, int, float),
            _field(image, 'height', label, int, float),
        )
    return sizes


def _check_files(entries: list[dict], folder: Path, where: str) -> None:
    """Check that the images are there."""
    listed = (
        {entry.name for entry in os.scandir(folder)}
        if folder.is_dir()
        else set()
    )
    for image in entries:
        name = image['file_name']
        if name not in listed and not (folder / name).is_file():
            raise UserError(
                f'{where} image {folder / name} does not exist '
                '(set data_prefix.img)'
            )


def _check_entries(
    content: dict,
    sizes: dict[Any, tuple[float, float]],
    classes: Sequence[str],
    use: Use,
    where: str,
) -> None:
    """Check the annotations of a file."""
    entries = content['annotations']
    names = {c['id']: c['name'] for c in content['categories']}
    _unique_ids(entries, 'annotation', where)
    objects = 0
    for entry in entries:
        label = f'{where} annotation {entry["id"]}'
        category = _field(entry, 'category_id', label, int, str)
        if category not in names:
            raise UserError(
                f'{label} has category {category!r}, which is not among its '
                f'categories {list(names)[:8]}'
            )
        if _field(entry, 'image_id', label, int, str) not in sizes:
            raise UserError(
                f'{label} is of image {entry["image_id"]!r}, which is not '
                'there'
            )
        _check_box(entry, sizes[entry['image_id']], label)
        if use.masks and not entry.get('segmentation'):
            raise UserError(
                f"{label} has no 'segmentation', which LoadAnnotations reads "
                'as with_mask=True says'
            )
        is_left_out = _check_flags(entry, use.evaluates, label)
        if use.evaluates:
            _check_evaluated(entry, label)
        objects += names[category] in classes and not is_left_out
    if use.trains and not objects:
        raise UserError(
            f'{where} none of its annotations is of the classes '
            f'{_some(classes)}, neither crowd nor ignored: there is nothing '
            'to learn'
        )
    if entries and all(_is_share(entry['bbox']) for entry in entries):
        raise UserError(
            f'{where} all its boxes lie within 0 to 1, such as '
            f'{entries[0]["bbox"]} of annotation {entries[0]["id"]}: boxes '
            'are x, y, width, height in pixels, not shares of the image'
        )


def _is_share(box: Sequence[float]) -> bool:
    x, y, width, height = box
    return max(x + width, y + height) <= UNIT


def _is_number(side: object) -> bool:
    if not isinstance(side, (int, float)) or isinstance(side, bool):
        return False
    try:
        return isfinite(side)
    except OverflowError:  # an int that is larger than all floats
        return False


def _check_box(entry: dict, size: tuple[float, float], label: str) -> None:
    box = _field(entry, 'bbox', label, list)
    if len(box) != 4 or not all(map(_is_number, box)):
        raise UserError(
            f'{label} has the box {box}: expected four numbers, x, y, width, '
            'height in pixels'
        )
    x, y, width, height = box
    if width < 0 or height < 0:
        raise UserError(
            f'{label} has the box {box} of negative size: boxes are x, y, '
            'width, height in pixels'
        )
    across, down = size
    inside = max(0, min(x + width, across) - max(x, 0)) * max(
        0, min(y + height, down) - max(y, 0)
    )
    if inside < MIN_INSIDE * width * height:
        raise UserError(
            f'{label} has its box {box} outside its image of {across} x '
            f'{down}: boxes are x, y, width, height in pixels'
        )
    area = _field(entry, 'area', label, int, float)
    if area <= 0 and min(width, height) >= 1:
        raise UserError(
            f'{label} has the area {area}, and MMDetection drops objects '
            f'without one: give that of its box, {width * height:g}'
        )


def _check_flags(entry: dict, evaluates: bool, label: str) -> bool:
    """Return whether an object is a crowd or ignored, which nothing learns.

    All readers take what is not empty for true, the text "0" as well.
    """
    for key in FLAGS:
        value = entry.get(key, 0)
        if value not in (0, 1) and (value is not None or evaluates):
            raise UserError(
                f'{label} has {key!r}: {value!r}; expected 0 or 1, no text'
            )
    return any(entry.get(key) for key in FLAGS)


def _check_kinds_of_ids(content: dict, where: str) -> None:
    """Check ids that pycocotools sorts, and makes arrays of."""
    for entry in content['categories']:
        _field(entry, 'id', f'{where} category {entry["name"]!r}', int)
    texts = [isinstance(image['id'], str) for image in content['images']]
    if any(texts) and not all(texts):
        raise UserError(
            f'{where} ids of some images are text, such as '
            f'{content["images"][texts.index(True)]["id"]!r}, of others '
            'numbers, which pycocotools takes for one kind: give all the same'
        )


def _check_evaluated(entry: dict, label: str) -> None:
    """Check what only pycocotools' evaluation reads."""
    number = _field(entry, 'id', label, int)
    if abs(number) >= EXACT:
        raise UserError(
            f'{label}: pycocotools keeps ids in floats, which have no such '
            'number: number annotations from 1'
        )
    if number == 0:
        raise UserError(
            f'{label}: pycocotools takes the id 0 for "not matched" and '
            'counts the object as missed: number annotations from 1'
        )
    if 'iscrowd' not in entry:
        raise UserError(
            f"{label} has no 'iscrowd', which pycocotools reads: give it "
            '"iscrowd": 0'
        )


def _compare_sizes(
    entries: list[dict], folder: Path, use: Use, where: str
) -> None:
    """Open some images and compare their sizes with their entries."""
    for image in entries[:: -(-len(entries) // OPENED)]:
        path = folder / image['file_name']
        size = image_size(path, use.oriented)
        # Whatever is wrong with no image at all is told when it is read.
        if size is not None:
            written = image['width'], image['height']
            check_size(f'{where} {path}', size, written)
