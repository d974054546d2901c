"""Finding the additions of tensors in a detector, and giving them layers.

The adds of residuals and feature pyramids are ``+`` signs in the forward
functions of other packages' classes, not modules. A module whose additions
are quantised gets a subclass of its own class, in which each such ``+`` is a
call of a layer: exactly what one would write by hand, but for any model.
"""

import ast
import inspect
import operator
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import FunctionType
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import UserError

CHILD = 'adds'


class _CallsForAdds(ast.NodeTransformer):
    """Replaces the additions of a function by calls.

    Args:
        call: Makes the call from the addition's position among all of the
            function's, and its operands; None leaves the addition.
    """

    def __init__(
        self, call: Callable[[int, bool, ast.expr, ast.expr], ast.expr | None]
    ) -> None:
        self.call = call
        self.count = 0

    def _replace(
        self, in_place: bool, left: ast.expr, right: ast.expr
    ) -> ast.expr | None:
        self.count += 1
        return self.call(self.count - 1, in_place, left, right)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Add):
            return node
        call = self._replace(False, node.left, node.right)
        return node if call is None else ast.copy_location(call, node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Add):
            return node
        # `out += x` reads its target too; the parser has it as a target only.
        read = ast.parse(ast.unparse(node.target), mode='eval').body
        call = self._replace(True, read, node.value)
        if call is None:
            return node
        return ast.copy_location(ast.Assign([node.target], call), node)


def _recompile(
    forward: FunctionType,
    owner: type,
    transformer: ast.NodeTransformer,
    names: dict[str, Any],
) -> FunctionType:
    """Return a function of the transformed source, in its own namespace."""
    lines, first = inspect.getsourcelines(forward)
    tree = ast.parse(textwrap.dedent(''.join(lines)))
    function = transformer.visit(tree.body[0])
    # A surrounding function provides the cell that `super()` looks up.
    outer = ast.parse('def make(__class__): pass')
    factory = outer.body[0]
    assert isinstance(factory, ast.FunctionDef)
    result = ast.Return(ast.Name(function.name, ast.Load()))
    factory.body = [function, result]
    ast.increment_lineno(function, first - 1)
    ast.fix_missing_locations(outer)
    code = compile(outer, inspect.getsourcefile(forward) or '<adds>', 'exec')
    space: dict[str, Any] = {}
    exec(code, {**forward.__globals__, **names}, space)
    return space['make'](owner)


def _owner(cls: type) -> type | None:
    """Return the class that defines ``forward``, if it can be rewritten."""
    for owner in cls.__mro__:
        forward = vars(owner).get('forward')
        if forward is None:
            continue
        if owner.__module__.startswith('torch.'):
            return None
        if not isinstance(forward, FunctionType):
            return None
        if set(forward.__code__.co_freevars) - {'__class__'}:
            return None
        return owner
    return None


def _is_feature_add(x: object, y: object) -> bool:
    return (
        isinstance(x, Tensor)
        and isinstance(y, Tensor)
        and x.ndim == 4
        and x.shape == y.shape
        and x.is_floating_point()
        and y.is_floating_point()
        and not isinstance(x, nn.Parameter)
        and not isinstance(y, nn.Parameter)
    )


def _call(function: str, *args: ast.expr) -> ast.Call:
    target = ast.parse(function, mode='eval').body
    return ast.Call(target, list(args), [])


@cache
def _probe_class(cls: Any) -> type | None:
    """Return a subclass that reports which additions see feature maps."""
    owner = _owner(cls)
    if owner is None:
        return None

    def call(
        site: int, in_place: bool, left: ast.expr, right: ast.expr
    ) -> ast.expr:
        return _call(
            '_aqd_probe',
            ast.Name('self', ast.Load()),
            ast.Constant(site),
            ast.Constant(in_place),
            left,
            right,
        )

    transformer = _CallsForAdds(call)
    forward: Any = vars(owner)['forward']
    if forward.__code__.co_varnames[:1] != ('self',):
        return None
    try:
        new = _recompile(forward, owner, transformer, {'_aqd_probe': _probe})
    except (OSError, SyntaxError):
        return None
    if transformer.count == 0:
        return None
    return type(cls.__name__, (cls,), {'forward': new})


_seen: dict[nn.Module, set[int]] | None = None


def _probe(
    module: nn.Module, site: int, in_place: bool, x: Any, y: Any
) -> Any:
    if _seen is not None and _is_feature_add(x, y):
        _seen[module].add(site)
    return operator.iadd(x, y) if in_place else operator.add(x, y)


@contextmanager
def find_additions(model: nn.Module) -> Iterator[dict[nn.Module, set[int]]]:
    """Watch which additions of a model add feature maps.

    Args:
        model: Any model; it is run, in tensor mode, inside the context.

    Yields:
        dict: Filled while the model runs: for each module, the positions of
        the ``+`` signs in its ``forward`` that added two feature maps.
    """
    global _seen
    probed = []
    for module in model.modules():
        cls: Any = type(module)
        probe = _probe_class(cls)
        if probe is not None:
            probed.append((module, cls))
            module.__class__ = probe
    _seen = defaultdict(set)
    try:
        yield _seen
    finally:
        _seen = None
        for module, original in probed:
            module.__class__ = original


@cache
def _adding_class(cls: Any, sites: tuple[int, ...]) -> type:
    """Return a subclass whose additions at ``sites`` are calls of layers."""
    owner = _owner(cls)
    assert owner is not None

    def call(
        site: int, in_place: bool, left: ast.expr, right: ast.expr
    ) -> ast.expr | None:
        if site not in sites:
            return None
        return _call(f'self.{CHILD}[{sites.index(site)}]', left, right)

    forward: Any = vars(owner)['forward']
    new = _recompile(forward, owner, _CallsForAdds(call), {})
    return type(
        cls.__name__,
        (cls,),
        {'forward': new, '__module__': cls.__module__, '__doc__': cls.__doc__},
    )


def replace_additions(
    module: nn.Module, sites: set[int], make: Callable[[], nn.Module]
) -> None:
    """Let layers do a module's additions.

    Args:
        module: The module; it becomes an instance of a subclass of its class
            and gets the layers as its child ``adds``.
        sites: Positions of its additions, as found by
            :func:`find_additions`.
        make: Makes the layer of one addition.

    Raises:
        UserError: If the module has a child of that name already.
    """
    if hasattr(module, CHILD):
        raise UserError(
            f'{type(module).__name__} already has an attribute '
            f'{CHILD!r}: its additions cannot be quantised'
        )
    ordered = tuple(sorted(sites))
    cls: Any = type(module)
    module.__class__ = _adding_class(cls, ordered)
    module.add_module(CHILD, nn.ModuleList(make() for _ in ordered))


def run_once(detector: nn.Module, size: int) -> None:
    """Run a detector's feature extractor and dense heads on a blank image.

    Args:
        detector: An mmdet detector, or any model with ``extract_feat``.
        size: Side of the image in pixels; all strides must divide it.
    """
    training = detector.training
    detector.eval()
    try:
        with torch.no_grad():
            weight = next(detector.parameters())
            image = weight.new_zeros(1, 3, size, size)
            features = cast(Any, detector).extract_feat(image)
            for name in ('bbox_head', 'rpn_head'):
                if hasattr(detector, name):
                    getattr(detector, name)(features)
    finally:
        detector.train(training)
