"""What every reader of files refuses, as changes of a file that is good.

Each change breaks one sentence of docs/file_format.md. A reader that accepts
one of these files, or refuses the good one, does not follow it.
"""

from collections.abc import Callable

from tests.refusals.changes import (
    OPS,
    Refusal,
    as_version,
    setting,
    with_ops,
    with_text,
)
from tests.refusals.of_detectors import (
    DETECTOR,
    OPERATORS,
    PROGRAM,
    rows_of_one_code,
    sums,
)
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


def with_scale(digits: str) -> Callable[[bytes], bytes]:
    """Write the scale of an output as an integer."""
    scale = f'"scale":{digits}'.encode()
    return with_text(lambda text: text.replace(b'"scale":0.25', scale))


# Changes that leave the file good.
ACCEPTED = [
    Refusal('nothing', lambda c: c, ''),
    Refusal('version 3', as_version(3), ''),
    Refusal('version 4', as_version(4), ''),
    Refusal(
        'zero points of channels', setting(f'{OPS}.1.zero', [-255, 0, 255]), ''
    ),
    Refusal('many rows', with_ops(*rows_of_one_code(65536)), ''),
    Refusal('large terms', with_ops(*sums(2**30 - 1)), ''),
    Refusal('spaces', with_text(lambda t: t + b' \n\t\r'), ''),
    Refusal('escapes', setting('labels.0', '\u2028"\\/'), ''),
    Refusal('a real that is whole', setting('program.outputs.0.scale', 1), ''),
    Refusal('a large real', setting('program.outputs.0.scale', 10**30), ''),
    *(
        Refusal(
            f'a real of {digits} digits',
            with_scale('1' + '0' * (digits - 1)),
            '',
        )
        # The largest double has 309 digits, and Python reads integers of up
        # to 4300.
        for digits in (299, 300, 309, 310, 350, 5000)
    ),
    Refusal('a real below all doubles', with_scale('-1' + '0' * 350), ''),
]
