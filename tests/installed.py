"""The package as a stranger has it: its wheel in a fresh environment."""

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tests.factories import ROOT

SUFFIX = sysconfig.get_config_var('EXT_SUFFIX')
ENGINE = Path(f'aqd_mmdet/runtime/_engine{SUFFIX}')
NATIVE = Path(f'aqd_mmdet/quantizers/_native{SUFFIX}')
PLATFORM = f'{sysconfig.get_platform()}-{sys.implementation.cache_tag}'
FILES = ('setup.py', 'setup.cfg', 'README.md', 'LICENSE', 'model-index.yml')
SECONDS = 300


@dataclass(frozen=True)
class Installed:
    """An environment that has this package from its wheel.

    Attributes:
        root: Its folder.
        site: The folder of its packages.
    """

    root: Path
    site: Path

    def environment(self) -> dict[str, str]:
        """Return the variables of a shell that has activated it."""
        # The tests' own PYTHONPATH would come before its packages.
        kept = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
        path = f'{self.root / "bin"}{os.pathsep}{kept["PATH"]}'
        return {**kept, 'PATH': path, 'OMP_NUM_THREADS': '1'}

    def run(self, folder: Path, *command: object) -> str:
        """Run a command that succeeds in a folder, and return its output."""
        result = subprocess.run(
            list(map(str, command)),
            cwd=folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stdout


def install(folder: Path) -> Installed:
    """Build the wheel of the checkout and install it in a new environment.

    Everything but this package comes from the environment of the tests.

    Args:
        folder: An empty folder.
    """
    wheel = _wheel(folder)
    root = folder / 'venv'
    _call('-m', 'venv', '--without-pip', root)
    python = root / 'bin/python'
    _call(
        *('-m', 'pip', '--python', python, 'install', '--quiet'),
        *('--disable-pip-version-check', '--no-deps', '--no-index', wheel),
    )
    made = Installed(root, Path(_purelib(python)))
    # After pip, which would take the tests' own installation for an old one.
    # Folders that a .pth file names come behind the environment's own.
    (made.site / 'tests.pth').write_text(sysconfig.get_path('purelib'))
    mim = root / 'bin/mim'
    mim.write_text(f'#!{python}\nfrom mim.cli import cli\ncli()\n')
    mim.chmod(0o755)
    return made


def _wheel(folder: Path) -> Path:
    # pip leaves a build folder in its source, where mim would find each config
    # a second time. Build in a copy of the checkout.
    source = folder / 'source'
    for name in ('aqd_mmdet', 'configs', 'tools'):
        shutil.copytree(ROOT / name, source / name)
    for name in FILES:
        shutil.copy(ROOT / name, source)
    # They were compiled when the checkout was installed. setuptools takes what
    # is in its build folder and is newer than the sources.
    for library in (ENGINE, NATIVE):
        build = source / f'build/lib.{PLATFORM}' / library.parent
        build.mkdir(parents=True)
        shutil.copy2(ROOT / library, build)
    _call(
        *('-m', 'pip', 'wheel', '--quiet', '--disable-pip-version-check'),
        *('--no-deps', '--no-build-isolation', '--wheel-dir', folder, source),
    )
    (made,) = folder.glob('*.whl')
    return made


def _call(*arguments: object) -> None:
    subprocess.run([sys.executable, *map(str, arguments)], check=True)


def _purelib(python: Path) -> str:
    code = 'import sysconfig; print(sysconfig.get_path("purelib"))'
    return subprocess.check_output([python, '-c', code], text=True).strip()
