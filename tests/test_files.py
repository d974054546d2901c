"""Files are written whole or not at all."""

import pytest

from aqd_mmdet import files
from aqd_mmdet.errors import UserError


def test_an_earlier_file_is_replaced(tmp_path):
    path = tmp_path / 'model.aqd'
    for content in (b'first', b'second'):
        files.write_whole(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('text', ['{', b'\x87', '[' * 10**5, b'[' * 10**5])
def test_what_is_no_json(text):
    with pytest.raises(ValueError):
        files.parse_json(text)


def test_names_that_are_too_long(tmp_path):
    """Found before the work, and not when a file is written."""
    longest = tmp_path / f'{"x" * 237}.aqd'
    files.write_whole(longest, b'whole')
    files.check_output('--out', longest, '.aqd')
    path = tmp_path / f'{"x" * 238}.aqd'
    with pytest.raises(UserError, match=r'x\.aqd: too long a name'):
        files.check_output('--out', path, '.aqd')


def test_a_folder_is_no_output(tmp_path):
    folder = tmp_path / 'model.aqd'
    folder.mkdir()
    with pytest.raises(UserError, match=r'--out .*model\.aqd: it is a folder'):
        files.check_output('--out', folder, '.aqd')


def test_files_of_like_names_stay(tmp_path):
    path, like = tmp_path / 'm.aqd', tmp_path / 'm.aqd.part'
    like.symlink_to(tmp_path / 'mine')
    (tmp_path / 'mine').write_text('mine')
    files.write_whole(path, b'1')
    assert path.read_text() == '1'
    assert like.read_text() == 'mine'
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError):
        files.write_whole(path, b'2')
    assert sorted(x.name for x in tmp_path.iterdir()) == [
        *('m.aqd', 'm.aqd.part', 'mine'),
    ]


def test_what_a_file_begins_with(tmp_path):
    path = tmp_path / 'a.txt'
    assert not files.begins_with(path, '# ')
    path.write_text('# a')
    assert files.begins_with(path, '# ')
    assert not files.begins_with(path, '# a b')
    assert not files.begins_with(tmp_path, '')


@pytest.mark.parametrize('name', ['file', 'file/inner'])
def test_a_folder_in_the_place_of_a_file(tmp_path, name):
    (tmp_path / 'file').write_text('mine')
    with pytest.raises(UserError, match=f'folder .*{name}: it cannot be made'):
        files.write_all(tmp_path / name, {'a': b''})
    assert (tmp_path / 'file').read_text() == 'mine'


def test_an_earlier_file_stays_where_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / 'model.aqd'
    files.write_whole(path, b'first')

    def fail(handle: int) -> None:
        raise OSError('no space left on device')

    monkeypatch.setattr(files.os, 'fsync', fail)
    with pytest.raises(OSError, match='no space'):
        files.write_whole(path, b'second')
    assert path.read_bytes() == b'first'


@pytest.mark.parametrize(
    'name, message',
    [
        ('a.txt', 'give a name that ends in .aqd'),
        ('no/a.aqd', 'there is no folder .*no; create it'),
        # Nobody writes there, not even root.
        ('/proc/a.aqd', 'cannot write to the folder /proc .*; choose another'),
    ],
)
def test_outputs_that_could_not_be_written(tmp_path, name, message):
    """They are refused before the work is done."""
    with pytest.raises(UserError, match=message) as caught:
        files.check_output('--out', tmp_path / name, '.aqd')
    assert str(caught.value).startswith('--out ')


def test_checking_an_output_leaves_nothing(tmp_path):
    files.check_output('--out', tmp_path / 'a.aqd', '.aqd')
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_could_not_be_made(tmp_path):
    (tmp_path / 'file').touch()
    for name in ('', 'a', 'a/b'):
        files.check_folder('--out', tmp_path / name)
    assert not (tmp_path / 'a').exists()
    for name in ('file', 'file/x/y'):
        with pytest.raises(
            UserError, match=rf'^--out {tmp_path}/{name}: .*/file is a file; c'
        ):
            files.check_folder('--out', tmp_path / name)
