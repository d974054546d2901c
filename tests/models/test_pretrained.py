import torch
from mmengine.registry import MODELS

from tests.factories import digits_config


def backbone(**changes):
    cfg = digits_config('fp').model.backbone
    cfg.update(changes)
    cfg._scope_ = 'mmdet'
    model = MODELS.build(cfg)
    model.eval()  # mmdet's ResNet returns nothing here
    return model


def test_raw_pixels_give_what_normalised_ones_gave(tmp_path):
    trained = backbone()
    state = {f'backbone.{n}': t for n, t in trained.state_dict().items()}
    torch.save(state, tmp_path / 'zoo.pth')
    std = (50.0, 60.0, 70.0)
    raw = backbone(
        init_cfg=dict(
            type='aqd_mmdet.PretrainedRawImage',
            checkpoint=str(tmp_path / 'zoo.pth'),
            prefix='backbone',
            std=std,
        )
    )
    raw.init_weights()
    raw.eval()
    image = torch.randint(-120, 130, (1, 3, 64, 64)).float()
    normalised = image / torch.tensor(std)[:, None, None]
    for a, b in zip(raw(image), trained(normalised), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
