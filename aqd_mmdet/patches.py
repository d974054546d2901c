"""Changing objects for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def patched(thing: Any, **attributes: Any) -> Iterator[None]:
    """Give an object other attributes while the context is open.

    Args:
        thing: The object, such as a module whose ``forward`` is replaced.
        **attributes: Its attributes in the meantime.
    """
    own = {n: vars(thing)[n] for n in attributes if n in vars(thing)}
    for name, value in attributes.items():
        setattr(thing, name, value)
    try:
        yield
    finally:
        for name in attributes:
            if name in own:
                setattr(thing, name, own[name])
            else:
                delattr(thing, name)
