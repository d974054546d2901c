"""Options of a config: what is known is read, the rest is refused."""

from collections.abc import Mapping
from typing import Any

from .errors import UserError, nearest

_MISSING = object()


class Options:
    """One dict of a config, of which every key must be understood.

    A key that nobody reads would be passed over without a word, and the
    result would be another one than the config describes. So whoever reads a
    dict takes each key that it knows, and :meth:`finish` refuses the others.

    Args:
        where: How the config calls the dict, for messages.
        options: The dict.

    Raises:
        UserError: If it is no dict.
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
            default: What a missing key means; without one, it is an error.

        Raises:
            UserError: If the key is missing and has no default.
        """
        self._known.add(name)
        value = self._options.get(name, default)
        if value is _MISSING:
            raise UserError(f'{self.where} has no {name}: give one')
        return value

    def expect(self, name: str, *possible: Any) -> Any:
        """Return the value of a key that only a few values are possible for.

        Args:
            name: The key.
            *possible: Values that the program has; the first one is what a
                missing key means.

        Raises:
            UserError: If the value is another one.
        """
        value = self.take(name, possible[0])
        # True == 1, but a config that says 1 pixel does not say "yes".
        same = [p for p in possible if p == value and _kind(p) == _kind(value)]
        if not same:
            allowed = ' or '.join(repr(p) for p in possible)
            raise UserError(
                f'{self.where}.{name}={value!r}: the integer program has '
                f'{allowed} only'
            )
        return value

    def ignore(self, *names: str) -> None:
        """Say that some keys do not change what the program computes."""
        self._known.update(names)

    def finish(self) -> None:
        """Refuse the keys that nobody took.

        Raises:
            UserError: Naming the first such key.
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
