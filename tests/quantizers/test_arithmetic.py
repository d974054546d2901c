"""The arithmetic of training is the same, however it is run."""

from collections.abc import Iterator

import pytest
import torch

from aqd_mmdet.quantizers import arithmetic, native
from aqd_mmdet.quantizers.fake_quantize import (
    fake_quantize,
    fake_quantize_normalized,
    fake_quantize_sum,
)
from aqd_mmdet.quantizers.grid import Grid, build_grid, weight_grid

SHAPES = [(3, 5), (2, 4, 6, 7)]


def rounded(shape: tuple[int, ...]) -> list[torch.Tensor]:
    """Return what the operators make, and the gradients of their inputs."""
    torch.manual_seed(3)
    x, y = (torch.randn(shape, requires_grad=True) for _ in range(2))
    clip = torch.tensor(1.3, requires_grad=True)
    made = [
        fake_quantize(x, clip, build_grid('unsigned', 2)),
        fake_quantize(y, clip, weight_grid(2)),
        fake_quantize(y, clip, weight_grid(8)),
        fake_quantize_normalized(x, clip, weight_grid(3)),
        fake_quantize_sum(x, y, clip, 2**10, build_grid('unsigned', 8)),
    ]
    sum((i + 1) * z.square().sum() for i, z in enumerate(made)).backward()
    return [*made, x.grad, y.grad, clip.grad]


@pytest.fixture(autouse=True, scope='module')
def _without_compiled_ones() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, 'library', lambda: None)
        yield


@pytest.fixture(scope='module')
def fused() -> list[list[torch.Tensor]]:
    with arithmetic.compiled():
        assert arithmetic.run.values is not arithmetic.values
        return [rounded(shape) for shape in SHAPES]


@pytest.mark.slow
@pytest.mark.parametrize('number', range(len(SHAPES)))
def test_compiled_functions_give_the_values_of_plain_ones(fused, number):
    plain = rounded(SHAPES[number])
    for a, b in zip(fused[number][:3], plain[:3], strict=True):
        assert torch.equal(a, b)
    for a, b in zip(fused[number], plain, strict=True):
        torch.testing.assert_close(a, b)


def test_plain_functions_are_back_afterwards():
    with arithmetic.compiled():
        pass
    assert arithmetic.run.values is arithmetic.values


def test_literal_sums_and_gradients():
    # Step 1, codes 0..3; each branch to its own tie, then the sum.
    x = torch.tensor([0.5, 2.6, -4.0, 1.0], requires_grad=True)
    y = torch.tensor([0.5, 2.6, 1.0, -0.6], requires_grad=True)
    clip = torch.tensor(3.0, requires_grad=True)
    grid = Grid(2, 0, 3)
    total = fake_quantize_sum(x, y, clip, 16, grid)
    assert total.tolist() == [2.0, 3.0, 0.0, 0.0]
    total.sum().backward()
    assert x.grad.tolist() == [1.0, 0.0, 0.0, 1.0]
    assert y.grad.tolist() == [1.0, 0.0, 0.0, 1.0]
    # (y - x) / clip of what is inside; 1 where the sum is above.
    inside = (0.5 + 0.5 + 0.0 + (-1.0 + 0.6)) / 3
    assert clip.grad.item() == pytest.approx(inside + 1)


def test_layouts_of_memory_do_not_matter():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 5, 6)
    clip = torch.tensor(0.9, requires_grad=True)
    grid = build_grid('signed', 4)
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        z = x.clone(memory_format=layout).requires_grad_()
        made = fake_quantize(z, clip, grid)
        total = fake_quantize_sum(z, made.detach(), clip, 2**6, grid)
        for y in (made, total):
            # Of another layout than the values.
            seed = torch.arange(240.0).view(2, 6, 4, 5).permute(0, 2, 3, 1)
            results.append((y, *torch.autograd.grad(y, (z, clip), seed)))
    for a, b in zip(results[:2], results[2:], strict=True):
        for one, other in zip(a, b, strict=True):
            torch.testing.assert_close(one, other)


def test_what_was_rounded_can_be_changed_in_place():
    x = torch.randn(4, 5, requires_grad=True)
    clip = torch.tensor(1.0, requires_grad=True)
    grid = build_grid('signed', 2)
    expected = torch.autograd.grad(
        fake_quantize(x, clip, grid).relu().sum(), x
    )
    found = torch.autograd.grad(fake_quantize(x, clip, grid).relu_().sum(), x)
    assert torch.equal(*expected, *found)
