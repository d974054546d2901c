"""Tools as a user calls them, without the wait for their imports.

MMDetection takes ten seconds to import. A server imports it once and forks a
process for each call, which then runs the tool's file as `python` would.
"""

import os
import runpy
import subprocess
import sys
from multiprocessing import forkserver, get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

ROOT = Path(__file__).parent.parent
ONE_CORE = {'OMP_NUM_THREADS': '1'}
FORKS = get_context('forkserver')
FORKS.set_forkserver_preload(
    ['mmdet.apis', 'aqd_mmdet.post_training.quantize', __name__]
)


def run_tool(
    *arguments: object, timeout: float = 300
) -> subprocess.CompletedProcess:
    """Run a tool on one core.

    Args:
        arguments: The tool's file, and what follows it on the command line.
        timeout: Seconds after which it is killed.
    """
    command = list(map(str, arguments))
    with TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ('stdout', 'stderr')]
        # The server may be started from any folder, and needs this module.
        with mock.patch.dict(os.environ, ONE_CORE, PYTHONPATH=str(ROOT)):
            forkserver.ensure_running()
        environment = {**os.environ, **ONE_CORE}
        process = FORKS.Process(
            target=_main, args=(command, environment, files)
        )
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(command, timeout)
        stdout, stderr = (path.read_text() for path in files)
    return subprocess.CompletedProcess(
        command, process.exitcode, stdout, stderr
    )


def error_line(result: subprocess.CompletedProcess) -> str:
    """Return the one line that a user's mistake gives, and check that it is
    one."""
    assert result.returncode == 2, result.stderr[-2000:]
    assert 'Traceback' not in result.stderr
    lines = [x for x in result.stderr.splitlines() if x.startswith('error: ')]
    assert len(lines) == 1, result.stderr
    return lines[0]


def _main(
    command: list[str], environment: dict[str, str], files: list[Path]
) -> None:
    """Be the process of a tool."""
    for descriptor, path in enumerate(files, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    tool = ROOT / command[0]
    sys.argv = command
    sys.path.insert(0, str(tool.parent))
    runpy.run_path(str(tool), run_name='__main__')
