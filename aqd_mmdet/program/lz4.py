"""Blocks of LZ4, which the JSON text of a file is: docs/file_format.md.

A block repeats what it had before: a sequence is some bytes as they are
(literals), then a number of bytes to copy from a distance back.
"""

from ..errors import UserError
from .limits import expect

# A byte of a block stands for at most so many bytes of text.
MAX_RATIO = 32
# Of a copy. With its four bytes in the block this keeps within the ratio.
_MAX_COPY = 128
_MIN_COPY = 4
_MAX_DISTANCE = 2**16 - 1
# So the format demands it: literals at the end, and no copy begins near it.
_LAST_LITERALS, _LAST_COPY = 5, 12
# Places that a copy is looked for at. 64 make files 0.05 % smaller.
_TRIES = 16


def _extended(count: int) -> bytes:
    """Return the bytes by which a length goes on behind its token."""
    if count < 15:
        return b''
    whole, rest = divmod(count - 15, 255)
    return b'\xff' * whole + bytes([rest])


def sequence(literals: bytes, distance: int = 0, count: int = 0) -> bytes:
    """Return one sequence: literals, and a copy unless it is the last one."""
    more = max(count - _MIN_COPY, 0)
    token = min(len(literals), 15) << 4 | min(more, 15)
    head = bytes([token]) + _extended(len(literals)) + literals
    if count == 0:
        return head
    return head + distance.to_bytes(2, 'little') + _extended(more)


def _find(text: bytes, at: int, places: list[int]) -> tuple[int, int]:
    """Return the longest copy of what follows a place: distance and count."""
    distance = count = 0
    end = min(len(text) - _LAST_LITERALS, at + _MAX_COPY)
    for place in reversed(places[-_TRIES:]):
        if at - place > _MAX_DISTANCE:
            break
        length = _MIN_COPY
        while at + length < end and text[place + length] == text[at + length]:
            length += 1
        if length > count:
            distance, count = at - place, length
    return distance, count


def compress(text: bytes, before: int, alignment: int) -> bytes:
    """Return a text as a block.

    Args:
        text: The text.
        before: How many bytes precede the block.
        alignment: Spaces are added to the text until the block ends at a
            multiple of it.
    """
    seen: dict[bytes, list[int]] = {}
    sequences: list[bytes] = []
    start = at = 0  # of the literals, and where a copy is looked for
    while at < len(text) - _LAST_COPY:
        places = seen.setdefault(text[at : at + _MIN_COPY], [])
        distance, count = _find(text, at, places)
        places.append(at)
        if count == 0:
            at += 1
            continue
        sequences.append(sequence(text[start:at], distance, count))
        for place in range(at + 1, at + count):
            key = text[place : place + _MIN_COPY]
            seen.setdefault(key, []).append(place)
        start = at = at + count
    head, rest = b''.join(sequences), text[start:]
    while (before + len(head) + len(sequence(rest))) % alignment:
        rest += b' '
    return head + sequence(rest)


def _length(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """Return a length that begins in a token, and where it ends."""
    count = bits
    while bits == 15:
        count += block[at]
        at += 1
        if block[at - 1] < 255:
            break
    return count, at


def decompress(block: bytes) -> bytes:
    """Return the text of a block.

    Raises:
        UserError: If it is no block, or stands for too much text.
    """
    text, at = bytearray(), 0
    most = MAX_RATIO * len(block)
    try:
        while True:
            token = block[at]
            count, at = _length(block, at + 1, token >> 4)
            text += block[at : at + count]
            at += count
            if at == len(block):
                return bytes(text)
            distance = block[at] | block[at + 1] << 8
            count, at = _length(block, at + 2, token & 15)
            count += _MIN_COPY
            expect(
                0 < distance <= len(text) and len(text) + count <= most,
                'section JSON',
                f'copies of text before them, of {most} bytes in all',
                f'{count} bytes from {distance} before {len(text)}',
            )
            copied = bytes(text[-distance:]) * (count // distance + 1)
            text += copied[:count]
    except IndexError:
        raise UserError(
            'section JSON: expected a block of LZ4, found that it ends early'
        ) from None
