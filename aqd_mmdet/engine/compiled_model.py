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

from ..compiler.box_selection import check_selection, check_two_stages
from ..compiler.compile import read_test_preprocess
from ..compiler.executor import Executor
from ..config import labels_of, same_labels, write_apart
from ..errors import UserError
from ..export.onnx_session import (
    About,
    ExportedDetector,
    about_detector,
    read_about,
    read_model,
)
from ..program import file
from ..program import ops as ir
from ..program.detector import BOX_BITS, SCORE_BITS, PreProcess
from ..registry import MODELS
from ..runtime import Detector
from ..runtime.prediction import Detections
from ..runtime.preprocess import bordered_size


class IntegerModel(BaseModel):
    """Evaluates integers on images that a data pipeline has resized.

    One image at a time, as it ships: what an image's neighbours in a batch
    are does not matter.

    Args:
        preprocess: What precedes the network.
        stride: Height and width of the network's image are multiples of it.
    """

    def __init__(self, preprocess: PreProcess, stride: int) -> None:
        super().__init__()
        self.preprocess, self.stride = preprocess, stride

    def detect(
        self,
        image: np.ndarray,
        size: tuple[int, int],
        original: tuple[int, int],
    ) -> Detections:
        """Return what is found in one image.

        Args:
            image: The network's, uint8 (1, 3, H, W).
            size: Its height and width before its border.
            original: Height and width of the image in the file.
        """
        raise NotImplementedError

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
            found = self.detect(pixels, _size(sample), sample.ori_shape)
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

    def _pixels(self, image: Tensor) -> Tensor:
        if not self.preprocess.bgr:
            image = image.flip(0)
        height, width = image.shape[1:]
        sides = bordered_size((height, width), self.preprocess, self.stride)
        fill = image.new_tensor(self.preprocess.fill)
        padded = fill[:, None, None].repeat(1, *sides)
        padded[:, :height, :width] = image
        return padded


@MODELS.register_module()
class CompiledModel(IntegerModel):
    """Evaluates a compiled detector.

    Args:
        path: A file ``model.aqd``.
    """

    def __init__(self, path: str) -> None:
        # On all kinds of machines faster than portable kernels.
        self.detector = Detector(path, run=self._run)
        compiled = self.detector.compiled
        super().__init__(compiled.preprocess, compiled.program.stride)
        self.executors = {
            id(program): Executor(program) for program in compiled.programs
        }

    def detect(
        self,
        image: np.ndarray,
        size: tuple[int, int],
        original: tuple[int, int],
    ) -> Detections:
        maps = self._run(self.detector.compiled.program, image)
        return self.detector.boxes(maps, 0, size, original)

    def _run(
        self, program: ir.Program, values: np.ndarray
    ) -> dict[str, np.ndarray]:
        outputs = self.executors[id(program)].run(torch.from_numpy(values))
        return {name: x.numpy() for name, x in outputs.items()}


@MODELS.register_module()
class ExportedModel(IntegerModel):
    """Evaluates a file of ONNX that was exported with its boxes.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        self.detector = ExportedDetector(Path(path), torch.get_num_threads())
        about = self.detector.about
        super().__init__(about.preprocess, about.stride)

    def detect(
        self,
        image: np.ndarray,
        size: tuple[int, int],
        original: tuple[int, int],
    ) -> Detections:
        return self.detector.boxes(image, size, original)


def _size(sample: Any) -> tuple[int, int]:
    """Return an image's height and width before any border."""
    height, width = (
        round(n * scale)
        for n, scale in zip(
            sample.ori_shape, reversed(sample.scale_factor), strict=True
        )
    )
    return height, width


# What evaluates a file, by the suffix of its name.
KINDS = {'.aqd': 'CompiledModel', '.onnx': 'ExportedModel'}


def use_compiled(cfg: Config, path: Path) -> None:
    """Let a config's test run a compiled detector.

    Args:
        cfg: The whole config, changed in place.
        path: A file ``model.aqd``, or one of ONNX that was exported of it.

    Raises:
        UserError: If it is of other labels, or brings images to the network
            or chooses boxes in another way than the config says.
    """
    check_compiled(cfg, path)
    write_apart(cfg, 'compiled')
    # A dict of its own: keys of the detector that stood there must not stay.
    cfg.model = dict(type=f'aqd_mmdet.{KINDS[path.suffix]}', path=str(path))
    cfg.load_from, cfg.resume = None, False
    # Hooks on quantisers and clip values have nothing to hold on to.
    cfg.custom_hooks = []


def check_compiled(cfg: Config, path: Path) -> None:
    """Raise if a compiled detector is not what a config describes.

    Args:
        cfg: The whole config.
        path: A file ``model.aqd``, or one of ONNX that was exported of it.

    Raises:
        UserError: Naming the first thing that differs.
    """
    if 'data_preprocessor' not in cfg.model:
        raise UserError(
            f'model.type={cfg.model.get("type")}: expected the config of a '
            'detector with a data_preprocessor'
        )
    compiled = None if path.suffix == '.onnx' else file.load(path)[0]
    about = (
        read_about(path, read_model(path))
        if compiled is None
        else about_detector(compiled)
    )
    labels = labels_of(cfg, 'test')
    if labels is not None:
        same_labels({'the config': labels, f'model {path}': about.labels})
    try:
        check_preprocess(cfg, about)
        if compiled is None or compiled.regions is None:
            check_selection(cfg.model, about.selection)
        else:
            check_two_stages(cfg.model, compiled.postprocess, compiled.regions)
    except UserError as error:
        raise UserError(
            f'model {path}: {error}; compile it again with this config, or '
            'test it with the one that it was compiled with'
        ) from None


def check_preprocess(cfg: Config, about: About) -> None:
    """Raise if a detector is given images in another way than a config says.

    Args:
        cfg: The whole config.
        about: Of the detector.

    Raises:
        UserError: Naming the first thing that differs.
    """
    pre = BUILDERS.build(cfg.model.data_preprocessor)
    expected = asdict(read_test_preprocess(pre, cfg))
    found = asdict(about.preprocess)
    expected['pad_size_divisor'] = int(pre.pad_size_divisor)
    found['pad_size_divisor'] = about.stride
    for name, value in found.items():
        if expected[name] != value:
            raise UserError(
                f'it has {name}={value} in its pre-processing, the config '
                f'{expected[name]}'
            )
