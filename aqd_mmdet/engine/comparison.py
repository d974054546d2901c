"""The metrics of a compiled detector beside those of its exports."""

from collections.abc import Mapping
from itertools import chain
from math import isclose

from ..errors import UserError

# Largest difference that is none, as metrics are given: 0.1 point.
MOST = 0.001
Metrics = Mapping[str, float]


def table(metrics: Mapping[str, Metrics]) -> str:
    """Return metrics as a table in Markdown, in points.

    Args:
        metrics: Of each file, by its name. There are none of a file that
            found nothing in any picture.
    """
    rows = [['metric', *metrics], ['---'] * (1 + len(metrics))]
    # In the order of the files, each once.
    for name in dict.fromkeys(chain(*metrics.values())):
        cells = (points(each.get(name, -1)) for each in metrics.values())
        rows.append([name, *cells])
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def points(value: float) -> str:
    """Return a metric in points; it is -1 if there was nothing to find."""
    return f'{100 * value:.1f}' if value >= 0 else '-'


def check_equal(metrics: Mapping[str, Metrics]) -> None:
    """Raise if the mean AP of a file is not that of the first.

    Args:
        metrics: As of :func:`table`.

    Raises:
        UserError: Naming the first file that differs by more than 0.1 point,
            or that has nothing to compare.
    """
    for path, found in metrics.items():
        if not found:
            raise UserError(
                f'model {path}: it found nothing in any picture, so that '
                'there is no AP to compare; give pictures in which it finds '
                'something'
            )
    (first, expected), *others = metrics.items()
    names = [name for name in expected if name.endswith('mAP')]
    if not names:
        raise UserError(
            'test_evaluator: expected a metric whose name ends in mAP, found '
            f'{", ".join(expected)}'
        )
    for path, found in others:
        for name in names:
            if name not in found:
                raise UserError(f'model {path}: it has no {name}')
            difference = abs(found[name] - expected[name])
            if difference > MOST and not isclose(difference, MOST):
                raise UserError(
                    f'model {path}: {name} is {100 * found[name]:.1f}, and '
                    f'{100 * expected[name]:.1f} of {first}: expected at most '
                    f'{100 * MOST:.1f} point between them'
                )
