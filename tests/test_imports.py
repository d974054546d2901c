"""Every module can be the first one that is imported."""

import os
import pkgutil
import sys

import pytest

import aqd_mmdet
import aqd_mmdet.compiler.trace  # registers operators, once in a process

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(aqd_mmdet.__path__, 'aqd_mmdet.')
    if '_engine' not in module.name  # a library for ctypes, no module
)


@pytest.mark.parametrize('name', MODULES)
def test_alone(name):
    # A copy of this process that has forgotten the package: a fresh one would
    # take seconds to import PyTorch.
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
    """Let the package's registries be made again."""
    import torch
    from mmengine import registry

    for parent in vars(registry).values():
        if isinstance(parent, registry.Registry):
            parent._children.pop('aqd_mmdet', None)
    torch.library.custom_op = lambda *args, **kwargs: _Operator


class _Operator:
    """Stands for an operator that this process has registered already."""

    def __init__(self, function: object) -> None:
        self.function = function

    def register_fake(self, function: object) -> object:
        return function
