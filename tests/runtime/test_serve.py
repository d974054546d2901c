"""A detector behind HTTP: the application by itself, and under uvicorn."""

import asyncio
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file
from aqd_mmdet.runtime import Detector, serve
from aqd_mmdet.runtime.application import Application, Limits
from tests.factories import ROOT, detector


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
        (dict(content=b'x' * 9001), 413, 'more than 9000 bytes'),
        (dict(content=b'x' * 9001, parts=5), 413, 'more than 9000 bytes'),
        (
            dict(content=png(np.zeros((200, 200, 3), np.uint8))),
            400,
            '200 x 200 is too large: at most 2500 pixels',
        ),
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


@pytest.mark.parametrize('kind', ['eps', 'ico', 'icns'])
def test_files_whose_header_may_lie_are_not_read(kind, monkeypatch):
    """A picture in an icon may be larger than the header says, and the
    program in an EPS may do anything."""
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


def test_no_memory_for_an_image():
    app = application()

    def run(*_: object) -> None:
        raise MemoryError

    app._run = run
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


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file.save(detector(), tmp_path / 'model.aqd')
    return tmp_path / 'model.aqd'


def test_arguments_that_are_refused(model, monkeypatch):
    with pytest.raises(UserError, match='--queue 0: give a number from 1 on'):
        serve.command([str(model), '--queue', '0'])
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match='cannot listen there .*in use'):
            serve._listening('127.0.0.1', port)
    with pytest.raises(UserError, match='--port 70000: give a number from 0'):
        serve.command([str(model), '--port', '70000'])
    with pytest.raises(UserError, match='--host nowhere.invalid .* cannot'):
        serve._listening('nowhere.invalid', 0)
    monkeypatch.setitem(sys.modules, 'uvicorn', None)
    with pytest.raises(UserError, match='pip install uvicorn'):
        serve.command([str(model)])


@contextmanager
def served(model: Path) -> Iterator[tuple[subprocess.Popen, int]]:
    """Serve a model by uvicorn; give the process and its port."""
    pytest.importorskip('uvicorn')
    process = subprocess.Popen(
        [sys.executable, '-m', 'aqd_mmdet.runtime', 'serve', model,
         '--port', '0'],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        yield process, int(re.search(r':(\d+)/detect', line)[1])
    finally:
        process.kill()
        process.communicate()


def test_under_uvicorn(model):
    """An image that is being sent when the server is stopped is answered."""
    with served(model) as (process, port):
        url = f'http://127.0.0.1:{port}'
        with urllib.request.urlopen(f'{url}/health', timeout=20) as reply:
            assert json.load(reply)['status'] == 'ok'
        content = png(pixels())
        with urllib.request.urlopen(
            f'{url}/detect', content, timeout=20
        ) as reply:
            assert json.load(reply) == wanted(pixels())
        with pytest.raises(urllib.error.HTTPError, match='400'):
            urllib.request.urlopen(f'{url}/detect', b'mine', timeout=20)
        with socket.create_connection(('127.0.0.1', port), 20) as late:
            size = len(content)
            late.sendall(
                b'POST /detect HTTP/1.1\r\nHost: a\r\n'
                + f'Content-Length: {size}\r\n\r\n'.encode()
                + content[:100]
            )
            # The rest is sent once the server waits for it.
            for _ in range(200):
                with urllib.request.urlopen(
                    f'{url}/metrics', timeout=20
                ) as reply:
                    if b'aqd_images_waiting 1' in reply.read():
                        break
                time.sleep(0.05)
            else:
                raise AssertionError('the image does not arrive')
            process.send_signal(signal.SIGTERM)
            late.sendall(content[100:])
            reply = late.makefile('rb').read()
        assert reply.startswith(b'HTTP/1.1 200')
        assert json.loads(reply.split(b'\r\n\r\n', 1)[1]) == wanted(pixels())
        assert process.wait(20) in (0, -signal.SIGTERM)


def test_requests_that_are_not_http(model):
    """Content that is no HTTP, of a request that is refused anyway."""
    chunked = b' / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n'
    with served(model) as (process, port):
        for method in (b'POST', b'GET'):
            with socket.create_connection(('127.0.0.1', port), 20) as client:
                client.sendall(method + chunked + b'none\r\n')
                reply = client.makefile('rb').read()
            assert reply.startswith(b'HTTP/1.1 400')
        process.terminate()
        assert 'Traceback' not in process.communicate(timeout=20)[1]
