"""Which file of a compiled library is loaded."""

import sysconfig

import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.runtime import shared_library


def test_none_where_it_is_not_built(tmp_path):
    assert shared_library.load(tmp_path / '_engine') is None


def test_that_of_another_interpreter_is_none_of_ours(tmp_path):
    (tmp_path / '_engine.cpython-39-x86_64-linux-gnu.so').write_bytes(b'old')
    assert shared_library.load(tmp_path / '_engine') is None


@pytest.mark.parametrize(
    'suffix', [sysconfig.get_config_var('EXT_SUFFIX'), '.so', '.dll']
)
def test_a_file_that_cannot_be_loaded_is_named(tmp_path, suffix):
    (tmp_path / f'_engine{suffix}').write_bytes(b'none')
    with pytest.raises(UserError, match=rf'_engine\S*{suffix}: it cannot be'):
        shared_library.load(tmp_path / '_engine')
