import errno
import subprocess
import sys

import pytest

from aqd_mmdet.errors import UserError, first_line, nearest, one_line


def test_exit_code_and_one_line(capsys):

    @one_line
    def main() -> None:
        raise UserError('the thing is wrong')

    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == 'error: the thing is wrong\n'


def test_text_of_wrappers_is_removed():
    # mmengine's registry and the data loader's workers re-raise like this.
    try:
        try:
            raise UserError('the thing is wrong')
        except UserError as error:
            raise type(error)(f'class `X` in x.py: {error}')  # noqa: B904
    except UserError as error:
        assert error.line() == 'the thing is wrong'
    worker = UserError(
        'Caught UserError in DataLoader worker process 0.\n'
        'Original Traceback (most recent call last):\n'
        '  File "x.py", line 1, in f\n'
        'aqd_mmdet.errors.UserError: a.jpg: damaged\n'
    )
    assert worker.line() == 'a.jpg: damaged'
    assert UserError('a\nb.jpg: damaged').line() == 'a b.jpg: damaged'


def test_full_disk(capsys):

    @one_line
    def main() -> None:
        raise OSError(errno.ENOSPC, 'No space left on device', 'w/epoch_1.pth')

    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert (
        'cannot write w/epoch_1.pth: No space left' in capsys.readouterr().err
    )


def test_full_disk_of_what_has_no_name(capsys):
    @one_line
    def main() -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')

    with pytest.raises(SystemExit):
        main()
    assert 'cannot write an output: No space left' in capsys.readouterr().err


def run_main(body: str) -> tuple[int, str]:
    """Run a tool of one line, whose output is read to its first line."""
    tool = f'from aqd_mmdet.errors import one_line; one_line(lambda: {body})()'
    with subprocess.Popen(
        [sys.executable, '-c', tool],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        return process.wait(timeout=60), process.stderr.read()


def test_output_that_nobody_reads_on():
    assert run_main("print('line\\n' * 10**6)") == (141, '')


def test_output_that_was_closed_before():
    tool = (
        'from aqd_mmdet.errors import one_line; '
        'from aqd_mmdet.progress import progress; '
        'one_line(lambda: print(*progress([1])))()'
    )
    command = f'{sys.executable} -c "{tool}" >&-'
    result = subprocess.run(command, shell=True, capture_output=True)
    assert (result.returncode, result.stderr) == (0, b'')


def test_other_broken_pipes_keep_their_traceback():

    @one_line
    def main() -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        main()


@pytest.mark.parametrize('number', [errno.EACCES, errno.ENAMETOOLONG])
def test_files_that_are_out_of_reach(capsys, number):
    """Whether they are read or written, which the system does not say."""

    @one_line
    def main() -> None:
        raise OSError(number, 'it is so', 'secret/1.png')

    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    wanted = 'error: cannot read or write secret/1.png: it is so; choose'
    assert capsys.readouterr().err.startswith(wanted)


def test_other_errors_keep_their_traceback():

    @one_line
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        main()


def test_interrupt(capsys):

    @one_line
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 130


@pytest.mark.parametrize('kind', [SyntaxError, UserError, OSError])
def test_interrupt_that_became_another_error(capsys, kind):
    """As where mmengine formats a config."""

    @one_line
    def main() -> None:
        try:
            try:
                raise KeyboardInterrupt
            except:  # noqa: E722
                raise SyntaxError('Failed to format')  # noqa: B904
        except SyntaxError as error:
            raise kind('it failed') from error

    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 130
    assert capsys.readouterr().err == '\nstopped\n'


def test_first_line():
    assert first_line(KeyError()) == ''
    assert first_line(ValueError('\n one\ntwo ')) == 'one'


def test_nearest():
    assert nearest('unsinged', ['signed', 'unsigned', 'odd']).startswith(
        'nearest: unsigned'
    )
    assert nearest('x', []) == 'there are none'


def test_a_message_that_adds_a_place_is_kept():
    with pytest.raises(UserError) as caught:
        try:
            raise UserError('cut off')
        except UserError as error:
            raise UserError(f'model a.aqd: {error}') from None
    assert caught.value.line() == 'model a.aqd: cut off'
