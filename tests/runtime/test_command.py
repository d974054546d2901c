"""python -m aqd_mmdet.runtime: files of results; tests/tools/test_infer.py
has the drawn pictures, tests/runtime/test_video.py has videos."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file
from aqd_mmdet.runtime import Detector
from aqd_mmdet.runtime.command import command
from tests.factories import ROOT, detector
from tests.tool import error_line, run_tool


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch) -> None:
    """A model and a folder of two pictures."""
    file.save(detector(), tmp_path / 'model.aqd')
    (tmp_path / 'in').mkdir()
    for seed, name in enumerate(('000000000139.png', 'cat.png')):
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 256, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'in' / name)
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> None:
    command(['model.aqd', *map(str, arguments)])


def annotations(**changes: object) -> Path:
    content = {
        'images': [
            {'id': 8, 'file_name': 'cat.png'},
            {'id': 5, 'file_name': 'in/000000000139.png'},
        ],
        'categories': [{'id': 90, 'name': 'dög'}, {'id': 12, 'name': 'cat'}],
    } | changes
    path = Path('truth.json')
    path.write_text(json.dumps(content))
    return path


def expected(ids: dict[str, object], categories=None, score: float = 0):
    return [
        result
        for name, image_id in ids.items()
        for result in Detector('model.aqd')
        .predict(f'in/{name}', score)
        .to_coco(image_id, categories)
    ]


def test_results_with_ids_of_names(capsys):
    run('in', '--json', 'r.json')
    results = json.loads(Path('r.json').read_text())
    wanted = expected({'000000000139.png': 139, 'cat.png': 'cat'})
    assert results == wanted and len(wanted) > 0
    out = capsys.readouterr().out
    assert f'{len(wanted)} boxes: r.json' in out
    assert 'detecting: 2/2 images' in out
    assert not Path('detections').exists()
    # Files of results are replaced.
    run('in/cat.png', '--json', 'r.json')
    assert json.loads(Path('r.json').read_text()) == expected(
        {'cat.png': 'cat'}
    )


def test_results_with_ids_of_annotations():
    assert Detector('model.aqd').labels == ('cat', 'dög')
    run('in', '--json', 'r.json', '--annotations', annotations())
    results = json.loads(Path('r.json').read_text())
    assert results == expected({'000000000139.png': 5, 'cat.png': 8}, [12, 90])


def test_results_and_pictures(capsys):
    run('in', '--json', 'r.json', '--out', 'drawn')
    every = expected({'000000000139.png': 139, 'cat.png': 'cat'})
    assert json.loads(Path('r.json').read_text()) == every
    assert len(list(Path('drawn').iterdir())) == 2
    out = capsys.readouterr().out
    assert '1/2 in/000000000139.png: ' in out
    # What is drawn has a higher score by default than what is written.
    count = sum(x['score'] >= 0.3 for x in every if x['image_id'] == 139)
    assert f'139.png: {count} objects' in out


def test_the_least_score_of_results():
    every = expected({'cat.png': 'cat'})
    least = float(np.median([x['score'] for x in every]))
    run('in/cat.png', '--json', 'r.json', '--score', least)
    some = json.loads(Path('r.json').read_text())
    assert some == [x for x in every if x['score'] >= least]
    assert 0 < len(some) < len(every)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['in', '--json', 'r.txt'], 'give a name that ends in .json'),
        (['in', '--json', 'no/r.json'], 'there is no folder no'),
        (['in', '--json', 'mine.json'], 'mine.json exists and is no file'),
        # Nobody writes there, not even root.
        (['in', '--json', '/proc/r.json'], 'cannot write to the folder /proc'),
        (['in', 'cat.png', '--json', 'r.json'], 'have the same id .cat.'),
        (['in', '--annotations', 'truth.json'], 'the ids in it are for'),
        (['0', 'in'], 'camera 0: a video or a camera goes alone'),
        (['a.mp4', '--json', 'r.json'], '--json is of pictures, and video'),
        (['a.mp4', 'b.mp4'], 'video a.mp4: a video or a camera goes alone'),
        (['a.mp4'], 'video a.mp4: no such file'),
        (['in', '--json', 'link.json'], 'link.json exists and is a link'),
        (['in', '--json', 'gone.json'], 'gone.json exists and is a link'),
        (
            ['in', '--json', 'r.json', '--font', 'a.ttf'],
            '--font: it is for pictures, which --out draws',
        ),
    ],
)
def test_arguments_that_are_refused(arguments, message):
    Path('mine.json').write_text('[{"image_id": 3}]')
    Path('results.json').write_text('[]')
    Path('link.json').symlink_to('results.json')
    Path('gone.json').symlink_to('nothing')
    Path('cat.png').write_bytes(Path('in/cat.png').read_bytes())
    before = sorted(Path().rglob('*'))
    with pytest.raises(UserError, match=message) as caught:
        run(*arguments)
    assert '\n' not in str(caught.value)
    assert sorted(Path().rglob('*')) == before
    assert Path('mine.json').read_text() == '[{"image_id": 3}]'


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(images=[]), 'it has no image 000000000139.png'),
        (dict(images={}), "a list 'images', found none"),
        (
            dict(images=[{'id': 3}]),
            "as id and a text as file_name in entry 0 of 'images'",
        ),
        (
            dict(images=[{'id': 3, 'file_name': 139}]),
            "a text as file_name in entry 0 of 'images', found .*139",
        ),
        (
            dict(images=[{'id': [3], 'file_name': 'cat.png'}]),
            'expected an integer or a text as id',
        ),
        (
            dict(categories=[{'id': 7, 'name': 7}]),
            "a text as name in entry 0 of 'categories'",
        ),
        (
            dict(categories=[{'id': 'a', 'name': 'cat'}]),
            'expected an integer as id',
        ),
        (
            dict(images=[{'id': x, 'file_name': 'a'} for x in (1, 2)]),
            "file_name 'a' is twice",
        ),
        (
            dict(images=[{'id': 1, 'file_name': x} for x in 'ab']),
            "'a' and 'b' in 'images' have the same id 1",
        ),
        (
            dict(categories=[{'id': 3, 'name': x} for x in 'ab']),
            "'a' and 'b' in 'categories' have the same id 3",
        ),
        (
            dict(images=[{'id': True, 'file_name': 'a'}]),
            'expected an integer or a text as id',
        ),
        (
            dict(categories=[{'id': 1, 'name': 'cat'}]),
            "no category 'dög', which the detector finds; nearest: cat",
        ),
    ],
)
def test_annotations_that_are_refused(changes, message):
    truth = annotations(**changes)
    with pytest.raises(UserError, match=message):
        run('in', '--json', 'r.json', '--annotations', truth)
    assert not Path('r.json').exists()


def test_annotations_that_cannot_be_read():
    Path('text.json').write_text('mine')
    Path('deep.json').write_text('[' * 10**5)
    for name, message in (
        ('text.json', 'expected JSON, found'),
        ('deep.json', 'expected JSON, found'),
        ('gone.json', 'cannot be read'),
    ):
        with pytest.raises(UserError, match=message):
            run('in', '--json', 'r.json', '--annotations', name)


def test_a_deep_file_is_not_replaced():
    Path('r.json').write_text('[' * 10**5)
    with pytest.raises(UserError, match='exists and is no file of results'):
        run('in', '--json', 'r.json')


def test_a_name_that_a_drawn_picture_cannot_have():
    name = f'{"x" * 251}.png'
    Path(name).write_bytes(Path('in/cat.png').read_bytes())
    with pytest.raises(UserError, match='too long a name'):
        run('in', name, '--out', 'out')
    assert not Path('out').exists()


@pytest.mark.parametrize('arguments', [[''], ['in', '--out', '']])
def test_empty_names(arguments, capsys):
    with pytest.raises(SystemExit):
        run(*arguments)
    assert 'an empty name' in capsys.readouterr().err


def test_links_to_one_picture_are_several():
    Path('in/dog.png').symlink_to('cat.png')
    run('in', 'in/cat.png', '--json', 'r.json')
    ids = {x['image_id'] for x in json.loads(Path('r.json').read_text())}
    assert {'cat', 'dog'} <= ids


def test_two_pictures_of_one_annotation():
    Path('cat.png').write_bytes(Path('in/cat.png').read_bytes())
    with pytest.raises(UserError, match='are the same image cat.png in it'):
        run('in', 'cat.png', '--json', 'r.json', '--annotations',
            annotations())  # fmt: skip


def test_as_a_module():
    arguments = ['model.aqd', 'in', '--json', 'r.json']
    result = subprocess.run(
        [sys.executable, '-m', 'aqd_mmdet.runtime', *arguments],
        env={'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, '')
    content = Path('r.json').read_bytes()
    Path('r.json').unlink()
    # The tool is the same command.
    assert (
        run_tool('tools/infer.py', *map(_absolute, arguments)).returncode == 0
    )
    assert Path('r.json').read_bytes() == content


def test_one_line_of_an_error():
    result = run_tool('tools/infer.py', Path('model.aqd').absolute(), 'no.png')
    assert 'image no.png: no such file or folder' in error_line(result)


def _absolute(argument: str) -> str:
    is_option = argument.startswith('-')
    return argument if is_option else str(Path(argument).absolute())
