"""A detector behind HTTP: the application by itself."""

import asyncio
import io
import json
import re
import struct
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFile

from aqd_mmdet.runtime import Detector
from aqd_mmdet.runtime.application import Application, Limits
from tests.factories import detector


def pixels(seed: int = 0, height: int = 40, width: int = 60) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def png(image: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, 'png')
    return content.getvalue()


def wanted(image: np.ndarray, score: float = 0) -> dict:
    found = Detector(detector()).predict(image, score)
    boxes = found.boxes.tolist()
    return {
        'height': image.shape[0],
        'width': image.shape[1],
        'objects': [
            {'label': label, 'name': name, 'score': share, 'box': box}
            for label, name, share, box in zip(
                found.labels.tolist(),
                found.names,
                found.scores.tolist(),
                boxes,
                strict=True,
            )
        ],
    }


def application(**limits: float) -> Application:
    return Application(Detector(detector()), 2, Limits(**limits))


async def ask(
    app: Application,
    method: str = 'POST',
    path: str = '/detect',
    content: bytes = b'',
    query: bytes = b'',
    parts: int = 1,
    length: bytes | None = None,
) -> tuple[int, str]:
    """Return status and text of an answer to a content in several parts."""
    size = -(-len(content) // parts) or 1
    events = [
        {
            'type': 'http.request',
            'body': content[at : at + size],
            'more_body': at + size < len(content),
        }
        for at in range(0, max(len(content), 1), size)
    ]
    sent = []

    async def receive() -> dict:
        return events.pop(0)

    async def send(event: dict) -> None:
        sent.append(event)

    scope = {
        'type': 'http',
        'method': method,
        'path': path,
        'query_string': query,
        'headers': [] if length is None else [(b'content-length', length)],
    }
    await app(scope, receive, send)
    start, body = sent
    headers = dict(start['headers'])
    assert int(headers[b'content-length']) == len(body['body'])
    assert (start['status'] == 503) == (b'retry-after' in headers)
    assert (start['status'] == 405) == (b'allow' in headers)
    return start['status'], body['body'].decode()


def answer(app: Application, *args: object, **named: object):
    return asyncio.run(ask(app, *args, **named))


def test_objects_in_an_image():
    app = application()
    for seed in range(2):
        status, text = answer(app, content=png(pixels(seed)), parts=3)
        assert status == 200
        assert json.loads(text) == wanted(pixels(seed))
        assert json.loads(text)['objects']


def test_the_least_score():
    least = wanted(pixels())['objects'][1]['score']
    query = f'score={least!r}'.encode()
    _, text = answer(application(), content=png(pixels()), query=query)
    assert json.loads(text) == wanted(pixels(), least)
    assert 0 < len(json.loads(text)['objects']) < 5


def test_health():
    status, text = answer(application(), 'GET', '/health')
    assert status == 200
    classes = list(detector().labels)
    assert json.loads(text) == {'status': 'ok', 'classes': classes}


@pytest.mark.parametrize(
    'request_, status, message',
    [
        (dict(content=b'mine'), 400, 'image of the request: not an image'),
        (dict(content=b''), 400, 'not an image'),
        (dict(content=png(pixels())[:900]), 400, 'the file is damaged'),
        (dict(query=b'score=2'), 400, "from 0 to 1, found '2'"),
        (dict(query=b'score=x'), 400, "from 0 to 1, found 'x'"),
        (dict(query=b'scores=1'), 400, 'scores: the only parameter is score'),
        (dict(query=b'score=1&score=0'), 400, 'score: expected once, found 2'),
        (dict(content=b'x' * 9001), 413, 'more than 9000 bytes'),
        (dict(content=b'x' * 9001, parts=5), 413, 'more than 9000 bytes'),
        (
            dict(content=png(np.zeros((200, 200, 3), np.uint8))),
            400,
            '200 x 200 is too large: at most 2500 pixels',
        ),
        (dict(content=b'x' * 40000, parts=50), 413, 'more than 9000 bytes'),
        (dict(length=b'9001'), 413, 'more than 9000 bytes'),
        (dict(length=b'9' * 5000), 413, 'more than 9000 bytes'),
        (dict(length=b'-1'), 400, "expected a number of bytes, found '-1'"),
        (dict(length=b''), 400, "expected a number of bytes, found ''"),
        (dict(path='/'), 404, '/: there are /detect, /health, /metrics'),
        (dict(method='GET'), 405, '/detect: expected POST'),
        (dict(path='/health'), 405, '/health: expected GET'),
    ],
)
def test_requests_that_are_refused(request_, status, message):
    app = application(image_bytes=9000, pixels=2500)
    found, text = answer(app, **request_)
    assert (found, list(json.loads(text))) == (status, ['error'])
    assert message in json.loads(text)['error']
    # The next one is served.
    assert answer(app, content=png(pixels()))[0] == 200


@pytest.mark.parametrize('kind', ['eps', 'ico', 'icns', 'avif'])
def test_files_whose_header_may_lie_are_not_read(kind, monkeypatch):
    """A picture in an icon or an AVIF may be larger than the header says, and
    the program in an EPS may do anything."""
    content = io.BytesIO()
    Image.new('RGB', (16, 16)).save(content, kind)
    monkeypatch.setattr(ImageFile.ImageFile, 'load', None)
    status, text = answer(application(), content=content.getvalue())
    assert status == 400
    assert 'not an image of these formats: JPEG, PNG' in text


def test_a_jpeg_of_many_scans():
    """Each scan of a few bytes costs a pass over all pixels."""
    saved = io.BytesIO()
    Image.fromarray(pixels()).save(saved, 'jpeg', progressive=True)
    content = saved.getvalue()
    last = content[content.rindex(b'\xff\xda') : -2]
    scans = content.count(b'\xff\xda')
    # A comment may hold anything.
    comment = b'\xff\xfe\x01\x00' + b'\xff\xda' * 127
    for count, status in ((scans, 200), (100, 200), (101, 400), (5000, 400)):
        added = last * (count - scans) + b'\xff\xd9' + last * 200
        many = content[:2] + comment + content[2:-2] + added
        found, text = answer(application(), content=many)
        assert found == status
        assert (status == 400) == ('more than 100 scans' in text)


def test_a_jpeg_of_many_segments():
    saved = io.BytesIO()
    Image.fromarray(pixels()).save(saved, 'jpeg')
    content = saved.getvalue()
    for count, status in ((1000, 200), (3000, 400)):
        many = content[:2] + b'\xff\xe0\x00\x02' * count + content[2:]
        found, text = answer(application(), content=many)
        assert found == status
        assert (status == 400) == ('or 2000 segments' in text)


def test_a_tiff_whose_tile_is_larger_than_it():
    """A tile is decoded as a whole."""
    tags = {
        **{256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 277: 1},
        **{322: 1 << 12, 323: 1 << 12, 324: 0, 325: 0},
    }
    content = struct.pack('<2sHIH', b'II', 42, 8, len(tags))
    content += b''.join(
        struct.pack('<HHII', tag, 4, 1, value) for tag, value in tags.items()
    )
    status, text = answer(
        application(pixels=1 << 20), content=content + bytes(4)
    )
    assert status == 400
    assert '4096 x 4096 is too large' in text


def test_no_memory_for_an_image():
    app = application()

    def run(*_: object) -> None:
        raise MemoryError

    app._run = run
    status, text = answer(app, content=png(pixels()))
    assert status == 503 and 'no memory is left for this image' in text


def test_no_memory_in_the_engine(monkeypatch):
    app = application()
    library = SimpleNamespace(aqd_detect=lambda *_: 3)
    monkeypatch.setattr(app.detector._engine, '_library', library)
    status, text = answer(app, content=png(pixels()))
    assert status == 503 and 'no memory is left for this image' in text


def test_web_sockets_are_closed():
    sent = []

    async def send(event: dict) -> None:
        sent.append(event)

    asyncio.run(application()({'type': 'websocket'}, None, send))
    assert sent == [{'type': 'websocket.close'}]


def test_a_full_queue_refuses():
    app = application(queue=2)
    started, go = threading.Barrier(3), threading.Event()
    run = app._run

    def wait(*args: object):
        started.wait(20)
        assert go.wait(20)
        return run(*args)

    app._run = wait

    async def crowd() -> list[tuple[int, str]]:
        running = [
            asyncio.create_task(ask(app, content=png(pixels())))
            for _ in range(2)
        ]
        await asyncio.to_thread(started.wait, 20)
        refused = await ask(app, content=png(pixels()))
        assert 'aqd_images_waiting 2' in (await ask(app, 'GET', '/metrics'))[1]
        go.set()
        return [refused, *[await task for task in running]]

    refused, *served = asyncio.run(crowd())
    assert refused[0] == 503 and 'try again later' in refused[1]
    assert [json.loads(text) for _, text in served] == [wanted(pixels())] * 2
    app._run = run
    assert answer(app, content=png(pixels()))[0] == 200


def test_images_that_do_not_arrive():
    app = application(seconds=0.05)
    sent = []

    async def never() -> dict:
        await asyncio.sleep(20)
        raise AssertionError

    async def gone() -> dict:
        return {'type': 'http.disconnect'}

    async def send(event: dict) -> None:
        sent.append(event)

    scope = {'type': 'http', 'method': 'POST', 'path': '/detect',
             'query_string': b'', 'headers': []}  # fmt: skip
    asyncio.run(app(scope, never, send))
    assert sent[0]['status'] == 408
    sent.clear()
    asyncio.run(app(scope, gone, send))
    assert sent == []
    assert app.metrics.waiting == 0


def test_numbers_for_prometheus():
    app = application()
    for content in (png(pixels(0)), png(pixels(1)), b'mine'):
        answer(app, content=content)
    for path in ('/a', '/b'):
        answer(app, 'GET', path)
    status, text = answer(app, 'GET', '/metrics')
    assert status == 200
    objects = sum(len(wanted(pixels(seed))['objects']) for seed in range(2))
    for line in (
        'aqd_requests_total{path="/detect",status="200"} 2',
        'aqd_requests_total{path="/detect",status="400"} 1',
        'aqd_requests_total{path="other",status="404"} 2',
        'aqd_images_waiting 0',
        f'aqd_objects_total {objects}',
        'aqd_detection_seconds_count 2',
        'aqd_detection_seconds_bucket{le="+Inf"} 2',
    ):
        assert line in text.splitlines()
    for line in text.splitlines():
        assert re.fullmatch(
            r'# (HELP|TYPE) \w+ .*|\w+({.*})? [0-9.e+-]+', line
        )
    buckets = re.findall(r'bucket{le="[0-9.]+"} (\d+)', text)
    assert buckets == sorted(buckets, key=int)


def test_errors_of_the_program_are_not_hidden():
    app = application()
    app._run = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        answer(app, content=png(pixels()))
    app._run = None
    _, text = answer(app, 'GET', '/metrics')
    assert 'aqd_requests_total{path="/detect",status="500"} 1' in text


def test_below_another_application():
    app = application()

    async def mounted(scope: dict, receive: object, send: object) -> None:
        await app({**scope, 'root_path': '/cats'}, receive, send)

    status, text = answer(mounted, path='/cats/detect', content=png(pixels()))
    assert (status, json.loads(text)) == (200, wanted(pixels()))
    assert answer(mounted, path='/dogs/detect')[0] == 404


def test_start_and_end_of_the_application():
    events = [{'type': f'lifespan.{name}'} for name in ('startup', 'shutdown')]
    sent = []

    async def receive() -> dict:
        return events.pop(0)

    async def send(event: dict) -> None:
        sent.append(event['type'])

    asyncio.run(application()({'type': 'lifespan'}, receive, send))
    assert sent == ['lifespan.startup.complete', 'lifespan.shutdown.complete']
