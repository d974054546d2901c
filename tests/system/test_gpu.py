"""What a GPU computes, where there is one."""

import pytest
import torch
from torch import Tensor

from aqd_mmdet.compiler.executor import Executor
from aqd_mmdet.engine.calibration import calibrate
from aqd_mmdet.models.integer_aware import IntegerNetwork, integer_aware
from aqd_mmdet.quantizers.fake_quantize import fake_quantize
from aqd_mmdet.quantizers.grid import build_grid
from aqd_mmdet.quantizers.start import mse_clip
from tests.factories import narrow_model, normalised, pixels
from tests.random_programs import RandomProgram

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason='there is no GPU'
)


@pytest.mark.parametrize('seed', range(20))
def test_programs_have_the_codes_of_a_cpu(seed):
    program = RandomProgram(seed).program()
    image = pixels(2, 3, 48, 40)
    expected = Executor(program).run(image)
    found = Executor(program, 'cuda').run(image.cuda())
    for name, codes in expected.items():
        assert found[name].is_cuda
        assert torch.equal(found[name].cpu(), codes), name


def test_networks_are_evaluated_as_on_a_cpu():
    model = narrow_model(18, 2, 'retinanet')
    image = normalised(pixels(2, 3, 64, 96))
    expected = IntegerNetwork(model).evaluate(image)
    found = IntegerNetwork(model.cuda()).evaluate(image.cuda())
    for maps, others in zip(found, expected, strict=True):
        for a, b in zip(maps, others, strict=True):
            assert torch.equal(a.cpu(), b)


@pytest.mark.parametrize('detector', ['retinanet', 'fcos'])
def test_calibration_and_a_step_of_training(build, detector):
    model = build(2, detector).cuda()
    image = normalised(pixels(2, 3, 96, 96)).cuda()
    calibrate(model, [dict(inputs=image)], mse_clip)

    def step() -> None:
        maps = model(image, mode='tensor')
        sum(m.square().mean() for level in maps for m in level).backward()

    model.train()
    step()
    model.eval()
    with integer_aware(IntegerNetwork(model, training=True)):
        step()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.is_cuda, name
            assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize('grid', ['odd', 'unsigned', 'leaky'])
def test_rounding_and_its_gradient(grid):
    values = torch.randn(4, 7)

    def run(device: str) -> list[Tensor]:
        x = values.to(device).requires_grad_()
        clip = torch.tensor(1.3, device=device, requires_grad=True)
        y = fake_quantize(x, clip, build_grid(grid, 3))
        y.square().sum().backward()
        return [y, x.grad, clip.grad]

    for found, expected in zip(run('cuda'), run('cpu'), strict=True):
        torch.testing.assert_close(found.cpu(), expected)
