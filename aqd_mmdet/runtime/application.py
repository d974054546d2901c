"""A detector behind HTTP, as an ASGI application."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from ..errors import UserError
from .detector import Detector
from .images import decode_image
from .metrics import TYPE, Metrics
from .prediction import Prediction, check_score

JSON = 'application/json'
ROUTES = {'/detect': 'POST', '/health': 'GET', '/metrics': 'GET'}
# How an image is called in messages: 'image of the request'.
NAME = Path('of the request')
# Of the longest content-length that is read: those of 64 bits.
LENGTH_DIGITS = 19
# An image that is too large is read on and thrown away up to so many times
# its limit: most clients read no answer before they have sent all, and lose
# it where the connection is closed before.
READ_ON = 4

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Limits:
    """What a client may ask for.

    Attributes:
        image_bytes: Size of an image's file.
        pixels: Of an image.
        queue: Images that are received, wait or run at a time; further ones
            are refused.
        seconds: In which an image must have arrived.
    """

    image_bytes: int = 16 << 20
    pixels: int = 50_000_000
    queue: int = 64
    seconds: float = 30.0


class _Refused(Exception):
    """A request that is not served: status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class _GoneError(Exception):
    """The client has gone."""


class Application:
    """Finds objects in images that are posted to ``/detect``.

    Args:
        detector: What finds them.
        workers: How many images run at a time.
        limits: For clients.
    """

    def __init__(
        self, detector: Detector, workers: int, limits: Limits
    ) -> None:
        self.detector, self.limits = detector, limits
        self.metrics = Metrics()
        self._pool = ThreadPoolExecutor(workers)

    async def __call__(
        self, scope: dict[str, Any], receive: Receive, send: Send
    ) -> None:
        """Serve a connection, as ASGI says."""
        if scope['type'] == 'lifespan':
            await self._live(receive, send)
            return
        if scope['type'] == 'websocket':
            await send({'type': 'websocket.close'})
            return
        # Below the path that another application gives to this one.
        path = scope['path'].removeprefix(scope.get('root_path', ''))
        label = path if path in ROUTES else 'other'
        try:
            status, kind, content = await self._answer(path, scope, receive)
        except _GoneError:
            return
        except Exception:
            self.metrics.request(label, 500)
            raise
        self.metrics.request(label, status)
        headers = [
            (b'content-type', kind.encode()),
            (b'content-length', str(len(content)).encode()),
        ]
        if status == 503:
            headers.append((b'retry-after', b'1'))
        if status == 405:
            headers.append((b'allow', ROUTES[path].encode()))
        # uvicorn learns only now that it has closed a connection whose content
        # was no HTTP; before, it cannot send.
        await asyncio.sleep(0)
        start = {'status': status, 'headers': headers}
        await send({'type': 'http.response.start', **start})
        await send({'type': 'http.response.body', 'body': content})

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            event = (await receive())['type']
            if event == 'lifespan.shutdown':
                self._pool.shutdown()
            await send({'type': f'{event}.complete'})
            if event == 'lifespan.shutdown':
                return

    async def _answer(
        self, path: str, scope: dict[str, Any], receive: Receive
    ) -> tuple[int, str, bytes]:
        """Return status, content type and content of an answer."""
        try:
            if path not in ROUTES:
                raise _Refused(404, f'{path}: there are {", ".join(ROUTES)}')
            if scope['method'] != ROUTES[path]:
                raise _Refused(405, f'{path}: expected {ROUTES[path]}')
            if path == '/metrics':
                return 200, TYPE, self.metrics.text().encode()
            found: dict[str, Any] = {'status': 'ok'}
            if path == '/health':
                found['classes'] = self.detector.labels
            else:
                found = await self._detect(scope, receive)
            return 200, JSON, json.dumps(found).encode()
        except _Refused as refused:
            content = json.dumps({'error': refused.message}).encode()
            return refused.status, JSON, content

    async def _detect(
        self, scope: dict[str, Any], receive: Receive
    ) -> dict[str, Any]:
        score = _score(scope['query_string'])
        if self.metrics.waiting >= self.limits.queue:
            raise _Refused(503, 'too many images wait: try again later')
        self.metrics.waiting += 1
        try:
            content = await asyncio.wait_for(
                self._body(scope, receive), self.limits.seconds
            )
            loop = asyncio.get_running_loop()
            found, seconds = await loop.run_in_executor(
                self._pool, self._run, content, score
            )
        except asyncio.TimeoutError:
            seconds = self.limits.seconds
            raise _Refused(
                408, f'the image did not arrive in {seconds:g} seconds'
            ) from None
        except MemoryError:
            raise _Refused(
                503, 'no memory is left for this image: try again later'
            ) from None
        except UserError as error:
            raise _Refused(400, error.line()) from None
        finally:
            self.metrics.waiting -= 1
        self.metrics.detection(seconds, len(found))
        return _described(found)

    async def _body(self, scope: dict[str, Any], receive: Receive) -> bytes:
        """Return a request's content, as far as it may be large."""
        most = self.limits.image_bytes
        length = dict(scope['headers']).get(b'content-length', b'0')
        if not length.isdigit():
            raise _Refused(
                400,
                'content-length: expected a number of bytes, found '
                + repr(length.decode('latin-1')),
            )
        too_large = _Refused(413, f'the image has more than {most} bytes')
        # Python converts no more than some thousands of digits.
        if len(length) > LENGTH_DIGITS or int(length) > READ_ON * most:
            raise too_large
        content, count = bytearray(), 0
        while True:
            event = await receive()
            if event['type'] == 'http.disconnect':
                raise _GoneError
            part = event.get('body', b'')
            count += len(part)
            if count > READ_ON * most:
                raise too_large
            if count <= most:
                content += part
            if event.get('more_body'):
                continue
            if max(count, int(length)) > most:
                raise too_large
            return bytes(content)

    def _run(self, content: bytes, score: float) -> tuple[Prediction, float]:
        start = time.perf_counter()
        oriented = self.detector.compiled.preprocess.oriented
        image = decode_image(content, NAME, oriented, self.limits.pixels)
        found = self.detector.predict(image, score, f'image {NAME}')
        return found, time.perf_counter() - start


def _score(query: bytes) -> float:
    """Return the least score that a query asks for."""
    score = 0.0
    parameters = parse_qsl(query.decode('latin-1'), True)
    for key, value in parameters:
        if key != 'score':
            raise _Refused(400, f'{key}: the only parameter is score')
        if len(parameters) > 1:
            raise _Refused(
                400, f'score: expected once, found {len(parameters)} times'
            )
        try:
            score = float(value)
            check_score(score)
        except ValueError:
            message = f'score: expected a number from 0 to 1, found {value!r}'
            raise _Refused(400, message) from None
    return score


def _described(found: Prediction) -> dict[str, Any]:
    height, width = found.size
    objects = [
        {'label': label, 'name': name, 'score': score, 'box': box}
        for label, name, score, box in zip(
            found.labels.tolist(),
            found.names,
            found.scores.tolist(),
            found.boxes.tolist(),
            strict=True,
        )
    ]
    return {'height': height, 'width': width, 'objects': objects}
