"""Tables and the picture of literal results."""

from pathlib import Path

import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.study.plan import Cell, Study, read_results, read_study
from aqd_mmdet.study.report import HEADS, document, write

ROOT = Path(__file__).parents[2]
FLOATS = [Cell('m', 'd', 'float', s, 'default', 'finetune') for s in (0, 1)]
TWO = [Cell('m', 'd', 2, s, 'default', 'finetune') for s in (0, 1)]
PAPER = Cell('m', 'd', 2, 0, 'paper', 'finetune')
# A recipe with a float detector of its own.
GROUP_NORM = [
    Cell('m', 'd', bits, 1, 'gn', 'finetune') for bits in ('float', 2)
]
NAMES = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
STUDY = Study(Path('bits.py'), (*FLOATS, *TWO, PAPER, *GROUP_NORM), '', {}, {})


def result(cell: Cell, ap: float, simulated: float | None = None) -> dict:
    rest = [ap + i / 100 for i in range(len(HEADS))]
    return dict(
        cell=cell.name,
        seed=cell.seed,
        steps=7,
        device='this',
        commit='abc1234',
        versions=dict(torch='2', numpy='3'),
        metrics=dict(zip(NAMES, rest, strict=True)),
        simulation=None if simulated is None else dict(mAP=simulated),
    )


def results() -> dict[str, dict]:
    found = [
        result(FLOATS[0], 0.5),
        result(FLOATS[1], 0.52),
        result(TWO[0], 0.48, 0.482),
        result(TWO[1], 0.44, 0.442),
        result(PAPER, 0.3, 0.3),
        result(GROUP_NORM[0], 0.4),
        result(GROUP_NORM[1], 0.35, 0.36),
    ]
    return {x['cell']: x for x in found}


def test_a_row_is_the_mean_of_seeds_and_their_deviation():
    text = document(STUDY, results())
    rows = [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in text.splitlines()
        if line.startswith('|')
    ][2:]
    assert rows == [
        ['float, finetune', 'default', '2', '51.0 ± 1.4', '52.0 ± 1.4',
         '53.0 ± 1.4', '54.0 ± 1.4', '55.0 ± 1.4', '56.0 ± 1.4', '', '',
         ''],
        ['2', 'default', '2', '46.0 ± 2.8', '47.0 ± 2.8', '48.0 ± 2.8',
         '49.0 ± 2.8', '50.0 ± 2.8', '51.0 ± 2.8', '46.2 ± 2.8',
         '-5.0 ± 4.2', ''],
        ['2', 'paper', '1', '30.0', '31.0', '32.0', '33.0', '34.0', '35.0',
         '30.0', '-20.0', '-18.0'],
        ['float, finetune', 'gn', '1', '40.0', '41.0', '42.0', '43.0', '44.0',
         '45.0', '', '', '-12.0'],
        ['2', 'gn', '1', '35.0', '36.0', '37.0', '38.0', '39.0', '40.0',
         '36.0', '-5.0', '-9.0'],
    ]  # fmt: skip
    assert '- versions: torch 2, numpy 3\n' in text
    assert '7 of 7 cells' in text


def test_sizes_of_no_object_are_empty():
    found = results()
    found[PAPER.name]['metrics']['mAP_l'] = -1.0
    text = document(STUDY, found)
    assert '| 2 | paper | 1 | 30.0 | 31.0 | 32.0 | 33.0 | 34.0 |  |' in text


def test_unfinished_cells_have_no_rows():
    found = results()
    del found[PAPER.name], found[TWO[1].name]
    text = document(STUDY, found)
    assert '5 of 7 cells' in text
    assert 'paper' not in text
    assert '| 2 | default | 1 | 48.0 |' in text


def test_results_of_other_studies_are_left_out():
    found = {**results(), 'other': result(PAPER, 0.9) | dict(device='that')}
    assert document(STUDY, found) == document(STUDY, results())
    with pytest.raises(UserError, match='none of its cells is finished'):
        document(STUDY, {'other': found['other']})


def test_files(tmp_path):
    write(STUDY, results(), tmp_path / 'results.md')
    assert (tmp_path / 'results.md').read_text() == document(STUDY, results())
    assert (tmp_path / 'bits.png').read_bytes().startswith(b'\x89PNG')


def test_a_report_of_nothing(tmp_path):
    with pytest.raises(UserError, match=r': none of its cells is finished$'):
        write(STUDY, {}, tmp_path / 'results.md')


@pytest.mark.parametrize(
    'name, page',
    [
        ('low_bits', 'results'),
        ('recipes', 'results_recipes'),
        ('widths', 'results_widths'),
        ('peers', 'results_peers'),
        ('transfer', 'results_transfer'),
    ],
)
def test_the_pages_are_those_of_the_kept_results(name, page):
    study = read_study(ROOT / f'configs/study/{name}.py')
    kept = read_results(ROOT / f'docs/results/{name}.jsonl')
    assert kept.keys() <= {cell.name for cell in study.cells}
    text = (ROOT / f'docs/{page}.md').read_text()
    assert text == document(study, kept)


@pytest.mark.parametrize('name', ['device', 'metrics', 'simulation', 'seed'])
def test_results_of_another_kind_are_refused(tmp_path, name):
    found = results()
    del found[TWO[0].name][name]
    with pytest.raises(UserError, match='not as a cell writes it'):
        write(STUDY, found, tmp_path / 'low.md')
    assert not list(tmp_path.iterdir())
