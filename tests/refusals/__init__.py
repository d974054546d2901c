"""What every reader of files refuses, as changes of a file that is good.

Each change breaks one sentence of docs/file_format.md. A reader that accepts
one of these files, or refuses the good one, does not follow it.
"""

from tests.refusals.changes import (
    OPS,
    Refusal,
    as_version,
    setting,
    with_text,
)
from tests.refusals.of_detectors import DETECTOR, OPERATORS, PROGRAM
from tests.refusals.of_files import (
    ARRAYS,
    CONTAINER,
    JSON,
    LZ4,
    STRUCTURE,
    WEIGHTS,
)

REFUSALS = [
    refusal
    for group in (
        CONTAINER,
        LZ4,
        JSON,
        STRUCTURE,
        ARRAYS,
        WEIGHTS,
        PROGRAM,
        OPERATORS,
        DETECTOR,
    )
    for refusal in group
]
# Changes that leave the file good.
ACCEPTED = [
    Refusal('nothing', lambda c: c, ''),
    Refusal('version 3', as_version(3), ''),
    Refusal('version 4', as_version(4), ''),
    Refusal(
        'zero points of channels', setting(f'{OPS}.1.zero', [-255, 0, 255]), ''
    ),
    Refusal('spaces', with_text(lambda t: t + b' \n\t\r'), ''),
    Refusal('escapes', setting('labels.0', '\u2028"\\/'), ''),
    Refusal('a real that is whole', setting('program.outputs.0.scale', 1), ''),
    Refusal('a large real', setting('program.outputs.0.scale', 10**30), ''),
    Refusal(
        'a huge real',
        with_text(
            lambda t: t.replace(b'"scale":0.25', b'"scale":1' + b'0' * 500)
        ),
        '',
    ),
]
