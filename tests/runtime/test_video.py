"""Videos: read, drawn on and written by OpenCV and by PyAV."""

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from resource import RLIMIT_FSIZE, setrlimit

import numpy as np
import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file
from aqd_mmdet.runtime import Detector, video, video_backends
from aqd_mmdet.runtime.command import command
from tests.factories import ROOT, detector
from tests.tool import error_line

BACKENDS = {'cv2': video_backends.OpenCv, 'av': video_backends.PyAv}
FRAMES = 12


@pytest.fixture(params=BACKENDS)
def library(request, monkeypatch):
    """Each library that is installed, as the one that is used."""
    pytest.importorskip(request.param)
    made = BACKENDS[request.param]()
    monkeypatch.setattr(video, 'backend', lambda source: made)
    return made


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch) -> None:
    file.save(detector(), tmp_path / 'model.aqd')
    monkeypatch.chdir(tmp_path)


def frame(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A grey that tells the frame's number, and a red corner."""
    made = np.full((height, width, 3), 20 * number, np.uint8)
    made[: height // 2, : width // 2] = 255, 0, 0
    return made


def stream(numbers, rate=30, seconds=None, step=1 / 30, size=(48, 64)):
    """Frames of these numbers, shown one after the other."""
    frames = (
        video_backends.Frame(frame(number, *size), place * step)
        for place, number in enumerate(numbers)
    )
    return video_backends.Stream(frames, Fraction(rate), None, seconds)


def write(library, path: Path, *size: int) -> None:
    writer = library.writer(
        path, video_backends.RATE, frame(0, *size).shape[:2]
    )
    for number in range(FRAMES):
        writer.write(frame(number, *size))
    writer.close()


@pytest.mark.parametrize('size', [(48, 64), (50, 66)])
def test_frames_come_back(library, size):
    write(library, Path('a.mp4'), *size)
    source = library.read(Path('a.mp4'), 'video')
    assert (source.rate, source.total) == (30, FRAMES)
    assert source.seconds == pytest.approx(FRAMES / 30)
    frames = list(source.frames)
    assert len(frames) == FRAMES
    for number, each in enumerate(frames):
        assert each.seconds == pytest.approx(number / 30, abs=1e-3)
        found = each.pixels
        assert found.shape == (*size, 3) and found.dtype == np.uint8
        # Coded with a loss: red is red, and greys are those of their frames.
        assert found[8, 8, 0] > 200 and found[8, 8, 2] < 60
        assert abs(int(found[-8, -8].mean()) - 20 * number) < 10


def test_boxes_are_drawn_in_each_frame(library, capsys):
    write(library, Path('a.mp4'))
    command(['model.aqd', 'a.mp4', '--out', 'out', '--score', '0'])
    out = capsys.readouterr().out
    assert f'video a.mp4: {FRAMES} frames, ' in out
    assert 'frames per second, out/a.mp4' in out
    assert [x.name for x in Path('out').iterdir()] == ['a.mp4']
    found = list(library.read(Path('out/a.mp4'), 'video').frames)
    assert len(found) == FRAMES
    run = Detector('model.aqd')
    frames = library.read(Path('a.mp4'), 'video').frames
    nearer = 0
    for source, drawn in zip(frames, found, strict=True):
        plain = source.pixels.astype(int)
        wanted = run.predict(source.pixels).plot(score=0).astype(int)
        if not np.array_equal(wanted, plain):
            nearer += (
                np.abs(drawn.pixels - wanted).mean()
                < np.abs(drawn.pixels - plain).mean()
            )
    assert nearer >= FRAMES // 2


def test_a_video_is_not_replaced(library):
    write(library, Path('a.mp4'))
    before = Path('a.mp4').read_bytes()
    with pytest.raises(UserError, match=r'--out \.: a.mp4 exists: move it'):
        command(['model.aqd', 'a.mp4', '--out', '.'])
    assert Path('a.mp4').read_bytes() == before


def test_files_that_are_no_videos(library):
    Path('a.mp4').write_text('mine')
    with pytest.raises(UserError, match='video a.mp4: .* cannot open it'):
        command(['model.aqd', 'a.mp4'])
    assert not Path('detections').exists()


def test_nothing_is_left_of_a_run_that_failed(library, monkeypatch):
    write(library, Path('a.mp4'))
    odd = next(stream([2], size=(20, 20)).frames)
    frames = itertools.chain(stream([0, 1]).frames, [odd])
    made = replace(stream([]), frames=frames)
    monkeypatch.setattr(library, 'read', lambda *_: made)
    with pytest.raises(UserError, match='frame 2 has the shape'):
        command(['model.aqd', 'a.mp4', '--out', 'out'])
    assert list(Path('out').iterdir()) == []


def test_a_full_disk(library, tmp_path):
    write(library, Path('a.mp4'))
    name = type(library).__name__
    tool = (
        'from aqd_mmdet.runtime import __main__, video, video_backends; '
        f'video.backend = lambda source: video_backends.{name}(); '
        '__main__.main()'
    )
    result = subprocess.run(
        [sys.executable, '-c', tool, 'model.aqd', 'a.mp4'],
        env={'PYTHONPATH': str(ROOT), 'PYTHONDONTWRITEBYTECODE': '1'},
        preexec_fn=lambda: setrlimit(RLIMIT_FSIZE, (1000, 1000)),
        capture_output=True,
        text=True,
    )
    message = error_line(result)
    assert message.startswith('error: --out ')
    assert '/.' not in message
    assert 'free some space or choose another --out' in message
    assert list(Path('detections').iterdir()) == []


def test_a_camera_is_read_until_it_is_stopped(library, monkeypatch, capsys):
    def frames():
        yield from stream([0, 1]).frames
        raise KeyboardInterrupt

    made = replace(stream([]), frames=frames())
    read = library.read
    monkeypatch.setattr(library, 'read', lambda *_: made)
    command(['model.aqd', '0'])
    assert 'camera 0: 2 frames, ' in capsys.readouterr().out
    found = read(Path('detections/camera0.mp4'), 'video').frames
    assert len(list(found)) == 2


def test_a_camera_that_is_stopped_before_it_shows_anything(
    library, monkeypatch
):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(library, 'read', lambda *_: stream([0]))
    monkeypatch.setattr(Detector, 'predict', interrupt)
    with pytest.raises(KeyboardInterrupt):
        command(['model.aqd', '0'])
    assert list(Path('detections').iterdir()) == []


def test_ctrl_c_between_a_frame_and_its_count():
    pytest.importorskip('cv2')
    writer = video_backends.OpenCv().writer(
        Path('a.mp4'), video_backends.RATE, (48, 64)
    )
    for number in range(3):
        writer.write(frame(number))
    writer.count -= 1
    writer.close()


def test_frames_that_come_late_are_shown_as_long(library, monkeypatch):
    made = stream([0, 3, 6], step=0.1)
    read = library.read
    monkeypatch.setattr(library, 'read', lambda *_: made)
    command(['model.aqd', '0'])
    found = read(Path('detections/camera0.mp4'), 'video').frames
    greys = [20 * round(x.pixels[-8, -8].mean() / 20) for x in found]
    # Of 30 frames a second three for each, and one of the last.
    assert greys == [0, 0, 0, 60, 60, 60, 120]


def test_frames_that_come_too_fast_are_left_out(library, monkeypatch):
    made = stream([n // 8 for n in range(32)], step=1 / 240)
    read = library.read
    monkeypatch.setattr(library, 'read', lambda *_: made)
    command(['model.aqd', '0'])
    found = read(Path('detections/camera0.mp4'), 'video').frames
    # An eighth of a second of 240 frames in one lasts four frames of 30.
    assert len(list(found)) == 5


def test_times_that_no_video_has():
    times = [7.0, 7.1, None, 7.3, 95451.0, 95451.1, 0.0, 0.0]
    frames = video_backends._timed(((frame(0), x) for x in times), Fraction(5))
    assert [x.seconds for x in frames] == pytest.approx(
        [0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 1.0, 1.2]
    )


def test_the_last_frame_lasts_as_the_others(library, monkeypatch, capsys):
    made = stream([0] * 4, rate=1, step=1.0, seconds=4.0)
    write(library, Path('a.mp4'))
    monkeypatch.setattr(library, 'read', lambda *_: made)
    command(['model.aqd', 'a.mp4'])
    assert capsys.readouterr().err == ''


def test_odd_sides_are_kept(library):
    write(library, Path('a.mp4'), 47, 61)
    found = next(library.read(Path('a.mp4'), 'video').frames).pixels
    even = library.__class__ is video_backends.OpenCv
    assert found.shape == ((48, 62, 3) if even else (47, 61, 3))


@pytest.mark.parametrize('mask', [0o022, 0o077])
def test_the_file_has_the_rights_of_others(library, mask):
    write(library, Path('a.mp4'))
    before = os.umask(mask)
    try:
        command(['model.aqd', 'a.mp4'])
    finally:
        os.umask(before)
    made = Path('detections/a.mp4').stat().st_mode & 0o777
    assert made == 0o666 & ~mask


def test_fewer_frames_than_the_header_says(library, monkeypatch, capsys):
    write(library, Path('a.mp4'))
    made = stream([0], seconds=9.0)
    monkeypatch.setattr(library, 'read', lambda *_: made)
    command(['model.aqd', 'a.mp4'])
    assert 'says that it has 9.0 s; no more than 0.0 s' in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize('rotation', [0, 90, 180, -90, 45])
def test_frames_that_are_turned(rotation):
    class Turned:
        """Stands for a frame of a file that has a rotation."""

        def __init__(self):
            self.rotation = rotation

        def to_ndarray(self, format):
            return frame(1)

    av = pytest.importorskip('av') and video_backends.PyAv()
    if rotation == 45:
        with pytest.raises(UserError, match='turned by 45 degrees'):
            av._upright(Turned(), 'video')
        return
    found = av._upright(Turned(), 'video')
    # The red corner, at the upper left, counterclockwise.
    corners = {0: (0, 0), 90: (-1, 0), 180: (-1, -1), -90: (0, -1)}
    assert tuple(found[corners[rotation]]) == (255, 0, 0)


def test_a_camera_that_is_not_there(library):
    for number in ('97', '9' * 11, '9' * 25):
        with pytest.raises(UserError, match=f'camera {number}: '):
            command(['model.aqd', number])


def test_a_file_with_the_name_of_a_camera_is_a_file():
    Path('0').write_text('mine')
    assert video.as_stream(Path('0')) is None
    assert video.as_stream(Path('1')) == 1
    Path('frames.mp4').mkdir()
    assert video.as_stream(Path('frames.mp4')) is None
    assert video.as_stream(Path('a.MOV')) == Path('a.MOV')


def test_without_a_library(monkeypatch):
    monkeypatch.setattr(video_backends, 'find_spec', lambda name: None)
    for source, wanted in (('0', 'opencv'), ('a.mp4', 'av')):
        with pytest.raises(UserError, match=f'pip install {wanted}') as caught:
            command(['model.aqd', source])
        assert '\n' not in str(caught.value)


def test_pyav_reads_files_and_opencv_cameras(monkeypatch):
    names = [name for name in ('av', 'cv2') if find_spec(name)]
    assert names, 'no library for videos is installed'
    chosen = video_backends.backend(Path('a.mp4'))
    assert isinstance(chosen, BACKENDS[names[0]])
    if 'cv2' in names:
        chosen = video_backends.backend(0)
        assert isinstance(chosen, video_backends.OpenCv)
