"""Quantise a trained float detector: CONFIG CHECKPOINT --images FOLDER"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from aqd_mmdet.compiler.compile import compile_detector
from aqd_mmdet.engine import launch, preflight
from aqd_mmdet.engine.compiled_model import use_compiled
from aqd_mmdet.engine.float_detector import (
    MAX_PICTURES,
    find_pictures,
    load_float,
    read_pictures,
)
from aqd_mmdet.errors import UserError, one_line
from aqd_mmdet.files import write_whole
from aqd_mmdet.post_training.quantize import EFFORTS, quantize
from aqd_mmdet.post_training.recipe import find_recipe
from aqd_mmdet.post_training.stems import find_stems, fold_preprocessor
from aqd_mmdet.program import file


def say(text: str) -> None:
    print(f'quantising: {text}', flush=True)


@one_line
def main() -> None:
    parser = launch.parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint of the float detector')
    parser.add_argument(
        '--images',
        type=Path,
        help="folder of pictures, without annotations; default: the config's "
        'training pictures',
    )
    parser.add_argument(
        '--max-images',
        type=int,
        default=MAX_PICTURES,
        help='how many of them are used',
    )
    parser.add_argument(
        '--out', type=Path, default=Path('model.aqd'), help='file to write'
    )
    parser.add_argument(
        '--bits', type=int, default=8, help='width of weights, 2 to 8'
    )
    parser.add_argument(
        '--act-bits', type=int, default=8, help='width of activations, 2 to 8'
    )
    parser.add_argument(
        '--effort',
        choices=EFFORTS,
        default=EFFORTS[-1],
        help='how much is done for accuracy, and how long it takes',
    )
    parser.add_argument(
        '--recipe',
        type=Path,
        help='file of a recipe to follow, as --write-recipe writes it',
    )
    parser.add_argument(
        '--write-recipe', type=Path, help='file for the recipe that is found'
    )
    parser.add_argument(
        '--evaluate',
        action='store_true',
        help="evaluate before and after on the config's test dataset",
    )
    convert(parser.parse_args())


def convert(args: argparse.Namespace) -> None:
    """Quantise, compile and write a detector; evaluate it if asked."""
    if args.out.suffix != '.aqd' or not args.out.parent.is_dir():
        raise UserError(
            f'--out {args.out}: give a name that ends in .aqd, in a folder '
            'that exists'
        )
    cfg = launch.read_config(args)
    use_ssd_head(cfg)
    if args.evaluate:
        preflight.check_data(cfg, ['test'])
    paths = find_pictures(cfg, args.images, args.max_images)
    say('building the detector')
    detector = load_float(cfg, args.checkpoint)
    stems = find_stems(detector)
    fold_preprocessor(detector, stems)
    recipe = (
        read_recipe_file(args.recipe)
        if args.recipe
        else find_recipe(detector, stems, args.bits, args.act_bits)
    )
    if args.write_recipe:
        content = f'{json.dumps(recipe, indent=1)}\n'
        write_whole(args.write_recipe, content.encode())
    for rule in recipe:
        print(f'    {rule}')
    pictures = read_pictures(paths, detector, cfg)
    before = evaluate_float(cfg, args.checkpoint) if args.evaluate else {}
    quantized = quantize(detector, recipe, pictures, args.effort, say)
    print_ranges(quantized.ranges)
    compilation = compile_detector(quantized.detector, cfg, say)
    file.save(compilation.compiled, args.out)
    size = args.out.stat().st_size
    say(f'{args.out}: {size / 2**20:.2f} MiB')
    if args.evaluate:
        use_compiled(cfg, args.out)
        after = launch.build_runner(cfg).test()
        for name, value in after.items():
            print(f'{name}: float {before.get(name)}, integers {value}')


def use_ssd_head(cfg: Config) -> None:
    """Let a config have an SSDHead that can predict; mmdet's own cannot."""
    head = cfg.model.get('bbox_head')
    if isinstance(head, dict) and head.get('type') in (
        'SSDHead',
        'mmdet.SSDHead',
    ):
        head['type'] = 'aqd_mmdet.SSDHead'


def read_recipe_file(path: Path) -> list[dict[str, Any]]:
    """Return the rules in a file of JSON."""
    try:
        recipe = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f'--recipe {path}: expected a file that --write-recipe wrote, '
            f'found {error}'
        ) from None
    return recipe


def evaluate_float(cfg: Config, checkpoint: str) -> dict[str, float]:
    """Return the metrics of the float detector."""
    say('evaluating the float detector')
    cfg = cfg.copy()
    cfg.load_from = checkpoint
    return launch.build_runner(cfg).test()


def print_ranges(ranges: Sequence[Any]) -> None:
    width = max(len(each.name) for each in ranges)
    print(f'{"layer":{width}} {"bits":>5}{"dB":>8}{"clipped":>10}')
    for each in ranges:
        print(
            f'{each.name:{width}} {each.bits:5}{each.signal_to_noise:8.1f}'
            f'{each.clipped:10.4%}'
        )


if __name__ == '__main__':
    main()
