"""tools/quantize.py as a user calls it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from PIL import Image

from aqd_mmdet.program import ops as ir
from aqd_mmdet.program.detector import Exponents
from aqd_mmdet.runtime import Detector, reference
from tests.factories import DIGITS, data_options, digits_config, narrow
from tests.from_onnx.exported import export, small_yolox
from tests.tool import error_line, run_tool
from tools.quantize import TITLE

TOOL = 'tools/quantize.py'


@pytest.fixture(scope='module')
def float_detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a float config, its checkpoint and three pictures."""
    folder = tmp_path_factory.mktemp('float')
    write_detector(folder, narrow(18, 2, 'retinanet'))
    return folder


def write_detector(folder: Path, model: ConfigDict) -> None:
    """Write a float config, its checkpoint and three pictures."""
    cfg = digits_config('fp')
    cfg.model = model
    cfg.model.bits = 'float'
    cfg.dump(folder / 'config.py')
    # With other seeds more bits may make more noise, and a budget is left.
    torch.manual_seed(1)
    state = MODELS.build(cfg.model).state_dict()
    torch.save(dict(state_dict=state), folder / 'float.pth')
    rng = np.random.default_rng(0)
    folder.joinpath('pictures/more').mkdir(parents=True)
    for name in ('a.png', 'b.jpg', 'more/c.png'):
        pixels = rng.integers(0, 256, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / 'pictures' / name)


def quantize(folder: Path, *options: object):
    return run_tool(
        TOOL,
        folder / 'config.py',
        folder / 'float.pth',
        '--images',
        folder / 'pictures',
        '--out',
        folder / 'model.aqd',
        *options,
    )


@pytest.fixture(scope='module')
def six_bits(float_detector: Path) -> bytes:
    """The file of weights of 6 bits; its recipe is beside it."""
    recipe = float_detector / 'recipe.json'
    result = quantize(float_detector, '--bits', 6, '--write-recipe', recipe)
    assert result.returncode == 0, result.stderr[-2000:]
    assert '3 pictures' in result.stdout
    return (float_detector / 'model.aqd').read_bytes()


def widths(path: Path) -> set[int]:
    """The widths of a program's weights."""
    weights = Detector(path).compiled.program.weights.values()
    return {w.bits for w in weights}


def check_recipe(folder: Path, recipe: Path) -> None:
    """A recipe that was written gives the same file."""
    content = (folder / 'model.aqd').read_bytes()
    again = quantize(folder, '--recipe', recipe)
    assert again.returncode == 0, again.stderr[-2000:]
    assert (folder / 'model.aqd').read_bytes() == content


def test_a_checkpoint_and_pictures_become_a_program(float_detector, six_bits):
    path = float_detector / 'model.aqd'
    path.write_bytes(six_bits)
    # The stem keeps 8 bits.
    assert widths(path) == {6, 8}
    boxes, labels, scores = Detector(path)(np.zeros((60, 80, 3), np.uint8))
    assert len(boxes) == len(labels) == len(scores)
    check_recipe(float_detector, float_detector / 'recipe.json')


@pytest.mark.slow
def test_a_size_is_kept_by_widths_for_each_layer(float_detector, six_bits):
    recipe, limit = float_detector / 'mixed.json', len(six_bits)
    result = quantize(
        float_detector,
        '--budget',
        f'{limit / 1e3}kB',
        '--write-recipe',
        recipe,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    path = float_detector / 'model.aqd'
    assert 0.95 * limit < path.stat().st_size <= limit
    assert len(widths(path)) > 1
    check_recipe(float_detector, recipe)


@pytest.mark.slow
def test_a_training_can_start_from_the_result(tmp_path, digits):
    cfg = digits_config('fp')
    cfg.model = narrow(18, 2, 'retinanet')
    # As a user's config: mmdet's detector, deviations of ImageNet.
    cfg.model.type = cfg.model.pop('detector')
    for key in ('recipe', 'bits', 'integer'):
        cfg.model.pop(key, None)
    cfg.model.data_preprocessor.std = [58.4, 57.1, 57.4]
    cfg.custom_imports = dict(imports=['json'], allow_failed_imports=False)
    cfg.dump(tmp_path / 'config.py')
    torch.manual_seed(0)
    detector = MODELS.build(cfg.model)
    torch.save(dict(state_dict=detector.state_dict()), tmp_path / 'float.pth')
    result = run_tool(
        TOOL,
        tmp_path / 'config.py',
        tmp_path / 'float.pth',
        '--images',
        digits,
        '--max-images',
        2,
        '--bits',
        4,
        '--out',
        tmp_path / 'model.aqd',
        '--write-config',
        tmp_path / 'start.py',
    )
    assert result.returncode == 0, result.stderr[-2000:]
    # A second run may replace it.
    assert tmp_path.joinpath('start.py').read_text().startswith(TITLE)
    # Compiled as it is, the start gives the boxes of the result.
    result = run_tool(
        'tools/convert.py',
        tmp_path / 'start.py',
        tmp_path / 'start.pth',
        '--out',
        tmp_path / 'again.aqd',
    )
    assert result.returncode == 0, result.stderr[-2000:]
    detectors = [
        Detector(tmp_path / f'{name}.aqd') for name in ('model', 'again')
    ]
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    (boxes, _, scores), (others, _, near) = (d(image) for d in detectors)
    assert len(boxes) == len(others) > 0
    assert np.abs(scores - near).max() < 2**24 / 100
    # Training leaves the quantisers as they were started.
    result = run_tool(
        'tools/train.py',
        tmp_path / 'start.py',
        '--work-dir',
        tmp_path / 'run',
        '--cfg-options',
        'train_cfg.max_epochs=1',
        *data_options(digits),
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert 'calibrating' not in result.stdout


@pytest.mark.slow
def test_an_fcos_of_the_zoo(tmp_path):
    model = narrow(18, 2, 'fcos')
    model.bbox_head.update(
        norm_cfg=dict(type='GN', num_groups=4),
        norm_on_bbox=False,
        centerness_on_reg=False,
    )
    write_detector(tmp_path, model)
    result = quantize(tmp_path, '--effort', 'calibrate')
    assert result.returncode == 0, result.stderr[-2000:]
    path = tmp_path / 'model.aqd'
    compiled = Detector(path).compiled
    assert isinstance(compiled.postprocess.decoder, Exponents)
    # Untrained scores are low, so that they all count.
    post = replace(compiled.postprocess, threshold=-(2**31))
    compiled = replace(compiled, postprocess=post)
    image = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
    found = Detector(compiled)(image)
    expected = Detector(compiled, run=reference.run)(image)
    assert len(found.boxes) == post.keep
    for a, b in zip(found, expected, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.slow
def test_a_file_of_onnx_is_enough(float_detector, tmp_path):
    path = export(small_yolox(), tmp_path / 'small.onnx')
    pictures, out = float_detector / 'pictures', tmp_path / 'model.aqd'
    work = tmp_path / 'work'
    options = (
        *('--images', pictures, '--out', out, '--work-dir', work),
        *('--effort', 'calibrate'),
    )
    line = error_line(run_tool(TOOL, path, *options))
    assert '3 classes and no names of them: give --classes' in line
    assert not work.exists()
    assert not out.exists()
    names = ('apple', 'pear', 'plum')
    result = run_tool(TOOL, path, *options, '--classes', *names)
    assert result.returncode == 0, result.stderr[-2000:]
    assert f'{path}: a YOLOX, 64 x 64' in result.stdout
    compiled = Detector(out).compiled
    assert compiled.labels == names
    pre = compiled.preprocess
    assert (pre.short, pre.long, pre.whole) == (64, 64, True)
    assert (pre.bgr, pre.fill) == (True, (114, 114, 114))
    # The same by the config and the checkpoint that it became.
    content = out.read_bytes()
    again = run_tool(TOOL, work / 'small.py', *options, work / 'small.pth')
    assert again.returncode == 0, again.stderr[-2000:]
    assert out.read_bytes() == content


@pytest.mark.slow
def test_an_evaluation_leaves_the_config_of_a_file_of_onnx(digits, tmp_path):
    """It is in the work_dir, where runners write theirs."""
    path = export(small_yolox(classes=len(DIGITS)), tmp_path / 'small.onnx')
    work, out = tmp_path / 'work', tmp_path / 'model.aqd'
    result = run_tool(
        *(TOOL, path, '--images', digits / 'val', '--max-images', 2),
        *('--out', out, '--work-dir', work, '--effort', 'calibrate'),
        *('--classes', *DIGITS, '--evaluate', '--cfg-options'),
        f'test_dataloader.dataset.data_root={digits}/',
        'test_dataloader.dataset.ann_file=val.json',
        'test_dataloader.dataset.data_prefix.img=val/',
        'test_dataloader.num_workers=0',
        f'test_evaluator.ann_file={digits}/val.json',
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert work.joinpath('small.py').read_text().startswith('# Of ')
    assert work.joinpath('small_float.py').exists()


def test_mistakes_are_one_line(float_detector, tmp_path):
    empty, text = tmp_path / 'empty', tmp_path / 'text'
    empty.mkdir()
    text.mkdir()
    text.joinpath('a.jpg').write_text('no picture')
    bad = tmp_path / 'recipe.json'
    bad.write_text('{')
    good, other = tmp_path / 'good.json', tmp_path / 'other.json'
    good.write_text('[]')
    other.write_text('[{"modules": "none", "conv": {}}]')
    torch.save(dict(state_dict={'a': torch.ones(1)}), tmp_path / 'other.pth')
    config, checkpoint = (
        float_detector / name for name in ('config.py', 'float.pth')
    )
    pictures = float_detector / 'pictures'
    out = tmp_path / 'kept.aqd'
    out.write_bytes(b'earlier')
    for arguments, line in (
        ((config, checkpoint, '--images', empty), 'no picture in it'),
        ((config, checkpoint, '--images', tmp_path / 'n'), 'no such folder'),
        ((config, checkpoint, '--images', text), 'a.jpg'),
        ((config, tmp_path / 'other.pth', '--images', pictures), 'other.pth'),
        (
            (config, 'http://127.0.0.1:1/c.pth', '--images', pictures),
            'cannot be downloaded',
        ),
        (
            (config, checkpoint, '--images', pictures, '--recipe', bad),
            '--recipe',
        ),
        (
            (
                *(config, checkpoint, '--images', pictures),
                *('--recipe', bad, '--act-bits', 4),
            ),
            '--act-bits and --recipe',
        ),
        ((config, checkpoint), 'give a folder of pictures, --images'),
        (
            (
                *(config, checkpoint, '--images', pictures),
                *('--cfg-options', 'model.bitz=2'),
            ),
            'unexpected keyword argument',
        ),
        (
            (config, checkpoint, '--images', pictures, '--max-images', 0),
            '--max-images 0',
        ),
        (
            (config, checkpoint, '--images', pictures, '--bits', 9),
            '--bits 9: expected a width; give 2 to 8',
        ),
        (
            (config, checkpoint, '--images', pictures, '--act-bits', 1),
            '--act-bits 1: expected a width; give 2 to 8',
        ),
        (
            (
                *(config, checkpoint, '--images', pictures),
                *('--recipe', other, '--write-recipe', good),
            ),
            'matches no module with a conv',
        ),
        (
            (config, checkpoint, '--images', pictures, '--budget', '1GB'),
            '--budget 1GB: expected a number above 0 and one of kB, MB, ms',
        ),
        (
            (config, checkpoint, '--images', pictures, '--budget', ''),
            '--budget : expected a number above 0',
        ),
        (
            (config, checkpoint, '--images', pictures, '--budget', '1kB'),
            '--budget 1kB: widths of weights cannot meet it; the least',
        ),
        (
            (
                *(config, checkpoint, '--images', pictures),
                *('--write-recipe', tmp_path / 'n' / 'recipe.json'),
            ),
            'there is no folder',
        ),
        (
            (
                *(config, checkpoint, '--images', pictures),
                *('--write-recipe', bad),
            ),
            'recipe.json: it exists and is no recipe',
        ),
        (
            (
                *(config, checkpoint, '--images', pictures),
                *('--write-config', config.with_name('float.py')),
            ),
            'it would replace',
        ),
        (
            (
                *(config, checkpoint, '--images', pictures),
                *('--write-config', tmp_path / 'start.py'),
            ),
            'the config has a QuantizedDetector',
        ),
    ):
        result = run_tool(TOOL, *arguments, '--out', out)
        assert line in error_line(result)
        assert out.read_bytes() == b'earlier'
        assert (bad.read_text(), good.read_text()) == ('{', '[]')


@pytest.mark.slow
def test_times_that_cannot_be_met_are_refused(float_detector):
    result = quantize(
        float_detector, '--effort', 'calibrate', '--budget', '0.01ms'
    )
    assert '--budget 0.01ms: widths of weights cannot' in error_line(result)
    assert 'weights of 2 bits: ' in result.stdout


def test_multipliers_are_as_wide_as_the_config_says(float_detector, tmp_path):
    result = quantize(
        float_detector,
        *('--effort', 'calibrate', '--out', tmp_path / 'narrow.aqd'),
        *('--cfg-options', 'model.integer.multiplier_bits=12'),
    )
    assert result.returncode == 0, result.stderr[-2000:]
    program = Detector(tmp_path / 'narrow.aqd').compiled.program
    largest = max(
        np.abs(op.multipliers.m).max()
        for op in program.ops
        if isinstance(op, ir.Requantize)
    )
    assert 2**11 <= largest <= 2**12


@pytest.mark.parametrize('bits', [4, 8])
def test_widths_come_from_one_option(float_detector, bits):
    result = quantize(float_detector, '--bits', bits, '--budget', '1MB')
    assert result.returncode == 2
    assert '--budget: not allowed with argument --bits' in result.stderr


def test_a_quantised_config_is_refused(float_detector):
    result = run_tool(
        TOOL,
        'configs/digits/retinanet_digits_2bit.py',
        float_detector / 'float.pth',
        '--images',
        float_detector / 'pictures',
    )
    assert 'the config is of a quantised detector' in error_line(result)
