"""Overrides of a config that a command line gives."""

import argparse
from collections.abc import Sequence
from typing import Any

from mmengine.config import DictAction

from ..errors import UserError


class Overrides(DictAction):
    """mmengine's, which reads KEY=VALUE, with one line for what it cannot.

    It would read a dict as a list of texts, or never end.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        for each in map(str, values or ()):
            key, separator, value = each.partition('=')
            if not separator:
                raise UserError(
                    f'{option_string} {each}: expected KEY=VALUE, such as '
                    'model.bits=4'
                )
            if value.lstrip().startswith(('{', 'dict(')):
                raise UserError(
                    f'{option_string} {key}: a dict cannot be given as one; '
                    f'give its keys, such as {key}.type=NAME'
                )
        try:
            super().__call__(parser, namespace, values, option_string)
        except AssertionError as error:  # brackets
            raise UserError(f'{option_string}: {error}') from None
