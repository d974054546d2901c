"""Reads the options of a config dict and refuses unknown ones."""

from collections.abc import Mapping
from typing import Any

from .errors import UserError, nearest

_MISSING = object()


class Options:
    """A config dict whose keys must all be understood.

    If a key were ignored silently, the program would differ from the config.
    A reader therefore takes each key that it knows, and :meth:`finish`
    refuses the others.

    Args:
        where: Dotted path of the dict in the config, for messages.
        options: The dict.

    Raises:
        UserError: If ``options`` is not a dict.
    """

    def __init__(self, where: str, options: Any) -> None:
        if not isinstance(options, Mapping):
            raise UserError(f'{where}={options!r}: expected a dict')
        self.where = where
        self._options = dict(options)
        self._known: set[str] = set()

    def take(self, name: str, default: Any = _MISSING) -> Any:
        """Return the value of a key.

        Args:
            name: The key.
            default: Value of a missing key.

        Raises:
            UserError: If the key is missing and there is no default.
        """
        self._known.add(name)
        value = self._options.get(name, default)
        if value is _MISSING:
            raise UserError(f'{self.where} has no {name}: give one')
        return value

    def expect(self, name: str, *allowed: Any) -> Any:
        """Return the value of a key if the integer program supports it.

        Args:
            name: The key.
            *allowed: Values that the program supports. The first one is the
                default of a missing key.

        Raises:
            UserError: If the value is another one.
        """
        value = self.take(name, allowed[0])
        # True equals 1 in Python, but a flag is not a number of pixels.
        if not any(x == value and _kind(x) == _kind(value) for x in allowed):
            choices = ' or '.join(repr(x) for x in allowed)
            raise UserError(
                f'{self.where}.{name}={value!r}: the integer program has '
                f'{choices} only'
            )
        return value

    def ignore(self, *names: str) -> None:
        """Accept keys that do not change what the program computes."""
        self._known.update(names)

    def finish(self) -> None:
        """Refuse the keys that were neither taken nor ignored.

        Raises:
            UserError: With the name of the first such key.
        """
        for name in self._options:
            if name not in self._known:
                raise UserError(
                    f'{self.where}.{name}={self._options[name]!r}: the '
                    'integer program has no such option '
                    f'({nearest(str(name), self._known)}); remove it'
                )


def _kind(value: Any) -> type:
    return (
        float
        if isinstance(value, (int, float)) and not isinstance(value, bool)
        else type(value)
    )
