"""Quantise a trained float detector.

CONFIG CHECKPOINT --images FOLDER, or DETECTOR.onnx --images FOLDER
"""

import argparse
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from aqd_mmdet.compiler.compile import compile_detector, read_test_preprocess
from aqd_mmdet.config import read_config, write_apart
from aqd_mmdet.engine import launch, preflight
from aqd_mmdet.engine.compiled_model import use_compiled
from aqd_mmdet.engine.float_detector import (
    add_arguments,
    find_pictures,
    load_float,
    start_from,
    use_onnx,
)
from aqd_mmdet.errors import UserError, one_line
from aqd_mmdet.files import (
    begins_with,
    check_output,
    parse_json,
    write_whole,
)
from aqd_mmdet.models.heads import use_own_heads
from aqd_mmdet.models.recipe import read_recipe
from aqd_mmdet.post_training.budget import Job, fit, read_budget
from aqd_mmdet.post_training.quantize import DEFAULT_EFFORT, EFFORTS, quantize
from aqd_mmdet.post_training.recipe import find_recipe
from aqd_mmdet.post_training.stems import use_folded_preprocessor
from aqd_mmdet.post_training.training_start import (
    check_is_plain,
    training_config,
    training_state,
)
from aqd_mmdet.program import file
from aqd_mmdet.quantizers.grid import MAX_BITS, MIN_BITS
from aqd_mmdet.runtime.images import read_image

ROOT = Path(__file__).parent.parent
# By which a config of --write-config is known again.
TITLE = '# Of tools/quantize.py: a quantised detector to train on.\n'
HOOKS = ROOT / 'configs/_base_/aqd_hooks.py'


def say(text: str) -> None:
    print(f'quantising: {text}', flush=True)


@one_line
def main() -> None:
    parser = launch.parser(__doc__)
    add_arguments(parser)
    widths = parser.add_mutually_exclusive_group()
    widths.add_argument(
        # No default: Python 3.11 takes the default for no option at all.
        '--bits',
        type=int,
        help='width of weights, 2 to 8; default: 8',
    )
    widths.add_argument(
        '--budget',
        help='size of the file (500kB, 1.5MB), or time of the engine on one '
        'thread (20ms), that a width for each layer is chosen for',
    )
    widths.add_argument(
        '--recipe',
        type=Path,
        help='file of a recipe to follow, as --write-recipe writes it',
    )
    parser.add_argument(
        '--act-bits', type=int, help='width of activations, 2 to 8; default: 8'
    )
    parser.add_argument(
        '--effort',
        choices=EFFORTS,
        default=DEFAULT_EFFORT,
        help='how much is done for accuracy, and how long it takes',
    )
    add_outputs(parser)
    convert(parser.parse_intermixed_args())


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is written and measured."""
    parser.add_argument(
        '--out', type=Path, default=Path('model.aqd'), help='file to write'
    )
    parser.add_argument(
        '--write-recipe', type=Path, help='file for the recipe that is found'
    )
    parser.add_argument(
        '--write-config',
        type=Path,
        help='file for a config that trains the quantised detector on; its '
        'weights get the same name with .pth',
    )
    parser.add_argument(
        '--evaluate',
        action='store_true',
        help="evaluate before and after on the config's test dataset",
    )


def convert(args: argparse.Namespace) -> None:
    """Quantise, compile and write a detector; evaluate it if asked."""
    check_options(args)
    bits, act_bits = (
        8 if given is None else given for given in (args.bits, args.act_bits)
    )
    budget = None if args.budget is None else read_budget(args.budget)
    given = read_recipe_file(args.recipe) if args.recipe else None
    use_onnx(args, say)
    cfg = launch.read_config(args)
    use_own_heads(cfg)
    if args.write_config:
        check_training(args, cfg)  # before the work
    if args.evaluate:
        preflight.check_data(cfg, ['test'])
    paths = find_pictures(cfg, args.images, args.max_images)
    say('building the detector')
    start = start_from(load_float(cfg, args.checkpoint), cfg, paths)
    detector, pictures = start.detector, start.pictures
    recipe = (
        find_recipe(detector, start.stems, bits, act_bits)
        if given is None
        else given
    )
    before = evaluate_float(cfg, args.checkpoint) if args.evaluate else {}
    if budget is None:
        print_recipe(recipe)
        quantized = quantize(detector, recipe, pictures, args.effort, say)
        compiled = compile_detector(quantized.detector, cfg, say).compiled
    else:
        pre = read_test_preprocess(detector.data_preprocessor, cfg)
        image = read_image(paths[0], pre.oriented)
        fitted = fit(
            Job(detector, recipe, pictures, args.effort, say, cfg, image),
            budget,
        )
        recipe = fitted.recipe
        print_recipe(recipe)
        quantized, compiled = fitted.quantized, fitted.compiled
    print_ranges(quantized.ranges)
    if args.write_recipe:
        content = f'{json.dumps(recipe, indent=1)}\n'
        write_whole(args.write_recipe, content.encode())
    file.save(compiled, args.out)
    if args.write_config:
        write_training(args, quantized.detector, recipe)
    size = args.out.stat().st_size
    say(f'{args.out}: {size / 1e6:.3f} MB')
    if args.evaluate:
        use_folded_preprocessor(cfg, detector)
        print_metrics(cfg, args.out, before)


def check_options(args: argparse.Namespace) -> None:
    """Refuse outputs that could not be written, and widths that are none or
    from two options.

    Raises:
        UserError: Naming the first of them.
    """
    check_output('--out', args.out, '.aqd')
    if args.write_recipe:
        check_recipe_output(args.write_recipe)
    for option, bits in (('--bits', args.bits), ('--act-bits', args.act_bits)):
        if bits is not None and not MIN_BITS <= bits <= MAX_BITS:
            raise UserError(
                f'{option} {bits}: expected a width; give {MIN_BITS} to '
                f'{MAX_BITS}'
            )
    if args.recipe and args.act_bits is not None:
        raise UserError(
            '--act-bits and --recipe: the recipe says the widths; leave one '
            'of them out'
        )


def check_recipe_output(path: Path) -> None:
    """Raise if a recipe would replace a file of another kind.

    Args:
        path: File of the recipe.
    """
    check_output('--write-recipe', path, '.json')
    if not path.exists():
        return
    try:
        read_recipe(parse_json(path.read_bytes()))
    except (OSError, ValueError):
        raise UserError(
            f'--write-recipe {path}: it exists and is no recipe, which would '
            'replace it: move it or choose another name'
        ) from None


def print_recipe(recipe: list[dict[str, Any]]) -> None:
    for rule in recipe:
        print(f'    {rule}')


def check_training(args: argparse.Namespace, cfg: Config) -> None:
    """Refuse a config to train from that cannot or must not be written."""
    path = args.write_config
    check_output('--write-config', path, '.py')
    checkpoint = path.with_suffix('.pth')
    check_output('--write-config', checkpoint, '.pth')
    for new, old in ((path, args.config), (checkpoint, args.checkpoint)):
        if new.resolve() == Path(old).resolve():
            raise UserError(
                f'--write-config {path}: it would replace {old}, which is the '
                "float detector's; choose another name"
            )
    for each in (path, checkpoint):
        if each.exists() and not begins_with(path, TITLE):
            raise UserError(
                f'--write-config {path}: {each} exists and was not written '
                'by this option: move it or choose another name'
            )
    check_is_plain(cfg)


def write_training(
    args: argparse.Namespace, student: nn.Module, recipe: list[dict[str, Any]]
) -> None:
    """Write a config and a checkpoint that the student is trained on from."""
    path = args.write_config
    checkpoint = path.with_suffix('.pth')
    # Anew: that of this tool is adapted to this machine.
    cfg = read_config(args.config, args.cfg_options)
    use_own_heads(cfg)
    hooks = Config.fromfile(HOOKS)
    config = training_config(cfg, hooks, student, recipe)
    state, left_out = training_state(student, config)
    if left_out:
        say(
            f'{len(left_out)} layers have a correction but neither bias nor '
            f'batch norm; training starts without it: {", ".join(left_out)}'
        )
    content = io.BytesIO()
    torch.save(dict(state_dict=state, meta={}), content)
    write_whole(checkpoint, content.getvalue())
    config.load_from = str(checkpoint.resolve())
    write_whole(path, f'{TITLE}{config.pretty_text}'.encode())
    say(f'{path}, {checkpoint}: to train on')


def read_recipe_file(path: Path) -> list[dict[str, Any]]:
    """Return the rules in a file of JSON.

    Raises:
        UserError: If it is no recipe.
    """
    try:
        recipe = parse_json(path.read_text())
        read_recipe(recipe)  # before the work
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
    # A file of ONNX has become a config in the work_dir.
    write_apart(cfg, 'float')
    return launch.build_runner(cfg).test()


def print_metrics(cfg: Config, out: Path, before: dict[str, float]) -> None:
    """Evaluate a program, and print its metrics beside those before."""
    use_compiled(cfg, out)
    after = launch.build_runner(cfg).test()
    for name, value in after.items():
        print(f'{name}: float {before.get(name)}, integers {value}')


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
