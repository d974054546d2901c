"""Export a compiled detector: model.aqd --format onnx --out model.onnx"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from aqd_mmdet.errors import UserError, one_line
from aqd_mmdet.export import (
    c_header,
    onnx_detector,
    onnx_model,
    onnx_proto,
    qdq_model,
    qonnx_model,
)
from aqd_mmdet.export.onnx_check import agreement
from aqd_mmdet.files import begins_with, check_output, write_whole
from aqd_mmdet.program import file
from aqd_mmdet.program.detector import CompiledDetector
from aqd_mmdet.program.op import Size
from aqd_mmdet.progress import progress
from aqd_mmdet.runtime import Detector
from aqd_mmdet.runtime.preprocess import chosen_size
from aqd_mmdet.runtime.sources import gather

Export = Callable[[CompiledDetector], bytes]


class Format(NamedTuple):
    """A kind of file, what makes one, and what makes one with --boxes.

    What makes one for images of one size alone is given this, too.
    """

    suffix: str
    export: Export | None
    with_boxes: Export | None = None
    of_size: Callable[[CompiledDetector, Size], bytes] | None = None


FORMATS = {
    'onnx': Format(
        '.onnx',
        onnx_model.export,
        partial(onnx_detector.export, network=onnx_model.network),
    ),
    'qdq': Format(
        '.onnx',
        qdq_model.export,
        partial(
            onnx_detector.export,
            network=partial(qdq_model.network, needs_int64=True),
        ),
    ),
    'qonnx': Format('.onnx', None, of_size=qonnx_model.export),
    'header': Format('.h', c_header.export),
}


def export_of(name: str, boxes: bool, size: str | None) -> Export:
    """Return what makes a file of a format, with what a user chose."""
    form = FORMATS[name]
    if boxes and form.with_boxes is None:
        raise UserError(
            f'--boxes: expected --format onnx or qdq, found {name}: leave '
            '--boxes out'
        )
    of_size = form.of_size
    if of_size is not None:
        return lambda compiled: of_size(
            compiled,
            chosen_size(size, compiled.preprocess, compiled.program.stride),
        )
    if size is not None:
        raise UserError(
            f'--size: expected --format qonnx, found {name}, which takes '
            'images of all sizes: leave --size out'
        )
    export = form.with_boxes if boxes else form.export
    assert export is not None
    return export


def check_replaced(out: Path, model: Path, suffix: str) -> None:
    """Raise if a file would replace its model, or what is no export.

    Args:
        out: File to write.
        model: The model's.
        suffix: Of the format.

    Raises:
        UserError: With what to do.
    """
    if out.resolve() == model.resolve():
        raise UserError(
            f'--out {out}: it would replace the model; choose another name'
        )
    is_own = (
        begins_with(out, c_header.TITLE)
        if suffix == FORMATS['header'].suffix
        else onnx_proto.is_own(out)
    )
    if out.exists() and not is_own:
        raise UserError(
            f'--out {out}: it exists and was not written by this tool, which '
            'would replace it: move it or choose another name'
        )


def pictures_of(args: argparse.Namespace) -> list[Path]:
    """Return the pictures to compare maps on, none without --check."""
    if args.check and (args.boxes or args.format not in ('onnx', 'qdq')):
        raise UserError(
            '--check: expected --format onnx or qdq without --boxes, whose '
            'maps ONNX Runtime makes: leave --check out'
        )
    return gather(args.check)


@one_line
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('model', type=Path, help='a file model.aqd')
    parser.add_argument(
        '--format', choices=FORMATS, default='onnx', help='default: onnx'
    )
    parser.add_argument(
        '--boxes',
        action='store_true',
        help='end with boxes, labels and scores instead of maps',
    )
    parser.add_argument(
        '--size',
        metavar='HxW',
        help='height and width of the image, for --format qonnx alone; '
        'default: that of a detector which takes one size',
    )
    parser.add_argument(
        '--out',
        type=Path,
        help='file to write; default: model.onnx or model.h in the current '
        'folder, by the format',
    )
    parser.add_argument(
        '--check',
        type=Path,
        nargs='+',
        default=[],
        metavar='PICTURE',
        help="compare the file's maps in ONNX Runtime with the engine's, on "
        'pictures or folders of them; those of --format onnx must be equal',
    )
    args = parser.parse_args()
    form = FORMATS[args.format]
    export = export_of(args.format, args.boxes, args.size)
    out = args.out or Path('model').with_suffix(form.suffix)
    check_output('--out', out, form.suffix)
    check_replaced(out, args.model, form.suffix)
    pictures = pictures_of(args)
    compiled, _ = file.load(args.model)
    content = export(compiled)
    if pictures:
        steps = progress(pictures, unit='picture')
        print(agreement(content, Detector(compiled), steps))
    write_whole(out, content)
    print(f'{out}: {len(content)} bytes')


if __name__ == '__main__':
    main()
