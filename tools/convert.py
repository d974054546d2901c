"""Compile a trained detector to integers: CONFIG CHECKPOINT --out model.aqd"""

import argparse
import json
from dataclasses import asdict, fields
from pathlib import Path

import torch

from aqd_mmdet.compiler import report, verify
from aqd_mmdet.compiler.compile import Compilation, compile_detector
from aqd_mmdet.engine import launch, preflight
from aqd_mmdet.engine.compiled_model import use_compiled
from aqd_mmdet.errors import UserError, one_line
from aqd_mmdet.files import check_output, parse_json, write_whole
from aqd_mmdet.program import file
from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.program import listing
from aqd_mmdet.progress import progress
from aqd_mmdet.runtime.images import read_image
from aqd_mmdet.runtime.preprocess import check_image, prepare
from aqd_mmdet.runtime.sources import distinct, gather

# Keys of the reports that this tool writes.
FIELDS = {field.name for field in fields(report.Report)}


def say(text: str) -> None:
    print(f'compiling: {text}', flush=True)


@one_line
def main() -> None:
    parser = launch.parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file, or its URL')
    parser.add_argument(
        '--out', type=Path, default=Path('model.aqd'), help='file to write'
    )
    parser.add_argument(
        '--verify',
        type=Path,
        nargs='+',
        default=[],
        metavar='IMAGE',
        help='compare all codes with the float simulation on these image '
        'files, or folders of images',
    )
    parser.add_argument(
        '--evaluate',
        action='store_true',
        help="evaluate the program on the config's test dataset",
    )
    parser.add_argument(
        '--print', action='store_true', help='print the program'
    )
    args = parser.parse_args()
    convert(args)


def convert(args: argparse.Namespace) -> None:
    """Compile a detector, verify and evaluate it, write program and report."""
    report_path = args.out.with_suffix('.json')
    check_output('--out', args.out, '.aqd')
    check_report(report_path)
    cfg = launch.read_config(args)
    if args.evaluate:
        preflight.check_data(cfg, ['test'])
    images = distinct(gather(args.verify))
    # Compiling takes minutes, so unreadable images are refused before it.
    for path in images:
        check_image(read_image(path), f'image {path}')
    say('building the detector')
    detector = launch.build_detector(cfg)
    launch.load_weights(detector, cfg, args.checkpoint)
    compilation = compile_detector(detector, cfg, say)
    compiled = compilation.compiled
    agreements = compare(compilation, images)
    # An earlier report is not of the new file, also if evaluating fails.
    report_path.unlink(missing_ok=True)
    file.save(compiled, args.out)
    metrics = {}
    if args.evaluate:
        use_compiled(cfg, args.out)
        metrics = launch.build_runner(cfg).test()
    float32_bytes = report.float32_bytes(detector)
    summary = report.make_report(
        compiled.programs,
        agreements,
        report.Sizes(
            float32_bytes, float32_bytes // 2, args.out.stat().st_size
        ),
        metrics,
    )
    content = f'{json.dumps(asdict(summary), indent=1)}\n'
    write_whole(report_path, content.encode())
    if args.print:
        for program in compiled.programs:
            print('\n'.join(listing(program)))
    print('\n'.join(report.lines(summary)))
    print(f'{args.out}\n{report_path}')


def check_report(path: Path) -> None:
    """Raise if the report would replace a file of another kind.

    Args:
        path: File of the report.
    """
    if not path.exists():
        return
    try:
        content = parse_json(path.read_bytes())
    except ValueError:
        content = None
    if not isinstance(content, dict) or not content.keys() >= FIELDS:
        raise UserError(
            f'{path} exists and is no report of this tool, which would '
            'replace it: move it or choose another --out'
        )


def compare(
    compilation: Compilation, images: list[Path]
) -> dict[str, verify.Agreement]:
    """Compare the program's codes with the float simulation on images."""
    compiled, program = compilation.compiled, compilation.compiled.program
    agreements = verify.new_agreements()
    first = program.ops[0]
    assert isinstance(first, ir.Image)
    mean = torch.tensor(first.mean).float()[:, None, None]
    for path in progress(
        images, desc='comparing', unit='image', disable=not images
    ):
        image = read_image(path, compiled.preprocess.oriented)
        array, size = prepare(image, compiled.preprocess, program.stride)
        pixels = torch.from_numpy(array)
        normalised = pixels - mean
        verify.compare(
            compilation.trace,
            compilation.folded,
            pixels,
            normalised,
            agreements,
        )
        verify.compare_regions(compilation, pixels, size, agreements)
    return agreements


if __name__ == '__main__':
    main()
