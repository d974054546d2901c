"""``python -m aqd_mmdet.runtime model.aqd SOURCE...``"""

from ..errors import one_line
from .optional import need


@one_line
def main() -> None:
    """Detect in pictures, a video or a camera."""
    need('PIL', 'pillow', 'python -m aqd_mmdet.runtime')
    from .command import command

    command()


if __name__ == '__main__':
    main()
