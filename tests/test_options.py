import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqd_mmdet.errors import UserError
from aqd_mmdet.options import Options

KEYS = ('one', 'two', 'three', 'four')
dicts = st.dictionaries(st.sampled_from(KEYS), st.integers())


@given(dicts, st.sets(st.sampled_from(KEYS)))
def test_unread_keys_are_refused(config, known):
    options = Options('here', config)
    for name in sorted(known):
        assert options.take(name, None) == config.get(name)
    unread = set(config) - known
    if not unread:
        options.finish()
        return
    with pytest.raises(UserError, match=r'here\.(\w+)=') as caught:
        options.finish()
    assert str(caught.value).split('=')[0].split('.')[1] in unread


def test_values_that_the_program_supports():
    options = Options('pad', dict(mode='edge', whole=1, size=3.0))
    assert options.expect('fill', 0, 1) == 0
    assert options.expect('size', 1, 3) == 3
    with pytest.raises(UserError, match=r"pad.mode='edge': .*'constant' only"):
        options.expect('mode', 'constant')
    with pytest.raises(UserError, match='False or True only'):
        options.expect('whole', False, True)


def test_a_key_without_a_default_is_required():
    with pytest.raises(UserError, match=r'nms has no iou_threshold'):
        Options('nms', dict(iou_thr=0.5)).take('iou_threshold')


@pytest.mark.parametrize('value', [None, 3, 'x', [1]])
def test_not_a_dict(value):
    with pytest.raises(UserError, match='expected a dict'):
        Options('nms', value)
