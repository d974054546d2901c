"""Loads the compiled parts of the package, which ctypes calls."""

import ctypes
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from ..errors import UserError

# What this interpreter's `pip install` builds comes first, and that of
# another interpreter, which may be older than the sources, not at all. The
# wheels of the runtime have plain suffixes.
SUFFIXES = (*EXTENSION_SUFFIXES, '.dll')


def load(stem: Path) -> ctypes.CDLL | None:
    """Return a compiled library, or None where it is not built.

    Args:
        stem: Its path without the suffix.

    Raises:
        UserError: If the file cannot be loaded, as one of another machine.
    """
    for suffix in SUFFIXES:
        path = stem.with_name(stem.name + suffix)
        if path.is_file():
            try:
                return ctypes.CDLL(str(path))
            except OSError as error:
                raise UserError(
                    f'{path}: it cannot be loaded ({error}); build it again '
                    'by pip install, or remove it'
                ) from None
    return None
