"""Which class says how a thing is done."""

from collections.abc import Sequence
from typing import Any


def owner_of(thing: Any, methods: Sequence[str]) -> str:
    """Return the name of the most derived class that defines a method.

    Args:
        thing: An object.
        methods: Names, any of which counts.
    """
    for cls in type(thing).__mro__:
        if any(name in vars(cls) for name in methods):
            return cls.__name__
    return type(thing).__name__
