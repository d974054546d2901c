import pytest

from aqd_mmdet.engine import launch
from aqd_mmdet.errors import UserError


def overrides(*options: str) -> dict:
    arguments = ['config.py', '--cfg-options', *options]
    return launch.parser('').parse_args(arguments).cfg_options


def test_what_is_read():
    found = overrides(
        *('model.bits=4', 'a=x=y', 'b=[1,(2,3)]', 'c=1,2', 'd='),
        *('e={}.pth', 'f={:02d}.pth', 'g={foo'),
    )
    assert found == {
        'model.bits': 4,
        'a': 'x=y',
        'b': [1, (2, 3)],
        'c': [1, 2],
        'd': '',
        'e': '{}.pth',
        'f': '{:02d}.pth',
        'g': '{foo',
    }


@pytest.mark.parametrize(
    ('option', 'line'),
    [
        ('model.bits', 'model.bits: expected KEY=VALUE'),
        ("a.b={'type': 'Adam'}", 'a.b: a dict cannot be given as one'),
        ("a.b=dict(type='Adam', lr=1e-3)", 'such as a.b.type=NAME'),
        ('a={}', 'a: a dict cannot'),
        ('a=[{}]', 'a: a dict cannot'),
        ('a=[{1: 2}]', 'a: a dict cannot'),
        ('a=dict (b=1)', 'a: a dict cannot'),
        ('a=\'{"x":1}\'', 'a: a dict cannot'),
        ('a=[1,dict(b=1,c=[2])]', 'a: a dict cannot'),
        ('a=[{"b":1,"c":2}]', 'a: a dict cannot'),
        ('a=[1,2],[3,4]', 'expected numbers, texts, or lists'),
        ('a=f(1,2)', 'expected numbers, texts, or lists'),
        ('a=[1,2', r'Imbalanced brackets exist in \[1,2'),
    ],
)
def test_what_cannot_be_read(option, line):
    with pytest.raises(UserError, match=f'^--cfg-options.*{line}'):
        overrides('seed=1', option)
