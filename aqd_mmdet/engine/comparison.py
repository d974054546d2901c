"""The metrics of a compiled detector beside those of its exports."""

from collections.abc import Mapping
from math import isclose

from ..errors import UserError

# Largest difference that is none, as metrics are given: 0.1 point.
MOST = 0.001
Metrics = Mapping[str, float]


def table(metrics: Mapping[str, Metrics]) -> str:
    """Return metrics as a table in Markdown, in points.

    Args:
        metrics: Of each file, by its name; all of them have the same names.
    """
    rows = [['metric', *metrics], ['---'] * (1 + len(metrics))]
    for name in next(iter(metrics.values())):
        rows.append([name, *(points(each[name]) for each in metrics.values())])
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def points(value: float) -> str:
    """Return a metric in points; it is -1 if there was nothing to find."""
    return f'{100 * value:.1f}' if value >= 0 else '-'


def check_equal(metrics: Mapping[str, Metrics]) -> None:
    """Raise if the mean AP of a file is not that of the first.

    Args:
        metrics: As of :func:`table`.

    Raises:
        UserError: Naming the first file that differs by more than 0.1 point.
    """
    (first, expected), *others = metrics.items()
    names = [name for name in expected if name.endswith('mAP')]
    if not names:
        raise UserError(
            'test_evaluator: expected a metric whose name ends in mAP, found '
            f'{", ".join(expected) or "none"}'
        )
    for path, found in others:
        for name in names:
            difference = abs(found[name] - expected[name])
            if difference > MOST and not isclose(difference, MOST):
                raise UserError(
                    f'model {path}: {name} is {100 * found[name]:.1f}, and '
                    f'{100 * expected[name]:.1f} of {first}: expected at most '
                    f'{100 * MOST:.1f} point between them'
                )
