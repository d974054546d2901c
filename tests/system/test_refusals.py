"""Both readers refuse the same files, and say why."""

import re

import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file, limits
from tests.damage import load
from tests.factories import detector
from tests.refusals import ACCEPTED, REFUSALS
from tests.refusals.changes import Refusal, setting

CONTENT = file.to_bytes(detector())


def by_name(refusal: Refusal) -> str:
    return refusal.name


def engine_refuses(content: bytes) -> str:
    """Return what the engine says of a file, nothing if it accepts it."""
    status, message = load(content)
    assert message or not status
    return message


def python_refuses(content: bytes) -> str:
    try:
        file.from_bytes(content)
    except UserError as error:
        return str(error)
    return ''


@pytest.mark.parametrize('refusal', REFUSALS, ids=by_name)
def test_python_refuses(refusal):
    changed = refusal.change(CONTENT)
    assert changed != CONTENT
    said = python_refuses(changed)
    assert re.search(refusal.message, said), said
    assert '\n' not in said
    assert ': expected ' in said and ', found ' in said


@pytest.mark.parametrize('refusal', REFUSALS, ids=by_name)
def test_the_engine_refuses(refusal):
    said = engine_refuses(refusal.change(CONTENT))
    assert re.fullmatch('[^\n]+: expected [^\n]+, found [^\n]+', said), said


@pytest.mark.parametrize('change', ACCEPTED, ids=by_name)
def test_both_accept(change):
    content = change.change(CONTENT)
    assert (python_refuses(content), engine_refuses(content)) == ('', '')


# The fields that name a limit, and a value one beyond either end of it. Those
# of arrays, of a list that others are checked before, and of kinds that the
# detector has not are elsewhere.
PLACES = {
    'Grid.lo': 'program.ops.3.grid.lo',
    'Grid.hi': 'program.ops.3.grid.hi',
    'Curve.bits': 'postprocess.scores.curve.bits',
    'Program.stride': 'program.stride',
    'Weights.bits': 'program.weights.c.bits',
    'Weights.shape': 'program.weights.c.shape.0',
    'Op.channels': 'program.ops.1.channels',
    'Image.mean': 'program.ops.0.mean.0',
    'Window.kernel': 'program.ops.1.kernel.0',
    'Window.stride': 'program.ops.1.stride.0',
    'Window.padding': 'program.ops.1.padding.0',
    'Window.dilation': 'program.ops.1.dilation.0',
    'PreProcess.short': 'preprocess.short',
    'PreProcess.long': 'preprocess.long',
    'PreProcess.fill': 'preprocess.fill.0',
    'PostProcess.threshold': 'postprocess.threshold',
    'PostProcess.candidates': 'postprocess.candidates',
    'PostProcess.total': 'postprocess.total',
    'PostProcess.margin': 'postprocess.margin',
    'PostProcess.overlap': 'postprocess.overlap',
    'PostProcess.keep': 'postprocess.keep',
    'AnchorLevel.stride': 'postprocess.decoder.levels.0.stride.0',
    'Anchors.limit': 'postprocess.decoder.limit',
}


@pytest.mark.parametrize('name', PLACES)
def test_both_refuse_what_is_beyond_a_limit(name):
    limit = limits.LIMITS[name]
    for value in (limit.least - 1, limit.most + 1):
        content = setting(PLACES[name], value)(CONTENT)
        expected = f'expected {limit.least} to {limit.most}'
        assert expected in python_refuses(content)
        assert expected in engine_refuses(content)
