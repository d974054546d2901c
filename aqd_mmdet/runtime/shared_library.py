"""Loads the compiled parts of the package, which ctypes calls."""

import ctypes
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from ..errors import UserError

# Those of this interpreter, whose `pip install` built the file, and the plain
# ones of the runtime's wheels. A file of another interpreter is left alone: it
# may be older than the sources.
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
