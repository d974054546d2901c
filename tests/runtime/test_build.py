"""How the engine's sources are compiled and linked."""

import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.native import ENGINE, compile_sources, engine_sources

pytestmark = pytest.mark.slow

# In sources that are not the same on each system.
SYSTEM = re.compile(r'__linux__|__APPLE__|__GLIBC__|AQD_HAS_(THREADS|NEON)')


def test_each_name_is_one_thing(tmp_path):
    """Types of one name that differ are undefined behaviour, which compilers
    see when they link."""
    flags = ('-O1', '-flto', '-Werror=odr', '-Werror=lto-type-mismatch')
    objects = compile_sources(tmp_path, ENGINE, engine_sources(), flags)
    # To an object again: no code is made, which would take as long.
    link = ['g++', *flags, '-r', '-flinker-output=rel']
    result = subprocess.run(
        [*link, *objects, '-o', tmp_path / 'all.o'],
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, '')


def test_what_depends_on_the_system_compiles_for_macos(tmp_path):
    """There is no Mac to run it on. All else is compiled by clang for other
    machines, in test_cross.py."""
    if find_spec('ziglang') is None:
        pytest.skip('not here, see tools/setup_cross.sh: ziglang')
    sources = [x for x in engine_sources() if SYSTEM.search(x.read_text())]
    assert {'thread_pool.cpp', 'simd_neon.cpp'} < {x.name for x in sources}
    clang = (sys.executable, '-m', 'ziglang', 'c++')
    target = ('-target', 'aarch64-macos.11.0')
    compile_sources(tmp_path, (*clang, *target, *ENGINE[1:]), sources, ())
