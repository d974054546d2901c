"""Annotation files: what MMDetection and pycocotools would do with them."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmdet.datasets import CocoDataset
from PIL import Image

from aqd_mmdet.engine.annotations import Use, check_annotations, labels_in
from aqd_mmdet.errors import UserError

CLASSES = ('cat', 'dog')
TRAINED, EVALUATED = Use(trains=True), Use(evaluates=True)


def write(folder: Path, **changes) -> Path:
    """Write a right file of one image, changed, and the image."""
    content = dict(
        images=[dict(id=1, file_name='a.png', width=100, height=50)],
        annotations=box(10, 10, 20, 20)['annotations'],
        categories=[dict(id=3, name='cat'), dict(id=4, name='dog')],
    )
    content.update(changes)
    Image.new('RGB', (100, 50)).save(folder / 'a.png')
    path = folder / 'ann.json'
    path.write_text(json.dumps(content))
    return path


def box(*bbox, **changes) -> dict:
    entry = dict(
        id=7, image_id=1, category_id=3, bbox=list(bbox), area=9, iscrowd=0
    )
    return dict(annotations=[{**entry, **changes}])


def without(key: str) -> dict:
    (entry,) = box(10, 10, 20, 20)['annotations']
    del entry[key]
    return dict(annotations=[entry])


@pytest.mark.parametrize('use', [TRAINED, EVALUATED])
def test_good_annotations(tmp_path, use):
    found = check_annotations(write(tmp_path), tmp_path, CLASSES, use)
    assert found == {1: 'a.png'}
    # A box that reaches a little over the border is an object cut off; one
    # of no size is dropped by MMDetection, and COCO has such.
    for sides in ((90, 10, 15, 20), (10, 10, 0, 5)):
        path = write(tmp_path, **box(*sides))
        check_annotations(path, tmp_path, CLASSES, use)


def image(**changes) -> dict:
    entry = dict(id=1, file_name='a.png', width=100, height=50)
    return dict(images=[{**entry, **changes}])


MISTAKES = {
    'no list': (dict(images='x'), "no list 'images'"),
    'not of objects': (dict(images=[1]), "no list 'images' of objects"),
    'no images': (dict(images=[]), 'it has no images'),
    'category': (
        box(0, 0, 5, 5, category_id=9),
        r'annotation 7 has category 9.*\[3, 4\]',
    ),
    'image': (box(0, 0, 5, 5, image_id=9), 'of image 9, which is not there'),
    'outside': (
        box(95, 10, 20, 20),
        'annotation 7 has its box .*outside .*100 x 50',
    ),
    'left': (box(-30, 0, 20, 20), 'outside'),
    'negative': (box(50, 20, -5, 10), 'of negative size'),
    'three sides': (box(1, 2, 3), 'expected four numbers'),
    'text': (box(1, 2, 3, '4'), 'expected four numbers'),
    'huge': (box(10**400, 2, 3, 4), 'expected four numbers'),
    'not a number': (box(1, 2, 3, math.nan), 'expected four numbers'),
    'shares': (box(0.2, 0.3, 0.5, 0.6), 'lie within 0 to 1.*in pixels'),
    'no area': (box(1, 2, 3, 4, area=0), 'has the area 0.*give .* 12'),
    'crowd': (
        box(10, 10, 20, 20, iscrowd='0'),
        "annotation 7 has 'iscrowd': '0'; expected 0 or 1",
    ),
    'ignored': (box(10, 10, 20, 20, ignore='false'), "'ignore': 'false'; e"),
    'half ignored': (box(10, 10, 20, 20, ignore=0.5), "'ignore': 0.5; exp"),
    'file': (image(file_name='b.png'), r'b\.png does not exist'),
    'width': (image(width=101), 'is 100 x 50 .* say 101 x 50'),
    'turned': (image(width=50, height=100), 'say 50 x 100.*EXIF'),
    'ids of images': (
        dict(images=[*image()['images'], *image()['images']]),
        'two image entries have the id 1',
    ),
    'ids of annotations': (
        dict(annotations=box(1, 2, 3, 4)['annotations'] * 2),
        'two annotation entries have the id 7',
    ),
    'ids of categories': (
        dict(categories=[dict(id=3, name='cat'), dict(id=3, name='dog')]),
        'two category entries have the id 3',
    ),
    'class': (
        dict(categories=[dict(id=3, name='cat'), dict(id=4, name='dogs')]),
        "class 'dog' .*nearest: dogs",
    ),
    'name': (
        dict(categories=[dict(id=3, name='cat'), dict(id=4, name=5)]),
        "category 4 has 'name': 5; expected str",
    ),
    'order': (
        dict(categories=[dict(id=4, name='dog'), dict(id=3, name='cat')]),
        r'order \(dog, cat\).*classes=\(cat, dog\)',
    ),
    'twice': (
        dict(
            categories=[
                dict(id=2, name='cat'),
                dict(id=3, name='cat', supercategory='cat'),
                dict(id=4, name='dog'),
            ]
        ),
        "two of its categories are called 'cat'",
    ),
    **{
        f'without {key}': (without(key), f"no '{key}'")
        for key in ('bbox', 'area', 'image_id', 'category_id', 'id')
    },
}


@pytest.mark.parametrize('changes, message', MISTAKES.values(), ids=MISTAKES)
@pytest.mark.parametrize('use', [TRAINED, EVALUATED], ids=['train', 'test'])
def test_mistakes(tmp_path, changes, message, use):
    path = write(tmp_path, **changes)
    with pytest.raises(UserError, match=message) as caught:
        check_annotations(path, tmp_path, CLASSES, use)
    assert str(caught.value).startswith(f'annotations {path}:')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'changes, message',
    [
        (without('iscrowd'), "annotation 7 has no 'iscrowd'"),
        (box(10, 10, 20, 20, iscrowd=None), "'iscrowd': None; expected"),
        (box(10, 10, 20, 20, id=0), 'annotation 0: .*number .* from 1'),
        (box(10, 10, 20, 20, id='7'), "annotation 7 has 'id': '7'; exp.* int"),
        (
            box(10, 10, 20, 20, id=2**53),
            'annotation 9007199254740992: .* floats.*number .* from 1',
        ),
        (
            dict(images=image()['images'] + image(id='b')['images']),
            "some images are text, such as 'b', of others numbers",
        ),
        (
            dict(
                categories=[dict(id='c', name='cat'), dict(id=4, name='dog')],
                **box(10, 10, 20, 20, category_id=4),
            ),
            "category 'cat' has 'id': 'c'; expected int",
        ),
    ],
)
def test_what_only_an_evaluation_reads(tmp_path, changes, message):
    path = write(tmp_path, **changes)
    check_annotations(path, tmp_path, CLASSES, TRAINED)
    with pytest.raises(UserError, match=message):
        check_annotations(path, tmp_path, CLASSES, EVALUATED)


def test_ids_that_pycocotools_can_tell_apart(tmp_path):
    path = write(
        tmp_path,
        **image(id='b'),
        **box(10, 10, 20, 20, id=2**53 - 1, image_id='b'),
    )
    found = check_annotations(path, tmp_path, CLASSES, EVALUATED)
    assert found == {'b': 'a.png'}


def test_masks_that_are_read(tmp_path):
    use = Use(trains=True, masks=True)
    for masks in ({}, dict(segmentation=[])):
        path = write(tmp_path, **box(10, 10, 20, 20, **masks))
        with pytest.raises(UserError, match="7 has no 'segmentation'"):
            check_annotations(path, tmp_path, CLASSES, use)
    outline = [[10, 10, 30, 10, 30, 30]]
    path = write(tmp_path, **box(10, 10, 20, 20, segmentation=outline))
    check_annotations(path, tmp_path, CLASSES, use)


@pytest.mark.parametrize(
    'changes',
    [
        dict(annotations=[]),
        box(10, 10, 20, 20, iscrowd=1),
        box(10, 10, 20, 20, iscrowd=True),
        box(10, 10, 20, 20, ignore=1),
    ],
)
def test_there_must_be_something_to_learn(tmp_path, changes):
    path = write(tmp_path, **changes)
    check_annotations(path, tmp_path, CLASSES, EVALUATED)
    with pytest.raises(UserError, match='nothing to learn'):
        check_annotations(path, tmp_path, CLASSES, TRAINED)
    # Objects of both kinds are there to learn.
    path = write(tmp_path, **box(10, 10, 20, 20, iscrowd=False, ignore=0))
    check_annotations(path, tmp_path, CLASSES, TRAINED)


def test_a_list_of_images_is_enough_to_detect_in(tmp_path):
    path = write(tmp_path)
    content = json.loads(path.read_text())
    del content['annotations']
    path.write_text(json.dumps(content))
    check_annotations(path, tmp_path, CLASSES, Use())
    with pytest.raises(UserError, match="no list 'annotations'"):
        check_annotations(path, tmp_path, CLASSES, EVALUATED)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match='no such file.*data_root'):
        check_annotations(tmp_path / 'x.json', tmp_path, CLASSES, TRAINED)
    with pytest.raises(UserError, match='make_digits'):
        check_annotations(
            Path('data/digits/x.json'), tmp_path, CLASSES, TRAINED
        )


@pytest.mark.parametrize(
    'content, message',
    [
        (lambda text: text[:50].encode(), 'not JSON'),
        (lambda text: b'[' * 10**5, 'not JSON'),
        (lambda text: text.encode('utf-8-sig'), 'byte-order mark'),
        (lambda text: text.encode('utf-16'), 'byte-order mark'),
        (lambda text: b'[]', 'not in COCO format'),
    ],
)
def test_not_json(tmp_path, content, message):
    path = write(tmp_path)
    path.write_bytes(content(path.read_text()))
    with pytest.raises(UserError, match=message):
        check_annotations(path, tmp_path, CLASSES, TRAINED)


NAMES = ('apple', 'pear', 'pineapple', 'fig')


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    categories=st.lists(st.sampled_from(NAMES), min_size=1, max_size=5),
    classes=st.lists(
        st.sampled_from(NAMES), min_size=1, max_size=4, unique=True
    ),
    first=st.integers(0, 3),
)
def test_labels_are_those_that_mmdet_numbers(
    tmp_path, categories, classes, first
):
    """A file passes if, and only if, MMDetection's labels are the config's."""
    entries = [
        dict(id=first + 2 * number, name=name)
        for number, name in enumerate(categories)
    ]
    path = write(
        tmp_path,
        categories=entries,
        annotations=[
            dict(
                id=1 + number,
                image_id=1,
                category_id=entry['id'],
                bbox=[10, 10, 20, 20],
                area=400,
                iscrowd=0,
            )
            for number, entry in enumerate(entries)
        ],
    )
    dataset = CocoDataset(
        ann_file=str(path),
        data_prefix=dict(img=str(tmp_path)),
        metainfo=dict(classes=tuple(classes)),
        pipeline=[],
        # To serialise would collect garbage, which takes a second.
        serialize_data=False,
    )
    names = {entry['id']: entry['name'] for entry in entries}
    numbered = [names[i] for i in dataset.cat2label]
    is_right = numbered == classes
    try:
        check_annotations(path, tmp_path, classes, TRAINED)
        passed = True
    except UserError:
        passed = False
    assert passed == is_right
    assert list(labels_in(path, classes)) == numbered


def test_sorted_categories_are_numbered_by_their_ids(tmp_path):
    path = write(
        tmp_path,
        categories=[dict(id=4, name='dog'), dict(id=3, name='cat')],
    )
    use = Use(evaluates=True, sorts=True)
    check_annotations(path, tmp_path, CLASSES, use)


def test_sizes_are_compared_as_images_are_turned(tmp_path):
    path = write(tmp_path, **image(width=50, height=100))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (100, 50)).save(tmp_path / 'a.png', exif=exif)
    check_annotations(path, tmp_path, CLASSES, TRAINED)
    stored = Use(trains=True, oriented=False)
    with pytest.raises(UserError, match='is 100 x 50 .* say 50 x 100'):
        check_annotations(path, tmp_path, CLASSES, stored)
