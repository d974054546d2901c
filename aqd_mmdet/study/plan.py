"""Studies: which cells there are, and in which order they run."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..errors import UserError, first_line, nearest
from ..files import parse_json

# The schedule of the float detectors that all other cells start from.
SCRATCH = 'scratch'
AXES = ('model', 'data', 'bits', 'seed', 'recipe', 'schedule')
KEYS = ('data', 'seed', 'model', 'training')
# Of a recipe: whose layers are trained in the place of ours. It is no override
# of the config.
LIBRARY = 'library'


@dataclass(frozen=True)
class Cell:
    """One training, and the test of what it made.

    Attributes:
        model, data: Names that the study's `config` is made of.
        bits: Width of weights and activations, or ``float``.
        seed: Of the training.
        recipe, schedule: Names in the study.
    """

    model: str
    data: str
    bits: int | str
    seed: int
    recipe: str
    schedule: str

    @property
    def name(self) -> str:
        """A name that no other cell of the study has."""
        return '-'.join(str(getattr(self, axis)) for axis in AXES)


@dataclass(frozen=True)
class Study:
    """A study's file.

    Attributes:
        path: The file.
        cells: All cells, the first ones first.
        config: Pattern of the cells' configs, in the study's folder.
        options: Overrides of a config by axis and name, such as
            ``options['recipe']['paper']``.
        starts: What cells start from whose training names it.
    """

    path: Path
    cells: tuple[Cell, ...]
    config: str
    options: dict[str, dict[str, dict]]
    starts: dict[Cell, Cell]

    def start_of(self, cell: Cell) -> Cell | None:
        """Return the cell whose weights a cell starts from.

        It is the one that the study names; or else the float one of the same
        recipe, for recipes that change the float detector as well; or that of
        the default recipe.
        """
        if cell in self.starts:
            return self.starts[cell]
        if cell.schedule == SCRATCH:
            return None
        start = replace(cell, bits='float', schedule=SCRATCH)
        if start in self.cells:
            return start
        return replace(start, recipe='default')

    def chain_of(self, cell: Cell) -> list[Cell]:
        """Return what a cell starts from, what that does, and so on.

        A cell that starts from itself is the last one.
        """
        chain: list[Cell] = []
        start = self.start_of(cell)
        while start is not None and start not in chain:
            chain.append(start)
            start = self.start_of(start)
        return chain

    def config_of(self, cell: Cell) -> Path:
        """Return the file of a cell's config."""
        name = self.config.format(model=cell.model, data=cell.data)
        return self.path.parent / name

    def options_of(self, cell: Cell) -> dict[str, Any]:
        """Return the overrides of a cell's config, by dotted keys.

        A ``library`` among them is none; see :data:`LIBRARY`.
        """
        return {
            **self.options['schedule'][cell.schedule],
            **self.options['recipe'][cell.recipe],
            'model.bits': cell.bits,
            'randomness.seed': cell.seed,
        }


def read_study(path: Path) -> Study:
    """Read a study's file.

    Args:
        path: A config in Python with the lists ``data``, ``seed``, ``model``
            and ``training`` (dicts of ``bits``, ``recipe``, ``schedule``, and
            of these of another as ``start``), the pattern ``config``, and the
            dicts ``recipes`` and ``schedules``. A recipe may have `library`:
            whose layers are trained in the place of ours.

    Raises:
        UserError: If something is missing, unknown, or there twice.
    """
    if not path.is_file():
        raise UserError(f'study {path}: no such file')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is code and can raise anything
        reason = first_line(error)
        raise UserError(
            f'study {path}: {type(error).__name__}: {reason}'
        ) from None
    needed = {*KEYS, 'config', 'recipes', 'schedules'}
    if set(cfg) != needed:
        raise UserError(
            f'study {path}: expected the keys {", ".join(sorted(needed))}, '
            f'found {", ".join(sorted(cfg))}'
        )
    _check_kinds(path, cfg)
    options = dict(
        recipe=cfg.recipes.to_dict(), schedule=cfg.schedules.to_dict()
    )
    cells, starts = [], {}
    for data, seed, model, training in itertools.product(
        *(cfg[key] for key in KEYS)
    ):
        own = dict(training)
        start = own.pop('start', None)
        where = dict(data=data, seed=seed, model=model)
        cells.append(_cell(path, own, options, where))
        if start is not None:
            starts[cells[-1]] = _cell(path, dict(start), options, where)
    study = Study(path, tuple(cells), cfg.config, options, starts)
    _check(study)
    return study


def _check_kinds(path: Path, cfg: Config) -> None:
    """Check that the parts of a study are lists, dicts and texts."""
    for name, value, kinds, expected in _parts(cfg):
        if not isinstance(value, kinds):
            raise UserError(
                f'study {path}: {name}={value!r}: expected {expected}'
            )
    try:
        cfg.config.format(model='', data='')
    except (LookupError, ValueError, AttributeError) as error:
        raise UserError(
            f'study {path}: config={cfg.config!r}: expected a pattern of '
            f'{{model}} and {{data}} ({type(error).__name__}: {error})'
        ) from None


Part = tuple[str, Any, type | tuple[type, ...], str]


def _parts(cfg: Config) -> Iterator[Part]:
    """Yield parts of a study, those around others first."""
    yield 'config', cfg.config, str, 'a pattern as text'
    for key in KEYS:
        yield key, cfg[key], (list, tuple), 'a list'
    for key, kind, expected in (
        ('data', str, 'a name'),
        ('model', str, 'a name'),
        ('seed', int, 'a whole number'),
    ):
        for index, value in enumerate(cfg[key]):
            yield f'{key}.{index}', value, kind, expected
    for key in ('recipes', 'schedules'):
        yield key, cfg[key], dict, 'a dict'
        for name, value in cfg[key].items():
            yield f'{key}.{name}', value, dict, 'a dict of overrides'
    for index, training in enumerate(cfg.training):
        where = f'training.{index}'
        yield where, training, dict, 'a dict'
        start = training.get('start') or {}
        yield f'{where}.start', start, dict, 'a dict'
        for own, of in ((where, training), (f'{where}.start', start)):
            bits = of.get('bits', 'float')
            yield f'{own}.bits', bits, (int, str), "a width or 'float'"
            for key in ('recipe', 'schedule'):
                yield f'{own}.{key}', of.get(key, ''), str, 'a name'


def _cell(
    path: Path, training: dict, options: dict, where: dict[str, Any]
) -> Cell:
    """Return the cell of a training, with what it leaves out."""
    axes = dict(recipe='default', schedule='finetune') | training
    if set(axes) != {'bits', 'recipe', 'schedule'}:
        raise UserError(
            f'study {path}: expected bits, recipe, schedule and start in '
            f'`training`, found {", ".join(sorted(training))}'
        )
    for axis, known in options.items():
        if axes[axis] not in known:
            raise UserError(
                f'study {path}: no {axis} is called {axes[axis]!r} '
                f'({nearest(axes[axis], known)})'
            )
    return Cell(**where, **axes)


def _check(study: Study) -> None:
    known = set(study.cells)
    if len(known) < len(study.cells):
        raise UserError(f'study {study.path}: two cells are the same')
    for cell in study.cells:
        if not study.config_of(cell).is_file():
            raise UserError(
                f'study {study.path}: {study.config_of(cell)}: no such file'
            )
        start = study.start_of(cell)
        if start is not None and start not in known:
            raise UserError(
                f'study {study.path}: {cell.name} starts from '
                f'{start.name}, which is no cell: add dict('
                f'bits={start.bits!r}, recipe={start.recipe!r}, '
                f'schedule={start.schedule!r}) to `training`'
            )
        if cell in study.chain_of(cell):
            raise UserError(
                f'study {study.path}: {cell.name} starts from itself'
            )


def choose(study: Study, pattern: str) -> list[Cell]:
    """Return the cells of a pattern, and those that they start from.

    Args:
        study: The study.
        pattern: Regular expression, found somewhere in a cell's name.

    Raises:
        UserError: If no cell has it.
    """
    try:
        chosen = {c for c in study.cells if re.search(pattern, c.name)}
    except re.error as error:
        raise UserError(
            f'--cells {pattern}: no regular expression ({error})'
        ) from None
    if not chosen:
        names = [cell.name for cell in study.cells]
        raise UserError(
            f'--cells {pattern}: no cell has it ({nearest(pattern, names)})'
        )
    for cell in list(chosen):
        chosen |= set(study.chain_of(cell))
    return [cell for cell in study.cells if cell in chosen]


def check_options(study: Study, results: Mapping[str, Mapping]) -> None:
    """Refuse results of cells that ran with other options than the study's.

    Args:
        study: The study.
        results: By the cells' names; those without options are not checked.

    Raises:
        UserError: With the first of them.
    """
    for cell in study.cells:
        result, start = results.get(cell.name, {}), study.start_of(cell)
        kept = result.get('options')
        wanted = json.loads(json.dumps(study.options_of(cell)))
        if kept is not None and 'start' in result:
            kept = dict(kept, start=result['start'])
            wanted['start'] = start and start.name
        if kept is not None and kept != wanted:
            keys = sorted(
                key
                for key in {*kept, *wanted}
                if kept.get(key) != wanted.get(key)
            )
            raise UserError(
                f'{cell.name} was finished with other options '
                f'({", ".join(keys)}): remove its line from the results, or '
                'give another --out'
            )


def read_results(path: Path) -> dict[str, dict]:
    """Return the results of finished cells by the cells' names.

    Args:
        path: File with one JSON object in each line; it may be missing.

    Raises:
        UserError: If it is no text, or a line is something else.
    """
    results = {}
    try:
        lines = path.read_text().splitlines() if path.exists() else []
    except (IsADirectoryError, UnicodeDecodeError):
        raise UserError(f'{path}: expected lines of results') from None
    for number, line in enumerate(lines, 1):
        try:
            result = parse_json(line)
            results[result['cell']] = result
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f'{path}, line {number}: no result of a cell; remove the line'
            ) from None
    return results
