"""Blocks of LZ4."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import container, file, lz4
from tests.damage import load, sections
from tests.factories import detector

words = st.lists(st.sampled_from([b'a', b'bc', b'"kind":', b'[0,1]', b'xyz']))


def test_a_block_that_was_made_by_hand():
    # "ab", 6 bytes from 2 back; "cd" and 13 more, 19 from 1 back; "!".
    block = b'\x22ab\x02\x00' + b'\xff\x00cd' + bytes(range(65, 78))
    block += b'\x01\x00\x00' + b'\x10!'
    text = b'ab' * 4 + b'cdABCDEFGHIJKLM' + b'M' * 19 + b'!'
    assert lz4.decompress(block) == text


@given(parts=words, spaces=st.integers(0, 300), before=st.integers(0, 7))
def test_texts_are_read_back(parts, spaces, before):
    text = b''.join(parts) + b' ' * spaces + b''.join(parts)
    block = lz4.compress(text, before, 8)
    assert (before + len(block)) % 8 == 0
    found = lz4.decompress(block)
    assert found.startswith(text)
    assert found[len(text) :].strip(b' ') == b''
    assert len(found) <= lz4.MAX_RATIO * len(block)


def test_both_ends_of_lengths():
    for count in (0, 1, 14, 15, 16, 269, 270, 271, 524, 525, 526):
        text = bytes(i * 7 % 251 for i in range(count))
        assert lz4.decompress(lz4.sequence(text)) == text
        if count >= 4:
            block = lz4.sequence(b'x' * 9, 9, count) + lz4.sequence(b'.' * 30)
            assert lz4.decompress(block) == b'x' * (9 + count) + b'.' * 30


@pytest.mark.parametrize('text', [b' ' * 10**5, b'ab' * 50000])
def test_no_text_is_beyond_the_ratio(text):
    block = lz4.compress(text, 0, 8)
    assert len(text) / 33 < len(block) < len(text) / 25
    assert lz4.decompress(block) == text + b' ' * (
        len(lz4.decompress(block)) - len(text)
    )


def test_blocks_end_as_the_format_demands():
    """The last five bytes are literals, and no copy begins in the last 12."""
    text = b'0123456789abcdef' * 8
    block = lz4.compress(text, 0, 1)
    # 16 literals and the rest as one copy, but for the end.
    head = lz4.sequence(text[:16], 16, 128 - 16 - 5)
    assert block == head + lz4.sequence(text[-5:])


def test_both_readers_read_a_block_with_copies():
    content = file.to_bytes(detector())
    text, data = sections(content)
    block = lz4.compress(text, 0, 8)
    assert len(block) < len(text) / 2
    tree = json.loads(text)
    assert json.loads(lz4.decompress(block)) == tree
    whole = container.sealed(container.VERSION, block, data)
    assert load(whole) == (0, '')
    assert file.to_bytes(file.from_bytes(whole)) == content


@given(st.binary(max_size=60))
def test_any_bytes_are_judged_alike(block):
    """Text of both readers differs in nothing: neither reads, or both do."""
    whole = container.sealed(container.VERSION, block, b'')
    status, message = load(whole)
    assert status == 1
    is_block = 'a block of LZ4' not in message
    try:
        lz4.decompress(block)
    except UserError:
        assert not is_block
    else:
        assert is_block
