from copy import deepcopy

import torch

from aqd_mmdet.quantizers import ImageQuantizer, Quantizer, build_grid


def quantizer(clip: float = 3.0) -> Quantizer:
    result = Quantizer(build_grid('unsigned', 2))
    result.start(torch.tensor(clip))
    return result


def test_values_are_codes_times_step():
    q = quantizer(1.7)
    x = torch.randn(100)
    assert torch.equal(q(x), q.codes(x) * q.step)
    assert q.codes(x).dtype == torch.int32


def test_state_dict_carries_clip_and_start():
    other = Quantizer(build_grid('unsigned', 2))
    assert not other.started
    other.load_state_dict(quantizer(1.7).state_dict())
    assert other.started
    assert other.clip.item() == torch.tensor(1.7).item()


def test_deepcopy_is_independent():
    q = quantizer()
    copy = deepcopy(q)
    copy.start(torch.tensor(9.0))
    assert q.clip.item() == 3.0


def test_observer_sees_values_and_passes_them():
    q, seen = quantizer(), []
    q.observer = seen.append
    x = torch.randn(5)
    assert q(x) is x
    assert seen == [x]


def test_clipped_share():
    x = torch.tensor([0.0, 1.0, 4.0, 5.0])
    assert quantizer(3.0).clipped_share(x).item() == 0.5


def test_compiled_equals_eager():
    q = quantizer(1.7)
    x = torch.randn(64, requires_grad=True)
    eager = q(x)
    compiled = torch.compile(q, backend='aot_eager')(x)
    assert torch.equal(eager, compiled)
    grads = [
        torch.autograd.grad(y.square().sum(), (x, q.clip))
        for y in (eager, compiled)
    ]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_autocast_keeps_codes():
    q = quantizer(1.7)
    x = torch.randn(1000)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(q(x), q.codes(x) * q.step)


def test_image_pixels_are_codes():
    q = ImageQuantizer()
    x = torch.tensor([-123.0, 0.4, 0.5, 131.0, 999.0])
    assert q(x).tolist() == [-123.0, 0.0, 1.0, 131.0, 255.0]
