"""A program file as an array in C: docs/export.md."""

import json
from collections.abc import Iterator
from hashlib import sha256
from textwrap import wrap

from ..program import file
from ..program.container import ALIGNMENT, VERSION
from ..program.detector import CompiledDetector

# Numbers of a line: with their commas they have up to 4 letters each.
PER_LINE = 19
# By which a file of this module is known again.
TITLE = '/* A compiled detector (model.aqd) for aqd_load of aqd.h.\n'
TEMPLATE = """\
{title} *
{facts}
 */
#ifndef {guard}
#define {guard}

#include <stddef.h>

#if defined(__cplusplus)
#define MODEL_AQD_ALIGNED alignas({alignment})
#elif defined(__GNUC__)
#define MODEL_AQD_ALIGNED __attribute__((aligned({alignment})))
#else
#define MODEL_AQD_ALIGNED _Alignas({alignment})
#endif

static const size_t model_aqd_size = {size};

MODEL_AQD_ALIGNED static const unsigned char model_aqd[{size}] = {{
{numbers}
}};

#endif
"""


def export(compiled: CompiledDetector) -> bytes:
    """Return a detector as the content of a file ``model.h``.

    The array is what a file ``model.aqd`` holds, of the newest version.

    Args:
        compiled: The detector.
    """
    content = file.to_bytes(compiled)
    lines = (
        ''.join(f'{byte},' for byte in content[at : at + PER_LINE])
        for at in range(0, len(content), PER_LINE)
    )
    text = TEMPLATE.format(
        title=TITLE,
        # Of two detectors in one source the second would be left out by a
        # guard that is always the same; a compiler refuses equal names.
        guard=f'MODEL_AQD_{sha256(content).hexdigest()[:16].upper()}_H',
        facts='\n'.join(comment(compiled, len(content))),
        alignment=ALIGNMENT,
        size=len(content),
        numbers='\n'.join(lines),
    )
    return text.encode('ascii')


def comment(compiled: CompiledDetector, size: int) -> Iterator[str]:
    """Yield lines of a comment that says what is inside.

    Args:
        compiled: The detector.
        size: Bytes of its file.
    """
    for fact in facts(compiled, size):
        lines = wrap(
            fact, 76, subsequent_indent='  ', break_on_hyphens=False,
            break_long_words=False,
        )  # fmt: skip
        yield from (f' * {line}' for line in lines)


def facts(compiled: CompiledDetector, size: int) -> Iterator[str]:
    """Yield what is known of a detector, each in one line of ASCII."""
    pre, programs = compiled.preprocess, compiled.programs
    weights = [x for each in programs for x in each.weights.values()]
    count = sum(x.codes.size for x in weights)
    widths = sorted({x.bits for x in weights})
    stages = len(programs) - 1
    behind = f' with those of {stages} second stages' if stages else ''
    yield f'File: {size} bytes, version {VERSION} of the format.'
    yield (
        f'Network: {sum(len(each.ops) for each in programs)} operators, '
        f'{count} weights of {" and ".join(map(str, widths))} bits{behind}.'
    )
    if pre.stretch:
        yield f'Images: stretched to {pre.long} x {pre.long} pixels.'
    else:
        yield f'Images: resized to fit {pre.short} x {pre.long} pixels.'
    yield f'Detections: {most(compiled)} of an image at most.'
    # No label ends the comment, begins one or is beyond ASCII.
    names = json.dumps(compiled.labels).replace('/', '\\u002f')
    yield f'{len(compiled.labels)} labels: {names}'


def most(compiled: CompiledDetector) -> int:
    """Return how many objects are found in an image at most."""
    last = compiled.regions or compiled.postprocess
    return last.keep
