"""Export a compiled detector: model.aqd --format onnx --out model.onnx"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from aqd_mmdet.errors import UserError, one_line
from aqd_mmdet.export import c_header, onnx_detector, onnx_model, qdq_model
from aqd_mmdet.files import check_output, write_whole
from aqd_mmdet.program import file
from aqd_mmdet.program.detector import CompiledDetector

Export = Callable[[CompiledDetector], bytes]


class Format(NamedTuple):
    """A kind of file, what makes one, and what makes one with --boxes."""

    suffix: str
    export: Export
    with_boxes: Export | None


FORMATS = {
    'onnx': Format(
        '.onnx',
        onnx_model.export,
        partial(onnx_detector.export, network=onnx_model.network),
    ),
    'qdq': Format(
        '.onnx',
        qdq_model.export,
        partial(onnx_detector.export, network=qdq_model.network),
    ),
    'header': Format('.h', c_header.export, None),
}


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
        '--out',
        type=Path,
        help='file to write; default: model with the suffix of the format',
    )
    args = parser.parse_args()
    form = FORMATS[args.format]
    export = form.with_boxes if args.boxes else form.export
    if export is None:
        raise UserError(
            f'--boxes: expected --format onnx or qdq, found {args.format}, '
            'which has the whole detector without it'
        )
    out = args.out or Path('model').with_suffix(form.suffix)
    check_output('--out', out, form.suffix)
    compiled, _ = file.load(args.model)
    content = export(compiled)
    write_whole(out, content)
    print(f'{out}: {len(content)} bytes')


if __name__ == '__main__':
    main()
