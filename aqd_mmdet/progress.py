"""Progress of a long run: a bar on a terminal, a few lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any

# Shortest time and smallest share of all steps between two lines. A run of
# hours then has ten lines in its log, a run of a minute has two.
SECONDS, SHARE = 30.0, 0.1


def progress(
    steps: Iterable[Any] | None = None,
    total: int | None = None,
    unit: str = 'step',
    desc: str = '',
    disable: bool = False,
) -> Any:
    """Return a progress bar that writes to standard output.

    In a file or a pipe, a bar would take a line for every step. There, and
    where tqdm is not installed, a line is written now and then, and one at
    the end.

    Args:
        steps: Iterable to wrap. Without it, call ``update`` after each step.
        total: Number of steps, if ``steps`` has no length.
        unit: Name of a step, in the singular.
        desc: What is done, in front of the numbers.
        disable: Whether nothing is shown.

    Returns:
        What has tqdm's ``update``, ``write``, ``set_description_str``,
        ``set_postfix_str`` and ``close``.
    """
    kind: Any = _Lines
    if sys.stdout.isatty():
        try:
            from tqdm import tqdm

            kind = tqdm
        except ImportError:
            pass
    return kind(
        steps,
        desc=desc,
        total=total,
        unit=unit,
        disable=disable,
        file=sys.stdout,
    )


class _Lines:
    """Writes lines instead of a bar, and has tqdm's methods.

    Args:
        steps: As of :func:`progress`, as are the others.
        file: Where to write.
    """

    # State at the last line: number of steps, and seconds since the start.
    line_steps, line_seconds = 0, 0.0

    def __init__(
        self,
        steps: Iterable[Any] | None,
        desc: str,
        total: int | None,
        unit: str,
        disable: bool,
        file: Any,
    ) -> None:
        self.steps = () if steps is None else steps
        self.total = total
        if total is None and isinstance(steps, Sized):
            self.total = len(steps)
        self.desc, self.unit = desc, unit
        self.disable, self.file = disable, file
        self.n = 0
        self.start = self._time()

    def __enter__(self) -> '_Lines':
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        with self:
            for step in self.steps:
                yield step
                self.update()

    def update(self, steps: int = 1) -> None:
        """Note that steps are done; write a line if the last is long ago."""
        self.n += steps
        elapsed = self._time() - self.start
        done = self.n - self.line_steps
        if not done or elapsed - self.line_seconds < SECONDS:
            return
        if self.total and (done < SHARE * self.total or self.n >= self.total):
            return
        self.line_steps, self.line_seconds = self.n, elapsed
        self._write_line(elapsed)

    def set_description_str(self, desc: str) -> None:
        """Change what is in front of the numbers."""
        self.desc = desc

    def set_postfix_str(self, text: str) -> None:
        """A line has no room for more."""

    def write(self, text: str) -> None:
        """Write a line of another kind."""
        self.file.write(f'{text}\n')
        self.file.flush()

    def close(self) -> None:
        """Write the last line, unless there were no steps."""
        if self.n:
            self._write_line(self._time() - self.start)
        self.disable = True

    def _time(self) -> float:
        return time.monotonic()

    def _write_line(self, elapsed: float) -> None:
        if self.disable:
            return
        line = f'{self.desc}: ' if self.desc else ''
        line += f'{self.n}/{self.total}' if self.total else f'{self.n}'
        line += f' {self.unit}s, {_interval(elapsed)} elapsed'
        if self.total and self.n < self.total:
            left = elapsed / self.n * (self.total - self.n)
            line += f', about {_interval(left)} left'
        self.write(line)


def _interval(seconds: float) -> str:
    """Return a duration as ``mm:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    text = f'{minutes:02d}:{rest:02d}'
    return f'{hours}:{text}' if hours else text
