"""Runs the cells of a study, several at a time."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..progress import progress
from .plan import Cell, Study, check_options, read_results

# Runs one cell in a process of its own: `cell.run_logged`, or a test's.
Run = Callable[[Study, Cell, Path, Path], None]


def run_cells(
    study: Study,
    cells: Sequence[Cell],
    folder: Path,
    results: Path,
    jobs: int,
    run: Run,
    stop_after: float = float('inf'),
) -> None:
    """Run all cells that are not finished, each as soon as its start is.

    Args:
        study: The study.
        cells: Its cells that are wanted, the first ones first.
        folder: The study's, for logs, weights and compiled detectors.
        results: File to which a finished cell adds a line.
        jobs: How many cells run at a time.
        run: Runs a cell; a function of a module.
        stop_after: Seconds after which no cell is started any more.

    Raises:
        UserError: If a cell was finished with other options, or if cells
            failed; the others are finished then.
    """
    if jobs > 1:  # read where PyTorch is loaded
        os.environ['OMP_NUM_THREADS'] = '1'
    found = read_results(results)
    check_options(study, found)
    finished = set(found)
    waiting = [cell for cell in cells if cell.name not in finished]
    running: dict[int, tuple[Cell, Any]] = {}
    failed: list[str] = []
    end = time.monotonic() + stop_after
    bar = progress(total=len(waiting), unit='cell')
    try:
        while True:
            if time.monotonic() < end:
                for cell in _ready(study, waiting, finished)[
                    : jobs - len(running)
                ]:
                    waiting.remove(cell)
                    process = _start(run, study, cell, folder, results)
                    running[process.sentinel] = cell, process
            if not running:
                break
            for cell, works in _ended(running):
                bar.update()
                if not works:
                    bar.write(f'{cell.name} failed: {folder / cell.name}')
                (finished.add if works else failed.append)(cell.name)
    finally:
        for _, process in running.values():
            process.terminate()
        bar.close()
    _need_none(failed, folder)


def _need_none(failed: Sequence[str], folder: Path) -> None:
    if failed:
        raise UserError(
            f'{len(failed)} cells failed: {", ".join(failed)}; see log.txt in '
            f'their folders in {folder}, and run the same command again'
        )


def _start(run: Run, *args: object) -> Any:
    """Start a cell and return its process."""
    # A process that asked PyTorch for a GPU cannot be forked.
    process: Any = get_context('spawn').Process(target=run, args=args)
    process.start()
    return process


def _ended(
    running: dict[int, tuple[Cell, Any]],
) -> Iterator[tuple[Cell, bool]]:
    """Wait until cells end; yield each of these, and whether it works."""
    for sentinel in connection.wait(list(running)):
        assert isinstance(sentinel, int)
        cell, process = running.pop(sentinel)
        process.join()
        yield cell, process.exitcode == 0


def _ready(
    study: Study, waiting: Sequence[Cell], finished: set[str]
) -> list[Cell]:
    """Return the cells whose start is finished."""
    starts = {cell: study.start_of(cell) for cell in waiting}
    return [
        cell
        for cell, start in starts.items()
        if start is None or start.name in finished
    ]
