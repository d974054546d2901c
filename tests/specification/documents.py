"""The tables of the documents, as rows of cells."""

from pathlib import Path

FORMAT = Path(__file__).parents[2].joinpath('docs/file_format.md').read_text()


def table(behind: str, header: str) -> list[list[str]]:
    """Rows of the file format's first table with a header, behind a text.

    Args:
        behind: What comes before the table, such as a heading.
        header: How the line of the table's header begins.

    Returns:
        list: Cells of each row, without those of the header.
    """
    text = FORMAT[FORMAT.index(f'\n{behind}') :]
    lines = text[text.index(f'\n{header}') + 1 :].splitlines()[2:]
    end = next(i for i, line in enumerate(lines) if not line.startswith('|'))
    return [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in lines[:end]
    ]


def kinds(behind: str) -> list[str]:
    """Names in the first table of kinds behind a text."""
    return [row[0].strip('`') for row in table(behind, '| kind |')]
