"""Export a compiled detector: model.aqd --format qdq --out model.onnx"""

import argparse
from pathlib import Path

from aqd_mmdet.errors import one_line
from aqd_mmdet.export import onnx_model, qdq_model
from aqd_mmdet.files import check_output, write_whole
from aqd_mmdet.program import file

FORMATS = {'onnx': onnx_model.export, 'qdq': qdq_model.export}


@one_line
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('model', type=Path, help='a file model.aqd')
    parser.add_argument(
        '--format', choices=FORMATS, default='onnx', help='default: onnx'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('model.onnx'), help='file to write'
    )
    args = parser.parse_args()
    check_output('--out', args.out, '.onnx')
    compiled, _ = file.load(args.model)
    content = FORMATS[args.format](compiled)
    write_whole(args.out, content)
    print(f'{args.out}: {len(content)} bytes')


if __name__ == '__main__':
    main()
