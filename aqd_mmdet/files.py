"""Writes files atomically."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file. An earlier one stays until the new one is complete.

    Args:
        path: File to write.
        content: The whole content.
    """
    part = path.with_name(path.name + '.part')
    with part.open('wb') as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
