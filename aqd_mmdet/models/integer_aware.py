"""Integer-aware mode: a detector whose network runs as its program would.

In evaluation the program itself runs, so that what is validated is what
ships. In training its codes stand at every quantiser of the simulation, and
gradients pass straight through, as they do through rounding anyway.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..compiler.compile import fixed_point_of
from ..compiler.executor import Executor
from ..compiler.fold import BOX_CODES, Folded, fold
from ..compiler.graph import LayerCall
from ..compiler.images import image_mean
from ..compiler.regions import (
    FIRST_REGION_MAPS,
    capture_regions,
    read_regions,
    region_networks,
)
from ..compiler.simulation import Simulation
from ..compiler.trace import (
    dense_head,
    region_extractors,
    region_heads,
    trace,
)
from ..errors import UserError
from ..patches import patched
from ..program import ops as ir
from ..program.bounds import prove
from ..program.detector import BOX_BITS
from ..quantizers.fake_quantize import round_half_up
from ..quantizers.quantizer import Rounding
from ..runtime.regions import align


class IntegerNetwork:
    """The network of a detector, run on integers.

    Args:
        detector: A quantised detector; it is captured once, its weights are
            read at each :meth:`fold`.
        training: Whether its maps are for losses, with gradients, or for
            boxes.

    Raises:
        UserError: If something in it cannot be an integer.
    """

    def __init__(self, detector: nn.Module, training: bool = False) -> None:
        self.training = training
        self.trace = trace(detector, training)
        self.detector = detector
        # What ships is computed from the weights by a CPU: a GPU's mean and
        # deviation of weights differ in their last bits, and so would codes.
        self.shipped, self.shipped_trace = detector, self.trace
        if not _is_on_cpu(detector):
            self.shipped = deepcopy(detector).cpu()
            self.shipped_trace = trace(self.shipped, training)
        nodes, twins = (
            list(t.module.graph.nodes)
            for t in (self.trace, self.shipped_trace)
        )
        assert [n.name for n in nodes] == [n.name for n in twins]
        self.twins = dict(zip(nodes, twins, strict=True))
        pre: Any = detector.data_preprocessor
        self.stride = int(pre.pad_size_divisor)
        self.mean = image_mean(pre)
        self.folded = self.fold()
        self.regions = (
            IntegerRegions(detector, self.shipped)
            if region_heads(detector)
            else None
        )
        if training and self.regions is not None:
            raise UserError(
                'from_epoch of IntegerAwareHook: a two-stage detector is '
                'trained in the float simulation alone; leave it out'
            )

    def fold(self) -> Folded:
        """Make the program of the weights as they are now."""
        if self.shipped is not self.detector:
            self.shipped.load_state_dict(self.detector.state_dict())
        fixed_point = fixed_point_of(self.shipped)
        folded = fold(self.shipped_trace, self.mean, self.stride, fixed_point)
        prove(folded.program)
        self.folded = folded
        self.executor = Executor(
            folded.program, next(self.detector.parameters()).device
        )
        return folded

    def pixels(self, image: Tensor) -> Tensor:
        """Return the bytes that a normalised image (N, C, H, W) stands for."""
        mean = image.new_tensor(self.mean)[:, None, None]
        return round_half_up(image + mean).clamp(0, 255).to(torch.uint8)

    def evaluate(self, image: Tensor) -> tuple[list[Tensor], ...]:
        """Return the program's outputs as real numbers, float32."""
        return self.real_maps(self.executor.run(self.pixels(image)))

    def train(self, image: Tensor) -> tuple[list[Tensor], ...]:
        """Return the same, with gradients to the detector's parameters."""
        program = self.fold().program
        read_codes = {n for names in self.folded.codes.values() for n in names}
        codes: dict[str, Tensor] = {}

        def keep(op: ir.Op, values: Tensor) -> None:
            if op.output in read_codes:
                codes[op.output] = values

        exact = self.real_maps(self.executor.run(self.pixels(image), keep))

        def replace(
            call: LayerCall, operand: int, x: Tensor, rounding: Rounding
        ) -> Tensor:
            name = self.folded.codes[self.twins[call.node]][operand]
            rounded, values = rounding(x), rounding.values(codes[name])
            return rounded + (values.to(rounded.dtype) - rounded).detach()

        simulated = Simulation(self.trace, replace).run(image)
        assert len(program.outputs) == len(simulated)
        return tuple(
            [s + (e - s).detach() for s, e in zip(maps, integers, strict=True)]
            for maps, integers in zip(simulated, exact, strict=True)
        )

    def real_maps(
        self, outputs: dict[str, Tensor]
    ) -> tuple[list[Tensor], ...]:
        """Return what the head is given for a program's outputs, float32."""
        maps = [
            # In double precision first: a logit has up to 31 bits.
            [outputs[n].double() * out.scale for n in out.tensors]
            for out in self.folded.program.outputs
        ]
        if self.folded.boxes_are_exponents:
            maps[BOX_CODES] = [x.exp() for x in maps[BOX_CODES]]
        return tuple([x.float() for x in levels] for levels in maps)


def _is_on_cpu(detector: nn.Module) -> bool:
    return next(detector.parameters()).device.type == 'cpu'


class IntegerRegions:
    """The second stage of a detector, run on integers.

    Args:
        detector: A quantised two-stage detector.
        shipped: The same on a CPU; its heads are captured once, their
            weights are read at each :meth:`fold`.

    Raises:
        UserError: If something in it cannot be an integer.
    """

    def __init__(self, detector: nn.Module, shipped: nn.Module) -> None:
        self.shipped = shipped
        self.extractors = region_extractors(detector)
        self.heads = region_heads(detector)
        self.traces = capture_regions(shipped)
        self.fold()

    def fold(self) -> None:
        """Make the programs of the weights as they are now."""
        fixed_point = fixed_point_of(self.shipped)
        networks = region_networks(self.shipped, self.traces, fixed_point)
        self.regions = read_regions(self.shipped, networks, fixed_point)
        self.executors = [Executor(n.folded.program) for n in networks]

    def align(
        self, number: int, maps: Sequence[Tensor], rois: Tensor
    ) -> Tensor:
        """Return averages of regions, int32 (N, C, bins, bins).

        Args:
            number: Of the stage.
            maps: Its rounded maps, float (N, C, H, W).
            rois: Index of the image and corners in pixels, float (N, 5).
        """
        assert self.regions is not None
        stage = self.regions.stages[number]
        step = self.extractors[number].input_quantizer.step
        codes = [round_half_up(x / step).int().cpu().numpy() for x in maps]
        boxes = round_half_up(rois[:, 1:].double() * 2**BOX_BITS)
        corners = boxes.long().cpu().numpy()
        images = rois[:, 0].long().cpu().numpy()
        averages = np.zeros(
            (len(rois), codes[0].shape[1], stage.bins, stage.bins), np.int32
        )
        for image in np.unique(images):
            of_image = [x[image] for x in codes]
            in_image = images == image
            averages[in_image] = align(stage, of_image, corners[in_image])
        return torch.from_numpy(averages)

    def maps(self, number: int, regions: Tensor) -> tuple[Tensor, ...]:
        """Return logits and box codes as real numbers, float32 (N, C)."""
        executor = self.executors[number]
        outputs = executor.run(regions.cpu())
        return tuple(
            (outputs[out.tensors[0]].double() * out.scale)
            .float()
            .flatten(1)
            .to(regions.device)
            for out in executor.program.outputs
        )


class _Outputs:
    """What the integer network made of the last batch.

    Args:
        network: The network.
    """

    def __init__(self, network: IntegerNetwork) -> None:
        self.network = network
        self.values: tuple[list[Tensor], ...] = ()
        self.is_folded = network.training  # which each step does by itself

    def extract_feat(self, image: Tensor) -> tuple[Tensor, ...]:
        """Run the network; return maps of regions, or what nobody reads."""
        network = self.network
        if not self.is_folded:
            network.fold()
            if network.regions is not None:
                network.regions.fold()
            self.is_folded = True
        run = network.train if network.training else network.evaluate
        self.values = run(image)
        if network.regions is None:
            return (image,)
        return tuple(self.values[FIRST_REGION_MAPS])

    def dense_maps(self, features: Any) -> tuple[list[Tensor], ...]:
        """Return the maps of the dense head, whatever it is given."""
        count = None if self.network.regions is None else FIRST_REGION_MAPS
        return self.values[:count]

    def averages(self, stage: int, maps: Any, rois: Tensor) -> Tensor:
        """Return the averages that a stage's extractor reads from its maps."""
        regions = self.network.regions
        assert regions is not None
        return regions.align(
            stage, self.values[FIRST_REGION_MAPS + stage], rois
        )


def _predict_each(
    predict: Callable[..., list[Any]],
    stride: int,
    images: Tensor,
    samples: Sequence[Any],
    *args: Any,
    **kwargs: Any,
) -> list[Any]:
    """Predict each image by itself, with the border that it ships with."""
    results = []
    for image, sample in zip(images, samples, strict=True):
        height, width = (
            -(-side // stride) * stride for side in sample.img_shape
        )
        one = image[None, :, :height, :width]
        results += predict(one, [sample], *args, **kwargs)
    return results


@contextmanager
def integer_aware(network: IntegerNetwork) -> Iterator[None]:
    """Let a detector's heads be given the integer network's maps.

    For evaluation, the program is made of the weights as they are at the
    first image: other hooks may exchange them until then. Each image of a
    batch is run by itself, with a border of its own, as it ships: what its
    neighbours' sizes are does not matter.

    Args:
        network: Of the detector that changes while the context is open.
    """
    detector: Any = network.detector
    outputs, regions = _Outputs(network), network.regions
    with ExitStack() as stack:

        def patch(thing: Any, **methods: Callable) -> None:
            stack.enter_context(patched(thing, **methods))

        patch(detector, extract_feat=outputs.extract_feat)
        patch(dense_head(detector), forward=outputs.dense_maps)
        if not network.training:
            predict = partial(_predict_each, detector.predict, network.stride)
            patch(detector, predict=predict)
        if regions is not None:
            pairs = zip(regions.extractors, regions.heads, strict=True)
            for stage, (extractor, head) in enumerate(pairs):
                patch(extractor, forward=partial(outputs.averages, stage))
                patch(head, forward=partial(regions.maps, stage))
        yield
