"""Overrides of a config that a command line gives."""

import argparse
import re
from collections.abc import Sequence
from typing import Any

from mmengine.config import DictAction

from ..errors import UserError, first_line

# A dict by itself or in a list, in quotes or not. mmengine takes it apart at
# its commas.
DICT = re.compile(
    r"""(^|[\[(,])[\s'"]*(\{\s*['"\d].*\}|\{\}(?=$|[\s'",\])])|dict\s*\(.*\))"""
)


class Overrides(DictAction):
    """mmengine's, which reads KEY=VALUE, with one line for what it cannot."""

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
            if DICT.search(value):
                raise UserError(
                    f'{option_string} {key}: a dict cannot be given as one; '
                    f'give its keys, such as {key}.type=NAME, or write a '
                    'config'
                )
        try:
            super().__call__(parser, namespace, values, option_string)
        except (AssertionError, RecursionError) as error:  # brackets
            given = ' '.join(map(str, values or ()))
            raise UserError(
                f'{option_string} {given}: expected numbers, texts, or lists '
                f'of them such as [a,b] ({first_line(error)})'
            ) from None
