"""Figures that follow from the times of runs."""

from collections.abc import Sequence
from statistics import median, quantiles

from .cases import Boxes, Case
from .layers import LONG, SHORT, Chain
from .worker import Turn


def latencies(case: Case, turn: Turn) -> list[float]:
    """Return the seconds of each run of a turn.

    Args:
        case: The case. The times of a chain are those of one link.
        turn: A turn with one file, with several callers of one, or with a long
            and a short chain.
    """
    if isinstance(case, Boxes):
        return [seconds for times in turn.times for seconds in times]
    if not isinstance(case, Chain):
        return list(turn.times[0])
    long, short = turn.times
    return [
        (slow - fast) / (LONG - SHORT)
        for slow, fast in zip(long, short, strict=True)
    ]


def least(case: Case, turns: list[Turn]) -> float:
    """Return the shortest time of a case in seconds.

    The time of a chain is the difference of the shortest times of both
    lengths. The smallest difference of two runs would only mean that the short
    chain was slow in one of them.

    Args:
        case: The case.
        turns: Turns of one engine.
    """
    lowest = [
        min(x for turn in turns for x in turn.times[file])
        for file in range(len(turns[0].times))
    ]
    if isinstance(case, Boxes):
        return min(lowest)
    if not isinstance(case, Chain):
        return lowest[0]
    return (lowest[0] - lowest[1]) / (LONG - SHORT)


def p99(values: list[float]) -> float:
    """Return what 99 of 100 values do not exceed."""
    if len(values) == 1:
        return values[0]
    return quantiles(values, n=100, method='inclusive')[-1]


def throughput(times: Sequence[Sequence[float]]) -> float:
    """Return results per second of several callers.

    Args:
        times: Seconds of the runs of each caller, one after another. They
            begin at the same time, and all runs count, until the last one
            ends. Some processors may be idle before; parts of runs would count
            what only waited for its turn.
    """
    return sum(map(len, times)) / max(map(sum, times))


def summary(values: list[float]) -> tuple[float, float, float]:
    """Return median, first and third quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, _, high = quantiles(values, n=4, method='inclusive')
    return median(values), low, high
