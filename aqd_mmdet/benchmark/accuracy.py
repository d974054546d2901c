"""Average precision of a detector whose network runs in different libraries.

Everything but the network is the float detector's own: the pre-processing of
its test pipeline, and the decoding of its maps to boxes.
"""

from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from torch import Tensor

from ..config import datasets_of
from ..errors import UserError
from ..program.detector import BOX_BITS, SCORE_BITS
from ..progress import progress
from ..runtime import Detector
from ..runtime.images import read_image
from .runners import onnxruntime_session, openvino_model

Network = Callable[[np.ndarray], Sequence[np.ndarray]]


@dataclass(frozen=True)
class Found:
    """What a detector found in one image.

    Attributes:
        boxes: float (N, 4): x0, y0, x1, y1 in pixels of the image.
        labels: int (N,).
        scores: float (N,), from 0 to 1.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


# Finds objects in the image of an index of the test dataset.
Detect = Callable[[int], Found]


def build_dataset(cfg: Config) -> Any:
    """Build the test dataset of a config.

    Args:
        cfg: The whole config.

    Raises:
        UserError: If it is not one dataset in COCO format.
    """
    outer = cfg.test_dataloader.dataset
    names = [name for name, _ in datasets_of(outer, 'test_dataloader.dataset')]
    dataset = DATASETS.build(outer) if len(names) == 1 else None
    if not isinstance(dataset, CocoDataset):
        raise UserError(
            'test_dataloader.dataset: expected one dataset in COCO format, '
            f'found {", ".join(names) or "none"}: set another one by '
            '--cfg-options'
        )
    return dataset


def average_precision(dataset: Any, detect: Detect, name: str) -> float:
    """Return COCO's box AP in per cent.

    Args:
        dataset: A dataset of :func:`build_dataset`.
        detect: The detector.
        name: Its name, for the progress bar.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    results, images = [], []
    for index in progress(
        range(len(dataset)), desc=f'testing {name}', unit='picture'
    ):
        images.append(dataset.get_data_info(index)['img_id'])
        results += _coco_results(dataset, images[-1], detect(index))
    if not results:
        return 0.0
    with redirect_stdout(StringIO()):  # pycocotools says what it does
        truth = COCO(dataset.ann_file)
        evaluation = COCOeval(truth, truth.loadRes(results), 'bbox')
        evaluation.params.imgIds = images
        evaluation.params.catIds = dataset.cat_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return 100 * float(evaluation.stats[0])


def _coco_results(dataset: Any, image: Any, found: Found) -> list[dict]:
    return [
        dict(
            image_id=image,
            category_id=dataset.cat_ids[label],
            bbox=[x0, y0, x1 - x0, y1 - y0],
            score=score,
        )
        for (x0, y0, x1, y1), label, score in zip(
            found.boxes.tolist(),
            found.labels.tolist(),
            found.scores.tolist(),
            strict=True,
        )
    ]


def detect_by_program(dataset: Any, path: Path, threads: int) -> Detect:
    """Return a detector that runs a compiled program, from files to boxes.

    Args:
        dataset: The test dataset.
        path: A file ``model.aqd``.
        threads: Number of threads.
    """
    detector = Detector(path, threads)
    oriented = detector.compiled.preprocess.oriented

    def detect(index: int) -> Found:
        file = Path(dataset.get_data_info(index)['img_path'])
        boxes, labels, scores = detector(read_image(file, oriented))
        return Found(boxes / 2**BOX_BITS, labels, scores / 2**SCORE_BITS)

    return detect


def detect_by_mmdet(dataset: Any, detector: Any) -> Detect:
    """Return a float detector that MMDetection runs.

    Args:
        dataset: The test dataset.
        detector: The float detector.
    """

    @torch.no_grad()
    def detect(index: int) -> Found:
        (sample,) = detector.test_step(pseudo_collate([dataset[index]]))
        return _found(sample.pred_instances)

    return detect


def detect_by_network(
    dataset: Any, detector: Any, network: Network, levels: Sequence[int]
) -> Detect:
    """Return a detector that runs its network elsewhere.

    Args:
        dataset: The test dataset.
        detector: The float detector, which prepares images and decodes maps.
        network: Returns maps float32 (1, C, H, W) of an image float32
            (1, 3, H, W).
        levels: Number of maps of each output; see :func:`levels_of`.
    """

    @torch.no_grad()
    def detect(index: int) -> Found:
        data = pseudo_collate([dataset[index]])
        batch = detector.data_preprocessor(data, False)
        maps = iter(map(torch.as_tensor, network(batch['inputs'].numpy())))
        outputs = [[next(maps) for _ in range(count)] for count in levels]
        (found,) = detector.bbox_head.predict_by_feat(
            *outputs,
            batch_img_metas=[x.metainfo for x in batch['data_samples']],
            rescale=True,
        )
        return _found(found)

    return detect


def levels_of(detector: Any, image: Tensor) -> tuple[int, ...]:
    """Return the number of maps of each output of a single-stage detector.

    Args:
        detector: The float detector.
        image: A preprocessed image, float (1, 3, H, W).

    Raises:
        UserError: If the outputs are not lists of maps.
    """
    with torch.no_grad():
        outputs = detector(image, mode='tensor')
    if not (
        hasattr(getattr(detector, 'bbox_head', None), 'predict_by_feat')
        and isinstance(outputs, tuple)
        and all(isinstance(levels, (list, tuple)) for levels in outputs)
        and all(isinstance(x, Tensor) for levels in outputs for x in levels)
    ):
        raise UserError(
            f'{type(detector).__name__}: expected a detector of one stage, '
            'whose network ends with lists of maps; others cannot be '
            'exported here'
        )
    return tuple(map(len, outputs))


def load_network(library: str, path: Path, threads: int) -> Network:
    """Load an exported network.

    Args:
        library: ``onnxruntime`` or ``openvino``.
        path: Its file.
        threads: Number of threads.
    """
    if library == 'onnxruntime':
        session = onnxruntime_session(path, threads)
        (argument,) = session.get_inputs()
        return lambda image: session.run(None, {argument.name: image})
    compiled = openvino_model(path, threads)
    return lambda image: list(compiled(image).to_tuple())


def _found(instances: Any) -> Found:
    return Found(
        instances.bboxes.numpy(),
        instances.labels.numpy(),
        instances.scores.numpy(),
    )
