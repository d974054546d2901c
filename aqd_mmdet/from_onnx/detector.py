"""From an ONNX file to a config of MMDetection and a checkpoint.

The detector is MMDetection's own. Batch norms are part of the file's
convolutions, so that its config has none.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from pprint import pformat
from textwrap import indent
from typing import Any

import mmdet.models  # noqa: F401  registers its classes
import numpy as np
import torch
from mmdet.datasets import CocoDataset
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.fileio import list_from_file
from torch import Tensor

from ..errors import UserError, first_line
from ..files import write_all
from .graph import MAX_SHOWN, Graph
from .yolox import STRIDES, Yolox, read_yolox

# Images are as the authors' network reads them: pixels BGR, from 0 to 255, at
# the upper left of a grey square.
TITLE = 'a YOLOX whose batch norms are part of its convolutions.'
CONFIG = """\
# Of {name!r}: {title}
_base_ = 'mmdet::yolox/yolox_s_8xb8-300e_coco.py'

metainfo = dict(
    classes={classes},
)
layers = dict(use_depthwise={depthwise}, norm_cfg=None)
model = dict(
    data_preprocessor=dict(
        batch_augments=[
            dict(
                type='BatchSyncRandomResize',
                random_size_range={sizes},
                size_divisor=32,
                interval=10,
            )
        ]
    ),
    backbone=dict(widen_factor={widen}, deepen_factor={deepen}, **layers),
    neck=dict(
        in_channels={channels},
        out_channels={first},
        num_csp_blocks={blocks},
        **layers,
    ),
    bbox_head=dict(
        num_classes={count},
        in_channels={first},
        feat_channels={first},
        **layers,
    ),
)

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=({side}, {side}), keep_ratio=True),
    dict(
        type='Pad', pad_to_square=True, pad_val=dict(img=(114.0, 114.0, 114.0))
    ),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=(
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
        ),
    ),
]
train_dataloader = dict(dataset=dict(dataset=dict(metainfo=metainfo)))
val_dataloader = dict(
    dataset=dict(pipeline=test_pipeline, metainfo=metainfo)
)
test_dataloader = val_dataloader
"""
# Sides of the image on which the file and the detector are compared.
CHECKED_SIDES = (64, 96)
# Largest difference of two maps, by the largest value. Float32 in another
# order of sums makes 1e-6 to 1e-5 in trained detectors, and up to 1e-4 in
# random ones, which amplify it.
MAX_DIFFERENCE = 1e-3
# Stands for the largest value of maps that are 0 everywhere.
TINY = float(np.finfo(np.float32).tiny)


def import_onnx(
    path: Path,
    folder: Path,
    classes: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> tuple[Path, Path]:
    """Write the config and the checkpoint of a float detector in ONNX.

    Args:
        path: A YOLOX as its authors export it.
        folder: Where they are written, by the name of the file.
        classes: Names of the classes, or one file that has a name on each
            line; by default those in the file's metadata, or COCO's 80.
        say: Told what was found.

    Returns:
        tuple: Paths of the config and of the checkpoint.

    Raises:
        UserError: If something in the file is not understood, the detector
            gives other maps than the file, or files of another origin would
            be replaced.
    """
    config, checkpoint = (folder / f'{path.stem}{x}' for x in ('.py', '.pth'))
    _check_earlier(config, checkpoint)
    graph = Graph(path)
    yolox = read_yolox(graph)
    side = _side(graph)
    names = _names(graph, yolox.classes, classes)
    text = _config(path, yolox, side, names)
    detector = _build(graph, yolox, text)
    difference = _difference(graph, yolox, detector)
    graph.need(
        difference <= MAX_DIFFERENCE,
        "MMDetection's YOLOX with its weights",
        f'the same maps but for {MAX_DIFFERENCE} of their largest value',
        f'a difference of {difference:.2g}',
    )
    say(
        f'{path}: a YOLOX, {side} x {side}, '
        f'widen_factor={yolox.widen_factor}, '
        f'deepen_factor={yolox.deepen_factor}, '
        f'use_depthwise={yolox.depthwise}; its maps are those of '
        f"MMDetection's but for {difference:.1g} of their largest value"
    )
    say(
        'its pixels are taken to be BGR, 0 to 255; a file that was exported '
        'with --legacy wants others, and would find nothing right'
    )
    say(f'{len(names)} classes: {", ".join(names[:3])}, ...')
    state = _checkpoint(detector, names)
    write_all(folder, {config.name: text.encode(), checkpoint.name: state})
    say(f'{config}, {checkpoint}: the detector in MMDetection')
    return config, checkpoint


def _check_earlier(config: Path, checkpoint: Path) -> None:
    """Raise if files would be replaced that were not written here.

    Args:
        config, checkpoint: Where both are to be written.
    """
    if config.is_file():
        first = config.read_bytes().partition(b'\n')[0]
        if first.endswith(TITLE.encode()):
            return
    for path in (config, checkpoint):
        if path.exists():
            raise UserError(
                f'{path} exists and was not made of a file of ONNX: move it '
                'or choose another --work-dir'
            )


def _checkpoint(detector: Any, names: Sequence[str]) -> bytes:
    """Return the content of a detector's checkpoint."""
    meta = dict(dataset_meta=dict(classes=tuple(names)))
    content = io.BytesIO()
    torch.save(dict(state_dict=detector.state_dict(), meta=meta), content)
    return content.getvalue()


def _side(graph: Graph) -> int:
    """Return the side of the square image of a file, in pixels."""
    height, width = graph.sides
    stride = max(STRIDES)
    graph.need(
        height == width and height % stride == 0,
        f'input {graph.image!r}',
        f'a square whose side is a multiple of {stride}, into which images '
        'are fitted',
        f'{height} x {width}',
    )
    return height


def _names(graph: Graph, count: int, classes: Sequence[str]) -> Sequence[str]:
    """Return the names of a file's classes."""
    names: Sequence[str] | None
    if not classes:
        names, origin = graph.names(), "the metadata's 'names'"
    elif len(classes) == 1 and _is_path(classes[0]):
        names, origin = _lines(Path(classes[0])), '--classes'
    else:
        names, origin = classes, '--classes'
    coco = CocoDataset.METAINFO['classes']
    if names is None and count == len(coco):
        names = coco
    if names is None:
        raise UserError(
            f'{graph.path}: it has {count} classes and no names of them: '
            'give --classes, their names in order, or a file that has one on '
            'each line'
        )
    graph.need(len(names) == count, origin, f'{count} names', len(names))
    for name in names:
        graph.need(
            len(name.strip().splitlines()) == 1
            and names.count(name) == 1
            and '{{' not in name,
            origin,
            "names that differ, each of one line and without '{{', which "
            'MMEngine replaces',
            repr(name)[:MAX_SHOWN],
        )
    return names


def _is_path(name: str) -> bool:
    """Say whether the only name of --classes looks like that of a file."""
    path = Path(name)
    return bool(path.suffix or len(path.parts) > 1 or path.is_file())


def _lines(path: Path) -> list[str]:
    """Return the names in a file that has one on each line."""
    if not path.is_file():
        raise UserError(
            f'--classes {path}: no such file; a name of a class that looks '
            'like one must stand in a file'
        )
    try:
        return list_from_file(path)
    except UnicodeDecodeError as error:
        raise UserError(
            f'--classes {path}: expected a text in UTF-8, found {error}'
        ) from None


def _config(path: Path, yolox: Yolox, side: int, names: Sequence[str]) -> str:
    """Return the text of the config of a file's detector."""
    channels = [int(c * yolox.widen_factor) for c in (256, 512, 1024)]
    listed = pformat(tuple(names), width=65, compact=True)
    return CONFIG.format(
        name=path.name,
        title=TITLE,
        classes=indent(listed, 12 * ' ').lstrip(),
        side=side,
        # As where the authors train at 640.
        sizes=(side * 3 // 4, side * 5 // 4),
        depthwise=yolox.depthwise,
        widen=yolox.widen_factor,
        deepen=yolox.deepen_factor,
        channels=channels,
        first=channels[0],
        blocks=yolox.neck_blocks,
        count=yolox.classes,
    )


def _build(graph: Graph, yolox: Yolox, text: str) -> Any:
    """Return the detector of a config, with a file's weights."""
    detector = MODELS.build(Config.fromstring(text, '.py').model).eval()
    expected = {
        name: tuple(x.shape) for name, x in detector.state_dict().items()
    }
    found = {name: x.shape for name, x in yolox.weights.items()}
    for name in {**expected, **found}:
        graph.need(
            expected.get(name) == found.get(name),
            f'its {name}',
            'the shape that the widths and depths of the backbone give, '
            f'{expected.get(name, "none")}',
            found.get(name, 'none'),
        )
    state = {n: torch.from_numpy(x.copy()) for n, x in yolox.weights.items()}
    detector.load_state_dict(state)
    return detector


def _difference(graph: Graph, yolox: Yolox, detector: Any) -> float:
    """Return the largest difference of a detector's maps from a file's.

    Args:
        graph: The graph of the file.
        yolox: What was read of it.
        detector: What was built of that.

    Returns:
        float: By the largest value of the map; NaN if any value is.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, *CHECKED_SIDES))
    image = pixels.astype(np.float32)
    expected = _evaluate(graph, yolox.maps, image)
    with torch.no_grad():
        found = detector(torch.from_numpy(image), mode='tensor')
    maps: list[Tensor] = [level for levels in found for level in levels]
    differences = [
        float(np.abs(x.numpy() - y).max()) / max(float(np.abs(y).max()), TINY)
        for x, y in zip(maps, expected, strict=True)
    ]
    return float(np.max(differences))


def _evaluate(
    graph: Graph, maps: Sequence[str], image: np.ndarray
) -> list[np.ndarray]:
    """Return tensors of a file as ONNX's own evaluator computes them."""
    from onnx import ModelProto, helper
    from onnx.reference import ReferenceEvaluator

    model = ModelProto()
    model.CopyFrom(graph.model)
    # The evaluator takes images of any size; what follows the maps does not.
    needed = graph.behind(maps)
    nodes = [x for x in model.graph.node if x.output[0] in needed]
    del model.graph.node[:], model.graph.output[:]
    model.graph.node.extend(nodes)
    model.graph.output.extend(map(helper.make_empty_tensor_value_info, maps))
    with warnings.catch_warnings():
        # Its sigmoid computes both branches of a case for all numbers.
        warnings.simplefilter('ignore', RuntimeWarning)
        try:
            evaluator = ReferenceEvaluator(model)
            return list(evaluator.run(None, {graph.image: image}))
        except Exception as error:  # of operators, many kinds
            raise UserError(
                f'{graph.path}: its maps: expected what the evaluator of '
                f'ONNX can compute, found {type(error).__name__}: '
                f'{first_line(error)}'
            ) from None
