"""The command that serves a detector, and its server, uvicorn."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from aqd_mmdet.errors import UserError
from aqd_mmdet.program import file
from aqd_mmdet.runtime import serve
from tests.factories import ROOT, detector
from tests.runtime.test_serve import pixels, png, wanted


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
    for host in ('nowhere.invalid', 'a..b', 'a' * 70):
        with pytest.raises(UserError, match=f'--host {host} .* cannot'):
            serve._listening(host, 0)
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
        large = bytes(serve.Limits.image_bytes + 2**20)
        with pytest.raises(urllib.error.HTTPError, match='413'):
            urllib.request.urlopen(f'{url}/detect', large, timeout=20)
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


def test_a_host_of_ipv6(model, monkeypatch, capsys):
    """The address that is printed can be asked as it is."""
    monkeypatch.setitem(sys.modules, 'uvicorn', mock.MagicMock())
    with socket.socket(socket.AF_INET6) as listener:
        try:
            listener.bind(('::1', 0))
        except OSError:
            pytest.skip('there is no IPv6 here')
    serve.command([str(model), '--host', '::1', '--port', '0'])
    assert re.search(r'http://\[::1\]:\d+/detect', capsys.readouterr().out)


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
