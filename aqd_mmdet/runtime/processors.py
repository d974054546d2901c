"""How many processors a process may use."""

import os
from pathlib import Path

# What a container may use in a period, in microseconds, and the period.
QUOTA = Path('/sys/fs/cgroup/cpu.max')


def processors() -> int:
    """Return how many processors this process may use.

    That is fewer than the machine has where it is pinned to some, or where a
    container has a share of them: more threads would wait for each other.
    """
    count = os.cpu_count() or 1
    if hasattr(os, 'sched_getaffinity'):  # not on macOS and Windows
        count = len(os.sched_getaffinity(0))
    try:
        quota, period = QUOTA.read_text().split()
    except (OSError, ValueError):
        return count
    if not (quota.isdigit() and period.isdigit() and int(period)):
        return count  # 'max': all of them
    return max(1, min(count, -(-int(quota) // int(period))))
