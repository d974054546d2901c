"""Machines for which Linux builds the wheel, and what they have."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """How the engine is built for a platform, and what it may need there.

    Attributes:
        compiler: Of C++.
        machine: In the library's header, as llvm-readobj names it.
        libraries: Those that every such machine has.
        versions: The newest version of each library's symbols, by their
            prefix.
        suffix: Of the library's name.
        sources: Beside the engine's own, in this folder.
        compile_flags: Beside the engine's own.
        link_flags: Behind all else.
    """

    compiler: str
    machine: str
    libraries: frozenset[str]
    versions: tuple[tuple[str, tuple[int, ...]], ...] = ()
    suffix: str = '.so'
    sources: tuple[str, ...] = ()
    compile_flags: tuple[str, ...] = ()
    link_flags: tuple[str, ...] = ()


def _linux(compiler: str, machine: str, loader: str) -> Target:
    """Return a target for manylinux_2_27."""
    return Target(
        compiler,
        machine,
        frozenset(
            f'{x}.so.{version}'
            for x, version in (
                ('libc', 6), ('libgcc_s', 1), ('libm', 6),
                ('libpthread', 0), ('libstdc++', 6), (loader, 0),
            )
        ),
        (
            ('GLIBC', (2, 27)),
            ('GLIBCXX', (3, 4, 24)),
            ('CXXABI', (1, 3, 11)),
            ('GCC', (7, 0, 0)),
        ),
        sources=('old_libraries.cpp',),
        compile_flags=('-fPIC',),
        # Where threads are in old versions; by this name, since new ones have
        # an empty archive beside it.
        link_flags=('-Wl,--no-as-needed', '-l:libpthread.so.0'),
    )  # fmt: skip


TARGETS = {
    'manylinux_2_27_x86_64': _linux(
        'x86_64-linux-gnu-g++', 'EM_X86_64', 'ld-linux-x86-64'
    ),
    'manylinux_2_27_aarch64': _linux(
        'aarch64-linux-gnu-g++', 'EM_AARCH64', 'ld-linux-aarch64'
    ),
    'win_amd64': Target(
        'x86_64-w64-mingw32-g++-posix',
        'IMAGE_FILE_MACHINE_AMD64',
        # The system's own: the compiler's libraries are inside.
        frozenset({'KERNEL32.dll', 'msvcrt.dll'}),
        suffix='.dll',
        compile_flags=(
            '-Daqd_EXPORTS',
            # GCC stores vectors of 32 bytes as if the stack were aligned for
            # them. On Windows it is aligned for 16.
            '-Wa,-muse-unaligned-vector-move',
            '-Wno-psabi',
        ),
        link_flags=('-static',),
    ),
}
