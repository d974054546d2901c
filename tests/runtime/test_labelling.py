"""What docs/labelling.md shows is run as it stands."""

import json
import re
import runpy
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from aqd_mmdet.runtime import Detector, Prediction, example
from tests.factories import ROOT

TEXT = (ROOT / 'docs/labelling.md').read_text()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the model and the pictures that the examples name."""
    shutil.copy(example.MODEL, tmp_path / 'model.aqd')
    (tmp_path / 'pictures').mkdir()
    shutil.copy(example.PICTURE, tmp_path / 'pictures/all of it & 100%.png')
    # One that its EXIF orientation turns back, another without objects.
    exif = Image.Exif()
    exif[274] = 6
    with Image.open(example.PICTURE) as image:
        turned = image.convert('RGB').crop((0, 0, 160, 110))
    turned = turned.transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / 'pictures/turned.jpg', exif=exif)
    black = np.zeros((40, 60, 3), np.uint8)
    Image.fromarray(black).save(tmp_path / 'pictures/1.png')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(title: str) -> dict[str, Any]:
    """Run the Python block of a section and return what it defined."""
    sections = re.split(r'^## ', TEXT, flags=re.MULTILINE)
    (section,) = (x for x in sections if x.startswith(f'{title}\n'))
    (block,) = re.findall(r'```python\n(.*?)```', section, re.DOTALL)
    Path('script.py').write_text(block)
    return runpy.run_path('script.py')


def predictions() -> list[Prediction]:
    found = list(Detector('model.aqd').predict('pictures', score=0.3))
    assert len(found) == 3
    assert [len(each) > 0 for each in found] == [False, True, True]
    assert found[2].size == (110, 160)
    return found


def corners(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> list[int]:
    """Return corners in 256ths of a pixel.

    Args:
        box: x, y, width and height, as parts of the image's.
        size: The image's height and width.
    """
    x, y, width, height = box
    scale = [256 * size[1], 256 * size[0]] * 2
    ends = (x, y, x + width, y + height)
    return [round(a * b) for a, b in zip(ends, scale, strict=True)]


def check(
    found: Prediction, objects: list[tuple[str, float, list[int]]]
) -> None:
    """Compare names, scores and corners with those of `predict`."""
    scores, boxes = found.scores.tolist(), found.found.boxes.tolist()
    assert objects == list(zip(found.names, scores, boxes, strict=True))


def test_tasks_for_label_studio():
    run('Label Studio')
    root = ElementTree.parse('labels.xml').getroot()
    (image,), (control,) = root.iter('Image'), root.iter('RectangleLabels')
    assert control.get('toName') == image.get('name')
    labels = [label.get('value') for label in control.iter('Label')]
    assert labels == list(Detector('model.aqd').labels)
    tasks = json.loads(Path('tasks.json').read_text())
    for found, task in zip(predictions(), tasks, strict=True):
        check_task(found, task, image, control)


def check_task(
    found: Prediction,
    task: dict[str, Any],
    image: ElementTree.Element,
    control: ElementTree.Element,
) -> None:
    ((key, url),) = task['data'].items()
    assert image.get('value') == f'${key}'
    query = parse_qs(urlsplit(url).query, strict_parsing=True)
    assert query == {'d': [str(found.path)]}
    (draft,) = task['predictions']
    assert draft['score'] == min(found.scores, default=0)
    objects = []
    for each in draft['result']:
        assert each['type'] == control.tag.lower()
        assert each['from_name'] == control.get('name')
        assert each['to_name'] == image.get('name')
        size = each['original_height'], each['original_width']
        assert size == found.size
        value = each['value']
        box = [value[x] / 100 for x in ('x', 'y', 'width', 'height')]
        (name,) = value['rectanglelabels']
        objects.append((name, each['score'], corners(box, size)))
    check(found, objects)


def test_dataset_of_fiftyone(folder, monkeypatch):
    # Nothing of the user's: neither the settings nor the database.
    monkeypatch.setenv('HOME', str(folder))
    monkeypatch.setenv('FIFTYONE_DATABASE_DIR', str(folder / 'database'))
    monkeypatch.delenv('FIFTYONE_DATABASE_URI', raising=False)
    monkeypatch.setenv('FIFTYONE_DO_NOT_TRACK', 'true')
    pytest.importorskip('fiftyone')
    dataset = run('FiftyOne')['dataset']
    samples = list(dataset)
    for found, sample in zip(predictions(), samples, strict=True):
        assert sample.filepath == str(folder / found.path)
        objects = [
            (x.label, x.confidence, corners(x.bounding_box, found.size))
            for x in sample.found.detections
        ]
        check(found, objects)
