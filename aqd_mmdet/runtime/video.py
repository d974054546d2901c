"""Videos and cameras, by OpenCV or PyAV, whichever is installed."""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..progress import progress
from . import outputs
from .detector import Detector
from .video_backends import backend

SUFFIXES = (
    '.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.wmv',
)  # fmt: skip


def as_stream(source: Path) -> int | Path | None:
    """Return the number of a camera or the file of a video, or None.

    Args:
        source: What a user named. An existing file is no camera, and a
            folder no video.
    """
    name = str(source)
    if name.isascii() and name.isdecimal() and not source.exists():
        return int(name)
    is_video = source.suffix.lower() in SUFFIXES and not source.is_dir()
    return source if is_video else None


def described(source: int | Path) -> str:
    """Return how a source of :func:`as_stream` is called in messages."""
    return f'{"camera" if isinstance(source, int) else "video"} {source}'


def draw_stream(
    detector: Detector,
    source: int | Path,
    out: Path,
    score: float,
    font: Path | None,
) -> None:
    """Write a video with the boxes of each frame.

    A camera is read until Ctrl-C.

    Args:
        detector: What finds them.
        source: Of :func:`as_stream`.
        out: Folder of the video.
        score: Least score that is drawn.
        font: File of a font, or None.

    Raises:
        UserError: If the source cannot be read, or the video not written.
    """
    library = backend()
    where = described(source)
    target = _target(source, out)
    if isinstance(source, Path) and not source.is_file():
        raise UserError(f'{where}: no such file')
    stream = library.read(source, where)
    first = next(stream.frames, None)
    if first is None:
        raise UserError(f'{where}: it has no frames that can be read')
    outputs.make_folders(out, [target])
    done, start = 0, time.monotonic()
    with (
        _complete(target) as part,
        closing(library.writer(part, stream.rate, first.shape[:2])) as writer,
        progress(total=stream.total, desc='detecting', unit='frame') as bar,
    ):
        try:
            for frame in _all_frames(first, stream.frames, where):
                prediction = detector.predict(frame, score, where)
                writer.write(prediction.plot(score, font))
                done += 1
                bar.update()
        except KeyboardInterrupt:
            if isinstance(source, Path):
                raise
    rate = done / max(time.monotonic() - start, 1e-9)
    print(f'{where}: {done} frames, {rate:.1f} frames per second, {target}')
    if isinstance(source, Path):
        _report_missing(where, done, stream.total or done)


def _report_missing(where: str, done: int, total: int) -> None:
    if done < total:
        print(
            f'{where}: its header says that there are {total} frames; no more '
            'could be read',
            file=sys.stderr,
        )


def _target(source: int | Path, out: Path) -> Path:
    """Return the file to write, which must not be there yet."""
    name = f'camera{source}' if isinstance(source, int) else source.stem
    target = out / f'{name}.mp4'
    if target.exists() or target.is_symlink():
        raise UserError(
            f'--out {out}: {target.name} exists: move it or choose another '
            '--out'
        )
    return target


def _all_frames(
    first: np.ndarray, rest: Iterator[np.ndarray], where: str
) -> Iterator[np.ndarray]:
    yield first
    for number, frame in enumerate(rest, 1):
        if frame.shape != first.shape:
            raise UserError(
                f'{where}: frame {number} has the shape {frame.shape}, the '
                f'first one {first.shape}: a video has one size'
            )
        yield frame


@contextmanager
def _complete(target: Path) -> Iterator[Path]:
    """Give a file beside the target, and name it so if all went well."""
    with tempfile.NamedTemporaryFile(
        dir=target.parent, prefix='.', suffix=target.suffix, delete=False
    ) as file:
        part = Path(file.name)
    try:
        yield part
        part.chmod(0o644)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
