"""The benchmark on the command line."""

import json

from tests.factories import error_line, run_tool


def benchmark(tmp_path, *arguments):
    return run_tool(
        'tools/benchmark.py', '--out', tmp_path / 'out', *arguments
    )


def test_unknown_case(tmp_path):
    line = error_line(benchmark(tmp_path, '--cases', 'conv4x4'))
    assert "--cases 'conv4x4': unknown name (nearest: conv" in line
    assert not (tmp_path / 'out').exists()


def test_unknown_engine(tmp_path):
    line = error_line(benchmark(tmp_path, '--engines', 'openvino-int4'))
    assert "'openvino-int4': unknown name (nearest: openvino-int8" in line


def test_boxes_are_of_the_zoo_by_peers_that_have_them(tmp_path):
    for option, wrong, near in (
        ('--cases', 'retinanet-r18-800', 'r'),
        ('--engines', 'pytorch', ''),
    ):
        line = error_line(
            benchmark(tmp_path, '--images', tmp_path, option, wrong)
        )
        assert f'{option} {wrong!r}: unknown name (nearest: {near}' in line


def test_no_pictures(tmp_path):
    options = ['--cases', 'ssdlite-320', '--engines', 'aqd-8']
    for folder, text in ((tmp_path, 'no picture in it'), ('x', 'no such')):
        result = benchmark(tmp_path, '--images', folder, *options)
        assert f'--images {folder}: ' in error_line(result)
        assert text in error_line(result)
    assert not (tmp_path / 'out').exists()


def test_no_rounds(tmp_path):
    assert '1 or more' in error_line(benchmark(tmp_path, '--rounds', 0))


def test_one_engine(tmp_path):
    options = '--cases conv1x1 --engines aqd-2 --rounds 1'
    result = benchmark(tmp_path, *options.split())
    assert result.returncode == 0, result.stderr[-2000:]
    assert '| aqd 2 bits |' in result.stdout
    out = tmp_path / 'out'
    assert sorted(path.name for path in out.iterdir()) == [
        'benchmark.json',
        'benchmark.log',
        'benchmark.md',
        'benchmark.png',
    ]
    (row,) = json.loads((out / 'benchmark.json').read_text())['rows']
    assert row['case'] == 'conv1x1'
