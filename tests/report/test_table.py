from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from prlm_cli.report.table import Table, markdown


def test_a_table_in_markdown():
    text = markdown(Table(["metric", "mean"], [["rougeL", "0.5000"], ["exact_match", "[0.1, 0.2]"]]))

    assert text == "| metric | mean |\n| :-- | --: |\n| rougeL | 0.5000 |\n| exact_match | [0.1, 0.2] |\n"


def test_what_would_be_markup_is_escaped():
    text = markdown(Table(["a|b"], [["<b> *x* `y` [z](w)\n\\"]]))

    assert text.splitlines()[0] == r"| a\|b |"
    assert text.splitlines()[2] == r"| \<b> \*x\* \`y\` [z\](w) \\ |"


@given(st.lists(st.lists(st.text(max_size=8), min_size=3, max_size=3), max_size=4))
def test_every_row_has_a_line_with_its_cells(rows):
    lines = markdown(Table(["x", "y", "z"], rows)).splitlines()

    assert len(lines) == 2 + len(rows)
    for line in lines:
        assert len(re.split(r"(?<!\\)(?:\\\\)*\|", line)) == 5
