"""The whole workflow on a few scenes: float, 2 bits, integers."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from aqd_mmdet.engine.checkpoint import read_checkpoint
from tests.factories import CONFIGS, ROOT, data_options
from tests.tool import run_tool

EPOCHS = 25
FLOAT = CONFIGS / 'digits/retinanet_digits_fp.py'
TWO_BITS = CONFIGS / 'digits/retinanet_digits_2bit.py'


@dataclass(frozen=True)
class Run:
    """A finished training and its files."""

    config: Path
    options: list[str]
    checkpoint: Path
    log: str


def options(digits: Path, epochs: int) -> list[str]:
    # Small batches, so that 24 scenes give enough steps. Evaluation uses the
    # training scenes, because 24 are too few to generalise from.
    return [
        *data_options(digits),
        f'train_cfg.max_epochs={epochs}',
        f'train_cfg.val_interval={epochs}',
        'train_dataloader.batch_size=4',
        'randomness.seed=7',
        *(
            f'{s}_dataloader.dataset.ann_file=train.json'
            for s in ('val', 'test')
        ),
        *(
            f'{s}_dataloader.dataset.data_prefix.img=train/'
            for s in ('val', 'test')
        ),
        *(
            f'{s}_evaluator.ann_file={digits}/train.json'
            for s in ('val', 'test')
        ),
    ]


def train(config: Path, work_dir: Path, opts: list[str]) -> Run:
    result = run_tool(
        'tools/train.py',
        config,
        '--work-dir',
        work_dir,
        '--cfg-options',
        *opts,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    last = Path((work_dir / 'last_checkpoint').read_text())
    return Run(config, opts, last, result.stdout + result.stderr)


@pytest.fixture(scope='module')
def float_run(digits, tmp_path_factory) -> Run:
    return train(
        FLOAT, tmp_path_factory.mktemp('fp'), [*options(digits, EPOCHS)]
    )


@pytest.fixture(scope='module')
def quantised_run(digits, float_run, tmp_path_factory) -> Run:
    return train(
        TWO_BITS,
        tmp_path_factory.mktemp('w2a2'),
        [*options(digits, EPOCHS), f'load_from={float_run.checkpoint}'],
    )


def evaluate(run: Run, work_dir: Path, *more: object) -> dict:
    """Run tools/test.py, with more options, and return the metrics."""
    result = run_tool(
        'tools/test.py', run.config, run.checkpoint,
        *evaluation_options(run, work_dir), *more,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return metrics_in(work_dir)


def evaluation_options(run: Run, work_dir: Path) -> list[object]:
    return [
        '--work-dir', work_dir, '--out', work_dir / 'out.pkl',
        '--cfg-options', *run.options,
    ]  # fmt: skip


def metrics_in(work_dir: Path) -> dict:
    # Read the log, because all processes write mmengine's JSON file at once.
    (path,) = work_dir.glob('*/*.log')
    metrics = re.findall(r'(coco/\w+): (-?[\d.]+)', path.read_text())
    return {name: float(value) for name, value in metrics}


def run_launcher(*command: object) -> None:
    """Run a script that starts two processes."""
    result = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env={
            **os.environ,
            'OMP_NUM_THREADS': '1',
            'PORT': '29511',
            'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a detector, and the file of what it found."""

    metrics: dict
    results: Path


@pytest.fixture(scope='module')
def quantised_evaluation(quantised_run, tmp_path_factory) -> Evaluation:
    folder = tmp_path_factory.mktemp('q')
    return Evaluation(evaluate(quantised_run, folder), folder / 'out.pkl')


def test_detectors_learn_the_scenes(float_run, quantised_evaluation, tmp_path):
    # An untrained detector reaches an AP of 0.00. Both detectors have seen the
    # scenes in training.
    assert evaluate(float_run, tmp_path)['coco/bbox_mAP'] > 0.2
    assert quantised_evaluation.metrics['coco/bbox_mAP'] > 0.1


def test_calibration_and_quantisers_are_in_the_log(float_run, quantised_run):
    assert 'calibrating' in quantised_run.log
    lines = [x for x in quantised_run.log.splitlines() if 'quantisers:' in x]
    assert len(lines) == EPOCHS
    assert 'inputs clipped: median' in lines[-1]
    assert 'calibrating' not in float_run.log


@pytest.mark.slow
def test_two_processes_evaluate_as_one(
    quantised_run, quantised_evaluation, tmp_path
):
    one = quantised_evaluation.metrics
    run_launcher(
        'tools/dist_test.sh', quantised_run.config, quantised_run.checkpoint,
        2, *evaluation_options(quantised_run, tmp_path),
    )  # fmt: skip
    two = metrics_in(tmp_path)
    assert one['coco/bbox_mAP'] == two['coco/bbox_mAP'] > 0
    one_results, two_results = (
        pickle.loads(path.read_bytes())
        for path in (quantised_evaluation.results, tmp_path / 'out.pkl')
    )
    for a, b in zip(one_results, two_results, strict=True):
        assert a['img_id'] == b['img_id']
        for key in ('bboxes', 'labels', 'scores'):
            assert torch.equal(
                a['pred_instances'][key], b['pred_instances'][key]
            )


@pytest.mark.slow
def test_two_processes_train(digits, tmp_path):
    run_launcher(
        'tools/dist_train.sh', TWO_BITS, 2, '--work-dir', tmp_path,
        '--cfg-options', *options(digits, 1), 'load_from=None',
    )  # fmt: skip
    state = read_checkpoint(tmp_path / 'epoch_1.pth')['state_dict']
    norms = [n for n in state if 'cls_convs.0.bn.norms' in n]
    counts = [int(state[n]) for n in norms if n.endswith('tracked')]
    # One norm for each of the four levels, and all see the same batches.
    assert len(counts) == 4
    assert len(set(counts)) == 1


@pytest.mark.slow
def test_killed_and_resumed_ends_with_the_same_weights(digits, tmp_path):
    opts = [*options(digits, 3), 'load_from=None', 'train_cfg.val_interval=9']
    whole = train(TWO_BITS, tmp_path / 'whole', opts)
    part = tmp_path / 'part'
    process = subprocess.Popen(
        [
            sys.executable,
            'tools/train.py',
            str(TWO_BITS),
            '--work-dir',
            str(part),
            '--cfg-options',
            *opts,
        ],
        cwd=ROOT,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 200
    while not (part / 'last_checkpoint').is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (part / 'epoch_3.pth').is_file()
    # A resumed run takes the seed from the checkpoint.
    opts.remove('randomness.seed=7')
    resumed = run_tool(
        'tools/train.py',
        TWO_BITS,
        '--work-dir',
        part,
        '--resume',
        '--cfg-options',
        *opts,
    )
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert 'resumed epoch: 1' in resumed.stdout + resumed.stderr
    expected = read_checkpoint(whole.checkpoint)
    checkpoint = read_checkpoint(part / 'epoch_3.pth')
    for name, tensor in expected['state_dict'].items():
        assert torch.equal(tensor, checkpoint['state_dict'][name]), name


@pytest.fixture(scope='module')
def compiled_run(quantised_run, tmp_path_factory, digits) -> Run:
    folder = tmp_path_factory.mktemp('aqd')
    images = sorted((digits / 'train').iterdir())[:3]
    result = run_tool(
        'tools/convert.py',
        TWO_BITS,
        quantised_run.checkpoint,
        '--out',
        folder / 'model.aqd',
        '--work-dir',
        folder,
        '--print',
        '--verify',
        *images,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return Run(
        TWO_BITS, quantised_run.options, folder / 'model.aqd', result.stdout
    )


def test_a_trained_detector_is_compiled(compiled_run):
    path = compiled_run.checkpoint
    report = json.loads(path.with_suffix('.json').read_text())
    assert report['sizes']['packed'] == path.stat().st_size
    assert report['codes'] > 1e6
    assert report['equal_per_layer'] >= 0.9999
    assert report['worst_per_layer'] <= 1
    layers = {layer['name']: layer for layer in report['layers']}
    assert layers['backbone.layer1.0.conv1']['weight_codes'] == 4
    assert layers['backbone.layer1.0.conv1']['input_codes'] == 4
    assert layers['backbone.conv1']['weight_bits'] == 8
    assert layers['bbox_head.retina_cls#4']['weight_bits'] == 8
    assert 'requantize(backbone.conv1)' in compiled_run.log


def test_evaluation_of_the_program_agrees_with_validation(
    quantised_evaluation, compiled_run, tmp_path
):
    # Validation runs the program's network with mmdet's decoding and
    # suppression in float. The file has these in integers, too.
    validated = quantised_evaluation.metrics['coco/bbox_mAP']
    shipped = evaluate(compiled_run, tmp_path / 'i', '--show-dir', 'drawn')[
        'coco/bbox_mAP'
    ]
    assert len(list(tmp_path.glob('i/*/drawn/*.png'))) == 24
    # On 24 scenes, one pair of boxes at the threshold changes AP by this much.
    assert shipped == pytest.approx(validated, abs=0.005)


@pytest.mark.slow
def test_training_ends_on_integers(digits, float_run, tmp_path):
    run = train(
        TWO_BITS,
        tmp_path,
        [
            *options(digits, 2),
            f'load_from={float_run.checkpoint}',
            'default_hooks.integer_aware.from_epoch=2',
        ],
    )
    assert run.log.count('trained on integers') == 1
    assert run.log.count('evaluated on integers') == 1


@pytest.mark.slow
def test_fcos_is_trained_compiled_and_evaluated(digits, tmp_path):
    config = CONFIGS / 'digits/fcos_digits_2bit.py'
    run = train(
        config,
        tmp_path / 'fcos',
        # After two epochs, scores are low.
        [
            *options(digits, 2),
            'load_from=None',
            'model.test_cfg.score_thr=0.001',
        ],
    )
    result = run_tool(
        'tools/convert.py',
        config,
        run.checkpoint,
        '--out',
        tmp_path / 'model.aqd',
        '--work-dir',
        tmp_path,
        '--verify',
        *sorted((digits / 'train').iterdir())[:2],
        '--evaluate',
        '--cfg-options',
        *run.options,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads((tmp_path / 'model.json').read_text())
    assert report['equal_per_layer'] >= 0.9999
    assert report['worst_per_layer'] <= 1
    assert report['metrics']['coco/bbox_mAP'] >= 0
