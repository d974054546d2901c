"""tools/quickstart.py goes on where it was stopped."""

import pytest

from tests.factories import CONFIGS
from tools import quickstart

CONFIG = CONFIGS / 'digits/retinanet_digits_fp.py'


@pytest.fixture
def calls(monkeypatch):
    """The tools that it runs."""
    found: list[str] = []

    def run_tool(name, *arguments):
        found.append(name)
        return 7.0

    monkeypatch.setattr(quickstart, 'run_tool', run_tool)
    return found


def test_only_a_whole_checkpoint_is_a_finished_training(tmp_path, calls):
    options = ['train_cfg.max_epochs=3']
    last = tmp_path / 'epoch_3.pth'
    for epoch in (2, 3):
        (tmp_path / f'epoch_{epoch}.pth').write_bytes(b'cut')
    assert quickstart.train(CONFIG, tmp_path, options) == (last, 7.0)
    note = tmp_path / 'last_checkpoint'
    note.write_text('/elsewhere/epoch_2.pth')
    assert quickstart.train(CONFIG, tmp_path, options) == (last, 7.0)
    assert calls == ['train.py', 'train.py']
    note.write_text('/elsewhere/epoch_3.pth')
    assert quickstart.train(CONFIG, tmp_path, options) == (last, 0.0)
    assert calls == ['train.py', 'train.py']
