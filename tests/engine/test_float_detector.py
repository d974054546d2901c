"""What quantisation after training is given: pictures."""

from pathlib import Path

import pytest
from mmengine.config import Config

from aqd_mmdet.engine.float_detector import find_pictures
from aqd_mmdet.errors import UserError


@pytest.mark.parametrize('kind', [str, Path])
def test_pictures_of_a_folder(tmp_path, kind):
    inner = tmp_path / 'inner'
    inner.mkdir()
    expected = {tmp_path / 'a.png', inner / 'b.JPG'}
    for path in (*expected, tmp_path / 'notes.txt'):
        path.touch()
    assert set(find_pictures(Config(), kind(tmp_path), 9)) == expected
    assert len(find_pictures(Config(), kind(tmp_path), 1)) == 1
    with pytest.raises(UserError, match='no such folder'):
        find_pictures(Config(), kind(tmp_path / 'gone'), 9)
