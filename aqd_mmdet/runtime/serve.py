"""Serve a compiled detector by HTTP: POST an image to /detect."""

import argparse
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from .application import Application, Limits
from .detector import Detector
from .optional import need
from .processors import processors

# In which images that have arrived are answered once the server is stopped.
GRACE_SECONDS = 30
MAX_PORT = 2**16 - 1


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    limits = Limits()
    made = argparse.ArgumentParser(
        'aqd_mmdet.runtime serve', description=__doc__
    )
    made.add_argument('model', type=Path, help='a file model.aqd')
    made.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to listen at; default: this machine alone',
    )
    made.add_argument('--port', type=int, default=8000)
    made.add_argument(
        '--max-bytes',
        type=int,
        default=limits.image_bytes,
        help=f"size of an image's file; default: {limits.image_bytes}",
    )
    made.add_argument(
        '--max-pixels',
        type=int,
        default=limits.pixels,
        help=f'pixels of an image; default: {limits.pixels}',
    )
    made.add_argument(
        '--queue',
        type=int,
        default=limits.queue,
        help='images that may wait or run at a time; further ones are '
        f'refused; default: {limits.queue}',
    )
    return made


def command(arguments: Sequence[str]) -> None:
    """Serve until the process is stopped; answer what has arrived before.

    Args:
        arguments: Of the command.

    Raises:
        UserError: If one is not valid, or the address is taken.
    """
    args = parser().parse_args(arguments)
    for name in ('max_bytes', 'max_pixels', 'queue'):
        if getattr(args, name) < 1:
            option = name.replace('_', '-')
            raise UserError(
                f'--{option} {getattr(args, name)}: give a number from 1 on'
            )
    if not 0 <= args.port <= MAX_PORT:
        raise UserError(
            f'--port {args.port}: give a number from 0 to {MAX_PORT}; 0 is '
            'any that is free'
        )
    uvicorn = need('uvicorn', 'uvicorn', 'serving')
    limits = Limits(args.max_bytes, args.max_pixels, args.queue)
    application = Application(Detector(args.model), processors(), limits)
    config = uvicorn.Config(
        application,
        log_level='warning',
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    with _listening(args.host, args.port) as listener:
        port = listener.getsockname()[1]
        # Colons of IPv6 would be read as those of the port.
        host = f'[{args.host}]' if ':' in args.host else args.host
        print(
            f'{args.model}: http://{host}:{port}/detect, /health, /metrics',
            flush=True,
        )
        uvicorn.Server(config).run([listener])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        if sys.platform != 'win32':  # where it takes others' ports, too
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()  # what is sent from now on is answered
    # UnicodeError: of a name that is too long, or has an empty part.
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise UserError(
            f'--host {host} --port {port}: cannot listen there ({reason}); '
            'choose another port'
        ) from None
    return listener
