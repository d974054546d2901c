"""How far a long run is: a bar on a terminal, few lines elsewhere."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

# Between two lines there are at least so many seconds and such a share of all
# turns: a log of hours has ten lines, one of a minute has two.
SECONDS, SHARE = 30.0, 0.1


def progress(
    turns: Iterable[Any] | None = None,
    total: int | None = None,
    unit: str = 'step',
    **options: Any,
) -> tqdm:
    """Return tqdm's bar, on what the tool prints its results to.

    In a file or a pipe, where a bar would be a line for every turn, it is a
    line now and then and one at the end.

    Args:
        turns: What is done one after another; without it, call ``update``.
        total: How many there are, if ``turns`` cannot tell.
        unit: What one is called.
        options: Others of tqdm: ``desc``, ``disable``.
    """
    options |= dict(total=total, unit=unit, file=sys.stdout)
    if sys.stdout.isatty():
        return tqdm(turns, **options)
    # Every turn is looked at, however fast the last ones were.
    return _Lines(turns, mininterval=0, miniters=1, **options)


class _Lines(tqdm):
    """A bar that is written as lines."""

    told, told_at = 0, 0.0

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Write a line if enough was done since the last."""
        at = self.format_dict['elapsed']
        done = self.n - self.told
        if not done or at - self.told_at < SECONDS:
            return
        if self.total and (done < SHARE * self.total or self.n >= self.total):
            return
        self.told, self.told_at = self.n, at
        self._tell(at)

    def close(self) -> None:
        """Write the last line, if anything was done."""
        # As tqdm's own, which is called again when the bar is forgotten, or
        # when it was not made.
        if getattr(self, 'disable', True):
            return
        self.disable = True
        self._decr_instances(self)
        if self.n:
            self._tell(self.format_dict['elapsed'])

    def _tell(self, elapsed: float) -> None:
        about = self.desc.removesuffix(': ')
        line = f'{about}: ' if about else ''
        line += f'{self.n}/{self.total}' if self.total else f'{self.n}'
        line += f' {self.unit}s, {self.format_interval(elapsed)} elapsed'
        if self.total and self.n < self.total:
            left = elapsed / self.n * (self.total - self.n)
            line += f', about {self.format_interval(left)} left'
        self.fp.write(f'{line}\n')
        self.fp.flush()
