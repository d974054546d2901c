"""Fixtures: images that are read."""

import numpy as np
import pytest

from aqd_mmdet.runtime.images import read_image


@pytest.fixture
def read(tmp_path):
    """Reads an image that is given as bytes."""

    def from_bytes(content: bytes, oriented: bool = True) -> np.ndarray:
        (tmp_path / 'image').write_bytes(content)
        return read_image(tmp_path / 'image', oriented)

    return from_bytes
