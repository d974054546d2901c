"""Mistakes of a user, told in one line."""

import errno
import functools
import logging
import re
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches

EXIT_CODE = 2


class UserError(ValueError):
    """A bad config, checkpoint, image, annotation or model file.

    The message is one line that names the thing, what was expected and what
    to do. It derives from ``ValueError`` and takes one string, because
    mmengine and the data loader re-raise errors as ``type(e)(message)``.
    """

    def line(self) -> str:
        """Return the message as first raised, without wrappers' text."""
        origin: BaseException = self
        # `from None` marks a message that was made from another on purpose.
        while (
            isinstance(origin.__context__, UserError)
            and not origin.__suppress_context__
        ):
            origin = origin.__context__
        last = str(origin).strip().splitlines()[-1]
        return re.sub(r'^.*\bUserError: ', '', last)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint with the known names closest to a wrong one.

    Args:
        name: The name that was not found.
        known: All names that would have been right.
    """
    names = sorted(set(known))
    close = get_close_matches(name, names, n=3, cutoff=0.4) or names[:3]
    return f'nearest: {", ".join(close)}' if close else 'there are none'


def fail(message: str) -> None:
    """Print one line of error and leave with the exit code of a mistake."""
    print(f'error: {message}', file=sys.stderr, flush=True)
    raise SystemExit(EXIT_CODE)


def one_line(main: Callable[[], None]) -> Callable[[], None]:
    """Turn a tool's errors of use into one line and exit code 2.

    Errors that are not a user's keep their traceback.

    Args:
        main: The tool's entry point.
    """

    @functools.wraps(main)
    def wrapper() -> None:
        # On a full disk every line of a log would give a traceback of its
        # own; what is written beside the log raises, and is told below.
        logging.raiseExceptions = False
        try:
            main()
        except UserError as error:
            fail(error.line())
        except KeyboardInterrupt:
            print('\nstopped', file=sys.stderr)
            raise SystemExit(130) from None
        except OSError as error:
            if error.errno not in (
                errno.ENOSPC,
                errno.EDQUOT,
                errno.EROFS,
                errno.EACCES,
                errno.EFBIG,
            ):
                raise
            fail(
                f'cannot write {error.filename or "to the work_dir"}: '
                f'{error.strerror}; free some space or choose another '
                '--work-dir'
            )

    return wrapper
