import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import nn

from aqd_mmdet.errors import UserError
from aqd_mmdet.models import PretrainedRawImage
from tests.factories import digits_config


def backbone(**changes):
    cfg = digits_config('fp').model.backbone
    cfg.update(changes)
    cfg._scope_ = 'mmdet'
    model = MODELS.build(cfg)
    model.eval()  # mmdet's ResNet returns nothing here
    return model


# mmdet's own configs write it with a dot, as RTMDet's.
@pytest.mark.parametrize('prefix', ['backbone', 'backbone.'])
def test_raw_pixels_give_what_normalised_ones_gave(tmp_path, prefix):
    trained = backbone()
    state = {f'backbone.{n}': t for n, t in trained.state_dict().items()}
    torch.save(state, tmp_path / 'zoo.pth')
    std = (50.0, 60.0, 70.0)
    raw = backbone(
        init_cfg=dict(
            type='aqd_mmdet.PretrainedRawImage',
            checkpoint=str(tmp_path / 'zoo.pth'),
            prefix=prefix,
            std=std,
        )
    )
    raw.init_weights()
    raw.eval()
    image = torch.randint(-120, 130, (1, 3, 64, 64)).float()
    normalised = image / torch.tensor(std)[:, None, None]
    for a, b in zip(raw(image), trained(normalised), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


class Stem(BaseModule):
    """A stem, its norm, and what is behind them."""

    def __init__(self, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.conv1 = nn.Conv2d(3, 8, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.rest = nn.Conv2d(8, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rest(self.bn1(self.conv1(x)).relu())


def raw_stem(first: Stem, tmp_path, std: float, **names: str) -> Stem:
    """The same with raw pixels."""
    path = tmp_path / 'c.pth'
    torch.save(first.state_dict(), path)
    init = dict(type='aqd_mmdet.PretrainedRawImage', checkpoint=str(path))
    model = Stem({**init, 'std': [std] * 3, **names})
    model.init_weights()
    return model


OPTIMIZERS = [
    lambda x: torch.optim.SGD(x, 0.05, momentum=0.9, weight_decay=0.01),
    lambda x: torch.optim.AdamW(x, 0.01, weight_decay=0.1),
]


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
def test_it_learns_as_on_normalised_pixels(tmp_path, optimizer):
    std, first = 60.0, Stem()
    second = raw_stem(first, tmp_path, std)
    images = torch.randint(-120, 130, (4, 3, 16, 16)).float()
    goal = torch.randn(4, 1, 14, 14)
    losses = []
    for model, pixels in ((first, images / std), (second, images)):
        steps = optimizer(model.parameters())
        for _ in range(6):
            loss = (model(pixels) - goal).square().mean()
            losses.append(loss.item())
            steps.zero_grad()
            loss.backward()
            steps.step()
    assert losses[6:] == pytest.approx(losses[:6], rel=1e-3)
    assert losses[5] < losses[0] * 0.99


def test_channels_that_never_change_stay_as_they_were(tmp_path):
    """Their variance is far below the eps of the norm."""
    first = Stem()
    first.bn1.running_var.fill_(1e-9)
    second = raw_stem(first, tmp_path, 60.0)
    pixels = torch.randint(-120, 130, (1, 3, 8, 8)).float()
    torch.testing.assert_close(
        second.eval()(pixels), first.eval()(pixels / 60), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize('names', [dict(stem='conv'), dict(norm='rest')])
def test_layers_that_are_not_there(tmp_path, names):
    with pytest.raises(UserError, match='give their names as `stem` and'):
        raw_stem(Stem(), tmp_path, 60.0, **names)


@pytest.mark.parametrize(
    'prefix, changes',
    [(None, {}), ('neck', {}), ('backbone', dict(base_channels=8))],
)
def test_a_checkpoint_of_another_module(tmp_path, prefix, changes):
    state = backbone(**changes).state_dict()
    path = tmp_path / 'zoo.pth'
    torch.save({f'backbone.{n}': t for n, t in state.items()}, path)
    init = dict(
        type='aqd_mmdet.PretrainedRawImage',
        checkpoint=str(path),
        prefix=prefix,
    )
    with pytest.raises(UserError, match=r'lacks .* of the names of ResNet'):
        backbone(init_cfg=init).init_weights()


def test_clip_values_are_no_part_of_it(tmp_path, build):
    """Nor are the counters, which old checkpoints lack."""
    state = {
        name: tensor
        for name, tensor in build('float').backbone.state_dict().items()
        if 'num_batches' not in name
    }
    torch.save(state, tmp_path / 'zoo.pth')
    model = build(2).backbone
    init = PretrainedRawImage(str(tmp_path / 'zoo.pth'))
    init(model)
    assert torch.equal(
        model.layer1[0].conv1.weight, state['layer1.0.conv1.weight']
    )
