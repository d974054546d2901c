"""Cells of studies: their order, their starts, mistakes."""

import json

import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.study.plan import (
    Cell,
    check_options,
    choose,
    read_results,
    read_study,
)

STUDY = """
data = ['cells']
seed = [0, 1]
model = ['a', 'b']
training = [
    dict(bits='float', schedule='scratch'),
    dict(bits=2),
    dict(bits=2, recipe='paper'),
]
config = '{model}_{data}.py'
schedules = dict(scratch={'lr': 2}, finetune={'lr': 1})
recipes = dict(default={}, paper={'start': 'paper', 'lr': 3})
"""


@pytest.fixture
def file(tmp_path):
    for name in 'ab':
        (tmp_path / f'{name}_cells.py').touch()
    path = tmp_path / 'study.py'
    path.write_text(STUDY)
    return path


def test_the_first_axes_vary_slowest(file):
    names = [cell.name for cell in read_study(file).cells]
    assert len(names) == 12
    assert names[:4] == [
        'a-cells-float-0-default-scratch',
        'a-cells-2-0-default-finetune',
        'a-cells-2-0-paper-finetune',
        'b-cells-float-0-default-scratch',
    ]
    assert names[6] == 'a-cells-float-1-default-scratch'


def test_a_cell_starts_from_the_float_detector_of_its_seed(file):
    study = read_study(file)
    first, second, third, *_ = study.cells
    assert study.start_of(first) is None
    assert study.start_of(second) == first
    assert study.start_of(third) == first


def test_a_recipe_may_have_a_float_detector_of_its_own(file):
    own = "dict(bits='float', schedule='scratch', recipe='paper'),"
    file.write_text(STUDY.replace('training = [', f'training = [{own}'))
    study = read_study(file)
    paper, default, second, third, *_ = study.cells
    assert study.start_of(second) == default
    assert study.start_of(third) == paper


def test_a_training_may_name_its_start(file):
    later = "dict(bits=2, recipe='paper', start=dict(bits=2)),"
    text = STUDY.replace("    dict(bits=2, recipe='paper'),", later)
    file.write_text(text)
    study = read_study(file)
    first, second, third, *_ = study.cells
    assert study.start_of(third) == second
    assert study.chain_of(third) == [second, first]
    assert choose(study, third.name) == [first, second, third]


def test_overrides_of_recipes_win_over_those_of_schedules(file):
    study = read_study(file)
    cell = study.cells[2]
    assert study.config_of(cell) == file.parent / 'a_cells.py'
    assert study.options_of(cell) == {
        'lr': 3,
        'start': 'paper',
        'model.bits': 2,
        'randomness.seed': 0,
    }


def test_chosen_cells_bring_their_starts(file):
    chosen = choose(read_study(file), 'b-cells-2-1-paper')
    assert [cell.name for cell in chosen] == [
        'b-cells-float-1-default-scratch',
        'b-cells-2-1-paper-finetune',
    ]


@pytest.mark.parametrize(
    'pattern, message',
    [('c-cells', 'no cell has it.*nearest: '), ('(', 'no regular expression')],
)
def test_patterns_that_choose_nothing(file, pattern, message):
    with pytest.raises(UserError, match=message):
        choose(read_study(file), pattern)


@pytest.mark.parametrize(
    'old, new, message',
    [
        ('seed = [0, 1]\n', '', 'expected the keys'),
        ('[0, 1]', '[1, 1]', 'two cells are the same'),
        ("['a', 'b']", "['c']", 'c_cells.py: no such file'),
        ("recipe='paper'", "recipe='papers'", 'nearest: paper'),
        (
            "dict(bits='float', schedule='scratch')",
            'dict(bits=3)',
            'starts from a-cells-float-0-default-scratch, which is no cell',
        ),
        ('dict(bits=2),', 'dict(bit=2),', 'in `training`, found bit'),
        ('training = [', 'training = [[', 'SyntaxError'),
        (
            'dict(bits=2),',
            'dict(bits=2, start=dict(bits=4)),',
            "is no cell: add dict.bits=4, recipe='default', schedule='fin",
        ),
        (
            'dict(bits=2),',
            'dict(bits=2, start=dict(bits=2)),',
            'a-cells-2-0-default-finetune starts from itself',
        ),
        ('dict(bits=2),', 'dict(bits=2, start=dict(bit=2)),', 'found bit'),
    ],
)
def test_mistakes_in_a_study(file, old, new, message):
    assert old in STUDY
    file.write_text(STUDY.replace(old, new))
    with pytest.raises(UserError, match=message):
        read_study(file)


@pytest.mark.parametrize(
    'line, message',
    [
        ("training = ['a']", r"training\.0='a': expected a dict"),
        ('training = [dict(bits=[2])]', r'0\.bits=\[2\]: .* width or'),
        ("training = [dict(start='x')]", r"0\.start='x': expected a dict"),
        (
            "training = [dict(bits=2, recipe=['a'])]",
            r"0\.recipe=\['a'\]: expected a name",
        ),
        (
            'training = [dict(bits=2, start=dict(bits=2, schedule=3))]',
            r'0\.start\.schedule=3: expected a name',
        ),
        ('seed = 3', 'seed=3: expected a list'),
        ("seed = ['a']", r"seed\.0='a': expected a whole number"),
        ("model = 'ab'", "model='ab': expected a list"),
        ('config = 3', 'config=3: expected a pattern'),
        ("config = '{foo}.py'", "{foo}.py': .*KeyError: 'foo'"),
        ("config = '{model.py'", '{model.py.: expected a pattern'),
        ('recipes = []', r'recipes=\[\]: expected a dict'),
        ('recipes = dict(default=3)', r'recipes\.default=3: expected a dict'),
    ],
)
def test_parts_of_another_kind(file, line, message):
    file.write_text(f'{STUDY}{line}\n')
    with pytest.raises(UserError, match=message) as caught:
        read_study(file)
    assert str(caught.value).startswith(f'study {file}: ')


def test_a_study_that_is_missing(tmp_path):
    with pytest.raises(UserError, match='no such file'):
        read_study(tmp_path / 'study.py')


def test_results_with_other_options(file):
    study = read_study(file)
    cell = study.cells[2]
    line = dict(cell=cell.name, options=study.options_of(cell))
    check_options(study, {cell.name: line})
    # Lines of before have none.
    check_options(study, {cell.name: dict(cell=cell.name)})
    check_options(study, {cell.name: {**line, 'start': study.cells[0].name}})
    with pytest.raises(UserError, match=f'{cell.name} was .* options .start.'):
        check_options(study, {cell.name: {**line, 'start': 'another'}})
    line['options'] = {**line['options'], 'lr': 7}
    with pytest.raises(UserError, match=f'{cell.name} was .* options .lr.'):
        check_options(study, {cell.name: line})


def test_results_by_name(tmp_path):
    path = tmp_path / 'results.jsonl'
    assert read_results(path) == {}
    path.write_text(f'{json.dumps(dict(cell="x", steps=3))}\n')
    assert read_results(path) == {'x': dict(cell='x', steps=3)}
    path.write_text('{"cell": "x"}\n{"cell": ')
    with pytest.raises(UserError, match='line 2: no result of a cell'):
        read_results(path)
    path.write_text('[' * 10**5)
    with pytest.raises(UserError, match='line 1: no result of a cell'):
        read_results(path)
    path.write_bytes(b'\x87')
    for other in (path, tmp_path):
        with pytest.raises(UserError, match='expected lines of results'):
            read_results(other)


def test_names_tell_cells_apart():
    cell = Cell('m', 'd', 'float', 0, 'default', 'scratch')
    other = Cell('m', 'd', 'float', 0, 'default', 'finetune')
    assert cell.name != other.name
