"""Whatever a client sends is answered by boxes or by an error that says why.

Requests are random: their images are damaged, their bodies end early or too
late, and their methods, paths, queries and headers are not what is expected.
"""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from aqd_mmdet.runtime import Detector
from aqd_mmdet.runtime.application import Application, Limits
from aqd_mmdet.runtime.images import decode_image
from tests.factories import detector

LIMITS = Limits(image_bytes=9000, pixels=2500, queue=8, seconds=0.05)
# So many requests come at a time, more than the queue takes.
CROWD = 24
FILES = {
    'jpeg': ('RGB', dict(quality=50)),
    'progressive': ('RGB', dict(format='jpeg', progressive=True)),
    'inks': ('CMYK', dict(format='jpeg', quality=50)),
    'png': ('RGB', {}),
    'palette': ('P', dict(format='png')),
    'bits': ('1', dict(format='png')),
    'gif': ('P', {}),
    'bmp': ('RGB', {}),
    'ppm': ('RGB', {}),
    'tiff': ('RGB', {}),
    'deflate': ('L', dict(format='tiff', compression='tiff_adobe_deflate')),
    'lzw': ('RGB', dict(format='tiff', compression='tiff_lzw')),
    'webp': ('RGB', dict(quality=50)),
    'lossless': ('RGBA', dict(format='webp', lossless=True)),
    'ico': ('RGBA', dict(sizes=[(16, 16)])),
    'eps': ('L', {}),
    'tga': ('RGB', {}),
    'jpeg2000': ('RGB', {}),
}
# What the server reads, and what it gives back unread.
REFUSED = ('ico', 'eps', 'tga')
ENDS = ('whole', 'whole', 'whole', 'gone', 'never')
EDGES = (b'\0\0\0\0', b'\xff\xff\xff\xff', b'\x7f\xff\xff\xff', b'\1\0\0\0')
PATHS = ('/', '', '/health', '/metrics', '/detect/', '//detect', '/\0', '*',
         '/%', '/detect\ud800', '/' + 'a' * 5000, 'http://a')  # fmt: skip
QUERIES = (b'score=2', b'score=nan', b'score=', b'score', b'=', b'&&',
           b'a=1', b'score=0.5', b'score=0&score=1', b'%', b'\xff' * 9,
           b'score=%ff', b'score=' + b'9' * 5000)  # fmt: skip
LENGTHS = (b'', b'-1', b'x', b'1e3', b'9' * 5000, b'9001', b'\xff', b'0x9')
STATUSES = {200, 400, 404, 405, 408, 413, 503}


@dataclass(frozen=True)
class Request:
    """What a client sends.

    Attributes:
        content: In parts.
        end: ``whole``, or ``gone`` or ``never`` instead of the last part.
        good: The file that it holds, if all of it is as it should be.
    """

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    content: list[bytes]
    end: str
    good: str | None


def files() -> dict[str, bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    found = {}
    for name, (mode, options) in FILES.items():
        content = BytesIO()
        picture = Image.fromarray(pixels // 32 * 32).convert(mode)
        picture.save(content, **{'format': name, **options})
        found[name] = content.getvalue()
    return found


def mutated(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    """Return a content with one to four changes."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(len(changed) + 1))
        match rng.integers(7):
            case 0:
                del changed[at:]
            case 1:
                changed[at : at + 1] = rng.bytes(1)
            case 2:
                changed[at : at + 4] = EDGES[rng.integers(len(EDGES))]
            case 3:
                changed[at:at] = rng.bytes(int(rng.integers(1, 40)))
            case 4:
                changed[at:] = other[at:]
            case 5:
                del changed[at : at + int(rng.integers(1, 40))]
            case 6:  # in the header, where sizes are
                early = int(rng.integers(min(64, len(changed)) + 1))
                changed[early : early + 1] = rng.bytes(1)
    return bytes(changed)


def random_request(
    rng: np.random.Generator, known: dict[str, bytes]
) -> Request:
    def some(values: tuple, share: float, usual: object) -> object:
        if rng.random() < share:
            return values[rng.integers(len(values))]
        return usual

    names = tuple(known)
    good = some(names, 1, None)
    content = known[good]
    if rng.random() < 0.85:
        content = mutated(rng, content, known[some(names, 1, None)])
    if rng.random() < 0.03:
        content = rng.bytes(int(rng.integers(0, 12000)))
    method = some(('GET', 'HEAD', 'PUT', 'post', '', 'OPTIONS'), 0.05, 'POST')
    path = some(PATHS, 0.05, '/detect')
    query = some(QUERIES, 0.1, b'')
    length = some(LENGTHS, 0.05, None)
    end = some(ENDS, 0.05, 'whole')
    headers = [] if length is None else [(b'content-length', length)]
    usual = (method, path, query, headers) == ('POST', '/detect', b'', [])
    is_good = usual and content == known[good] and end == 'whole'
    size = max(1, -(-len(content) // int(rng.integers(1, 5))))
    parts = [content[at : at + size] for at in range(0, len(content), size)]
    return Request(
        method, path, query, headers, parts or [b''], end,
        good if is_good else None,
    )  # fmt: skip


async def sent(app: Application, request: Request) -> tuple[int, bytes] | None:
    """Return the answer to a request, if one came."""
    events = [
        {'type': 'http.request', 'body': part, 'more_body': True}
        for part in request.content
    ]
    events[-1]['more_body'] = request.end != 'whole'
    answers = []

    async def receive() -> dict:
        await asyncio.sleep(0)
        if events:
            return events.pop(0)
        if request.end == 'gone':
            return {'type': 'http.disconnect'}
        await asyncio.sleep(60)
        raise AssertionError('it waits for what does not come')

    async def send(event: dict) -> None:
        answers.append(event)

    scope = {
        'type': 'http',
        'method': request.method,
        'path': request.path,
        'query_string': request.query,
        'headers': request.headers,
    }
    await asyncio.wait_for(app(scope, receive, send), 30)
    if not answers:
        return None
    start, body = answers
    length = dict(start['headers'])[b'content-length']
    assert int(length) == len(body['body'])
    return start['status'], body['body']


def expect_right(
    request: Request,
    answer: tuple[int, bytes] | None,
    known: dict[str, list | None],
) -> None:
    """Raise if an answer is not one to its request."""
    if answer is None:
        assert request.end == 'gone'
        return
    status, body = answer
    assert status in STATUSES
    if request.path == '/metrics' and status == 200:
        return
    found = json.loads(body)
    if status != 200:
        assert list(found) == ['error'] and found['error']
        assert '\n' not in found['error']
    elif request.path == '/detect':
        assert list(found) == ['height', 'width', 'objects']
        assert found['height'] * found['width'] <= LIMITS.pixels
    # On a busy machine a whole image may arrive late, too.
    if request.good is not None and status not in (408, 503):
        boxes = known[request.good]
        assert status == (400 if boxes is None else 200)
        assert boxes is None or boxes == [o['box'] for o in found['objects']]


async def flood(app: Application, seed: int, count: int) -> Counter:
    """Send requests in crowds, and count the answers by status."""
    rng, contents = np.random.default_rng(seed), files()
    known = {
        name: None
        if name in REFUSED
        else app.detector.predict(decode_image(content, Path())).boxes.tolist()
        for name, content in contents.items()
    }
    counts: Counter = Counter()
    for _ in range(0, count, CROWD):
        crowd = [random_request(rng, contents) for _ in range(CROWD)]
        answers = await asyncio.gather(*(sent(app, each) for each in crowd))
        for request, answer in zip(crowd, answers, strict=True):
            expect_right(request, answer, known)
            counts[answer and answer[0]] += 1
    return counts


def test_requests_at_random():
    app = Application(Detector(detector(), 1), 2, LIMITS)
    counts = asyncio.run(flood(app, 0, 3000))
    assert set(counts) == STATUSES | {None}
    assert counts[200] > 200
    assert app.metrics.waiting == 0
