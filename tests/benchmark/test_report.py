"""Tables of a report with fixed figures."""

import json
from dataclasses import replace

import pytest

from aqd_mmdet.benchmark import report
from aqd_mmdet.benchmark.cases import CALLERS, Boxes, Network
from aqd_mmdet.benchmark.engines import EngineSpec
from aqd_mmdet.benchmark.layers import Chain
from aqd_mmdet.benchmark.machine import Machine
from aqd_mmdet.benchmark.measure import Row
from aqd_mmdet.errors import UserError

CASE = Network('retinanet-r18', (320, 320))
ENGINES = (
    EngineSpec('aqd-8', 'aqd 8 bits', 'aqd', 'aqd8'),
    EngineSpec('aqd-2', 'aqd 2 bits', 'aqd', 'aqd2'),
    EngineSpec('a-int8', 'A int8', 'onnxruntime', 'int8.onnx'),
    EngineSpec('b-int8', 'B int8', 'openvino', 'int8.onnx'),
    EngineSpec('a-float', 'A float32', 'onnxruntime', 'float.onnx'),
)


def row(engine: str, latency: float, idle: float = 0.0) -> Row:
    return Row(
        CASE.name,
        engine,
        1,
        latency,
        latency * 0.9,
        latency * 1.1,
        latency * 0.8,
        latency * 1.2,
        1 / latency,
        20,
        5,
        0.0,
        10**9,
        0.5,
        3 * 2**20,
        2**20,
        2.0,
        idle,
        None,
        None,
    )


REPORT = report.Report(
    Machine('a processor', ('avx2',), 2, 0.1, {'torch': '1'}),
    2,
    'no counter',
    (CASE,),
    ENGINES,
    (
        row('aqd-8', 0.1),
        row('aqd-2', 0.05),
        row('a-int8', 0.2),
        row('b-int8', 0.08, idle=0.5),
        row('a-float', 0.4),
    ),
)


def test_table():
    lines = report.table(REPORT, CASE)
    assert lines[0] == (
        '| engine | ms | quartiles | least | GMAC/s | % of best int8 | '
        'faster than int8 | faster than float32 | memory MiB | file MiB | '
        'first result s |'
    )
    assert lines[2:] == [
        '| aqd 8 bits | 100.0 | 90.0-110.0 | 80.0 | 10 | 80 | 0.80 | 4.00 | '
        '3 | 1.00 | 0.50 |',
        '| aqd 2 bits | 50.0 | 45.0-55.0 | 40.0 | 20 | 160 | 1.60 | 8.00 | '
        '3 | 1.00 | 0.50 |',
        '| A int8 | 200.0 | 180.0-220.0 | 160.0 | 5 | 40 | 0.40 | 2.00 | '
        '3 | 1.00 | 0.50 |',
        '| B int8 | 80.0 | 72.0-88.0 | 64.0 | 12 | 100 | 1.00 | 5.00 | '
        '3 | 1.00 | 0.50 |',
        '| A float32 | 400.0 | 360.0-440.0 | 320.0 | 2 | 20 | 0.20 | 1.00 | '
        '3 | 1.00 | 0.50 |',
    ]


def test_peers_held_to_the_same_instructions():
    ours = EngineSpec('aqd-2-avx2', '2, avx2', 'aqd', 'aqd2', {}, 'avx2')
    peer = EngineSpec('b-avx2', 'B, AVX2', 'openvino', 'int8.onnx', {}, 'avx2')
    both = replace(
        REPORT,
        engines=(*ENGINES, ours, peer),
        rows=(*REPORT.rows, row(ours.name, 0.1), row(peer.name, 0.3)),
    )
    header, _, *lines = report.table(both, CASE)
    column = header.split(' | ').index('faster than int8 held alike')
    assert [line.split(' | ')[column - 1] for line in lines] == [
        '0.80', '1.60', '0.40', '1.00', '0.20', '0.80', '0.27',
    ]  # fmt: skip
    assert [line.split(' | ')[column] for line in lines] == [
        '', '', '', '', '', '3.00', '1.00',
    ]  # fmt: skip
    text = report.document(both)
    assert 'Held to avx2: aqd-2-avx2, b-avx2.\n' in text
    assert 'Not held: aqd-8, aqd-2, a-int8, b-int8, a-float.\n' in text
    assert 'eld' not in report.document(REPORT)


def test_no_ratios_without_peers():
    without_peers = report.Report(
        REPORT.machine, 2, '', (CASE,), ENGINES, REPORT.rows[1:2]
    )
    lines = report.table(without_peers, CASE)
    assert 'faster' not in lines[0]
    assert '%' not in lines[0]


def test_table_from_bytes_to_boxes():
    case = Boxes(Network('yolox-nano', (416, 416)), ('a.jpg', 'b.jpg'))
    rows = tuple(
        replace(
            row(engine, latency),
            case=case.name,
            callers=callers,
            throughput=callers / latency,
            boxes=12.4,
        )
        for engine, latency in (('aqd-8', 0.1), ('a-int8', 0.2))
        for callers in CALLERS
    )
    both = replace(
        REPORT, cases=(*REPORT.cases, case), rows=(*REPORT.rows, *rows)
    )
    assert report.table(both, case) == [
        '| engine | ms | p99 | least | pictures/s, 1 caller | pictures/s, '
        '2 callers | pictures/s, 4 callers | faster than int8 | memory MiB | '
        'boxes |',
        f'|---{"|---:" * 9}|',
        '| aqd 8 bits | 100.0 | 120.0 | 80.0 | 10.0 | 20.0 | 40.0 | 2.00 | '
        '3 | 12 |',
        '| A int8 | 200.0 | 240.0 | 160.0 | 5.0 | 10.0 | 20.0 | 1.00 | 3 | '
        '12 |',
    ]
    text = report.document(both)
    assert '### YOLOX nano, 416x416, from bytes to boxes' in text
    assert '1.0 GMAC, 2 pictures.' in text
    assert report.best_int8(both) == report.best_int8(REPORT)
    assert report.picture(report.overviews(both)).startswith(b'\x89PNG')


def test_document():
    text = report.document(REPORT)
    assert 'a processor; 2 cores, 2 threads for each engine; avx2' in text
    assert 'Joules: no counter.' in text
    assert 'Not quiet while idle: b-int8 (retinanet-r18-320).' in text
    assert 'Disturbed' not in text


def test_what_is_slower_comes_first():
    first, _, *lines = report.document(REPORT).splitlines()
    assert first == (
        'Slower than a peer: aqd 8 bits on RetinaNet R18, 320x320 (0.80 times '
        'the fastest int8).'
    )
    assert lines[:3] == [
        '| | aqd 8 bits, times int8 | aqd 2 bits, times int8 | aqd 8 bits, '
        'times float32 | aqd 2 bits, times float32 |',
        '|---|---:|---:|---:|---:|',
        '| RetinaNet R18, 320x320 | 0.80 | 1.60 | 4.00 | 8.00 |',
    ]
    without = replace(REPORT, rows=REPORT.rows[1:])
    assert report.document(without).startswith('By the medians of one caller,')


def test_a_kept_report_is_read(tmp_path):
    boxes = Boxes(Network('yolox-nano', (416, 416)), ('folder/a.jpg',))
    chain = Chain('conv', ((4, 4),), 3, (5, 6))
    both = replace(REPORT, cases=(CASE, boxes, chain))
    report.write(both, tmp_path)
    path = tmp_path / 'benchmark.json'
    assert 'folder' not in path.read_text()
    found = report.read(path)
    assert found.cases == (CASE, replace(boxes, pictures=('a.jpg',)), chain)
    assert replace(found, cases=both.cases) == both


def test_engines_held_alike_are_compared():
    ours = EngineSpec('aqd-2-avx2', '2, avx2', 'aqd', 'aqd2', {}, 'avx2')
    peer = EngineSpec('b-avx2', 'B, AVX2', 'openvino', 'int8.onnx', {}, 'avx2')
    held = replace(
        REPORT,
        engines=(ours, peer),
        rows=(row(ours.name, 0.1), row(peer.name, 0.05)),
    )
    (only,) = report.overviews(held)
    assert only.title == 'RetinaNet R18, 320x320, held to avx2'
    assert dict(only.ratios(only.int8)) == {'2, avx2': 0.5}
    assert report.document(held).startswith(
        'Slower than a peer: 2, avx2 on RetinaNet R18, 320x320, held to avx2 '
        '(0.50 times the fastest int8).'
    )
    # Held engines are not compared with free ones.
    both = replace(
        REPORT,
        engines=(*ENGINES, *held.engines),
        rows=(*REPORT.rows, *held.rows),
    )
    assert report.overviews(both) == [*report.overviews(REPORT), only]


def test_without_peers_nothing_is_said_of_them():
    alone = replace(REPORT, rows=REPORT.rows[:1])
    assert report.document(alone).startswith('There is no peer to compare')


def test_rows_of_unknown_engines_are_refused(tmp_path):
    report.write(REPORT, tmp_path)
    path = tmp_path / 'benchmark.json'
    content = json.loads(path.read_text())
    content['rows'][0]['engine'] = 'another'
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="KeyError\\('another'\\)"):
        report.read(path)
    content['cases'] = ['x']
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match='expected a benchmark'):
        report.read(path)


@pytest.mark.parametrize(
    'content', ['{', '{}', '[]', '{"machine": {}}', '[' * 10**5]
)
def test_other_files_are_no_reports(tmp_path, content):
    path = tmp_path / 'other.json'
    path.write_text(content)
    with pytest.raises(UserError, match='other.json: expected a benchmark'):
        report.read(path)


def test_files(tmp_path):
    paths = report.write(REPORT, tmp_path)
    assert sorted(path.suffix for path in paths) == ['.json', '.md', '.png']
    content = json.loads((tmp_path / 'benchmark.json').read_text())
    assert content['rows'][1]['latency'] == 0.05
    assert paths[2].read_bytes().startswith(b'\x89PNG')
    assert not list(tmp_path.glob('*.part'))
