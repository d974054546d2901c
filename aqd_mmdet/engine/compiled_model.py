"""A compiled detector as a model of mmengine, for its loops and metrics."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.models.utils.misc import samplelist_boxtype2tensor
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS as BUILDERS
from mmengine.structures import InstanceData
from torch import Tensor

from ..compiler.box_selection import check_selection
from ..compiler.compile import read_test_preprocess
from ..compiler.executor import Executor
from ..config import labels_of, same_labels
from ..errors import UserError
from ..program import file
from ..program import ops as ir
from ..program.detector import BOX_BITS, SCORE_BITS
from ..registry import MODELS
from ..runtime import Detector
from ..runtime.preprocess import bordered_size


@MODELS.register_module()
class CompiledModel(BaseModel):
    """Evaluates a program on images that a data pipeline has resized.

    One image at a time, as it ships: what an image's neighbours in a batch
    are does not matter.

    Args:
        path: A file ``model.aqd``.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        # On all kinds of machines faster than portable kernels.
        self.detector = Detector(path, run=self._run)
        self.executors = {
            id(program): Executor(program)
            for program in self.detector.compiled.programs
        }

    def forward(
        self, inputs: Any, data_samples: Any = None, mode: str = 'predict'
    ) -> Any:
        """Detect in each image.

        Args:
            inputs: uint8 images (3, H, W) in BGR, as mmdet packs them.
            data_samples: Their meta data; predictions are added.
            mode: Only ``predict``.
        """
        assert mode == 'predict', mode
        # Annotated boxes, which are drawn beside what is found.
        samplelist_boxtype2tensor(data_samples)
        for image, sample in zip(inputs, data_samples, strict=True):
            pixels = self._pixels(image)[None].numpy()
            found = self.detector.boxes(
                self._run(self.detector.compiled.program, pixels),
                0,
                _size(sample),
                sample.ori_shape,
            )
            sample.pred_instances = InstanceData(
                bboxes=torch.from_numpy(found.boxes) / 2**BOX_BITS,
                labels=torch.from_numpy(found.labels).long(),
                # Scores have 24 bits, which float32 holds.
                scores=torch.from_numpy(found.scores) / 2**SCORE_BITS,
            )
        return data_samples

    def test_step(self, data: Any) -> Any:
        """Predict, without mmengine's float preprocessing."""
        return self.forward(**data)

    val_step = test_step

    def _run(
        self, program: ir.Program, values: np.ndarray
    ) -> dict[str, np.ndarray]:
        outputs = self.executors[id(program)].run(torch.from_numpy(values))
        return {name: x.numpy() for name, x in outputs.items()}

    def _pixels(self, image: Tensor) -> Tensor:
        compiled = self.detector.compiled
        if not compiled.preprocess.bgr:
            image = image.flip(0)
        pre, stride = compiled.preprocess, compiled.program.stride
        height, width = image.shape[1:]
        sides = bordered_size((height, width), pre, stride)
        padded = image.new_tensor(pre.fill)[:, None, None].repeat(1, *sides)
        padded[:, :height, :width] = image
        return padded


def _size(sample: Any) -> tuple[int, int]:
    """Return an image's height and width before any border."""
    height, width = (
        round(n * scale)
        for n, scale in zip(
            sample.ori_shape, reversed(sample.scale_factor), strict=True
        )
    )
    return height, width


def use_compiled(cfg: Config, path: Path) -> None:
    """Let a config's test run a compiled detector.

    Args:
        cfg: The whole config, changed in place.
        path: A file ``model.aqd``.

    Raises:
        UserError: If it is of other labels, or brings images to the network
            or chooses boxes in another way than the config says.
    """
    check_compiled(cfg, path)
    # A dict of its own: keys of the detector that stood there must not stay.
    cfg.model = dict(type='aqd_mmdet.CompiledModel', path=str(path))
    cfg.load_from, cfg.resume = None, False
    # Hooks on quantisers and clip values have nothing to hold on to.
    cfg.custom_hooks = []


def check_compiled(cfg: Config, path: Path) -> None:
    """Raise if a compiled detector is not what a config describes.

    Args:
        cfg: The whole config.
        path: A file ``model.aqd``.

    Raises:
        UserError: Naming the first thing that differs.
    """
    compiled, _ = file.load(path)
    labels = labels_of(cfg, 'test')
    if labels is not None:
        same_labels({'the config': labels, f'model {path}': compiled.labels})
    pre = BUILDERS.build(cfg.model.data_preprocessor)
    expected = asdict(read_test_preprocess(pre, cfg))
    found = asdict(compiled.preprocess)
    expected['pad_size_divisor'] = int(pre.pad_size_divisor)
    found['pad_size_divisor'] = compiled.program.stride
    try:
        for name, value in found.items():
            if expected[name] != value:
                raise UserError(
                    f'it has {name}={value} in its pre-processing, the config '
                    f'{expected[name]}'
                )
        check_selection(cfg.model, compiled)
    except UserError as error:
        raise UserError(
            f'model {path}: {error}; compile it again with this config, or '
            'test it with the one that it was compiled with'
        ) from None
