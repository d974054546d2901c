"""Write the embedded dataset: scenes of real handwritten digits."""

import argparse
from dataclasses import fields
from pathlib import Path

from aqd_mmdet.datasets.digits import DigitScenes, write_digits
from aqd_mmdet.errors import one_line
from aqd_mmdet.progress import progress


@one_line
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=Path('data/digits'))
    for field in fields(DigitScenes):
        parser.add_argument(
            f'--{field.name.replace("_", "-")}',
            type=type(field.default),
            default=field.default,
            help='default: %(default)s',
        )
    options = vars(parser.parse_args())
    out = options.pop('out')
    scenes = DigitScenes(**options)
    with progress(total=scenes.train + scenes.val, unit='image') as bar:
        written = write_digits(out, scenes, lambda done, _: bar.update())
    print(
        f'{out}: {scenes.train} + {scenes.val} images of {scenes.size} '
        f'pixels{"" if written else ", written earlier"}'
    )


if __name__ == '__main__':
    main()
