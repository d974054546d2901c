"""Files are written whole or not at all."""

import pytest

from aqd_mmdet import files


def test_an_earlier_file_is_replaced(tmp_path):
    path = tmp_path / 'model.aqd'
    for content in (b'first', b'second'):
        files.write_whole(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_an_earlier_file_stays_where_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / 'model.aqd'
    files.write_whole(path, b'first')

    def fail(handle: int) -> None:
        raise OSError('no space left on device')

    monkeypatch.setattr(files.os, 'fsync', fail)
    with pytest.raises(OSError, match='no space'):
        files.write_whole(path, b'second')
    assert path.read_bytes() == b'first'
