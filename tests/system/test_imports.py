"""Imports: the order of the packages, and modules that stand alone."""

import ast
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import aqd_mmdet
import aqd_mmdet.compiler.trace  # a process can register operators only once

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(aqd_mmdet.__path__, 'aqd_mmdet.')
    # Those are shared libraries, which ctypes loads.
    if not module.name.endswith(('._engine', '._native'))
)

ROOT = Path(aqd_mmdet.__file__).parent
# Each package or top-level module imports only itself and those above it.
ORDER = [
    'errors',
    'files',
    'options',
    'patches',
    'progress',
    'program',
    'runtime',
    'export',
    'config',
    'registry',
    'quantizers',
    'layers',
    'compiler',
    'models',
    'visualization',
    'datasets',
    'post_training',
    'from_onnx',
    'engine',
    'benchmark',
    'study',
]


def imported(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield the modules of aqd_mmdet that a file imports, even in functions.

    Args:
        path: The file.

    Yields:
        tuple: Parts of the dotted name after ``aqd_mmdet``.
    """
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name.split('.') for alias in node.names]
            yield from (tuple(n[1:]) for n in names if n[0] == ROOT.name)
        elif isinstance(node, ast.ImportFrom):
            module = (
                tuple((node.module or '').split('.')) if node.module else ()
            )
            if node.level:
                module = (*package[: len(package) + 1 - node.level], *module)
            elif module[:1] == (ROOT.name,):
                module = module[1:]
            else:
                continue
            # In `from .. import x`, x is the module.
            yield from ((*module, alias.name) for alias in node.names)


def test_every_package_is_in_the_order():
    names = {p.stem for p in ROOT.iterdir() if p.suffix == '.py' or p.is_dir()}
    assert names - {'__init__', '__pycache__'} == set(ORDER)


@pytest.mark.parametrize(
    'path', sorted(ROOT.rglob('*.py')), ids=lambda p: str(p.relative_to(ROOT))
)
def test_imports_point_down(path):
    package = path.relative_to(ROOT).parts[0].removesuffix('.py')
    if package == '__init__':
        assert not list(imported(path))
        return
    allowed = ORDER[: ORDER.index(package) + 1]
    for target in imported(path):
        if target == ('__version__',):
            continue
        assert target[0] in allowed, f'{package} imports {".".join(target)}'


@pytest.mark.parametrize(
    'package, allowed', [('program', {'numpy'}), ('runtime', {'numpy', 'PIL'})]
)
def test_inference_has_few_dependencies(package, allowed):
    names = [m for m in MODULES if m.split('.')[1] == package]
    code = f"""
import sys
for name in {names}:
    __import__(name)
print(*{{m.split('.')[0] for m in sys.modules}} - sys.stdlib_module_names)
"""
    # The difference excludes modules that the site loads at every start.
    before, after = (
        subprocess.run(
            [sys.executable, '-c', text],
            cwd=ROOT.parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for text in (code.replace(str(names), '[]'), code)
    )
    assert set(after) - set(before) == {'aqd_mmdet', *allowed}


@pytest.mark.parametrize('name', MODULES)
def test_module_can_be_imported_first(name):
    # A fork of this process without the package's modules. A new process would
    # need seconds to import PyTorch.
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for loaded in [
                m for m in sys.modules if m.startswith('aqd_mmdet')
            ]:
                del sys.modules[loaded]
            _forget_registrations()
            __import__(name)
            code = 0
        except BaseException as error:
            print(f'{name}: {type(error).__name__}: {error}', file=sys.stderr)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _forget_registrations() -> None:
    """Remove the package's registries, so that they can be created again."""
    import torch
    from mmengine import registry

    for parent in vars(registry).values():
        if isinstance(parent, registry.Registry):
            parent._children.pop('aqd_mmdet', None)
    torch.library.custom_op = lambda *args, **kwargs: _Operator


class _Operator:
    """A substitute for an operator, which a process can register only once."""

    def __init__(self, function: object) -> None:
        self.function = function

    def register_fake(self, function: object) -> object:
        return function
