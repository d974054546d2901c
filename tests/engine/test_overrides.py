import pytest

from aqd_mmdet.engine import launch
from aqd_mmdet.errors import UserError


def overrides(*options: str) -> dict:
    arguments = ['config.py', '--cfg-options', *options]
    return launch.parser('').parse_args(arguments).cfg_options


def test_what_is_read():
    found = overrides('model.bits=4', 'a=x=y', 'b=[1,(2,3)]', 'c=1,2', 'd=')
    assert found == {
        'model.bits': 4,
        'a': 'x=y',
        'b': [1, (2, 3)],
        'c': [1, 2],
        'd': '',
    }


@pytest.mark.parametrize(
    ('option', 'line'),
    [
        ('model.bits', 'model.bits: expected KEY=VALUE'),
        ("a.b={'type': 'Adam'}", 'a.b: a dict cannot be given as one'),
        ("a.b=dict(type='Adam', lr=1e-3)", 'such as a.b.type=NAME'),
        ('a=[1,2', r'Imbalanced brackets exist in \[1,2'),
    ],
)
def test_what_cannot_be_read(option, line):
    with pytest.raises(UserError, match=f'^--cfg-options.*{line}'):
        overrides('seed=1', option)
