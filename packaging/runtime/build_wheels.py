"""Build the wheels of the runtime for other people's machines.

Each is built for a platform of targets.py by its compiler, on Linux, and is
given out only if what it needs is what that platform has.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from targets import TARGETS, Target

from aqd_mmdet.errors import UserError, one_line

HERE = Path(__file__).resolve().parent
HEADER = HERE.parents[1] / 'aqd_mmdet/runtime/csrc/include/aqd.h'
READER = 'llvm-readobj'


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument(
        'platforms',
        nargs='*',
        help=f'default: {" ".join(TARGETS)}',
    )
    made.add_argument('--out', type=Path, default=Path('dist'))
    return made


def command(arguments: Sequence[str] | None = None) -> None:
    """Build wheels, and print the path of each.

    Args:
        arguments: Of the command; those of this process by default.

    Raises:
        UserError: If a platform is not known, a tool is missing, or a
            library needs what its platform does not have.
    """
    args = parser().parse_args(arguments)
    platforms = args.platforms or list(TARGETS)
    for name in platforms:
        if name not in TARGETS:
            raise UserError(f'{name}: expected one of {", ".join(TARGETS)}')
    for tool in (READER, *(TARGETS[name].compiler for name in platforms)):
        if shutil.which(tool) is None:
            raise UserError(
                f'{tool} is not installed: run tools/setup_cross.sh'
            )
    args.out.mkdir(parents=True, exist_ok=True)
    for name in platforms:
        print(build(name, args.out), flush=True)


def build(platform: str, out: Path) -> Path:
    """Build the wheel for a platform.

    Args:
        platform: A name of TARGETS, the platform tag of the wheel.
        out: Folder for the wheel.

    Returns:
        The wheel.

    Raises:
        UserError: If its library needs what the platform does not have.
    """
    # On the same disk as the wheel, which is named when it is right.
    with tempfile.TemporaryDirectory(dir=out) as folder:
        subprocess.run(
            [
                *(sys.executable, '-m', 'pip', 'wheel', '--quiet'),
                *('--disable-pip-version-check', '--no-deps'),
                *('--no-build-isolation', '--wheel-dir', folder),
                f'--config-settings=--build-option=--plat-name={platform}',
                HERE,
            ],
            check=True,
        )
        (made,) = Path(folder).glob('*.whl')
        target = TARGETS[platform]
        with zipfile.ZipFile(made) as archive:
            name = f'aqd_mmdet/runtime/_engine{target.suffix}'
            library = Path(archive.extract(name, folder))
        audit(library, target)
        return made.replace(out / made.name)


def audit(library: Path, target: Target) -> None:
    """Check that a library runs on any machine of a platform.

    Args:
        library: The engine.
        target: The platform's.

    Raises:
        UserError: If it is for another machine, lacks a function of aqd.h,
            or needs a library, a version of one or a folder that the
            platform does not have.
    """
    is_windows = target.suffix == '.dll'
    text = subprocess.run(
        [
            *(READER, '--file-headers', '--needed-libs'),
            *(
                ['--coff-exports']
                if is_windows
                else ['--dyn-syms', '--version-info', '--dynamic-table']
            ),
            library,
        ],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    _need(f'Machine: {target.machine} ' in text, library, 'the machine')
    block = re.search(r'NeededLibraries \[\n(.*?)\]', text, re.DOTALL)
    needed = set() if block is None else set(block[1].split())
    _need(bool(needed), library, 'a list of what it needs')
    strange = needed - target.libraries
    _need(not strange, library, f'no library of others than {strange}')
    _need('RPATH' not in text and 'RUNPATH' not in text, library, 'no folder')
    for name, newest in target.versions:
        for found in re.findall(rf'Name: {name}_([0-9.]+)', text):
            version = tuple(map(int, found.split('.')))
            _need(version <= newest, library, f'no {name}_{found}')
    functions = set(re.findall(r'\b(aqd_\w+)\(', HEADER.read_text()))
    missing = functions - set(re.findall(r'Name: (aqd_\w+)', text))
    _need(not missing, library, f'also {missing}')


def _need(is_right: bool, library: Path, expected: str) -> None:
    if not is_right:
        raise UserError(f'{library.name}: expected {expected}')


if __name__ == '__main__':
    one_line(command)()
