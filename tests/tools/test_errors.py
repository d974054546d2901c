"""After a user's mistake: one line, exit code 2, and no file is lost."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.factories import CONFIGS, data_options, digits_detector
from tests.tool import error_line, run_tool

CONFIG = CONFIGS / 'digits/retinanet_digits_2bit.py'


def train(digits: Path, work_dir: Path, *options: str):
    return run_tool(
        'tools/train.py',
        CONFIG,
        '--work-dir',
        work_dir,
        '--cfg-options',
        *data_options(digits),
        'load_from=None',
        *options,
    )


@pytest.fixture
def broken(digits: Path, tmp_path: Path) -> Path:
    """A copy of the dataset, which a test may damage."""
    return Path(shutil.copytree(digits, tmp_path / 'broken'))


@pytest.mark.parametrize(
    'option, message',
    [
        ('model.bits=9', 'bits=9 is not a bit width'),
        (
            'model.bbox_head.num_classes=3',
            'num_classes=3, but the dataset has 10',
        ),
        ('model.recipe.0.modules=nothing', 'rule 0 of the recipe (nothing)'),
        ('model.bitz=2', 'unexpected keyword argument'),
        ('optim_wrapper.optimizer.lrr=0.1', 'unexpected keyword argument'),
        ('param_scheduler.0.ends=60', 'unexpected keyword argument'),
        ('param_scheduler.0.type=Linear', 'Linear is not in the'),
        ('val_cfg=None', 'should be either all None or not None'),
        ('train_cfg.max_epochs=0', 'max_epochs=0: there is nothing to train'),
        ('train_dataloader=None', 'it has no train_dataloader; set it'),
    ],
)
def test_bad_options(digits, tmp_path, option, message):
    assert message in error_line(train(digits, tmp_path, option))


def test_truncated_image_is_named(broken, tmp_path):
    image = broken / 'train/00003.png'
    image.write_bytes(image.read_bytes()[:500])
    line = error_line(
        train(broken, tmp_path / 'w', 'train_dataloader.num_workers=1')
    )
    assert f'{image}: the image is damaged' in line


def test_box_outside_its_image(broken, tmp_path):
    path = broken / 'train.json'
    content = json.loads(path.read_text())
    content['annotations'][5]['bbox'] = [500, 10, 20, 20]
    path.write_text(json.dumps(content))
    line = error_line(train(broken, tmp_path / 'w'))
    assert 'annotation 6 has its box [500, 10, 20, 20] outside' in line


class RunsCode:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return print, ('code was run',)


def test_checkpoint_with_code(digits, tmp_path):
    torch.save(dict(state_dict=RunsCode()), tmp_path / 'evil.pth')
    result = run_tool(
        'tools/test.py',
        CONFIG,
        tmp_path / 'evil.pth',
        '--work-dir',
        tmp_path / 'w',
        '--cfg-options',
        *data_options(digits),
    )
    assert 'more than tensors and plain data' in error_line(result)
    assert 'code was run' not in result.stdout


def evaluate(digits: Path, work_dir: Path, path: object, *options: str):
    return run_tool(
        'tools/test.py',
        CONFIG,
        path,
        '--work-dir',
        work_dir,
        '--cfg-options',
        *data_options(digits),
        *options,
    )


def test_the_config_that_a_training_kept_stays(digits, tmp_path):
    """Tools are given it later; options of a test are no part of it."""
    digits_detector(tmp_path / 'c.pth')
    kept = tmp_path / CONFIG.name
    kept.write_text('mine')
    option = 'model.test_cfg.score_thr=0.3'
    result = evaluate(digits, tmp_path, tmp_path / 'c.pth', option)
    assert result.returncode == 0, result.stderr
    assert kept.read_text() == 'mine'
    of_test = kept.with_stem(f'{CONFIG.stem}_test')
    assert 'score_thr=0.3' in of_test.read_text()


def test_nothing_to_test_with():
    parts = ('dataloader', 'cfg', 'evaluator')
    none = [f'test_{part}=None' for part in parts]
    result = run_tool('tools/test.py', CONFIG, 'c.pth', '--cfg-options', *none)
    assert 'it has no test_dataloader; set it' in error_line(result)


def test_checkpoint_that_cannot_be_downloaded(digits, tmp_path):
    """A URL is checked as a file is: mmengine takes over what fits."""
    nowhere = 'http://127.0.0.1:1/c.pth'
    line = error_line(train(digits, tmp_path, f'load_from={nowhere}'))
    assert f'checkpoint {nowhere}: it cannot be downloaded' in line
    result = evaluate(digits, tmp_path, nowhere)
    assert f'checkpoint {nowhere}: it cannot' in error_line(result)


def test_work_dir_that_is_a_file(digits, tmp_path):
    (tmp_path / 'file').write_text('mine')
    assert 'choose another --work-dir' in error_line(
        train(digits, tmp_path / 'file')
    )
    assert (tmp_path / 'file').read_text() == 'mine'


def convert(checkpoint: Path | str, out: Path, *arguments: object):
    return run_tool(
        'tools/convert.py', CONFIG, checkpoint, '--out', out, *arguments
    )


def test_convert_refuses_bad_arguments(tmp_path, build):
    earlier = tmp_path / 'model.aqd'
    earlier.write_text('mine')
    state = build('float').state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'float.pth')
    line = error_line(convert(tmp_path / 'float.pth', earlier))
    assert 'is of the float detector' in line
    assert earlier.read_text() == 'mine'
    torch.save(dict(state_dict=build(2).state_dict()), tmp_path / 'q.pth')
    line = error_line(convert('http://127.0.0.1:1/c.pth', earlier))
    assert 'cannot be downloaded' in line
    line = error_line(convert(tmp_path / 'q.pth', tmp_path / 'no/model.aqd'))
    assert 'no folder' in line
    line = error_line(
        convert(tmp_path / 'q.pth', earlier, '--cfg-options', 'model.bitz=2')
    )
    assert 'unexpected keyword argument' in line
    line = error_line(
        convert(tmp_path / 'q.pth', earlier, '--verify', tmp_path / 'a.png')
    )
    assert 'a.png: no such file' in line
    assert earlier.read_text() == 'mine'


def test_evaluation_of_a_damaged_model(digits, tmp_path):
    (tmp_path / 'm.aqd').write_bytes(b'PK and more')
    line = error_line(
        run_tool(
            'tools/test.py',
            CONFIG,
            tmp_path / 'm.aqd',
            '--work-dir',
            tmp_path / 'w',
            '--cfg-options',
            *data_options(digits),
        )
    )
    assert (
        f'model {tmp_path}/m.aqd: its first bytes: expected those of' in line
    )


def test_missing_config():
    assert 'no such file' in error_line(run_tool('tools/train.py', 'no.py'))


def test_make_digits_does_not_overwrite(tmp_path):
    (tmp_path / 'thesis.txt').write_text('mine')
    line = error_line(run_tool('tools/make_digits.py', '--out', tmp_path))
    assert 'holds something else' in line
    assert (tmp_path / 'thesis.txt').read_text() == 'mine'


@pytest.mark.parametrize('tool', ['run', 'test', 'train'])
def test_jobs_of_slurm_need_their_arguments(tool):
    import subprocess

    from tests.factories import ROOT

    def start(*arguments: str) -> str:
        result = subprocess.run(
            [f'tools/slurm_{tool}.sh', *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={'PATH': '/usr/bin:/bin'},
        )
        return error_line(result)

    assert f'usage: tools/slurm_{tool}.sh PARTITION JOB ' in start()
    assert f'usage: tools/slurm_{tool}.sh PARTITION JOB ' in start('a', 'b')
    if not shutil.which('srun', path='/usr/bin:/bin'):
        assert 'srun: not found' in start('a', 'b', 'c', 'd')


def test_number_of_devices_is_checked():
    import subprocess

    from tests.factories import ROOT

    result = subprocess.run(
        ['tools/dist_train.sh', str(CONFIG)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert 'number of devices' in error_line(result)
