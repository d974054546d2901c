"""The wheel aqd-mmdet-runtime: what runs a compiled detector, and no more.

It takes its files from the checkout that this folder is in, and the engine's
sources and flags from the checkout's own setup.py. The wheel is for the
machine that builds it, or for the one of targets.py that --plat-name names.
"""

import ast
import os
import sys
import tempfile
from distutils.core import run_setup
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # installers run this file from anywhere

from targets import TARGETS, Target  # noqa: E402

ROOT = HERE.parents[1]
# The modules of aqd_mmdet itself; of its packages all are taken.
MODULES = ('__init__', 'errors', 'files', 'progress')
PACKAGES = ('program', 'runtime', 'runtime.example')
PILLOW = 'pillow>=11.3'  # the first that reads AVIF


class Modules(build_py):
    """Takes the modules that run, and not those that train."""

    def find_package_modules(
        self, package: str, package_dir: str
    ) -> list[tuple[str, str, str]]:
        found = super().find_package_modules(package, package_dir)
        if package != 'aqd_mmdet':
            return found
        return [module for module in found if module[1] in MODULES]


class Engine(build_ext):
    """Builds the engine for any Python: it has nothing of Python's."""

    @property
    def target(self) -> Target | None:
        """The machine that the wheel is for, or None for this one."""
        wheel = self.get_finalized_command('bdist_wheel')
        return TARGETS.get(wheel.plat_name)

    def get_ext_filename(self, name: str) -> str:
        suffix = '.so' if self.target is None else self.target.suffix
        return os.path.join(*name.split('.')) + suffix  # noqa: PTH118

    def build_extensions(self) -> None:
        if self.target is None:
            self._leave_out_python()
        else:
            self._build_for(self.target)
        super().build_extensions()

    def _leave_out_python(self) -> None:
        # Python's own folders must not be searched on another machine.
        for name in ('linker_so', 'linker_so_cxx'):
            command = getattr(self.compiler, name, None) or []
            kept = [x for x in command if not x.startswith(('-L', '-Wl,-rp'))]
            setattr(self.compiler, name, kept)

    def _build_for(self, target: Target) -> None:
        self.compiler.set_library_dirs([])
        compiler = [target.compiler, '-DNDEBUG']
        for name in self.compiler.executables:
            if name.startswith('compiler'):
                setattr(self.compiler, name, compiler)
            elif name.startswith('linker_so'):
                setattr(self.compiler, name, [*compiler, '-shared'])
            elif name.startswith('linker_exe'):  # which link() cuts off
                setattr(self.compiler, name, compiler)
        (made,) = self.extensions
        made.sources += [str(HERE / name) for name in target.sources]
        made.extra_compile_args += target.compile_flags
        made.extra_link_args += target.link_flags


class AnyPython(bdist_wheel):
    """Names a wheel that depends on the machine and not on Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return 'py3', 'none', super().get_tag()[2]


def version() -> str:
    """Return the version of the checkout."""
    for node in ast.parse((ROOT / 'aqd_mmdet/__init__.py').read_text()).body:
        if isinstance(node, ast.Assign):
            return ast.literal_eval(node.value)
    raise AssertionError('aqd_mmdet has no version')


def engine() -> Extension:
    """Return the engine as the checkout builds it, but never left out."""
    os.chdir(ROOT)
    found = run_setup(str(ROOT / 'setup.py'), stop_after='init').ext_modules
    os.chdir(HERE)
    (made,) = (x for x in found if x.name == 'aqd_mmdet.runtime._engine')
    for name in ('sources', 'depends', 'include_dirs'):
        setattr(made, name, [str(ROOT / x) for x in getattr(made, name)])
    made.optional = False
    made.extra_link_args += ['-Wl,-S' if sys.platform == 'darwin' else '-s']
    return made


# Nothing is left in the checkout, and nothing of an earlier build is taken.
FOLDER = tempfile.TemporaryDirectory()

setup(
    name='aqd-mmdet-runtime',
    version=version(),
    description='Runs object detectors of aqd_mmdet, on integers alone',
    long_description=(ROOT / 'docs/runtime.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    # On Windows, integers of numpy 1 have 32 bits where none are named.
    install_requires=['numpy>=1.26', 'numpy>=2; sys_platform == "win32"'],
    extras_require={
        'images': [PILLOW],
        'serve': [PILLOW, 'uvicorn'],
    },
    package_dir={'aqd_mmdet': os.path.relpath(ROOT / 'aqd_mmdet', HERE)},
    packages=['aqd_mmdet', *(f'aqd_mmdet.{name}' for name in PACKAGES)],
    include_package_data=False,
    package_data={'aqd_mmdet.runtime.example': ['*.aqd', '*.png', '*.md']},
    options={
        'build': {'build_base': FOLDER.name},
        'egg_info': {'egg_base': FOLDER.name},
    },
    ext_modules=[engine()],
    cmdclass={
        'build_py': Modules,
        'build_ext': Engine,
        'bdist_wheel': AnyPython,
    },
)
