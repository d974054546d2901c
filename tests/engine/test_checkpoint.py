import pickle
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
import torch.hub
from mmengine.logging import HistoryBuffer
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from aqd_mmdet.engine.checkpoint import (
    check_checkpoint,
    downloaded,
    read_checkpoint,
    use_safe_loader,
)
from aqd_mmdet.errors import UserError
from aqd_mmdet.layers import FixedPointActivation, QuantConv2d
from aqd_mmdet.quantizers import Quantizer
from tests.factories import narrow


def save(path, **content):
    torch.save(content, path)
    return path


def test_what_mmengine_stores_is_read(tmp_path):
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    path = save(
        tmp_path / 'a.pth',
        state_dict={'w': torch.ones(2)},
        meta=dict(seed=1, epoch=2),
        message_hub=dict(
            log_scalars=dict(loss=buffer),
            runtime_info=dict(lr=np.float64(0.1), n=np.int64(3)),
        ),
    )
    content = read_checkpoint(path)
    assert content['meta'] == dict(seed=1, epoch=2)
    assert content['message_hub']['log_scalars']['loss'].mean() == 1.5
    assert content['message_hub']['runtime_info']['n'] == 3


class Evil:
    def __reduce__(self):
        return print, ('code in a checkpoint was run',)


class Reach:
    """Tries to get at a function through a class that is allowed."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__reduce__')


@pytest.mark.parametrize('thing', [Evil(), Reach()])
def test_code_is_refused_and_not_run(tmp_path, thing, capsys):
    path = save(tmp_path / 'evil.pth', state_dict=thing)
    with pytest.raises(UserError, match='more than tensors and plain data'):
        read_checkpoint(path)
    assert 'was run' not in capsys.readouterr().out


def test_a_plain_pickle_is_refused(tmp_path, capsys):
    path = tmp_path / 'evil.pth'
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match='was not loaded'):
        read_checkpoint(path)
    assert 'was run' not in capsys.readouterr().out


@pytest.mark.parametrize('share', [0.0, 0.1, 0.5, 0.99])
def test_truncated(tmp_path, share):
    path = save(tmp_path / 'a.pth', state_dict={'w': torch.ones(1000)})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=r'checkpoint .*a\.pth'):
        read_checkpoint(path)


@pytest.mark.parametrize('text', ['auto = 1', 'hello', 'jH4G', 'UCi\t'])
def test_a_text_is_no_checkpoint(tmp_path, text):
    path = tmp_path / 'config.py'
    path.write_text(text)
    with pytest.raises(UserError, match=r'config\.py: .* or no checkpoint \('):
        read_checkpoint(path)


def test_missing(tmp_path):
    with pytest.raises(UserError, match='no such file'):
        read_checkpoint(tmp_path / 'no.pth')
    with pytest.raises(UserError, match='it is a folder; give a file in it$'):
        read_checkpoint(tmp_path)


def test_mmengine_loads_by_it(tmp_path):
    path = save(tmp_path / 'evil.pth', state_dict=Evil())
    use_safe_loader()
    with pytest.raises(UserError, match='was not loaded'):
        CheckpointLoader.load_checkpoint(str(path), 'cpu')


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves a folder, and keeps what is downloaded in another one."""
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as serving:
        Thread(target=serving.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{serving.server_port}'
        serving.shutdown()


def test_files_of_one_name_are_downloaded_once_each(tmp_path, server):
    for folder in 'ab':
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / 'c.pth', name=folder)
    urls = [f'{server}/{folder}/c.pth' for folder in 'ab']
    files = [downloaded(url) for url in urls]
    assert [read_checkpoint(file)['name'] for file in files] == ['a', 'b']
    (tmp_path / 'a/c.pth').unlink()
    assert downloaded(urls[0]) == files[0]
    assert downloaded('a/c.pth') == downloaded(Path('a/c.pth')) == 'a/c.pth'


def test_what_cannot_be_downloaded(server):
    with pytest.raises(UserError, match=r'cannot be downloaded \(HTTP.* 404'):
        downloaded(f'{server}/no.pth')
    with pytest.raises(UserError, match='copy it to this machine'):
        downloaded('s3://bucket/c.pth')
    with pytest.raises(UserError, match='no URL'):
        downloaded('http://[bad/c.pth')


def test_no_unsafe_load_anywhere_in_the_package():
    from tests.factories import ROOT

    for folder in ('aqd_mmdet', 'tools'):
        for path in (ROOT / folder).rglob('*.py'):
            assert 'weights_only=False' not in path.read_text(), path


def test_a_quantised_checkpoint_fits(build, tmp_path):
    model = build(2)
    path = save(tmp_path / 'a.pth', state_dict=model.state_dict())
    check_checkpoint(path, model, for_training=False)
    check_checkpoint(path, model, for_training=True)


def test_a_float_checkpoint_is_for_training_only(build, tmp_path):
    plain = build('float', recipe=[])
    path = save(tmp_path / 'a.pth', state_dict=plain.state_dict())
    check_checkpoint(path, build(2), for_training=True)
    with pytest.raises(UserError, match='is of the float detector'):
        check_checkpoint(path, build(2), for_training=False)


def test_another_architecture(build, tmp_path):
    deeper = build(2)
    deeper.backbone.layer2.append(torch.nn.Conv2d(2, 2, 1))
    path = save(tmp_path / 'a.pth', state_dict=deeper.state_dict())
    with pytest.raises(UserError, match='has besides 2 .*backbone.layer2.2'):
        check_checkpoint(path, build(2), for_training=True)
    path = save(tmp_path / 'b.pth', state_dict=build(2).state_dict())
    with pytest.raises(UserError, match='lacks 2 .*backbone.layer2.2'):
        check_checkpoint(path, deeper, for_training=True)


def test_other_classes_are_for_training_only(build, tmp_path):
    model = build('float')
    state = model.state_dict()
    for name in ('weight', 'bias'):
        key = f'bbox_head.retina_cls.{name}'
        state[key] = state[key][:8]
    path = save(tmp_path / 'a.pth', state_dict=state)
    check_checkpoint(path, build(2), for_training=True)
    with pytest.raises(UserError, match='in another shape 2'):
        check_checkpoint(path, model, for_training=False)


def test_other_width_of_the_backbone(build, tmp_path):
    state = build('float').state_dict()
    key = 'backbone.layer1.0.conv1.weight'
    state[key] = state[key][:8]
    path = save(tmp_path / 'a.pth', state_dict=state)
    with pytest.raises(UserError, match='in another shape 1'):
        check_checkpoint(path, build(2), for_training=True)


WIDTHS = [2, 3, 4, 5, 6, 7, 8]


@pytest.fixture(scope='module')
def kept(tmp_path_factory):
    """Checkpoints of all widths, of a narrow detector."""
    folder = tmp_path_factory.mktemp('kept')
    return {
        bits: save(
            folder / f'{bits}.pth',
            state_dict=MODELS.build(
                narrow(18, bits, 'retinanet')
            ).state_dict(),
        )
        for bits in WIDTHS
    }


@pytest.mark.parametrize('bits', WIDTHS)
def test_a_checkpoint_is_of_one_width(kept, bits, capsys):
    model = MODELS.build(narrow(18, bits, 'retinanet'))
    for other, path in kept.items():
        if other == bits:
            check_checkpoint(path, model, for_training=False)
            continue
        with pytest.raises(
            UserError,
            match=rf'other widths: .*: {other} bits .* there, {bits} bits',
        ):
            check_checkpoint(path, model, for_training=False)
        check_checkpoint(path, model, for_training=True)
        # Clip values of another width are not taken over.
        model.load_state_dict(read_checkpoint(path)['state_dict'])
        quantizers = [m for m in model.modules() if isinstance(m, Quantizer)]
        assert not all(q.started for q in quantizers)


CHOICES = {
    'weight bits': dict(conv=dict(weight_bits=4)),
    'input bits': dict(conv=dict(act_bits=4)),
    'input grid': dict(conv=dict(act_grid='signed')),
    'normalised weights': dict(conv=dict(normalize=False)),
    'clip values by channel': dict(conv=dict(per_channel=True)),
    'bits of sums': dict(add=dict(bits=16)),
    'sums below zero': dict(add=dict(signed=True)),
    'float': dict(float=True),
}


@pytest.mark.parametrize('choice', CHOICES.values(), ids=CHOICES)
def test_a_checkpoint_is_of_one_recipe(kept, choice):
    cfg = narrow(18, 2, 'retinanet')
    cfg.recipe = [*cfg.recipe, dict(modules='backbone.layer2*', **choice)]
    model = MODELS.build(cfg)
    with pytest.raises(UserError):
        check_checkpoint(kept[2], model, for_training=False)


def test_starting_from_another_width_is_said(kept, logged):
    model = MODELS.build(narrow(18, 2, 'retinanet'))
    check_checkpoint(kept[8], model, for_training=True)
    (line,) = logged
    assert '8 bits (codes -127..127' in line
    assert 'calibrated anew' in line


def test_clip_values_that_do_not_say_their_width(build, tmp_path):
    state = {
        n: v
        for n, v in build(2).state_dict().items()
        if not n.endswith('.format')
    }
    path = save(tmp_path / 'a.pth', state_dict=state)
    for for_training in (False, True):
        with pytest.raises(UserError, match='does not say for which widths'):
            check_checkpoint(path, build(2), for_training)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_values_that_are_not_finite(build, tmp_path, value):
    state = build(2).state_dict()
    state['neck.fpn_convs.0.conv.weight'][0, 0, 0, 0] = value
    path = save(tmp_path / 'a.pth', state_dict=state)
    with pytest.raises(UserError, match=r'neck.fpn_convs.0.conv.weight has'):
        check_checkpoint(path, build(2), for_training=True)


def test_labels_that_it_was_trained_for(build, tmp_path):
    model = build(2)
    path = save(
        tmp_path / 'a.pth',
        state_dict=model.state_dict(),
        meta=dict(dataset_meta=dict(classes=('apple', 'pear'))),
    )
    check_checkpoint(path, model, False, labels=('apple', 'pear'))
    with pytest.raises(UserError, match="label 0 is 'apple' by checkpoint"):
        check_checkpoint(path, model, False, labels=('pear', 'apple'))


def test_names_of_a_wrapped_model(build, tmp_path):
    state = {f'module.{n}': v for n, v in build(2).state_dict().items()}
    path = save(tmp_path / 'a.pth', state_dict=state)
    check_checkpoint(path, build(2), for_training=False)


def test_a_checkpoint_of_another_library(build, tmp_path):
    path = save(tmp_path / 'c.pth', model=dict(a=torch.ones(1)), epoch=3)
    with pytest.raises(UserError, match="found dict called 'model'"):
        check_checkpoint(path, build(2), for_training=False)


def test_steps_of_channels_belong_to_calibration(tmp_path):
    def activation() -> nn.Module:
        return nn.ModuleDict(dict(act=FixedPointActivation(nn.SiLU())))

    source, model = activation(), activation()
    source['act'].start(torch.ones(1, 4, 1, 1))
    path = save(tmp_path / 'c.pth', state_dict=source.state_dict())
    for for_training in (True, False):
        check_checkpoint(path, model, for_training)


def layer_of(grid: str, bits: int = 8, per_channel: bool = False) -> nn.Module:
    layer = QuantConv2d(
        3, 4, 3, act_grid=grid, act_bits=bits, act_per_channel=per_channel
    )
    return nn.ModuleDict(dict(backbone=layer))


@pytest.mark.parametrize(
    'change',
    [
        ('asymmetric', 4, False),
        ('asymmetric', 8, True),
        ('unsigned', 8, False),
        ('signed', 4, True),
    ],
)
def test_training_may_start_from_other_grids(tmp_path, change, logged):
    source, model = layer_of('asymmetric'), layer_of(*change)
    quantizer = source['backbone'].input_quantizer
    quantizer.start(torch.tensor(3.0), torch.tensor(5.0))
    path = save(tmp_path / 'c.pth', state_dict=source.state_dict())
    check_checkpoint(path, model, for_training=True)
    load_state_dict(model, source.state_dict())
    assert not model['backbone'].input_quantizer.started
    with pytest.raises(UserError, match='widths|shape|lacks|besides'):
        check_checkpoint(path, model, for_training=False)


@pytest.mark.parametrize(
    'content, message',
    [
        (dict(state_dict=[1]), 'found list$'),
        (dict(state_dict=torch.zeros(2)), 'found Tensor$'),
        (
            dict(state_dict={1: torch.zeros(1)}),
            'found dict with other keys$',
        ),
        (dict(state_dict={}, meta=3), "that has 'dataset_meta', found 3"),
        (
            dict(state_dict={}, meta=dict(dataset_meta=[1])),
            r"that has 'classes', found \[1\]",
        ),
        (
            dict(state_dict={}, meta=dict(dataset_meta=dict(classes=5))),
            "names as 'classes', found 5",
        ),
    ],
)
def test_odd_contents(build, tmp_path, content, message):
    path = save(tmp_path / 'a.pth', **content)
    with pytest.raises(UserError, match=f'not of MMDetection.*{message}'):
        check_checkpoint(path, build('float'), True, ('apple', 'pear'))


@pytest.mark.parametrize(
    'numbers, shown',
    [
        (torch.tensor([1, 2]), r'\[1, 2\]'),
        (torch.tensor([0, 3, 0, 0]), r'\[0, 3, 0, 0\]'),
        (torch.zeros(2, 2).int(), r'\[\[0, 0\], \[0, 0\]\]'),
        (torch.tensor([0.0, 3.0, 1.0, 0.5]), r'\[0\.0, 3\.0, 1\.0, 0\.5\]'),
    ],
)
def test_a_grid_that_is_none(build, tmp_path, numbers, shown):
    state = build(2).state_dict()
    name = next(n for n in state if n.endswith('.format'))
    state[name] = numbers
    path = save(tmp_path / 'a.pth', state_dict=state)
    with pytest.raises(
        UserError, match=rf'other widths: 1 of .*: no grid \({shown}\) there'
    ):
        check_checkpoint(path, build(2), for_training=False)
