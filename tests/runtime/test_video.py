"""Videos: read, drawn on and written by OpenCV and by PyAV."""

import subprocess
import sys
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
    monkeypatch.setattr(video, 'backend', lambda: made)
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
    stream = library.read(Path('a.mp4'), 'video')
    assert (stream.rate, stream.total) == (30, FRAMES)
    frames = list(stream.frames)
    assert len(frames) == FRAMES
    for number, found in enumerate(frames):
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
        plain = source.astype(int)
        wanted = run.predict(source).plot(score=0).astype(int)
        if not np.array_equal(wanted, plain):
            nearer += (
                np.abs(drawn - wanted).mean() < np.abs(drawn - plain).mean()
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
    frames = [frame(0), frame(1), frame(2, 20, 20)]
    stream = video_backends.Stream(iter(frames), video_backends.RATE, 3)
    monkeypatch.setattr(library, 'read', lambda *_: stream)
    with pytest.raises(UserError, match='frame 2 has the shape'):
        command(['model.aqd', 'a.mp4', '--out', 'out'])
    assert list(Path('out').iterdir()) == []


def test_a_full_disk(tmp_path):
    """OpenCV goes on without a word where it cannot write."""
    write(
        pytest.importorskip('cv2') and video_backends.OpenCv(), Path('a.mp4')
    )
    result = subprocess.run(
        [sys.executable, '-m', 'aqd_mmdet.runtime', 'model.aqd', 'a.mp4'],
        env={'PYTHONPATH': str(ROOT), 'PYTHONDONTWRITEBYTECODE': '1'},
        preexec_fn=lambda: setrlimit(RLIMIT_FSIZE, (1000, 1000)),
        capture_output=True,
        text=True,
    )
    assert f'of {FRAMES} frames 0 could be written' in error_line(result)
    assert list(Path('detections').iterdir()) == []


def test_a_camera_is_read_until_it_is_stopped(library, monkeypatch, capsys):
    def frames():
        yield frame(0)
        yield frame(1)
        raise KeyboardInterrupt

    stream = video_backends.Stream(frames(), video_backends.RATE, None)
    read = library.read
    monkeypatch.setattr(library, 'read', lambda *_: stream)
    command(['model.aqd', '0'])
    assert 'camera 0: 2 frames, ' in capsys.readouterr().out
    found = read(Path('detections/camera0.mp4'), 'video').frames
    assert len(list(found)) == 2


def test_fewer_frames_than_the_header_says(library, monkeypatch, capsys):
    write(library, Path('a.mp4'))
    stream = video_backends.Stream(iter([frame(0)]), video_backends.RATE, 9)
    monkeypatch.setattr(library, 'read', lambda *_: stream)
    command(['model.aqd', 'a.mp4'])
    assert 'its header says that there are 9 frames' in capsys.readouterr().err


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
    with pytest.raises(UserError, match='pip install av') as caught:
        command(['model.aqd', '0'])
    assert '\n' not in str(caught.value)


def test_opencv_is_the_first_choice(monkeypatch):
    names = [name for name in BACKENDS if find_spec(name)]
    assert names, 'no library for videos is installed'
    assert isinstance(video_backends.backend(), BACKENDS[names[0]])
