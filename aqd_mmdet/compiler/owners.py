"""Which class says how a thing is done."""

from collections.abc import Sequence
from typing import Any

# Whose classes are known here by their names; one of the same name in another
# package may do something else.
PACKAGES = ('mmdet', 'mmcv', 'aqd_mmdet')


def is_known(cls: Any) -> bool:
    """Say whether a class is of a package whose classes are known.

    Args:
        cls: A class, or anything else, which is not known.
    """
    return getattr(cls, '__module__', '').split('.')[0] in PACKAGES


def owner_of(thing: Any, methods: Sequence[str]) -> str:
    """Return the name of the most derived class that defines a method.

    Args:
        thing: An object.
        methods: Names, any of which counts.

    Returns:
        str: The class's name; with its module if its package is not known.
    """
    cls = type(thing)
    for each in cls.__mro__:
        if any(name in vars(each) for name in methods):
            cls = each
            break
    name = cls.__name__
    return name if is_known(cls) else f'{cls.__module__}.{name}'


def coder_of(head: Any) -> str:
    """Return the name of the class that says how a head's codes are decoded.

    Args:
        head: A head with a ``bbox_coder``.
    """
    return owner_of(head.bbox_coder, ('decode',))
