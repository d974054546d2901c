"""Progress of a long run: a bar on a terminal, a few lines elsewhere."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

# Shortest time and smallest share of all steps between two lines. A run of
# hours then has ten lines in its log, a run of a minute has two.
SECONDS, SHARE = 30.0, 0.1


def progress(
    steps: Iterable[Any] | None = None,
    total: int | None = None,
    unit: str = 'step',
    **options: Any,
) -> tqdm:
    """Return a tqdm bar that writes to standard output.

    In a file or a pipe, a bar would take a line for every step. There, a line
    is written now and then, and one at the end.

    Args:
        steps: Iterable to wrap. Without it, call ``update`` after each step.
        total: Number of steps, if ``steps`` has no length.
        unit: Name of a step, in the singular.
        options: Further options of tqdm, such as ``desc`` and ``disable``.
    """
    options |= dict(total=total, unit=unit, file=sys.stdout)
    if sys.stdout.isatty():
        return tqdm(steps, **options)
    # tqdm skips steps while they are fast; _Lines needs to see each one.
    return _Lines(steps, mininterval=0, miniters=1, **options)


class _Lines(tqdm):
    """A tqdm bar that writes lines instead of a bar."""

    # State at the last line: number of steps, and seconds since the start.
    line_steps, line_seconds = 0, 0.0

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Write a line if the last one is long enough ago."""
        elapsed = self.format_dict['elapsed']
        done = self.n - self.line_steps
        if not done or elapsed - self.line_seconds < SECONDS:
            return
        if self.total and (done < SHARE * self.total or self.n >= self.total):
            return
        self.line_steps, self.line_seconds = self.n, elapsed
        self._write_line(elapsed)

    def close(self) -> None:
        """Write the last line, unless there were no steps."""
        # tqdm calls this again from its destructor, even if the constructor
        # failed. Its own method has the same guard.
        if getattr(self, 'disable', True):
            return
        self.disable = True
        self._decr_instances(self)
        if self.n:
            self._write_line(self.format_dict['elapsed'])

    def _write_line(self, elapsed: float) -> None:
        description = self.desc.removesuffix(': ')
        line = f'{description}: ' if description else ''
        line += f'{self.n}/{self.total}' if self.total else f'{self.n}'
        line += f' {self.unit}s, {self.format_interval(elapsed)} elapsed'
        if self.total and self.n < self.total:
            left = elapsed / self.n * (self.total - self.n)
            line += f', about {self.format_interval(left)} left'
        self.fp.write(f'{line}\n')
        self.fp.flush()
