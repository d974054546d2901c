"""Every module can be imported first."""

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
