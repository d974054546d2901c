"""Packs configs, their index and tools where mim looks for them."""

import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

# openmim looks into `.mim` of the installed module. onedl-mim takes the
# folder of the first file that the installer lists, and looks there; the
# list is sorted, so this folder's name must come before the module's.
MIM_FOLDERS = ('aqd_mmdet/.mim', '_aqd_mmdet_mim')


class BuildWithConfigs(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:  # onedl-mim finds the checkout
            return
        root = Path(__file__).parent
        for folder in MIM_FOLDERS:
            for part in ('configs', 'tools'):
                shutil.copytree(
                    root / part,
                    Path(self.build_lib, folder, part),
                    dirs_exist_ok=True,
                )
            shutil.copy(root / 'model-index.yml', Path(self.build_lib, folder))


ENGINE = Path('aqd_mmdet/runtime/csrc')

setup(
    cmdclass={'build_py': BuildWithConfigs},
    ext_modules=[
        Extension(
            'aqd_mmdet.runtime._engine',
            sorted(map(str, ENGINE.glob('**/*.cpp'))),
            depends=sorted(map(str, ENGINE.glob('**/*.h'))),
            include_dirs=[str(ENGINE), str(ENGINE / 'include')],
            extra_compile_args=[
                *('-std=c++17', '-O3', '-fvisibility=hidden'),
                *('-fno-exceptions', '-fno-rtti', '-pthread'),
            ],
            extra_link_args=['-pthread'],
            language='c++',
            # Without a compiler the reference executor runs.
            optional=True,
        ),
        Extension(
            'aqd_mmdet.quantizers._native',
            ['aqd_mmdet/quantizers/native.cpp'],
            extra_compile_args=[
                *('-std=c++17', '-O3', '-pthread', '-ffp-contract=off'),
                *('-fno-trapping-math', '-fno-math-errno'),
            ],
            extra_link_args=['-pthread'],
            language='c++',
            # Without a compiler PyTorch's operators run.
            optional=True,
        ),
    ],
)
