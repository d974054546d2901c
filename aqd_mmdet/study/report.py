"""Tables and a picture of a study's results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from ..files import write_whole
from .plan import SCRATCH, Cell, Study

HEADS = ('AP', 'AP50', 'AP75', 'small', 'medium', 'large')
COLUMNS = ('bits', 'recipe', 'seeds', *HEADS, 'AP simulated', 'AP - float')
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
    shown = f'{100 * mean(values):.1f}'
    if len(values) > 1:
        shown += f' ± {100 * stdev(values):.1f}'
    return shown


def _row(group: Group, lines: Sequence[Mapping], base: Groups) -> list[str]:
    """Return the cells of a table's row.

    Args:
        group: What its cells have in common.
        lines: Their results.
        base: Of float detectors that trained as long, by all but the bits.
    """
    data, model, bits, recipe, schedule = group
    metrics = [list(line['metrics'].values()) for line in lines]
    shown = [_spread(values) for values in zip(*metrics, strict=True)]
    simulated = [x['simulation']['mAP'] for x in lines if x['simulation']]
    floats = {
        x['seed']: x['metrics']['mAP']
        for x in base.get((data, model, 'float', 'default', schedule), [])
    }
    lost = [
        x['metrics']['mAP'] - floats[x['seed']]
        for x in lines
        if x['seed'] in floats and bits != 'float'
    ]
    return [
        f'{bits}, {schedule}' if bits == 'float' else str(bits),
        recipe,
        str(len(lines)),
        *shown,
        _spread(simulated) if simulated else '',
        _spread(lost) if lost else '',
    ]


def document(study: Study, results: Mapping[str, Mapping]) -> str:
    """Return the tables as Markdown."""
    groups = grouped(study, results)
    lines = [
        f'# Results of the study {study.path.stem}',
        '',
        f'{len(results)} of {len(study.cells)} cells are finished. AP is in '
        'per cent: the mean of the seeds ± their standard deviation. Of '
        'quantised detectors it is that of the program that the engine runs, '
        'from image files to boxes; beside it is that of the simulation in '
        'floats, and the difference to the float detector of the same seed '
        'that was trained as long.',
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
    return '\n'.join([*lines, '', f'![AP by bits]({study.path.stem}.png)', ''])


def _text(value: object) -> str:
    if not isinstance(value, dict):
        return str(value)
    return ', '.join(f'{name} {number}' for name, number in value.items())


def draw(groups: Groups, path: Path) -> None:
    """Draw AP by bits.

    Args:
        groups: The results.
        path: File to write.
    """
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    widths = sorted({str(group[2]) for group in groups})
    pairs = list(dict.fromkeys(group[:2] for group in groups))
    figure, axes = pyplot.subplots(figsize=(6, 4), layout='constrained')
    for (data, model, bits, recipe, schedule), found in groups.items():
        if schedule == SCRATCH:
            continue
        values = [100 * x['metrics']['mAP'] for x in found]
        place = pairs.index((data, model))
        axes.errorbar(
            # Beside each other where they would hide each other.
            widths.index(str(bits)) + 0.08 * place,
            mean(values),
            stdev(values) if len(values) > 1 else 0,
            fmt='o' if recipe == 'default' else 's',
            color=f'C{place}',
            capsize=3,
            label=f'{model}, {data}, {recipe}' if bits == 2 else None,
        )
    axes.set_xticks(range(len(widths)), widths)
    axes.set(xlabel='bits', ylabel='AP of the integer program, %')
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def write(study: Study, results: Mapping[str, Mapping], path: Path) -> None:
    """Write the tables, and the picture beside them.

    Args:
        study: The study.
        results: By the cells' names.
        path: File of the tables, ``.md``.
    """
    write_whole(path, document(study, results).encode())
    draw(grouped(study, results), path.with_name(f'{study.path.stem}.png'))
