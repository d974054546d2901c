"""Progress: a bar on a terminal, a few lines in a file or a pipe."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from aqd_mmdet import progress as module
from aqd_mmdet.progress import progress
from tests.factories import ROOT
from tests.tool import run_tool

LOOP = (
    'from aqd_mmdet.progress import progress\n'
    'for _ in progress(range(50), desc="looking", unit="turn"):\n'
    '    pass\n'
)


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test advances, in seconds."""
    now = [0.0]
    monkeypatch.setattr(module._Lines, '_time', lambda self: now[0], False)
    monkeypatch.setattr('tqdm.std.time', lambda: now[0])
    return now


def lines_of(capsys) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_pipe_gets_one_line_of_a_short_run():
    result = subprocess.run(
        [sys.executable, '-c', LOOP],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == 'looking: 50/50 turns, 00:00 elapsed\n'
    assert result.stderr == ''


def test_a_terminal_gets_a_bar():
    master, terminal = pty.openpty()
    # A new terminal has no columns, so a bar would have no width.
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('4H', 24, 80, 0, 0))
    subprocess.run(
        [sys.executable, '-c', LOOP], cwd=ROOT, stdout=terminal, check=True
    )
    os.close(terminal)
    output = os.read(master, 4096).decode()
    os.close(master)
    assert '\r' in output and '50/50' in output and '100%' in output


def test_a_slow_run_gets_a_line_for_each_tenth(clock, capsys):
    with progress(total=1000, unit='turn') as bar:
        for number in range(1000):
            clock[0] += 60
            bar.set_description_str(f'case {number // 500}')
            bar.update()
    lines = lines_of(capsys)
    assert len(lines) == 10
    assert lines[0] == (
        'case 0: 100/1000 turns, 1:40:00 elapsed, about 15:00:00 left'
    )
    assert lines[-1] == 'case 1: 1000/1000 turns, 16:40:00 elapsed'


def test_a_fast_run_gets_a_line_every_half_minute(clock, capsys):
    for _ in progress(range(100)):
        clock[0] += 1
    counts = [line.split()[0] for line in lines_of(capsys)]
    assert counts == ['30/100', '60/100', '90/100', '100/100']


def test_lines_without_a_total_depend_on_time_alone(clock, capsys):
    for _ in progress(iter(range(100)), unit='row'):
        clock[0] += 1
    lines = lines_of(capsys)
    assert lines[0] == '30 rows, 00:30 elapsed'
    assert lines[-1] == '100 rows, 01:40 elapsed'
    assert len(lines) == 4


def test_updates_by_several_steps(clock, capsys):
    """The benchmark advances by several steps at once, or by none."""
    with progress(total=12) as bar:
        for step in (5, 0, 0, 7, 0):
            clock[0] += 40
            bar.update(step)
    counts = [line.split()[0] for line in lines_of(capsys)]
    assert counts == ['5/12', '12/12']


def test_the_last_line_of_a_failed_run(clock, capsys):
    with pytest.raises(KeyError), progress(total=10) as bar:
        bar.update(4)
        raise KeyError
    (line,) = lines_of(capsys)
    assert line.startswith('4/10 steps')


@pytest.mark.parametrize('options', [dict(disable=True), {}])
def test_no_line_without_steps(capsys, options):
    list(progress([], **options))
    if options:
        list(progress([1, 2], **options))
    assert lines_of(capsys) == []


def test_tools_write_few_lines(tmp_path):
    result = run_tool(
        'tools/make_digits.py', '--out', tmp_path / 'd', '--train', 40,
        '--val', 20,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stderr == ''
    first, last = result.stdout.splitlines()
    assert first.startswith('60/60 images')
    assert '40 + 20 images' in last


def test_lines_where_tqdm_is_not_installed(clock, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tqdm', None)
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    with progress(total=2, unit='cell') as bar:
        bar.update()
        bar.write('one failed')
        bar.update()
    assert lines_of(capsys) == ['one failed', '2/2 cells, 00:00 elapsed']
