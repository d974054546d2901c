"""tools/quantize.py: which files it reads and replaces."""

import argparse
from pathlib import Path

import pytest
from mmengine.config import Config

from aqd_mmdet.errors import UserError
from tools import quantize

PLAIN = Config(dict(model=dict(type='RetinaNet')))


def check_training(path: Path) -> None:
    args = argparse.Namespace(
        write_config=path, config='float.py', checkpoint='float.pth'
    )
    quantize.check_training(args, PLAIN)


@pytest.mark.parametrize(
    'names, refused',
    [
        (['start.py'], 'start.py'),
        (['start.pth'], 'start.pth'),
        (['start.py', 'start.pth'], 'start.py'),
    ],
)
def test_a_start_replaces_no_file_of_another_origin(tmp_path, names, refused):
    path = tmp_path / 'start.py'
    check_training(path)
    for name in names:
        tmp_path.joinpath(name).write_text('model = dict()\n')
    with pytest.raises(UserError) as error:
        check_training(path)
    assert str(error.value) == (
        f'--write-config {path}: {tmp_path / refused} exists and was not '
        'written by this option: move it or choose another name'
    )


def test_a_start_replaces_an_earlier_one(tmp_path):
    path = tmp_path / 'start.py'
    path.write_text(
        '# Of tools/quantize.py: a quantised detector to train on.\nmodel = 1'
    )
    check_training(path)
    path.with_suffix('.pth').write_bytes(b'weights')
    check_training(path)


def test_a_folder_with_the_name_of_the_weights(tmp_path):
    tmp_path.joinpath('start.pth').mkdir()
    with pytest.raises(UserError, match=r'start\.pth: it is a folder'):
        check_training(tmp_path / 'start.py')


@pytest.mark.parametrize(
    'text, reason',
    [
        ('null', 'recipe=None is not a list of rules'),
        ('5', 'recipe=5 is not a list of rules'),
        ('[1]', 'rule 0 of the recipe: 1 is not a dict'),
        ('[{"modules": "*"}]', 'rule 0 of the recipe must say exactly one'),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path, text, reason):
    path = tmp_path / 'recipe.json'
    path.write_text(text)
    with pytest.raises(UserError) as error:
        quantize.read_recipe_file(path)
    assert error.value.line().startswith(
        f'--recipe {path}: expected a file that --write-recipe wrote, found '
        f'{reason}'
    )
