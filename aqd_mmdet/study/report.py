"""Tables and a picture of a study's results."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from statistics import mean, stdev

from ..errors import UserError
from ..files import write_all
from .plan import SCRATCH, Cell, Study

HEADS = ('AP', 'AP50', 'AP75', 'small', 'medium', 'large')
COLUMNS = (
    *('bits', 'recipe', 'seeds', *HEADS),
    *('AP simulated', 'AP - float', 'AP - default'),
)
# Cells that differ in their seed alone.
Group = tuple[str, str, int | str, str, str]
Groups = dict[Group, list[Mapping]]


def grouped(study: Study, results: Mapping[str, Mapping]) -> Groups:
    """Return the results that are there, those of all seeds together.

    Args:
        study: The study.
        results: By the cells' names.
    """
    groups: Groups = {}
    for cell in study.cells:
        if cell.name in results:
            groups.setdefault(_group(cell), []).append(results[cell.name])
    return groups


def _group(cell: Cell) -> Group:
    return cell.data, cell.model, cell.bits, cell.recipe, cell.schedule


def _spread(values: Sequence[float]) -> str:
    """Return mean and deviation in per cent; nothing for no objects, -1."""
    if min(values) <= -1:
        return ''
    shown = f'{100 * mean(values):.1f}'
    if len(values) > 1:
        shown += f' ± {100 * stdev(values):.1f}'
    return shown


def _name(group: Group) -> str:
    """Return what a row says of bits and schedule."""
    _, _, bits, _, schedule = group
    is_usual = bits != 'float' and schedule == 'finetune'
    return str(bits) if is_usual else f'{bits}, {schedule}'


def _difference(lines: Sequence[Mapping], others: Sequence[Mapping]) -> str:
    """Return by how much AP is above that of others of the same seeds."""
    base = {x['seed']: x['metrics']['mAP'] for x in others}
    found = [
        x['metrics']['mAP'] - base[x['seed']]
        for x in lines
        if x['seed'] in base
    ]
    return _spread(found) if found else ''


def _row(group: Group, lines: Sequence[Mapping], groups: Groups) -> list[str]:
    """Return the cells of a table's row.

    Args:
        group: What its cells have in common.
        lines: Their results.
        groups: All results, to compare with.
    """
    data, model, bits, recipe, schedule = group
    metrics = [list(line['metrics'].values()) for line in lines]
    shown = [_spread(values) for values in zip(*metrics, strict=True)]
    simulated = [x['simulation']['mAP'] for x in lines if x['simulation']]
    # A recipe may change the float detector, too.
    floats = groups.get((data, model, 'float', recipe, schedule)) or (
        groups.get((data, model, 'float', 'default', schedule), [])
    )
    # The same schedule by the default recipe, or the usual one.
    usual = schedule if recipe != 'default' else 'finetune'
    default = groups.get((data, model, bits, 'default', usual), [])
    is_start = recipe == 'default' and schedule in ('finetune', SCRATCH)
    return [
        _name(group),
        recipe,
        str(len(lines)),
        *shown,
        _spread(simulated) if simulated else '',
        '' if bits == 'float' else _difference(lines, floats),
        '' if is_start else _difference(lines, default),
    ]


def document(study: Study, results: Mapping[str, Mapping]) -> str:
    """Return the tables as Markdown.

    Args:
        study: The study.
        results: By the cells' names; those of other studies are left out.

    Raises:
        UserError: If none is of the study.
    """
    known = {cell.name for cell in study.cells}
    results = {name: x for name, x in results.items() if name in known}
    if not results:
        raise UserError(f'study {study.path}: none of its cells is finished')
    groups = grouped(study, results)
    lines = [
        f'# Results of the study {study.path.stem}',
        '',
        f'{len(results)} of {len(study.cells)} cells are finished. AP is in '
        'per cent: the mean of the seeds ± their standard deviation. For '
        'quantised detectors it is measured on the compiled program, which '
        'the engine runs from image files to boxes; *AP simulated* is that '
        'of the simulation in floats, which is all that there is of other '
        "libraries' layers. *AP - float* is the difference to the "
        'float detector of the same seed that was trained as long, of the '
        'same recipe where there is one. *AP - default* is that to the same '
        'bits by the default recipe, or of another schedule to the usual one.',
        '',
    ]
    for key in ('device', 'versions', 'commit', 'steps'):
        found = {_text(x[key]) for x in results.values()}
        lines.append(f'- {key}: {"; ".join(sorted(found))}')
    tables = dict.fromkeys(group[:2] for group in groups)
    for data, model in tables:
        lines += ['', f'## {model}, {data}', '', f'| {" | ".join(COLUMNS)} |']
        lines.append(f'|---|---{"|---:" * (len(COLUMNS) - 2)}|')
        lines += [
            f'| {" | ".join(_row(group, found, groups))} |'
            for group, found in groups.items()
            if group[:2] == (data, model)
        ]
    return '\n'.join(
        [*lines, '', f'![AP by bits and recipe]({study.path.stem}.png)', '']
    )


def _text(value: object) -> str:
    if not isinstance(value, dict):
        return str(value)
    return ', '.join(f'{name} {number}' for name, number in value.items())


def drawn(groups: Groups) -> bytes:
    """Return a PNG of the AP of each row, the float detector's as a line.

    Args:
        groups: The results.
    """
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    tables: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        tables.setdefault(group[:2], []).append(group)
    rows = [len(found) for found in tables.values()]
    figure, axes = pyplot.subplots(
        len(tables),
        # A row of text is a quarter of an inch high.
        figsize=(7, 1 + sum(0.25 * count + 0.4 for count in rows)),
        height_ratios=rows,
        sharex=True,
        squeeze=False,
        layout='constrained',
    )
    for panel, ((data, model), found) in zip(
        axes[:, 0], tables.items(), strict=True
    ):
        for place, group in enumerate(found):
            values = [100 * x['metrics']['mAP'] for x in groups[group]]
            spread = stdev(values) if len(values) > 1 else 0
            color = 'C1' if group[2] == 'float' else 'C0'
            panel.errorbar(
                mean(values), place, xerr=spread, fmt='o', color=color
            )
            if group[2:] == ('float', 'default', 'finetune'):
                panel.axvline(mean(values), color=color, linestyle=':')
        names = [f'{_name(group)}  {group[3]}' for group in found]
        panel.set_yticks(range(len(names)), names)
        panel.invert_yaxis()
        panel.grid(axis='x', alpha=0.3)
        panel.set_title(f'{model}, {data}')
    axes[-1, 0].set_xlabel('AP in per cent; of bits that of the integers')
    content = BytesIO()
    figure.savefig(content, dpi=120)
    pyplot.close(figure)
    return content.getvalue()


def write(study: Study, results: Mapping[str, Mapping], path: Path) -> None:
    """Write the tables, and the picture beside them.

    Args:
        study: The study.
        results: By the cells' names.
        path: File of the tables, ``.md``.

    Raises:
        UserError: If no cell is finished, or a result has not what a cell
            writes.
    """
    try:
        contents = {
            path.name: document(study, results).encode(),
            f'{study.path.stem}.png': drawn(grouped(study, results)),
        }
    except UserError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f'a result of study {study.path} is not as a cell writes it '
            f'({error!r}): remove its line'
        ) from None
    write_all(path.parent, contents)
