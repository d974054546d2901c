"""tools/test.py on exports: a table, or one line that says what is wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aqd_mmdet.export import onnx_detector, onnx_model, qdq_model
from aqd_mmdet.program import file
from tests.factories import CONFIGS, ROOT, data_options
from tests.tool import error_line, run_tool

CONFIG = CONFIGS / 'digits/retinanet_digits_2bit.py'
MODEL = ROOT / 'aqd_mmdet/runtime/example/digits.aqd'


@pytest.fixture(scope='module')
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Exports of the example, and of one that a layer is missing of."""
    compiled, _ = file.load(MODEL)
    program = compiled.program
    name, weights = next(iter(program.weights.items()))
    blank = replace(weights, packed=np.zeros_like(weights.packed))
    other = replace(program, weights={**program.weights, name: blank})
    contents = {
        'exact': onnx_detector.export(compiled, onnx_model.network),
        'qdq': onnx_detector.export(compiled, qdq_model.network),
        'maps': onnx_model.export(compiled),
        'other': onnx_detector.export(
            replace(compiled, program=other), onnx_model.network
        ),
    }
    folder = tmp_path_factory.mktemp('exports')
    for key, content in contents.items():
        (folder / f'{key}.onnx').write_bytes(content)
    return {key: folder / f'{key}.onnx' for key in contents}


@pytest.fixture
def evaluate(digits, tmp_path):
    def run(*arguments: object):
        return run_tool(
            'tools/test.py', CONFIG, *arguments, '--work-dir', tmp_path / 'w',
            '--cfg-options', *data_options(digits),
        )  # fmt: skip

    return run


def rows(text: str) -> dict[str, list[str]]:
    lines = [x.strip('| ').split(' | ') for x in text.splitlines()]
    return {name: cells for name, *cells in lines if len(cells) > 1}


def test_a_table_of_the_program_and_its_exports(evaluate, exports):
    result = evaluate(MODEL, '--exports', exports['exact'])
    assert result.returncode == 0, result.stderr
    table = rows(result.stdout)
    assert table['metric'] == [str(MODEL), str(exports['exact'])]
    program, exact = table['coco/bbox_mAP']
    assert float(program) > 30
    assert exact == program


def test_one_file_by_itself(evaluate, exports):
    result = evaluate(exports['qdq'])
    assert result.returncode == 0, result.stderr
    assert 'coco/bbox_mAP: ' in result.stdout + result.stderr
    assert '| metric' not in result.stdout


def test_another_ap_is_an_error(evaluate, exports):
    result = evaluate(MODEL, '--exports', exports['other'])
    line = error_line(result)
    assert f'model {exports["other"]}: coco/bbox_mAP is ' in line
    assert rows(result.stdout)['coco/bbox_mAP'][0] in line


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['MAPS'], 'export it again with --boxes'),
        ([MODEL, '--exports', 'MAPS'], 'export it again with --boxes'),
        (['EXACT', '--exports', 'QDQ'], '--exports: expected a model.aqd'),
        ([MODEL, '--exports', MODEL], 'give a name that ends in .onnx'),
        ([MODEL, '--exports', 'QDQ', '--out', 'a.pkl'], '--out: it is of one'),
        (['QDQ', '--tta'], '--tta: '),
        ([MODEL, '--exports', 'no.onnx'], 'model no.onnx: no such file'),
    ],
)
def test_mistakes_are_one_line(evaluate, exports, arguments, message):
    given = [exports.get(str(each).lower(), each) for each in arguments]
    result = evaluate(*given)
    assert message in error_line(result)
    assert 'bbox_mAP' not in result.stdout


@pytest.mark.parametrize(
    'name, message',
    [
        ('folder.pkl', 'it is a folder'),
        ('x.json', 'give a name that ends in .pkl'),
        ('/proc/x.pickle', 'cannot write to the folder /proc'),
    ],
)
def test_a_file_of_predictions_is_checked_before_the_work(
    evaluate, tmp_path, name, message
):
    (tmp_path / 'folder.pkl').mkdir()
    line = error_line(evaluate(MODEL, '--out', tmp_path / name))
    assert line.startswith(f'error: --out {tmp_path / name}: {message}')


def test_what_draws_may_be_missing(digits, tmp_path):
    result = run_tool(
        'tools/test.py', CONFIG, MODEL, '--work-dir', tmp_path / 'w',
        '--show-dir', 'drawn', '--cfg-options', *data_options(digits),
        'default_hooks.visualization=None',
    )  # fmt: skip
    assert 'need default_hooks.visualization=' in error_line(result)
