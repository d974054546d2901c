"""``python -m aqd_mmdet.runtime model.aqd SOURCE...``, and ``serve``."""

import sys

from ..errors import one_line
from .optional import need


@one_line
def main() -> None:
    """Detect in pictures, a video or a camera; or serve a detector."""
    need('PIL', 'pillow', 'python -m aqd_mmdet.runtime')
    from . import command, serve

    if sys.argv[1:2] == ['serve']:
        serve.command(sys.argv[2:])
    else:
        command.command()


if __name__ == '__main__':
    main()
