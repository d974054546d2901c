"""Steps through a graph, from its output towards the image.

A step takes what made a tensor, and returns the tensor that this has read.
Backwards every tensor has one origin, so that a step is never ambiguous.
Weights are kept by the names that MMDetection's modules give them.
"""

from collections.abc import Sequence

import numpy as np

from .graph import ABSENT, Graph, Node

# Of the image: rows and columns that each quarter of a focus begins with.
QUARTERS = ((0, 0), (1, 0), (0, 1), (1, 1))


class Walk:
    """A walk through a graph.

    Args:
        graph: The graph.

    Attributes:
        weights: Float32 arrays by the names of a state dict.
        depthwise: Whether the convolutions of :meth:`block` are depthwise
            separable; None before the first of them.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.weights: dict[str, np.ndarray] = {}
        self.depthwise: bool | None = None

    def need_same(self, x: str, y: str, purpose: str) -> str:
        """Return the tensor that two parts of a graph read."""
        x, y = map(self.graph.source, (x, y))
        self.graph.need(x == y, purpose, f'the tensor {x!r} as input', repr(y))
        return x

    def convolution(
        self, y: str, name: str, kernel: int, stride: int = 1, groups: int = 1
    ) -> str:
        """Go through a convolution with a bias.

        Args:
            y: What it has made.
            name: Of its module.
            kernel: Height and width of its window.
            stride: In pixels.
            groups: Of channels; 0 for as many as there are channels.

        Returns:
            str: What it has read.
        """
        weights = self._weight(y, name)
        node = self.graph.find(y, 'Conv', name)
        where = f'{node.label} ({name})'
        # ONNX takes that of the weights where a node does not say it.
        said = node.attributes.get('kernel_shape', weights.shape[2:])
        for window in (weights.shape[2:], said):
            self.graph.need(
                tuple(window) == (kernel, kernel),
                where,
                f'a window of {kernel} x {kernel}',
                ' x '.join(map(str, window)),
            )
        self.graph.take(
            y,
            'Conv',
            name,
            group=groups or weights.shape[0],
            kernel_shape=node.attributes.get('kernel_shape'),
            pads=[kernel // 2] * 4,
            strides=[stride] * 2,
        )
        bias = node.inputs[2] if len(node.inputs) > 2 else ABSENT
        self.graph.need(
            bias != ABSENT,
            where,
            'a bias, into which a batch norm was folded',
            'none',
        )
        self._keep(f'{name}.weight', weights)
        self._keep(f'{name}.bias', self.graph.constant(bias, name))
        return self.graph.source(node.inputs[0])

    def _weight(self, y: str, name: str) -> np.ndarray:
        """Return the weights of the convolution that made a tensor."""
        node = self.graph.find(y, 'Conv', name)
        return self.graph.constant(node.inputs[1], name)

    def _keep(self, name: str, array: np.ndarray) -> None:
        self.graph.need(
            array.dtype == np.float32, name, 'float32', array.dtype
        )
        others = array[~np.isfinite(array)].tolist()
        self.graph.need(not others, name, 'finite numbers', others[:1])
        self.weights[name] = array

    def silu(self, y: str, name: str) -> str:
        """Go through an activation, ``x * sigmoid(x)``."""
        product = self.graph.take(y, 'Mul', f'SiLU of {name}')
        kinds = [self.graph.kind(x) for x in product.inputs]
        gate = kinds.index('Sigmoid') if 'Sigmoid' in kinds else 0
        sigmoid = self.graph.take(
            product.inputs[gate], 'Sigmoid', f'SiLU of {name}'
        )
        return self.need_same(
            product.inputs[1 - gate], sigmoid.inputs[0], f'SiLU of {name}'
        )

    def conv(
        self, y: str, name: str, kernel: int, stride: int = 1, groups: int = 1
    ) -> str:
        """Go through a ConvModule: a convolution and its activation."""
        x = self.silu(y, name)
        return self.convolution(x, f'{name}.conv', kernel, stride, groups)

    def block(self, y: str, name: str, stride: int = 1) -> str:
        """Go through a 3 x 3 ConvModule, depthwise separable or not."""
        if self.depthwise is None:
            last = self._weight(self._before_silu(y, name), name)
            self.depthwise = last.shape[2:] == (1, 1)
        if not self.depthwise:
            return self.conv(y, name, 3, stride)
        x = self.conv(y, f'{name}.pointwise_conv', 1)
        return self.conv(x, f'{name}.depthwise_conv', 3, stride, groups=0)

    def _before_silu(self, y: str, name: str) -> str:
        """Return what an activation has read, without taking it."""
        purpose = f'SiLU of {name}'
        node = self.graph.find(y, 'Mul', purpose)
        convs = [x for x in node.inputs if self.graph.kind(x) == 'Conv']
        self.graph.need(len(convs) == 1, purpose, 'Conv before it', 'another')
        return convs[0]

    def csp(self, y: str, name: str, adds: bool) -> tuple[str, int]:
        """Go through a CSPLayer.

        Args:
            y: What it has made.
            name: Of its module.
            adds: Whether its blocks add what they have read.

        Returns:
            tuple: What it has read, and the number of its blocks.
        """
        y = self.conv(y, f'{name}.final_conv', 1)
        main, short = self.concatenation(y, name, 2)
        x = self.conv(short, f'{name}.short_conv', 1)
        # Counted from the last one, until the first is known.
        count = 0
        while self._input_of_conv(main, name) != x:
            count += 1
            main = self._bottleneck(main, f'{name}.blocks.-{count}', adds)
        for number in range(count):
            old = f'{name}.blocks.-{count - number}.'
            for key in [key for key in self.weights if key.startswith(old)]:
                new = f'{name}.blocks.{number}.{key.removeprefix(old)}'
                self.weights[new] = self.weights.pop(key)
        start = self.conv(main, f'{name}.main_conv', 1)
        return self.need_same(x, start, name), count

    def _input_of_conv(self, y: str, name: str) -> str:
        """Return what a ConvModule has read; nothing if there is none."""
        if self.graph.kind(y) != 'Mul':
            return ABSENT
        node = self.graph.find(self._before_silu(y, name), 'Conv', name)
        return self.graph.source(node.inputs[0])

    def _bottleneck(self, y: str, name: str, adds: bool) -> str:
        if not adds:
            return self.conv(
                self.block(y, f'{name}.conv2'), f'{name}.conv1', 1
            )
        inner, identity = self.graph.take(y, 'Add', name).inputs
        if not self._leads(inner, identity, name) and self._leads(
            identity, inner, name
        ):
            inner, identity = identity, inner
        x = self.conv(self.block(inner, f'{name}.conv2'), f'{name}.conv1', 1)
        return self.need_same(x, identity, name)

    def _leads(self, y: str, x: str, name: str) -> bool:
        """Say whether the convolutions of a block have made ``y`` of ``x``."""
        for _ in range(3 if self.depthwise else 2):
            if y != ABSENT:
                y = self._input_of_conv(y, name)
        return y == self.graph.source(x)

    def concatenation(
        self, y: str, name: str, count: int, axis: int = 1
    ) -> Sequence[str]:
        """Go through a concatenation of channels, or along another axis."""
        node = self.graph.take(y, 'Concat', name, axis=axis)
        self.graph.need(
            len(node.inputs) == count,
            f'{node.label} ({name})',
            f'{count} inputs',
            len(node.inputs),
        )
        return node.inputs

    def upsampling(self, y: str, name: str) -> str:
        """Go through an upsampling by 2 that repeats pixels."""
        node = self.graph.take(
            y,
            'Resize',
            name,
            coordinate_transformation_mode='asymmetric',
            mode='nearest',
            nearest_mode='floor',
        )
        where = f'{node.label} ({name})'
        self.graph.need(
            len(node.inputs) == 3, where, 'scales', 'sizes or nothing'
        )
        x, region, scales = node.inputs
        if region != ABSENT:
            self.graph.constant(region, where)  # of a mode that is not used
        factors = self.graph.constant(scales, where).tolist()
        self.graph.need(
            factors == [1, 1, 2, 2], where, 'scales [1, 1, 2, 2]', factors
        )
        return x

    def pooling(self, y: str, name: str, kernel: int) -> str:
        """Go through a maximum of a window around each pixel."""
        return self.graph.take(
            y,
            'MaxPool',
            name,
            kernel_shape=[kernel] * 2,
            pads=[kernel // 2] * 4,
        ).inputs[0]

    def focus(self, y: str, name: str) -> str:
        """Go through a focus: every second pixel, in four ways."""
        origin = ABSENT
        parts = self.concatenation(y, name, len(QUARTERS))
        for part, expected in zip(parts, QUARTERS, strict=True):
            x, (row, column) = self._quarter(part, name)
            self.graph.need(
                (row, column) == expected,
                f'{name}, {part!r}',
                f'pixels from row and column {expected}',
                (row, column),
            )
            origin = self.need_same(origin or x, x, name)
        return origin

    def _quarter(self, y: str, name: str) -> tuple[str, tuple[int, int]]:
        """Go through slices, and return which pixels are taken."""
        first: dict[int, int] = {}
        while self.graph.kind(y) == 'Slice':
            node = self.graph.take(y, 'Slice', name)
            where = f'{node.label} ({name})'
            self.graph.need(
                len(node.inputs) == 5,
                where,
                'starts, ends, axes and steps',
                f'{len(node.inputs)} inputs',
            )
            y, *rest = node.inputs
            columns = [self.graph.constant(x, where).tolist() for x in rest]
            for start, end, axis, step in zip(*columns, strict=True):
                ok = axis in (2, 3) and axis not in first and step == 2
                ok = ok and end >= self.graph.sides[axis - 2]
                self.graph.need(
                    ok,
                    where,
                    'every second row or column up to the last',
                    f'axis {axis} from {start} to {end} by {step}',
                )
                first[axis] = start
        self.graph.need(
            sorted(first) == [2, 3], name, 'slices of rows and columns', first
        )
        return y, (first[2], first[3])

    def sigmoid(self, y: str, name: str) -> str:
        """Go through a sigmoid."""
        return self.graph.take(y, 'Sigmoid', name).inputs[0]

    def transposition(self, y: str, name: str, *order: int) -> str:
        """Go through an exchange of axes."""
        return self.graph.take(y, 'Transpose', name, perm=list(order)).inputs[
            0
        ]

    def flattening(self, y: str, name: str) -> Node:
        """Go through a Reshape, whose shape :meth:`check_row` reads."""
        return self.graph.take(y, 'Reshape', name)

    def check_row(self, node: Node, channels: int, pixels: int) -> None:
        """Check that a Reshape puts the pixels of a map in a row.

        Args:
            node: Of :meth:`flattening`.
            channels: Of the map.
            pixels: Their number.
        """
        shape = self.graph.constant(node.inputs[1], node.label).tolist()
        # 0 stands for a side that stays, and -1 for what is left.
        sides = [(1, 0, -1), (channels, 0, -1), (pixels, -1)]
        self.graph.need(
            len(shape) == len(sides)
            and all(x in y for x, y in zip(shape, sides, strict=True)),
            node.label,
            f'the shape [1, {channels}, {pixels}]',
            shape,
        )
