"""A stranger's path: the README's own lines, run with the installed package
and data of the stranger's own."""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import urllib.request
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image, ImageDraw

from aqd_mmdet.program import file
from aqd_mmdet.runtime import Detector, reference
from tests.export.models import session
from tests.factories import ROOT

pytestmark = pytest.mark.slow

TEXT = (ROOT / 'README.md').read_text()
BASH, PYTHON = (
    re.findall(rf'```{language}\n(.*?)```', TEXT, re.DOTALL)
    for language in ('bash', 'python')
)
SIZE = 96
CLASSES = ('apple', 'pear')
# The detector of the README, narrow, on pictures of this size.
SMALL = (
    *('model.backbone.depth=18', 'model.backbone.base_channels=8'),
    *('model.backbone.init_cfg=None', 'model.neck.in_channels=[8,16,32,64]'),
    *('model.neck.out_channels=16', 'model.bbox_head.in_channels=16'),
    *('model.bbox_head.feat_channels=16', 'model.bbox_head.stacked_convs=1'),
    f'train_dataloader.dataset.pipeline.2.scale=({SIZE},{SIZE})',
    f'val_dataloader.dataset.pipeline.1.scale=({SIZE},{SIZE})',
    f'test_dataloader.dataset.pipeline.1.scale=({SIZE},{SIZE})',
    *(f'{x}_dataloader.num_workers=0' for x in ('train', 'val', 'test')),
)
# The published warm-up takes 1000 steps; here are 24. Validation folds the
# program, which converting does as well.
SHORT = (
    *('param_scheduler.0.end=4', 'optim_wrapper.optimizer.lr=0.03'),
    *('train_cfg.val_begin=13', 'train_dataloader.batch_size=4'),
    'default_hooks.checkpoint.interval=12',
)


def command(start: str, **values: list[str]) -> list[str]:
    """Return the only command of the README that begins so.

    Args:
        start: Its beginning.
        values: What its words in capitals stand for.
    """
    lines = [line for block in BASH for line in block.splitlines()]
    (found,) = (line for line in lines if line.startswith(start))
    words = shlex.split(found, comments=True)
    if words[0] == 'mim' and importlib.util.find_spec('mim') is None:
        words[:3] = ['python', 'tools/train.py']
    return [part for word in words for part in values.get(word, [word])]


def write_fruit(root: Path, split: str, count: int, seed: int) -> None:
    """Write pictures of round and square fruit, and their COCO file."""
    (root / split).mkdir(parents=True)
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    for number in range(count):
        picture = Image.new('RGB', (SIZE, SIZE), (90, 90, 90))
        draw = ImageDraw.Draw(picture)
        for label in range(len(CLASSES)):
            side = int(rng.integers(28, 40))
            x = int(rng.integers(SIZE // 2 - side)) + label * SIZE // 2
            y = int(rng.integers(SIZE - side))
            corners = (x, y, x + side - 1, y + side - 1)
            if label == 0:
                draw.ellipse(corners, (220, 40, 40))
            else:
                draw.rectangle(corners, (60, 200, 60))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=number,
                    category_id=label + 1,
                    bbox=[x, y, side, side],
                    area=side * side,
                    iscrowd=0,
                )
            )
        name = f'{number}.jpg'
        picture.save(root / split / name)
        images.append(dict(id=number, file_name=name, width=SIZE, height=SIZE))
    categories = [dict(id=i + 1, name=x) for i, x in enumerate(CLASSES)]
    content = dict(
        images=images, annotations=annotations, categories=categories
    )
    (root / f'{split}.json').write_text(json.dumps(content))


@pytest.fixture(scope='module')
def checkout(tmp_path_factory) -> Path:
    """What a stranger has: configs, tools, own data and a config for it."""
    root = tmp_path_factory.mktemp('checkout')
    for name in ('configs', 'tools'):
        shutil.copytree(ROOT / name, root / name)
    write_fruit(root / 'data/fruit', 'train', 8, 0)
    write_fruit(root / 'data/fruit', 'val', 4, 1)
    shutil.copy(root / 'data/fruit/val/0.jpg', root / 'picture.jpg')
    (config,) = (x for x in PYTHON if x.startswith('_base_'))
    (root / 'fruit.py').write_text(config)
    first, rest = config.split('\n', 1)
    first = first.replace('retinanet_2bit.py', 'retinanet_fp.py')
    (root / 'fruit_fp.py').write_text(f'{first}\n{rest}')
    return root


@pytest.fixture(scope='module')
def trained(installed, checkout) -> Path:
    """The checkout once both detectors are trained."""
    train = ('mim train aqd_mmdet fruit_fp.py', 'mim train aqd_mmdet fruit.py')
    for start in train:
        words = command(start)
        options = [] if '--cfg-options' in words else ['--cfg-options']
        output = installed.run(checkout, *words, *options, *SMALL, *SHORT)
        if words[0] == 'mim':
            assert str(installed.site) in output
    return checkout


@pytest.fixture(scope='module')
def converted(installed, trained) -> Path:
    """The checkout once the detector of 2 bits is compiled and evaluated."""
    words = command(
        'python tools/convert.py',
        CONFIG=['fruit.py'],
        CHECKPOINT=['work_dirs/fruit/epoch_12.pth'],
        IMAGES=['data/fruit/val'],
    )
    installed.run(trained, *words, '--cfg-options', *SMALL)
    return trained


def test_the_package_is_the_wheels(installed, checkout):
    code = 'import aqd_mmdet, torch; print(aqd_mmdet.__file__, torch.__file__)'
    ours, torch = installed.run(checkout, 'python', '-c', code).split()
    assert Path(ours).parent == installed.site / 'aqd_mmdet'
    assert not Path(torch).is_relative_to(installed.root)


def test_the_example_is_drawn(installed, checkout):
    installed.run(checkout, *command('python -m aqd_mmdet.runtime example'))
    assert (checkout / 'detections/digits.png').is_file()


def test_the_program_finds_the_fruit(converted):
    metrics = json.loads((converted / 'model.json').read_text())['metrics']
    assert metrics['coco/bbox_mAP_50'] > 0.5


def test_pictures_are_drawn(installed, converted):
    words = command(
        'python tools/infer.py model.aqd I', IMAGES=['data/fruit/val']
    )
    installed.run(converted, *words)
    drawn = {x.name for x in (converted / 'detections').iterdir()}
    assert drawn >= {'0.png', '1.png', '2.png', '3.png'}


def test_a_float_checkpoint_is_quantised(installed, trained):
    words = command(
        'python tools/quantize.py',
        CONFIG=['fruit_fp.py'],
        CHECKPOINT=['work_dirs/fruit_fp/epoch_12.pth'],
        PICTURES=['data/fruit/train'],
    )
    words[words.index('model.aqd')] = 'float.aqd'
    quick = ('--effort', 'calibrate')
    installed.run(trained, *words, *quick, '--cfg-options', *SMALL)
    assert Detector(trained / 'float.aqd').labels == CLASSES


def test_exported_files_run(installed, converted):
    program = file.load(converted / 'model.aqd')[0].program
    image = np.asarray(Image.open(converted / 'picture.jpg'))
    pixels = np.ascontiguousarray(image.transpose(2, 0, 1)[None])
    expected = reference.run(program, pixels)
    for form in ('onnx', 'qdq'):
        words = command(f'python tools/export.py model.aqd --format {form}')
        installed.run(converted, *words)
        content = (converted / 'model.onnx').read_bytes()
        maps = session(content).run(None, {'image': pixels})
        assert len(maps) == len(expected) == 10
        if form == 'onnx':
            assert all(map(np.array_equal, maps, expected.values()))


def test_a_file_for_fpgas_is_written(installed, converted):
    words = command('python tools/export.py model.aqd --format qonnx')
    installed.run(converted, *words)
    model = onnx.load(converted / 'model.onnx')
    (image,) = model.graph.input
    shape = [each.dim_value for each in image.type.tensor_type.shape.dim]
    sides = words[words.index('--size') + 1].split('x')
    assert shape == [1, 3, *map(int, sides)]


def test_a_posted_picture_is_answered(installed, converted):
    words = command('python -m aqd_mmdet.runtime serve')
    *_, content, url = command('curl')
    with subprocess.Popen(
        [*words, '--port', '0'],
        cwd=converted,
        env=installed.environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            port = re.search(r':(\d+)/detect', server.stdout.readline())[1]
            picture = converted / content.removeprefix('@')
            with urllib.request.urlopen(
                url.replace('8000', port), picture.read_bytes(), timeout=20
            ) as reply:
                found = json.load(reply)['objects']
        finally:
            server.terminate()
    wanted = Detector(converted / 'model.aqd').predict(picture)
    assert [x['box'] for x in found] == wanted.boxes.tolist()
    assert [x['name'] for x in found] == list(wanted.names)
    assert len(found) > 0


def test_the_examples_in_python(installed, converted):
    first, second = (x for x in PYTHON if 'import Detector' in x)
    script = f'{first}\nimage = found.plot()\n{second}\nassert len(boxes)\n'
    output = installed.run(converted, 'python', '-c', script)
    assert "('apple'" in output or "('pear'" in output
