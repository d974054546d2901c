"""Failures of setup_env.sh, with fake versions of python and df."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.factories import ROOT
from tests.tool import error_line

# A fake python: all commands succeed, except the download of a wheel of mmcv.
PYTHON = """#!/bin/bash
echo "$@" >>"{log}"
case "$*" in
*'cp%d%d'*) echo cp311 ;;
*-m\\ venv*) mkdir -p "${{@: -1}}/bin" && cp "$0" "${{@: -1}}/bin/python" ;;
*download*) exit 1 ;;
*'{broken}'*) echo 'no network'; exit 1 ;;
esac
"""
COMMANDS = (
    'bash awk cat cksum cp dirname df find getconf head ls mkdir mv rm tail '
    'uname grep'
)
NOTHING = 'a command that never runs'


class Checkout:
    """A copy of the set-up script with its own PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / 'bin'
        self.bin.mkdir()
        self.log = folder / 'python.log'
        self.log.touch()
        (folder / 'tools').mkdir()
        for name in ('tools/setup_env.sh', 'setup.cfg', 'setup.py'):
            shutil.copy(ROOT / name, folder / name)
        csrc = 'aqd_mmdet/runtime/csrc'
        shutil.copytree(ROOT / csrc, folder / csrc)
        native = 'aqd_mmdet/quantizers/native.cpp'
        (folder / native).parent.mkdir()
        shutil.copy(ROOT / native, folder / native)
        for name in COMMANDS.split():
            (self.bin / name).symlink_to(shutil.which(name))

    def add(self, name: str, script: str) -> None:
        (self.bin / name).write_text(script)
        (self.bin / name).chmod(0o755)

    def add_python(self, broken: str = NOTHING) -> None:
        script = PYTHON.format(log=self.log, broken=broken)
        self.add('python3', script)

    def run(self, **env: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ['bash', 'tools/setup_env.sh'],
            cwd=self.folder,
            env={
                'PATH': str(self.bin),
                'HOME': str(self.folder),
                'XDG_CACHE_HOME': str(self.folder / 'cache'),
                **env,
            },
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def with_wheel(checkout: Checkout) -> None:
    folder = checkout.folder / 'cache/aqd_mmdet/wheels/torch-2.13.0-cpu'
    folder.mkdir(parents=True)
    (folder / 'onedl_mmcv-2.3.6-cp311-cp311-linux_x86_64.whl').touch()


def test_wrong_python(checkout):
    checkout.add('python3', '#!/bin/bash\nexit 1\n')
    line = error_line(checkout.run())
    assert 'no Python 3.10 to 3.12' in line


def test_unknown_stack(checkout):
    assert 'AQD_STACK=x' in error_line(checkout.run(AQD_STACK='x'))


def test_full_disk(checkout):
    checkout.add_python()
    (checkout.bin / 'df').unlink()
    checkout.add('df', '#!/bin/bash\necho h\necho "/dev/x 9 9 1048576 1% /"\n')
    assert 'has 1 GiB free' in error_line(checkout.run())


def test_no_compiler(checkout):
    checkout.add_python()
    assert 'no C++ compiler' in error_line(checkout.run())


def test_retry_after_a_network_failure(checkout):
    with_wheel(checkout)
    checkout.add_python(broken='torch==')
    line = error_line(checkout.run())
    assert 'run the same command again' in line
    assert not (checkout.folder / '.venv/ready').exists()
    checkout.add_python()
    shutil.copy(checkout.bin / 'python3', checkout.folder / '.venv/bin/python')
    result = checkout.run()
    assert result.returncode == 0, result.stderr
    assert (checkout.folder / '.venv/ready').is_file()


def test_ready_environment_is_not_changed(checkout):
    with_wheel(checkout)
    checkout.add_python()
    assert checkout.run().returncode == 0
    checkout.log.write_text('')
    result = checkout.run()
    assert 'is ready' in result.stdout
    assert checkout.log.read_text() == ''


def test_changed_requirements_are_installed(checkout):
    with_wheel(checkout)
    checkout.add_python()
    assert checkout.run().returncode == 0
    checkout.log.write_text('')
    with (checkout.folder / 'setup.cfg').open('a') as file:
        file.write('\n# changed\n')
    assert checkout.run().returncode == 0
    assert 'install' in checkout.log.read_text()


@pytest.mark.parametrize('state', ['empty', 'dead link'])
def test_incomplete_environment_is_created_anew(checkout, state):
    with_wheel(checkout)
    checkout.add_python()
    (checkout.folder / '.venv/bin').mkdir(parents=True)
    if state == 'dead link':
        (checkout.folder / '.venv/bin/python').symlink_to('/nowhere')
    result = checkout.run()
    assert result.returncode == 0, result.stderr
    assert 'creating .venv' in result.stdout


def test_each_stack_has_its_own_environment(checkout):
    checkout.add_python()
    result = checkout.run(AQD_STACK='upstream')
    assert 'no C++ compiler' in error_line(result)
    assert (checkout.folder / '.venv-upstream').is_dir()
    assert not (checkout.folder / '.venv').exists()
