"""How the engine's sources are compiled and linked."""

import subprocess

from tests.native import ENGINE, compile_sources, engine_sources


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
