"""Compile a trained detector to integers: CONFIG CHECKPOINT --out model.aqd"""

import argparse
import json
from dataclasses import asdict, fields
from pathlib import Path

import torch
from mmengine.registry import MODELS

from aqd_mmdet.compiler import report, verify
from aqd_mmdet.compiler.compile import compile_detector
from aqd_mmdet.config import labels_of
from aqd_mmdet.engine import launch, preflight
from aqd_mmdet.engine.checkpoint import (
    check_checkpoint,
    read_checkpoint,
    state_dict_of,
)
from aqd_mmdet.engine.compiled_model import use_compiled
from aqd_mmdet.errors import UserError, one_line
from aqd_mmdet.files import write_whole
from aqd_mmdet.models.quantized_detector import fixed_point_of
from aqd_mmdet.program import file
from aqd_mmdet.program.program import listing
from aqd_mmdet.progress import progress
from aqd_mmdet.runtime.images import read_image
from aqd_mmdet.runtime.preprocess import check_image, prepare

# Of every report that this tool writes.
FIELDS = {field.name for field in fields(report.Report)}


def say(text: str) -> None:
    print(f'compiling: {text}', flush=True)


@one_line
def main() -> None:
    parser = launch.parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out', type=Path, default=Path('model.aqd'), help='file to write'
    )
    parser.add_argument(
        '--verify',
        type=Path,
        nargs='+',
        default=[],
        metavar='IMAGE',
        help='compare all codes with the float simulation on these images',
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
    """Compile, verify, write, report."""
    if args.out.suffix != '.aqd':
        raise UserError(
            f'--out {args.out}: give a name that ends in .aqd; the report '
            'goes beside it, as .json'
        )
    beside = args.out.with_suffix('.json')
    check_report(beside)
    if not args.out.parent.is_dir():
        raise UserError(f'--out {args.out}: no folder {args.out.parent}')
    cfg = launch.read_config(args)
    if args.evaluate:
        preflight.check_data(cfg, ['test'])
    for path in args.verify:  # before minutes of work
        check_image(read_image(path), f'image {path}')
    say('building the detector')
    detector = MODELS.build(cfg.model).eval()
    labels = labels_of(cfg, 'test')
    check_checkpoint(
        args.checkpoint, detector, for_training=False, labels=labels
    )
    preflight.check_label_order(cfg, 'test')
    detector.load_state_dict(state_dict_of(read_checkpoint(args.checkpoint)))
    made_of = compile_detector(detector, cfg, say, fixed_point_of(detector))
    compiled, program = made_of.compiled, made_of.compiled.program
    agreements = verify.new_agreements()
    mean = program.ops[0].mean  # type: ignore[attr-defined]
    for path in progress(
        args.verify, desc='comparing', unit='image', disable=not args.verify
    ):
        image = read_image(path, compiled.preprocess.oriented)
        array, size = prepare(image, compiled.preprocess, program.stride)
        pixels = torch.from_numpy(array)
        normalised = pixels - torch.tensor(mean).float()[:, None, None]
        verify.compare(
            made_of.trace, made_of.folded, pixels, normalised, agreements
        )
        verify.compare_regions(made_of, pixels, size, agreements)
    file.save(compiled, args.out)
    metrics = {}
    if args.evaluate:
        use_compiled(cfg, args.out)
        metrics = launch.build_runner(cfg).test()
    size_of_float = report.float32_bytes(detector)
    made = report.make_report(
        compiled.programs,
        agreements,
        report.Sizes(
            size_of_float,
            size_of_float // 2,
            args.out.stat().st_size,
        ),
        metrics,
    )
    write_whole(beside, f'{json.dumps(asdict(made), indent=1)}\n'.encode())
    if args.print:
        for each in compiled.programs:
            print('\n'.join(listing(each)))
    print('\n'.join(report.lines(made)))
    print(f'{args.out}\n{beside}')


def check_report(path: Path) -> None:
    """Raise if a file of another kind is where the report is written to.

    Args:
        path: Of the report.
    """
    if not path.exists():
        return
    try:
        kept = json.loads(path.read_bytes())
    except ValueError:
        kept = None
    if not isinstance(kept, dict) or not kept.keys() >= FIELDS:
        raise UserError(
            f'{path} is there and is no report of this tool, which would '
            'replace it: move it or choose another --out'
        )


if __name__ == '__main__':
    main()
