"""Numbers as text, and tables as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_transformers.common.words import counted, duration, joined, listed
from nnunet_transformers.comparison.reporting.blocks import Paragraph, Section, Table
from nnunet_transformers.comparison.reporting.formatting import interval, number, p_equals, p_value
from nnunet_transformers.comparison.reporting.outputs import csv_text, latex_table, latex_text, markdown, markdown_table


def test_scores_have_three_decimals_and_millimetres_two() -> None:
    assert number(0.61251) == "0.613"
    assert number(12.3456, "mm") == "12.35"
    assert number(math.nan) == "undefined"


def test_a_difference_has_its_sign_and_zero_has_none() -> None:
    assert [number(v, signed=True) for v in (0.0123, -0.0123, 0.0, -0.0001)] == ["+0.012", "−0.012", "0.000", "0.000"]
    assert interval(-0.01, 0.02, signed=True) == "−0.010 to +0.020"
    assert interval(math.nan, math.nan) == "unknown"


def test_small_p_values_are_a_bound() -> None:
    assert [p_value(p) for p in (0.0004, 0.0123, 1.0, math.nan)] == ["< 0.001", "0.012", "1.000", "untested"]
    assert (p_equals(0.0004), p_equals(0.25)) == ("p < 0.001", "p = 0.250")


def test_durations_and_lists_read_as_one_would_say_them() -> None:
    assert [duration(s) for s in (None, 59, 90, 3600 * 25)] == ["unknown", "59.0 s", "1.5 min", "1 d 1 h"]
    assert (counted(1, "case"), counted(2, "case")) == ("1 case", "2 cases")
    assert joined(["a", "b", "c"]) == "a, b and c"
    assert listed(list("abcdefghij"), 3) == "a, b, c and 7 more"


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_in_a_csv_file_read_back_equal(values: list[float]) -> None:
    table = Table("", ["value"], [["rounded"]], data=pd.DataFrame({"value": values}))
    _, *lines = csv.reader(io.StringIO(csv_text(table)))
    assert [float(cell) for (cell,) in lines] == values


def test_latex_escapes_what_would_break_a_table() -> None:
    assert latex_text("50 % of a_b & {c} #1 $x^2~\\") == (
        r"50 \% of a\_b \& \{c\} \#1 \$x\textasciicircum{}2\textasciitilde{}\textbackslash{}"
    )
    text = latex_table(Table("Dice ≈ 0.5", ["model", "n & m"], [["nnUNetTrainer_5epochs", "−0.1 ▲"]], name="main"))
    assert r"nnUNetTrainer\_5epochs & $-$0.1 $\blacktriangle$ \\" in text
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
    assert r"\label{tab:main}" in text
    assert text.isascii()


@pytest.mark.parametrize("cell", ["a|b", "*bold*", "<b>", "a\nb"])
def test_a_cell_cannot_break_a_markdown_table(cell: str) -> None:
    lines = markdown_table(Table("caption", ["x", "y"], [[cell, "1"]])).splitlines()
    assert len(lines) == 5
    assert lines[-1].replace(r"\|", "").count("|") == 3
    assert "<b>" not in lines[-1].replace(r"\<b\>", "")


def test_markdown_has_the_title_the_headings_and_the_answer_in_bold() -> None:
    text = markdown("Title", [Section("First", "first", [Paragraph("Yes: A is better.", "answer")])])
    assert text == "# Title\n\n## First\n\n**Yes: A is better.**\n"
