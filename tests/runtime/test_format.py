"""The engine's reader of files: limits, and what it refuses in which words."""

import ctypes
import json
import re

import pytest

from aqd_mmdet.program import file
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.detector import Anchors, Sigmoid
from aqd_mmdet.program.limits import LIMITS, MAX_SIDE, TENSOR_SIDE
from aqd_mmdet.runtime import engine
from aqd_mmdet.runtime.preprocess import MAX_RATIO
from tests.damage import load, sections, signed
from tests.factories import ROOT, detector
from tests.native import CSRC
from tests.random_detectors import random_detector

# Rows of the format's table that are no fields, and the engine's names.
OTHERS = {
    '`Multipliers.b`, except in `Requantize`': 'MultipliersB',
    '`Multipliers.offset`, which is `b` if `whole`': 'MultipliersOffset',
    'length of `labels`': 'Labels',
    'sides of an image, in pixels': 'ImageSide',
    'longer side of an image, divided by the shorter': 'ImageRatio',
    'sides of a tensor while a program runs': 'TensorSide',
}
ANY = {'length of `ops`', 'length of `stages`'}


def joined(name: str) -> str:
    """The engine's name for a field, such as ProgramStride."""
    return ''.join(part[0].upper() + part[1:] for part in name.split('.'))


def documented() -> dict[str, tuple[int, int]]:
    text = (ROOT / 'docs/file_format.md').read_text()
    table = text.split('| field | least | most |\n|---|---|---|\n')[1]
    found = {}
    for row in table.split('\n\n')[0].splitlines():
        name, *ends = (cell.strip() for cell in row.strip('|').split('|'))
        if name in ANY:
            continue
        key = OTHERS.get(name) or joined(name.strip('`'))
        low, high = (eval(end.replace('^', '**')) for end in ends)
        found[key] = (low, high)
    return found


def in_the_engine() -> dict[str, tuple[int, int]]:
    text = (CSRC / 'format/limits.h').read_text().replace('int64_t{1}', '1')
    names = {'kInt32': 2**31 - 1}
    return {
        name: (eval(low, names.copy()), eval(high, names.copy()))
        for name, low, high in re.findall(
            r'constexpr Limits k(\w+) = \{([^,]+),\s*([^}]+)\};', text
        )
    }


def test_limits_are_those_of_the_format():
    assert len(documented()) > 40
    assert in_the_engine() == documented()


def changed(old: str, new: str) -> bytes:
    """A file whose structure has another text in one place."""
    text, data = sections(file.to_bytes(detector()))
    assert text.decode().count(old) >= 1, old
    return signed(text.decode().replace(old, new, 1).encode(), data)


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('"stride":8', '"stride":0100', 'section JSON: expected JSON, found'),
        ('"stride":8', '"stride":-08', 'section JSON: expected JSON, found'),
        ('"labels":["', '"labels":["\\q', 'section JSON: expected JSON'),
        ('"labels":["', '"labels":["\xff', None),
        (
            '"stride":8',
            '"stride":8,"stride":8',
            "program: expected each key once, found 'stride' twice",
        ),
        (
            '"stride":8',
            '"stride":8,"pace":1',
            "program: expected keys of the format alone, found 'pace'",
        ),
        (
            '"stride":8',
            '"kind":"Program","stride":8',
            "program: expected keys of the format alone, found 'kind'",
        ),
        (
            '"groups":1',
            '"groups":1,"first":0',
            "operator c: expected keys of the format alone, found 'first'",
        ),
        (
            '"stride":8',
            '"stride":9999',
            'program.stride: expected 1 to 4096, found 9999',
        ),
        (
            '"groups":1',
            '"groups":2',
            'operator c: expected groups that divide the channels 3 and 2, '
            'found 2',
        ),
        (
            '"lo":-255,"hi":255',
            '"lo":-1,"hi":255',
            'operator p: expected a range that holds the codes -255..255, '
            'found -1..255',
        ),
        (
            '"inputs":["p"]',
            '"inputs":["q"]',
            "operator c: expected inputs made before it, found 'q'",
        ),
        (
            '"bits":2',
            '"bits":2.0',
            'weights c.bits: expected 2 to 8, found a number that is no '
            'integer of 64 bits',
        ),
        (
            '"scale":0.25',
            '"scale":"a"',
            "program.scale: expected a number, found 'a'",
        ),
        # Of boxes.
        (
            '"overlap":32768',
            '"overlap":32768,"more":null',
            "postprocess: expected keys of the format alone, found 'more'",
        ),
        (
            '"bgr":',
            '"rgb":true,"bgr":',
            "preprocess: expected keys of the format alone, found 'rgb'",
        ),
    ],
)
def test_what_is_refused_is_a_sentence(old, new, message):
    status, refusal = load(changed(old, new))
    if message is None:
        assert (status, refusal) == (0, '')
        return
    assert message in refusal
    assert re.fullmatch(r'.+: expected .+, found .+', refusal)


@pytest.mark.parametrize(
    ('name', 'shown'),
    [
        ('a\\nb\\u001b[31mc\\u007fd\\u009be\\u00a0', 'a b [31mc d e\xa0'),
        ('ж' * 20, 'ж' * 20),
        ('a' + 'ж' * 400, 'a' + 'ж' * 19 + '...'),
    ],
)
def test_names_in_messages_are_one_short_line(name, shown):
    status, refusal = load(
        changed(
            '"output":"c","inputs":["p"]', f'"output":"{name}","inputs":[]'
        )
    )
    assert (status, refusal[: len(shown) + 11]) == (
        *(1, f'operator {shown}: '),
    )


def test_a_message_ends_with_a_whole_letter():
    content = changed('"output":"c"', f'"output":"{"ж" * 19}"')
    for capacity in range(1, 40):
        buffer = ctypes.create_string_buffer(capacity)
        engine.library().aqd_load(
            content, ctypes.c_size_t(len(content)), None,
            ctypes.byref(ctypes.c_void_p()), buffer,
            ctypes.c_size_t(capacity),
        )  # fmt: skip
        assert len(buffer.value) >= capacity - 2
        buffer.value.decode()


def test_bytes_that_are_no_text_are_no_json():
    text, data = sections(file.to_bytes(detector()))
    for wrong in (b'\xff', b'\xc0\x80', b'\xed\xa0\x80', b'\xf4\x90\x80\x80'):
        broken = text.replace(b'"labels":["', b'"labels":["' + wrong)
        status, refusal = load(signed(broken, data))
        assert (status, refusal[:30]) == (1, 'section JSON: expected JSON, f')


def test_keys_and_names_may_be_written_with_escapes():
    text, data = sections(file.to_bytes(detector()))
    text = text.replace(b'"groups"', b'"\\u0067roups"')
    text = text.replace(b'"output":"c"', b'"output":"\\u0063"')
    assert load(signed(text, data)) == (0, '')


def test_a_large_scale_is_a_number():
    assert load(changed('"scale":0.25', '"scale":' + '9' * 40)) == (0, '')


def test_a_stage_of_other_outputs_is_refused():
    compiled = random_detector(2, Anchors, Sigmoid, 1)
    content = file.to_bytes(compiled)
    assert load(content) == (0, '')
    text, data = sections(content)
    tree = json.loads(text)
    ops = tree['regions']['stages'][0]['program']['ops']
    means = [op for op in ops if op['kind'] == 'Mean']
    bins = tree['regions']['stages'][0]['bins']
    windows = [op for op in ops if op.get('kernel') == [bins, bins]]
    if means:
        # What follows has a code for each bin then.
        means[0].update(
            kind='MaxPool', kernel=[1, 1], stride=[1, 1], padding=[0, 0],
            dilation=[1, 1],
        )  # fmt: skip
    else:
        windows[0].update(padding=[1, 1])
    status, refusal = load(signed(json.dumps(tree).encode(), data))
    assert status == 0
    assert refusal.startswith('stage 0: expected outputs of 1 x 1, found ')


def test_options_are_checked():
    content = file.to_bytes(detector())

    def load_with(size=None, threads=1, isa=None) -> tuple[int, str]:
        options = engine._Options(
            ctypes.sizeof(engine._Options) if size is None else size,
            threads,
            isa,
        )
        model, buffer = ctypes.c_void_p(), ctypes.create_string_buffer(300)
        status = engine.library().aqd_load(
            content, ctypes.c_size_t(len(content)), ctypes.byref(options),
            ctypes.byref(model), buffer, ctypes.c_size_t(300),
        )  # fmt: skip
        engine.library().aqd_free(model)
        return status, buffer.value.decode()

    names = engine.instruction_sets()
    assert names[-1] == 'portable'
    assert len(set(names)) == len(names)
    for name in names:
        assert load_with(isa=name.encode()) == (0, '')
    assert load_with(isa=b'sse9') == (
        2,
        "options: isa: expected one of this machine's "
        f"({', '.join(names)}), found 'sse9'",
    )
    for count in (0, 1025, 2**31 - 1):
        assert load_with(threads=count) == (
            2,
            f'options: threads: expected 1 to 1024, found {count}',
        )
    assert load_with(size=4)[1].startswith('options: expected a size of ')


def test_the_engine_reads_no_environment():
    sources = [*CSRC.glob('**/*.cpp'), *CSRC.glob('**/*.h')]
    assert len(sources) > 30
    for source in sources:
        assert 'getenv' not in source.read_text(), source
        named = re.search(r'\baqd_\w', source.read_text())
        if source.parts[-1] not in ('c_api.cpp', 'aqd.h'):
            assert named is None, source


def test_operators_of_the_format_are_those_of_the_engine():
    text = (CSRC / 'graph/ops.cpp').read_text()
    table = text[text.index('kOps[] = {') :]
    kinds = re.findall(r'^    \{"(\w+)", \d', table, re.MULTILINE)
    assert kinds == [op.__name__ for op in ir.OPERATORS]


def test_limits_are_those_of_python():
    named = {
        joined(name): (limit.least, limit.most)
        for name, limit in LIMITS.items()
        if '.' in name  # a field
    }
    side, labels = TENSOR_SIDE, LIMITS['length of labels']
    named['TensorSide'] = side.least, side.most
    named['Labels'] = labels.least, labels.most
    named['ImageSide'] = 1, MAX_SIDE
    named['ImageRatio'] = 1, MAX_RATIO
    assert in_the_engine() == named
