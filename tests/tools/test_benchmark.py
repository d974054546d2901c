"""The benchmark on the command line."""

import json

import numpy as np
import pytest
from PIL import Image

from aqd_mmdet.benchmark.cases import CALLERS
from aqd_mmdet.program import file
from tests.factories import detector
from tests.tool import error_line, run_tool


def benchmark(tmp_path, *arguments, **options):
    return run_tool(
        *('tools/benchmark.py', '--out', tmp_path / 'out', *arguments),
        **options,
    )


def test_unknown_case(tmp_path):
    line = error_line(benchmark(tmp_path, '--cases', 'conv4x4'))
    assert "--cases 'conv4x4': unknown name (nearest: conv" in line
    assert not (tmp_path / 'out').exists()


def test_unknown_engine(tmp_path):
    line = error_line(benchmark(tmp_path, '--engines', 'openvino-int4'))
    assert "'openvino-int4': unknown name (nearest: openvino-int8" in line


def test_boxes_are_of_one_size_by_peers_that_have_them(tmp_path):
    for option, wrong, near in (
        ('--cases', 'retinanet-r18-320', 'r'),
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


def test_too_many_threads(tmp_path):
    line = error_line(benchmark(tmp_path, '--threads', 1000000))
    assert '--threads 1000000: give 1024 or fewer' in line


def test_results_that_could_not_be_written(tmp_path):
    (tmp_path / 'out').write_text('mine')
    for options in (
        ['--cases', 'conv1x1'],
        ['--profile', 'm.aqd', '--size', '64x64'],
    ):
        line = error_line(benchmark(tmp_path, *options))
        assert line.startswith(f'error: --out {tmp_path}/out: ')
        assert 'is a file; choose another' in line
    assert (tmp_path / 'out').read_text() == 'mine'


def test_a_report_measures_nothing():
    for option, value in (('--threads', 1000), ('--profile', 'm.aqd')):
        result = run_tool(
            'tools/benchmark.py', '--report', 'no.json', option, value
        )
        assert f'--report does not go with {option}' in error_line(result)


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


@pytest.fixture
def model(tmp_path):
    file.save(detector(), tmp_path / 'm.aqd')
    return tmp_path / 'm.aqd'


def test_profile(tmp_path, model):
    options = '--size 16x24 --threads 1 --rounds 2'
    result = benchmark(tmp_path, '--profile', model, *options.split())
    assert result.returncode == 0, result.stderr[-2000:]
    assert '| operator |' in result.stdout
    assert 'Sum of the operators: ' in result.stdout
    rows = json.loads((tmp_path / 'out/profile.json').read_text())['rows']
    # Outputs of the first kind come last; p may be read as bytes.
    assert [row['name'] for row in rows][-2:] == ['b', 'c']


def test_a_profile_is_written_only_where_it_is_wanted(tmp_path, model):
    earlier = set(tmp_path.iterdir())
    result = run_tool(
        *('tools/benchmark.py', '--profile', model, '--size', '8x8'),
        *('--rounds', 1),
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert set(tmp_path.iterdir()) == earlier
    assert 'profile.json' not in result.stdout


@pytest.mark.parametrize(
    'arguments, message',
    [
        ('--profile {model}', 'the size of the image is missing'),
        ('--profile {model} --size 9x9', '--size 9x9: expected height x'),
        ('--profile no.aqd --size 8x8', 'model no.aqd: no such file'),
        ('--profile setup.py --size 8x8', 'model setup.py: '),
        ('--profile {model} --image no.png', 'no.png: no such file'),
        ('--profile {model} --cases conv1x1', '--cases does not go with'),
        ('--profile {model} --engines aqd-2', '--engines does not go with'),
        ('--profile {model} --rounds 0', '--rounds 0: give 1 or more'),
        ('--size 8x8', '--size needs --profile MODEL'),
        ('--image a.png', '--image needs --profile MODEL'),
        ('--profile {model} --batch 2', '--batch needs --train CONFIG'),
        ('--train no.py --cases conv1x1', '--cases does not go with --train'),
        ('--train no.py --profile {model}', 'give one of them'),
        ('--train no.py --batch 0', '--batch 0: give 1 or more'),
        ('--train no.py --variants float', 'no.py'),
    ],
)
def test_mistakes_around_profiles(tmp_path, model, arguments, message):
    words = arguments.format(model=model).split()
    assert message in error_line(benchmark(tmp_path, *words))
    assert not (tmp_path / 'out').exists()


def test_from_bytes_to_boxes(tmp_path):
    for package in ('onnx', 'onnxruntime', 'openvino'):
        pytest.importorskip(package)
    rng = np.random.default_rng(0)
    for number, shape in enumerate([(90, 70, 3), (64, 128, 3)]):
        pixels = rng.integers(0, 256, shape, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'{number}.png')
    engines = ['aqd-8', 'onnxruntime-int8', 'openvino-float']
    result = benchmark(
        *(tmp_path, '--images', tmp_path, '--cases', 'ssdlite-320'),
        *('--engines', *engines, '--rounds', 1, '--threads', 1),
        timeout=1800,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert '### SSDLite MobileNetV2, 320x320, from bytes' in result.stdout
    rows = json.loads((tmp_path / 'out/benchmark.json').read_text())['rows']
    assert [(row['engine'], row['callers']) for row in rows] == [
        (engine, callers) for callers in CALLERS for engine in engines
    ]
    for row in rows:
        assert row['throughput'] > 0
        assert row['boxes'] > 0
