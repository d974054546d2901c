from tests.factories import CONFIGS
from tests.tool import error_line, run_tool


def test_a_folder_of_results_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').write_text('mine')
    result = run_tool(
        'tools/study.py', CONFIGS / 'study/recipes.py', '--out',
        tmp_path / 'file',
    )  # fmt: skip
    assert f'folder {tmp_path}/file: it cannot be made' in error_line(result)
    assert (tmp_path / 'file').read_text() == 'mine'
