"""Packages that only parts of the runtime need."""

from importlib import import_module
from typing import Any

from ..errors import UserError


def need(module: str, package: str, purpose: str) -> Any:
    """Return a module of a package that may be missing.

    Args:
        module: Its name.
        package: What pip installs.
        purpose: What it is needed for.

    Raises:
        UserError: If it is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        raise UserError(
            f'{purpose} needs {package}, which is not installed: '
            f'pip install {package}'
        ) from None
