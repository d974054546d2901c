"""The hook that compiles what quantisers compute."""

from types import SimpleNamespace

import pytest

from aqd_mmdet.engine import CompileQuantizersHook, compiled_arithmetic
from aqd_mmdet.quantizers import arithmetic, native


@pytest.fixture
def runner(build, monkeypatch):
    monkeypatch.setattr(native, 'library', lambda: None)
    lines, warnings = [], []
    logger = SimpleNamespace(info=lines.append, warning=warnings.append)
    return SimpleNamespace(
        model=build(2),
        logger=logger,
        lines=lines,
        warnings=warnings,
        max_iters=2000,
    )


def test_functions_are_compiled_during_a_training(runner, monkeypatch):
    monkeypatch.setattr(compiled_arithmetic, '_try', lambda device: None)
    hook = CompileQuantizersHook()
    hook.before_train(runner)
    assert arithmetic.run.values is not arithmetic.values
    hook.after_train(runner)
    assert arithmetic.run.values is arithmetic.values
    assert not runner.warnings


def test_a_cpu_has_compiled_functions(runner, monkeypatch):
    monkeypatch.undo()
    assert native.library() is not None
    CompileQuantizersHook().before_train(runner)
    assert arithmetic.run.values is arithmetic.values
    assert not runner.lines


def test_a_float_detector_needs_no_compiler(runner, build):
    runner.model = build('float')
    CompileQuantizersHook().before_train(runner)
    assert arithmetic.run.values is arithmetic.values
    assert not runner.lines


def test_a_short_training_is_not_worth_it(runner):
    runner.max_iters = 1999
    CompileQuantizersHook().before_train(runner)
    assert arithmetic.run.values is arithmetic.values
    assert not runner.lines


def test_without_a_compiler_a_training_goes_on(runner, monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError('No working C++ compiler found\nin PATH')

    def compile_nothing(function, **options):
        return fails

    monkeypatch.setattr('torch.compile', compile_nothing)
    hook = CompileQuantizersHook()
    hook.before_train(runner)
    assert arithmetic.run.values is arithmetic.values
    (warning,) = runner.warnings
    assert 'RuntimeError: No working C++ compiler found)' in warning
    hook.after_train(runner)
