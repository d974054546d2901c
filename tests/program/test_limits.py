"""Limits of numbers: the package's are those of the file format."""

import ast
import re

from aqd_mmdet.program import limits
from tests.factories import ROOT


def documented_limits() -> dict[str, tuple[int, int]]:
    """Return the table of limits in docs/file_format.md."""
    text = (ROOT / 'docs/file_format.md').read_text()
    rows = re.findall(
        r'^\| `(\w+\.\w+)`[^|]*\|([^|]+)\|([^|]+)\|$', text, re.M
    )
    return {
        name: (_number(least), _number(most))
        for name, least, most in rows
        if re.search(r'\d', least)
    }


def _number(text: str) -> int:
    tree = ast.parse(text.strip().replace('^', '**'), mode='eval')
    return eval(compile(tree, 'limit', 'eval'), {'__builtins__': {}})


def test_limits_are_the_documented_ones():
    named = {
        name: (limit.least, limit.most)
        for name, limit in limits.LIMITS.items()
        if '.' in name
    }
    assert named == documented_limits()
    assert len(named) > 40
