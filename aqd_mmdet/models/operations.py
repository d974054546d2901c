"""Finding the operations on maps in a detector, and giving them layers.

The adds of residuals and feature pyramids and the products of attention are
``+`` and ``*`` signs in the forward functions of other packages' classes, not
modules; some gates are calls of ``sigmoid``. A module whose operations are
quantised gets a subclass of its own class, in which each of them is a call of
a layer: exactly what one would write by hand, but for any model.
"""

import ast
import inspect
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from types import FunctionType, MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..errors import UserError
from ..layers import KINDS
from ..layers.kinds import Operation
from ..patches import patched

OPERATIONS = {
    kind.child: kind for kind in KINDS if isinstance(kind, Operation)
}
CHILDREN = {kind.sign: kind.child for kind in OPERATIONS.values()}
# Side of the images of `run_once`; it is the coarsest stride of mmdet's
# pyramids, so that no level is empty.
PROBE_SIZE = 128
# Images at once in `run_once`. With one, a table that all images share, such
# as a transformer's bias of positions, would have the shape of a map.
PROBE_IMAGES = 2
# What functions of tensors are called as, besides as methods of these.
NAMESPACES = ('torch', 'F')
# Of a module, for each child that holds layers, the positions of the signs
# among their kind.
Sites = dict[str, set[int]]
# Makes the call from the child, the sign's position among all of its kind in
# the class, whether it is in place, and its operands; None leaves the sign.
Rewrite = Callable[[str, int, bool, Sequence[ast.expr]], ast.expr | None]


class _Calls(ast.NodeTransformer):
    """Replaces the signs of functions by calls.

    Args:
        call: Makes a call.
    """

    def __init__(self, call: Rewrite) -> None:
        self.call = call
        self.counts = dict.fromkeys(OPERATIONS, 0)

    def _replace(
        self, sign: Any, in_place: bool, *operands: ast.expr
    ) -> ast.expr | None:
        child = CHILDREN.get(sign)
        if child is None:
            return None
        self.counts[child] += 1
        return self.call(child, self.counts[child] - 1, in_place, operands)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        call = self._replace(type(node.op), False, node.left, node.right)
        return node if call is None else ast.copy_location(call, node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        # `out += x` reads its target too; the parser has it as a target only.
        read = ast.parse(ast.unparse(node.target), mode='eval').body
        call = self._replace(type(node.op), True, read, node.value)
        if call is None:
            return node
        return ast.copy_location(ast.Assign([node.target], call), node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        function = node.func
        if not isinstance(function, ast.Attribute) or node.keywords:
            return node
        owner = function.value
        is_namespace = isinstance(owner, ast.Name) and owner.id in NAMESPACES
        operands = node.args if is_namespace else [owner, *node.args]
        if len(operands) != 1:
            return node
        call = self._replace(function.attr, False, *operands)
        return node if call is None else ast.copy_location(call, node)


class _Unbound(ast.NodeTransformer):
    """Lets a method mean without its class's body what it means there.

    Args:
        owner: The class.
    """

    def __init__(self, owner: type) -> None:
        self.prefix = f'_{owner.__name__.lstrip("_")}'

    def _mangled(self, name: str) -> str:
        is_private = name.startswith('__') and not name.endswith('__')
        return f'{self.prefix}{name}' if is_private else name

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        node.attr = self._mangled(node.attr)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._mangled(node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        # Annotations may name what type checkers alone import.
        node.arg, node.annotation = self._mangled(node.arg), None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        return node


def _recompile(
    forward: FunctionType,
    owner: type,
    transformer: ast.NodeTransformer,
    names: dict[str, Any],
) -> FunctionType:
    """Return a function of the transformed source, in its own namespace."""
    lines, first = inspect.getsourcelines(forward)
    tree = ast.parse(textwrap.dedent(''.join(lines)))
    function = transformer.visit(_Unbound(owner).visit(tree.body[0]))
    # Defaults were made in the class's body, and are taken over below.
    given = function.args
    given.defaults = [ast.Constant(None) for _ in given.defaults]
    given.kw_defaults = [x and ast.Constant(None) for x in given.kw_defaults]
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
    made: FunctionType = space['make'](owner)
    made.__defaults__ = forward.__defaults__
    made.__kwdefaults__ = forward.__kwdefaults__
    return made


def _rewritable(cls: type) -> dict[str, tuple[type, FunctionType]]:
    """Return ``forward`` and the methods that it names, with their owners.

    Those are left out that cannot be rewritten.
    """
    found: dict[str, tuple[type, FunctionType]] = {}
    pending = ['forward']
    for name in pending:
        owner = next((c for c in cls.__mro__ if name in vars(c)), None)
        method = None if owner is None else vars(owner)[name]
        if (
            owner is None
            or owner.__module__.startswith('torch.')
            or not isinstance(method, FunctionType)
            or set(method.__code__.co_freevars) - {'__class__'}
            or method.__code__.co_varnames[:1] != ('self',)
        ):
            continue
        found[name] = owner, method
        if name == 'forward':
            names = dict.fromkeys(method.__code__.co_names)
            pending += [each for each in names if each != name]
    return found


def _rewritten(
    cls: type, call: Rewrite, names: dict[str, Any]
) -> dict[str, FunctionType]:
    """Return the methods of a class that have signs, these replaced.

    Args:
        cls: The class.
        call: Makes calls.
        names: What these may name.
    """
    transformer = _Calls(call)
    result = {}
    for name, (owner, method) in _rewritable(cls).items():
        before = dict(transformer.counts)
        try:
            new = _recompile(method, owner, transformer, names)
        except (OSError, SyntaxError):
            continue
        if transformer.counts != before:
            result[name] = new
    return result


def is_operation(kind: Operation, operands: Sequence[object]) -> bool:
    """Say whether operands are maps that a layer shall take.

    Args:
        kind: Of the layer.
        operands: Of any types.
    """
    maps = [
        x
        for x in operands
        if isinstance(x, Tensor)
        and not isinstance(x, nn.Parameter)
        and x.ndim == 4
        and x.is_floating_point()
    ]
    return len(maps) == len(operands) and kind.applies(*maps)


def _call(function: str, *args: ast.expr) -> ast.Call:
    target = ast.parse(function, mode='eval').body
    return ast.Call(target, list(args), [])


# Does what a sign does, given its module, its child, its position, whether it
# is in place, and its operands.
Probe = Callable[..., Any]


@contextmanager
def probed(model: nn.Module, probe: Probe) -> Iterator[None]:
    """Let a function do what the signs of a model's modules do.

    Args:
        model: Any model.
        probe: The function.
    """

    def call(
        child: str, site: int, in_place: bool, operands: Sequence[ast.expr]
    ) -> ast.expr:
        constants = (ast.Constant(c) for c in (child, site, in_place))
        return _call(
            '_aqd_probe', ast.Name('self', ast.Load()), *constants, *operands
        )

    methods = {
        cls: _rewritten(cls, call, {'_aqd_probe': probe})
        for cls in {type(module) for module in model.modules()}
    }
    with ExitStack() as stack:
        for module in model.modules():
            bound = {
                name: MethodType(method, module)
                for name, method in methods[type(module)].items()
            }
            stack.enter_context(patched(module, **bound))
        yield


@contextmanager
def find_operations(model: nn.Module) -> Iterator[dict[nn.Module, Sites]]:
    """Watch which signs of a model add or multiply maps, or gate by them.

    Args:
        model: Any model; it is run, in tensor mode, inside the context.

    Yields:
        dict: Filled while the model runs: for each module and each child, the
        positions of the signs in its ``forward``, and in the methods that this
        names, whose operands were maps.
    """
    sites: dict[nn.Module, Sites] = defaultdict(dict)

    def probe(
        module: nn.Module,
        child: str,
        site: int,
        in_place: bool,
        *operands: Any,
    ) -> Any:
        kind = OPERATIONS[child]
        if is_operation(kind, operands):
            sites[module].setdefault(child, set()).add(site)
        return kind.functions[in_place](*operands)

    with probed(model, probe):
        yield sites


@cache
def _calling_class(
    cls: Any, sites: tuple[tuple[str, tuple[int, ...]], ...]
) -> type:
    """Return a subclass whose signs at ``sites`` are calls of layers."""
    sites_by_child = dict(sites)

    def call(
        child: str, site: int, in_place: bool, operands: Sequence[ast.expr]
    ) -> ast.expr | None:
        if site not in sites_by_child.get(child, ()):
            return None
        place = sites_by_child[child].index(site)
        return _call(f'self.{child}[{place}]', *operands)

    return type(
        cls.__name__,
        (cls,),
        {
            **_rewritten(cls, call, {}),
            '__module__': cls.__module__,
            '__doc__': cls.__doc__,
        },
    )


def replace_operations(
    module: nn.Module, sites: Sites, make: dict[str, Callable[[], nn.Module]]
) -> None:
    """Let layers do a module's operations.

    Args:
        module: The module; it becomes an instance of a subclass of its class
            and gets the layers as children.
        sites: Positions of its signs, as found by :func:`find_operations`.
        make: For each child that it shall get, makes one layer.

    Raises:
        UserError: If the module has a child of that name already.
    """
    ordered = {child: tuple(sorted(sites[child])) for child in make}
    for child in ordered:
        if hasattr(module, child):
            raise UserError(
                f'{type(module).__name__} already has an attribute '
                f'{child!r}: its operations cannot be quantised'
            )
    cls: Any = type(module)
    module.__class__ = _calling_class(cls, tuple(ordered.items()))
    for child, places in ordered.items():
        layers = nn.ModuleList(make[child]() for _ in places)
        module.add_module(child, layers)


def run_once(detector: nn.Module) -> list[Tensor]:
    """Run a detector's feature extractor and dense heads on random pixels.

    Args:
        detector: An mmdet detector, or any model with ``extract_feat``.

    Returns:
        list: All maps, the same ones in each run.
    """
    shape = (PROBE_IMAGES, 3, PROBE_SIZE, PROBE_SIZE)
    generator = torch.Generator().manual_seed(0)
    return maps_of(detector, torch.rand(shape, generator=generator))


@torch.no_grad()
def maps_of(detector: nn.Module, images: Tensor) -> list[Tensor]:
    """Run a detector's feature extractor and dense heads.

    Args:
        detector: An mmdet detector, or any model with ``extract_feat``.
        images: As the preprocessor makes them (N, 3, H, W), of any device.

    Returns:
        list: The features, and all maps of the heads.
    """
    training = detector.training
    detector.eval()
    try:
        weight = next(detector.parameters())
        features = cast(Any, detector).extract_feat(images.to(weight))
        maps = [features]
        for name in ('bbox_head', 'rpn_head'):
            if hasattr(detector, name):
                maps.append(getattr(detector, name)(features))
        return [x for x in tree_leaves(maps) if isinstance(x, Tensor)]
    finally:
        detector.train(training)
