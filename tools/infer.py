"""Detect with a compiled detector: no PyTorch, no MMDetection, no floats."""

import argparse
from pathlib import Path

from aqd_mmdet.errors import one_line
from aqd_mmdet.integer.detector import SCORE_BITS
from aqd_mmdet.runtime import Detector
from aqd_mmdet.runtime.images import draw, read_image


@one_line
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('model', type=Path, help='a file model.aqd')
    parser.add_argument('images', type=Path, nargs='+', help='image files')
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('detections'),
        help='folder to draw to',
    )
    parser.add_argument(
        '--score', type=float, default=0.3, help='least score that is drawn'
    )
    args = parser.parse_args()
    detector = Detector(args.model)
    args.out.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(args.images, 1):
        image = read_image(path)
        found = detector(image, f'image {path}')
        shown = int((found.scores >= args.score * 2**SCORE_BITS).sum())
        target = args.out / f'{path.stem}.png'
        part = target.with_name(target.name + '.part')
        picture = draw(image, found, detector.labels, args.score)
        picture.save(part, format='png')
        part.replace(target)
        print(
            f'{number}/{len(args.images)} {path}: {shown} objects, {target}',
            flush=True,
        )


if __name__ == '__main__':
    main()
