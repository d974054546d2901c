from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from aqd_mmdet.errors import UserError
from aqd_mmdet.models.operations import (
    find_operations,
    replace_operations,
    run_once,
)

if TYPE_CHECKING:
    from torch import Tensor as Unknown


class Record(nn.Module):
    """An adder that counts its calls and marks what it did."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x, y):
        self.calls += 1
        return x + y + 100


class Base(nn.Module):
    def forward(self, x):
        return x * 2


class Block(Base):
    """Adds of every kind; those of integers, lists, parameters and vectors
    are not of feature maps."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.ones(1, 1, 1, 1))
        self.offset = 1

    def forward(self, x):

        def inner(y):
            y += x  # site 0
            return y

        out = inner(super().forward(x))
        parts = [out][self.offset - 1 + 0 :]
        parts += [x]
        if len(parts) == 2 + 0:
            parts[1] = parts[1] + parts[0] * 1
        return parts[1] + self.bias


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Block()
        self.second = Block()

    def forward(self, x):
        return self.second(self.first(x))


IMAGE = torch.ones(1, 1, 2, 2)


def sites():
    net = Net()
    with find_operations(net) as found:
        net(IMAGE)
    return net, found


def test_only_additions_of_feature_maps_are_found():
    net, found = sites()
    assert set(found) == {net.first, net.second}
    # y += x, and parts[1] + ...; the bias is a parameter (and of a shape
    # that is broadcast).
    assert len(found[net.first]['adds']) == 2
    # A number is no map.
    assert 'muls' not in found[net.first]
    assert type(net.first) is Block


def test_rewritten_module_calls_its_layers_and_is_still_its_class():
    net, found = sites()
    before = net(IMAGE)
    replace_operations(net.first, found[net.first], {'adds': Record})
    after = net.first(IMAGE)
    assert isinstance(net.first, Block)
    assert type(net.first).__name__ == 'Block'
    assert [m.calls for m in net.first.adds] == [1, 1]
    # 100 for the first add, which the second one adds up, and its own 100.
    assert torch.equal(after, Block()(IMAGE) + 200)
    assert torch.equal(net.second(net.second(IMAGE)), before)


def test_other_instances_of_the_class_are_untouched():
    net, found = sites()
    replace_operations(net.first, found[net.first], {'adds': Record})
    assert type(net.second) is Block
    assert not hasattr(net.second, 'adds')


def test_deepcopy_has_its_own_layers():
    net, found = sites()
    replace_operations(net.first, found[net.first], {'adds': Record})
    copy = deepcopy(net)
    copy(IMAGE)
    assert [m.calls for m in net.first.adds] == [0, 0]
    assert [m.calls for m in copy.first.adds] == [1, 1]


def test_exported_graph_holds_the_layers():
    net, found = sites()
    for block in (net.first, net.second):
        replace_operations(block, found[block], {'adds': Record})
    graph = torch.export.export(net, (IMAGE,), strict=False)
    assert str(graph.graph).count('add') >= 8


def test_taken_name_is_an_error():
    net, found = sites()
    net.first.adds = 1
    with pytest.raises(UserError, match="already has an attribute 'adds'"):
        replace_operations(net.first, found[net.first], {'adds': Record})


class Table(nn.Module):
    """Adds what it knows of places, the same for all images."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.ones(1, 3, 128, 128))

    def extract_feat(self, images):
        return images + self.places * 2 + images

    forward = extract_feat


def test_a_table_that_images_share_is_no_map():
    net = Table()
    with find_operations(net) as found:
        net.extract_feat = net.forward
        run_once(net)
    # Of two sums the one of two maps.
    assert found[net] == {'adds': {1}}


class Private(nn.Module):
    """What a method means in its class's body alone."""

    FACTOR = 3

    def __init__(self) -> None:
        super().__init__()
        self.__weight = 2

    def forward(self, x: Unknown, factor=FACTOR, *, __more=FACTOR) -> Unknown:
        return self.__doubled(x) + x * factor + __more

    def __doubled(self, x: Unknown) -> Unknown:
        return x * self.__weight + x


def test_private_names_annotations_and_defaults():
    net = Private()
    before = net(IMAGE)
    with find_operations(net) as found:
        assert torch.equal(net(IMAGE), before)
    assert found[net] == {'adds': {0, 2}}
    replace_operations(net, found[net], {'adds': Record})
    assert torch.equal(net(IMAGE), before + 200)


class Attention(nn.Module):
    def forward(self, x):
        gate = x.mean((2, 3), keepdim=True) * 1.0
        x = x * gate + x
        x *= x.flip(2)
        return 0.5 * x


def test_sums_and_products_of_one_forward():
    net = Attention()
    image = torch.rand(2, 3, 4, 5)
    before = net(image)
    with find_operations(net) as found:
        net(image)
    # Of four products those of a map with its gates, and of two maps.
    assert found[net] == {'adds': {0}, 'muls': {1, 2}}
    replace_operations(net, found[net], {'adds': Record, 'muls': Product})
    assert [type(m) for m in net.muls] == [Product, Product]
    assert not torch.equal(net(image), before)
    assert net.muls[0].calls == net.muls[1].calls == net.adds[0].calls == 1


class Product(Record):
    def forward(self, x, y):
        self.calls += 1
        return x * y


class Cell(nn.Module):
    """Its operations are in a method, and in one that nothing calls."""

    def forward(self, x):
        return self.merged(x, x.flip(2))

    def merged(self, x, y):
        gate = torch.sigmoid(x.mean((2, 3), keepdim=True))
        return gate * x + y.sigmoid() + self.sigmoid(x)

    def sigmoid(self, x):
        return x * x

    def unused(self, x):
        return x + x


def test_methods_that_forward_names_and_calls_of_sigmoid():
    net = Cell()
    image = torch.rand(2, 3, 4, 5)
    before = net(image)
    with find_operations(net) as found:
        assert torch.equal(net(image), before)
    # A method of the module's own has two operands, no tensor alone.
    assert found[net] == {'acts': {0, 1}, 'muls': {0}, 'adds': {0, 1}}
    replace_operations(net, found[net], {'acts': Gate, 'adds': Record})
    after = net(image)
    assert [m.calls for m in (*net.acts, *net.adds)] == [1, 1, 1, 1]
    gate = torch.full_like(image, 0.5)
    expected = gate * image + gate + image * image + 200
    assert torch.allclose(after, expected)
    assert not hasattr(Cell, 'acts')


class Gate(Record):
    def forward(self, x):
        self.calls += 1
        return torch.full_like(x, 0.5)
