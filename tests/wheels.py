"""The wheels of the runtime, built as for those who install them."""

import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

from tests.factories import ROOT

SOURCE = ROOT / 'packaging/runtime'
LIBRARY = 'aqd_mmdet/runtime/_engine'


def module(name: str) -> ModuleType:
    """Import a module of packaging/runtime."""
    sys.path.insert(0, str(SOURCE))
    try:
        return __import__(name)
    finally:
        sys.path.remove(str(SOURCE))


def build(platform: str, folder: Path) -> Path:
    """Build the wheel for a platform in an empty folder, and return it."""
    before = _files()
    subprocess.run(
        [
            *(sys.executable, SOURCE / 'build_wheels.py', platform),
            *('--out', folder),
        ],
        check=True,
    )
    assert _files() == before
    (made,) = folder.iterdir()
    return made


def library(platform: str, folder: Path) -> Path:
    """Build the wheel for a platform in an empty folder, and return the
    engine's library out of it."""
    with zipfile.ZipFile(build(platform, folder)) as archive:
        (name,) = (
            x for x in archive.namelist() if x.startswith(LIBRARY + '.')
        )
        return Path(archive.extract(name, folder))


def _files() -> set[Path]:
    return {x for x in SOURCE.rglob('*') if '__pycache__' not in x.parts}
