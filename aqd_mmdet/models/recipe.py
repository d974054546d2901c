"""Recipes: rules that say what stands where in a quantised detector.

A recipe is a list of rules, most special last. Each names modules by globs
(``*`` matches dots too) and says one thing of them::

    recipe = [
        dict(modules='*', conv=dict()),           # the detector's bits
        dict(modules='bbox_head.*', conv=dict(weight_bits=8, act_bits=8)),
        dict(modules='bbox_head.*_convs.*', norm=dict()),
        dict(modules='*', add=dict(bits=8)),
        dict(modules='*', act=dict(bits=8)),
        dict(modules='neck.*', float=True),       # leave alone
    ]
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, get_type_hints

from ..errors import UserError, nearest
from ..layers import KINDS
from ..layers.multi_level_norm import NormOptions

FLOAT = 'float'


# Classes of what a rule says, by its key.
OPTIONS: Mapping[str, type] = {
    **{kind.rule: kind.options for kind in KINDS},
    'norm': NormOptions,
}
# An instance of one of these classes, or the word ``float``.
Choice = Any


@dataclass(frozen=True)
class Rule:
    """One line of a recipe.

    Attributes:
        position: Its index in the recipe, for messages.
        modules: Globs over dotted module names; the rule speaks of a module
            if one of them matches.
        type: If given, the class name (or a base's) that a module must have.
        kind: One of :data:`OPTIONS`, or ``float``.
        choice: What shall stand there; the word ``float`` for that kind.
    """

    position: int
    modules: tuple[str, ...]
    type: str | None
    kind: str
    choice: Choice

    def matches(self, name: str, module: object) -> bool:
        """Say whether the rule speaks of a module.

        Args:
            name: Dotted name inside the detector.
            module: The module itself.
        """
        names = [cls.__name__ for cls in type(module).__mro__]
        if self.type is not None and self.type not in names:
            return False
        return any(fnmatchcase(name, glob) for glob in self.modules)

    def __str__(self) -> str:
        globs = ', '.join(self.modules)
        of_type = f' of type {self.type}' if self.type else ''
        return f'rule {self.position} of the recipe ({globs}{of_type})'


def _read_choice(kind: str, options: Any, where: str) -> Choice:
    if kind == FLOAT:
        if options is not True:
            raise UserError(
                f'{where}: float={options!r}; the one thing to '
                'say is float=True'
            )
        return FLOAT
    if not isinstance(options, dict):
        raise UserError(f'{where}: {kind}={options!r} is not a dict')
    make = OPTIONS[kind]
    known = [field.name for field in fields(make)]
    types = get_type_hints(make)
    for option, value in options.items():
        if option not in known:
            raise UserError(
                f'{where}: {kind} has no option {option!r} '
                f'({nearest(str(option), known)})'
            )
        if not isinstance(value, types[option]):
            name = getattr(types[option], '__name__', types[option])
            raise UserError(
                f'{where}: {kind} has {option}={value!r}: expected {name}'
            )
    try:
        return make(**options)
    except UserError as error:
        raise UserError(f'{where}: {error}') from None


def read_recipe(recipe: Any) -> tuple[Rule, ...]:
    """Return the typed rules of a recipe.

    Args:
        recipe: A list of dicts from a config.

    Raises:
        UserError: If a rule has an unknown key, an impossible width, or says
            no thing or several.
    """
    if not isinstance(recipe, Sequence) or isinstance(recipe, str):
        raise UserError(f'recipe={recipe!r} is not a list of rules')
    rules = []
    for position, entry in enumerate(recipe):
        where = f'rule {position} of the recipe'
        if not isinstance(entry, dict):
            raise UserError(f'{where}: {entry!r} is not a dict')
        known = ['modules', 'type', *OPTIONS, FLOAT]
        for key in entry:
            if key not in known:
                raise UserError(
                    f'{where}: no key is called {key!r} '
                    f'({nearest(str(key), known)})'
                )
        kinds = [key for key in entry if key in OPTIONS or key == FLOAT]
        if len(kinds) != 1:
            raise UserError(
                f'{where} must say exactly one of '
                f'{", ".join(known[2:])}; it says '
                f'{", ".join(kinds) or "none"}'
            )
        globs = entry.get('modules', '*')
        globs = [globs] if isinstance(globs, str) else globs
        if (
            not isinstance(globs, (list, tuple))
            or not globs
            or not all(isinstance(glob, str) for glob in globs)
        ):
            raise UserError(
                f'{where}: modules={globs!r} is neither a glob nor a list of '
                'them'
            )
        choice = _read_choice(kinds[0], entry[kinds[0]], where)
        rules.append(
            Rule(position, tuple(globs), entry.get('type'), kinds[0], choice)
        )
    return tuple(rules)


def check_floats(rules: Iterable[Rule], modules: dict[str, Any]) -> None:
    """Refuse rules that leave nothing in float.

    Args:
        rules: The recipe.
        modules: All modules that a rule of any kind can choose for, by name.

    Raises:
        UserError: If a rule of floats matches none of them.
    """
    for rule in rules:
        if rule.kind == FLOAT and not _matched(rule, modules):
            raise _no_match(rule, 'module that could be quantised', modules)


def _matched(rule: Rule, modules: dict[str, Any]) -> list[str]:
    return [n for n, m in modules.items() if rule.matches(n, m)]


def _no_match(rule: Rule, wanted: str, modules: dict[str, Any]) -> UserError:
    hint = nearest(rule.modules[0], modules)
    return UserError(f'{rule} matches no {wanted} ({hint})')


def choose(
    rules: Iterable[Rule], kind: str, modules: dict[str, Any]
) -> dict[str, Choice]:
    """Return what the rules choose for each module, the last match winning.

    Args:
        rules: The recipe.
        kind: One of :data:`OPTIONS`; rules of floats count as well.
        modules: All modules that can be chosen for, by name.

    Returns:
        dict: The options for each module that a rule of this kind speaks of
        and that no later rule leaves alone.

    Raises:
        UserError: If a rule of this kind matches no module.
    """
    chosen: dict[str, Choice] = {}
    for rule in rules:
        if rule.kind not in (kind, FLOAT):
            continue
        names = _matched(rule, modules)
        if rule.kind == kind and not names:
            raise _no_match(rule, f'module with a {kind}', modules)
        chosen.update((name, rule.choice) for name in names)
    return {n: options for n, options in chosen.items() if options != FLOAT}
