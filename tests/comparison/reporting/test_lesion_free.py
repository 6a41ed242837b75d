"""Cases without a lesion in the reference, told apart from lesions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from helpers.report_example import BASELINE, CASES, SWIN, report_input, score_table

from nnunet_transformers.comparison.reporting.blocks import Chart, Paragraph, Table
from nnunet_transformers.comparison.reporting.cases import chosen_examples
from nnunet_transformers.comparison.reporting.drawing import Text
from nnunet_transformers.comparison.reporting.inputs import ReportInput
from nnunet_transformers.comparison.reporting.numbers import compute
from nnunet_transformers.comparison.reporting.stratum_sections import lesion_section
from nnunet_transformers.comparison.reporting.views import SetView


def with_empty_references(folder: Path) -> ReportInput:
    """Of 40 cases, case00 has no lesion and only the rival leaves it empty; case01 has none either and both do."""
    unet, swin = np.linspace(0.3, 0.8, CASES), np.linspace(0.35, 0.85, CASES)
    unet[:2], swin[:2] = (0, 1), (1, 1)
    volumes = [0.0, 0.0, *np.linspace(1, 30, CASES - 2)]
    return report_input(folder, score_table({BASELINE: unet, SWIN: swin}, volumes=volumes))


def test_pictures_are_of_lesions(tmp_path: Path) -> None:
    given = with_empty_references(tmp_path)
    chosen = {each.case: each.caption for each in chosen_examples(given, given.scores, [BASELINE, SWIN])}
    assert not {"case00", "case01"} & set(chosen)
    assert chosen["case39"].startswith(f"Best case of {BASELINE}")
    assert chosen["case02"].startswith(f"Worst case of {BASELINE}")


def test_cases_without_a_lesion_have_a_line_of_their_own_and_no_row_in_the_charts(tmp_path: Path) -> None:
    given = with_empty_references(tmp_path)
    section = lesion_section(SetView(given, compute(given), "cross-validation"))
    lines = [block.text for block in section.blocks if isinstance(block, Paragraph)]
    assert lines == [
        "2 references of cross-validation hold no lesion; a lesion is predicted there by "
        f"{BASELINE} 1 of 2, {SWIN} 0 of 2."
    ]
    charts = {block.name: block.drawing for block in section.blocks if isinstance(block, Chart)}
    for name in ("by_lesion_size", "difference_by_lesion_size"):
        texts = [shape.text for shape in charts[name].shapes if isinstance(shape, Text)]
        assert any(text.startswith("Q1: up to") for text in texts)
        assert not any("no lesion" in text for text in texts)
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    assert any("no lesion" in str(row[0]) for row in table.rows)
