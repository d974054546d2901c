"""Cases of the benchmark, and how they are chosen."""

import pytest

from aqd_mmdet.benchmark.cases import CASES, Network, select
from aqd_mmdet.errors import UserError

KNOWN = {'b': 1, 'a': 2, 'c': 3}


def test_names_are_those_of_the_command_line():
    assert [case.name for case in CASES] == [
        'retinanet-r18-800',
        'retinanet-r18-320',
        'retinanet-r50-800',
        'retinanet-r50-320',
        'fcos-r18-800',
        'fcos-r18-320',
        'yolox-nano-416',
        'yolox-tiny-416',
        'yolox-s-640',
        'rtmdet-tiny-640',
        'ssdlite-320',
        'conv3x3',
        'conv1x1',
    ]
    assert Network('fcos-r18', (800, 1344)).title == 'FCOS R18, 800x1344'


def test_the_order_is_that_of_what_is_known():
    assert select(['c', 'b', 'c'], KNOWN, '--cases') == ['b', 'c']
    assert select([], KNOWN, '--cases') == ['b', 'a', 'c']


def test_unknown_names():
    with pytest.raises(UserError, match="^--cases 'cc': unknown .*nearest: c"):
        select(['a', 'cc'], KNOWN, '--cases')
