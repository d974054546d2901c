"""Maps that a forward changes in place and reads by another name."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from .operations import OPERATIONS, is_operation, probed, run_once


def need_no_aliases(
    model: nn.Module, exchanged: Mapping[str, nn.Module]
) -> None:
    """Raise if a map that a sign changes in place is read by another name.

    A layer's result is a new map, which that name would not have.

    Args:
        model: A detector that :func:`run_once` runs.
        exchanged: Modules whose signs are given layers, by name.

    Raises:
        UserError: Naming the first module whose signs would do less.
    """
    expected = run_once(model)
    changed = partial(_changed_by_new_maps, model, expected)
    # A forward that draws random numbers is never the same.
    if not changed(set(exchanged.values())) or changed(set()):
        return
    for name, module in exchanged.items():
        if changed({module}):
            raise UserError(
                f'{name} ({type(module).__name__}): its forward changes a map '
                'in place that it reads by another name as well; write '
                'y = x + z in the place of x += z, or leave it alone by a '
                f"last rule, dict(modules='{name}', float=True)"
            )


def _changed_by_new_maps(
    model: nn.Module, expected: list[Tensor], modules: set[nn.Module]
) -> bool:
    """Return whether a model's maps are others if the signs of some modules
    change none in place."""

    def probe(
        module: nn.Module,
        child: str,
        site: int,
        in_place: bool,
        *operands: Any,
    ) -> Any:
        kind = OPERATIONS[child]
        is_new = module in modules and is_operation(kind, operands)
        return kind.functions[in_place and not is_new](*operands)

    with probed(model, probe):
        found = run_once(model)
    return not all(
        torch.allclose(x, y, 0, 0, equal_nan=True)
        for x, y in zip(found, expected, strict=True)
    )
