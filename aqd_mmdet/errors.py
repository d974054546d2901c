"""Errors that a user can correct, reported in one line."""

import errno
import functools
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TextIO
from unicodedata import category

EXIT_CODE = 2


class UserError(ValueError):
    """A bad config, checkpoint, image, annotation or model file.

    The message is one line. It names the object, what was expected, what was
    found and what to do. The class derives from ``ValueError`` and takes one
    string, because mmengine and the data loader re-raise errors as
    ``type(e)(message)``.
    """

    def line(self) -> str:
        """Return the original message without text that wrappers added."""
        origin: BaseException = self
        # `raise ... from None` replaces the earlier message on purpose.
        while (
            isinstance(origin.__context__, UserError)
            and not origin.__suppress_context__
        ):
            origin = origin.__context__
        # A wrapper's text is a traceback, which ends with the message.
        message = re.split(r'\bUserError: ', str(origin))[-1]
        # Names of files and in files may have line feeds, and letters that
        # command a terminal.
        plain = (' ' if category(x) == 'Cc' else x for x in message)
        return ''.join(plain).strip()


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint with the valid names that are closest to a wrong one.

    Args:
        name: The wrong name.
        known: All valid names.
    """
    names = sorted(set(known))
    close = get_close_matches(name, names, n=3, cutoff=0.4) or names[:3]
    return f'nearest: {", ".join(close)}' if close else 'there are none'


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says; it may say nothing."""
    return (str(error).strip().splitlines() or [''])[0]


def fail(message: str) -> None:
    """Print an error in one line and exit with code 2."""
    print(f'error: {message}', file=sys.stderr, flush=True)
    raise SystemExit(EXIT_CODE)


def _is_read(stream: TextIO) -> bool:
    try:
        print(file=stream, flush=True)
    except BrokenPipeError:
        return False
    return True


def _run(main: Callable[[], None]) -> None:
    """Run a tool; what others have made of Ctrl-C is Ctrl-C again.

    mmengine takes any error while it formats a config for one of syntax.
    """
    try:
        main()
    except Exception as error:
        if any(isinstance(e, KeyboardInterrupt) for e in _origins(error)):
            raise KeyboardInterrupt from None
        raise


def _origins(error: BaseException) -> list[BaseException]:
    """Return all errors that led to one."""
    found: list[BaseException] = []
    following: list[BaseException | None] = [error]
    while following:
        each = following.pop()
        if each is not None and each not in found:
            found.append(each)
            following += [each.__cause__, each.__context__]
    return found


def _fail_of_file(error: OSError) -> None:
    """Exit if an error is of a file that is out of reach; else raise it."""
    if error.errno in (errno.EACCES, errno.ENAMETOOLONG):
        # Of a file that is read or written; it does not say which.
        fail(
            f'cannot read or write {error.filename or "a file"}: '
            f'{error.strerror}; choose another one'
        )
    if error.errno not in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EFBIG,
    ):
        raise error
    fail(
        f'cannot write {error.filename or "an output"}: {error.strerror}; '
        'free some space, or write to another folder'
    )


def one_line(main: Callable[[], None]) -> Callable[[], None]:
    """Decorate a tool so that user errors end it with one line and code 2.

    Other errors keep their traceback.

    Args:
        main: The tool's entry point.
    """

    @functools.wraps(main)
    def wrapper() -> None:
        # On a full disk, each log record would print its own traceback.
        # Writes of other files still raise, and are reported below.
        logging.raiseExceptions = False
        if sys.stdout is None:  # it was closed before
            sys.stdout = Path(os.devnull).open('w')  # noqa: SIM115
        # About metadata that is of no use here. Not where images are read:
        # filters are of all threads.
        warnings.filterwarnings('ignore', module=r'PIL\.')
        try:
            _run(main)
            sys.stdout.flush()
        except BrokenPipeError:
            if _is_read(sys.stdout):
                raise
            # What read the output, such as `head`, has enough. The code is
            # that of shells for SIGPIPE; Python would write the rest at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(141) from None
        except UserError as error:
            fail(error.line())
        except KeyboardInterrupt:
            print('\nstopped', file=sys.stderr)
            raise SystemExit(130) from None
        except OSError as error:
            _fail_of_file(error)

    return wrapper
