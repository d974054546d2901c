"""``python -m aqd_mmdet.runtime model.aqd SOURCE...``, ``example``, and
``serve``."""

import shlex
import sys

from ..errors import one_line
from .example import MODEL, PICTURE
from .optional import need


@one_line
def main() -> None:
    """Detect in pictures, a video or a camera; or serve a detector.

    ``example`` stands for the detector and the picture that come with the
    runtime.
    """
    need('PIL', 'pillow', 'python -m aqd_mmdet.runtime')
    from . import command, serve

    if sys.argv[1:2] == ['serve']:
        serve.command(sys.argv[2:])
    elif sys.argv[1:2] == ['example']:
        command.command([str(MODEL), str(PICTURE), *sys.argv[2:]])
        model = shlex.quote(str(MODEL))
        print(f'next: python -m aqd_mmdet.runtime {model} PICTURES')
    else:
        command.command()


if __name__ == '__main__':
    main()
