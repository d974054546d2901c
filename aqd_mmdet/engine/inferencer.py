"""A compiled detector with the interface of mmdet's inferencer."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.apis import DetInferencer
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData

from ..errors import UserError
from ..runtime import Detector, Prediction

# An image's name or pixels, as DetInferencer calls its inputs.
Input = str | np.ndarray


class AQDInferencer(DetInferencer):
    """``mmdet.apis.DetInferencer`` of a compiled detector.

    It is called as that one is and returns the same: a dict with
    ``predictions`` (``labels``, ``scores`` and ``bboxes`` of each image) and
    ``visualization``. Arrays are BGR, as mmcv reads images. Files are on this
    machine, and are read as the runtime reads them. There is nothing to
    prompt: ``texts`` and what else belongs to detectors by language is
    refused.

    Args:
        model: A file ``model.aqd``.
        threads: As of :class:`~aqd_mmdet.runtime.Detector`.
        palette: Of the drawn boxes, as of ``DetInferencer``.
        show_progress: Whether a bar is shown.

    Raises:
        UserError: If the file is missing or no such detector.
    """

    def __init__(
        self,
        model: str | Path,
        threads: int | None = None,
        palette: str = 'random',
        show_progress: bool = True,
    ) -> None:
        # mmdet's own would build a detector of PyTorch.
        self.detector = Detector(model, threads)
        self.visualizer = DetLocalVisualizer()
        self.visualizer.dataset_meta = dict(
            classes=self.detector.labels, palette=palette
        )
        self.show_progress = show_progress
        self.num_visualized_imgs = 0
        self.num_predicted_imgs = 0

    def preprocess(
        self, inputs: Any, batch_size: int = 1, **kwargs: Any
    ) -> Iterator[tuple[list[Input], list[Input]]]:
        """Yield batches of inputs, twice: to be drawn, and to detect in.

        Args:
            inputs: Names of files, or BGR, uint8 (H, W, 3).
            batch_size: How many are in a batch; each is run by itself.

        Raises:
            UserError: If one is neither.
        """
        rest = iter(inputs)
        while batch := list(islice(rest, batch_size)):
            for each in batch:
                if not isinstance(each, (str, np.ndarray)):
                    raise UserError(
                        'inputs: expected names of files and arrays, found '
                        f'{type(each).__name__}; a compiled detector has no '
                        'texts'
                    )
            yield batch, batch

    def forward(
        self, inputs: list[Input], **kwargs: Any
    ) -> list[DetDataSample]:
        """Detect in a batch."""
        return [self._detect(each) for each in inputs]

    def _detect(self, image: Input) -> DetDataSample:
        if isinstance(image, str):
            return _sample(self.detector.predict(image))
        return _sample(self.detector.predict(image[..., ::-1]))


def _sample(found: Prediction) -> DetDataSample:
    meta: dict[str, Any] = dict(ori_shape=found.size, img_shape=found.size)
    if found.path is not None:
        meta['img_path'] = str(found.path)
    return DetDataSample(
        metainfo=meta,
        pred_instances=InstanceData(
            bboxes=torch.from_numpy(found.boxes),
            labels=torch.from_numpy(found.labels).long(),
            scores=torch.from_numpy(found.scores),
        ),
    )
