"""The section about lesions found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from helpers.report_example import BASELINE, SWIN, case_names, dice_values, report_input, score_table

from nnunet_transformers.comparison.metrics.lesions_table import LESION_COLUMNS
from nnunet_transformers.comparison.reporting.blocks import Chart, Table
from nnunet_transformers.comparison.reporting.detection import detection_section
from nnunet_transformers.comparison.reporting.numbers import compute
from nnunet_transformers.comparison.reporting.views import SetView


def test_the_share_found_and_the_false_lesions_are_shown_with_lesion_free_cases_apart(tmp_path: Path) -> None:
    values = dice_values()
    n = len(values[BASELINE])
    volumes = [0.0 if k < 2 else 5.0 for k in range(n)]
    false = {model: np.where(np.arange(n) < 2, 3.0, 1.0).tolist() for model in values}
    scores = pd.concat(
        [
            score_table(values, volumes=volumes),
            score_table(false, metric="false_lesions_isles26", volumes=volumes),
        ]
    )
    rows = [
        (model, "cross-validation", case, case, "", ml, model == SWIN or ml > 1)
        for model in values
        for case in case_names(n)[2:]
        for ml in (0.5, 4.5)
    ]
    rows.append((BASELINE, "cross-validation", "not scored", "s", "", 1.0, True))
    lesions = pd.DataFrame(rows, columns=list(LESION_COLUMNS)).astype(LESION_COLUMNS)
    given = report_input(tmp_path, scores, lesions=lesions)
    chart, table = detection_section(SetView(given, compute(given), "cross-validation")).blocks
    assert isinstance(chart, Chart)
    assert isinstance(table, Table)
    assert list(table.head) == ["", "all", "0.1 to 1 ml", "1 to 10 ml", "false per case", "false, lesion-free"]
    cells = {str(row[0]): [str(cell) for cell in row[1:]] for row in table.rows}
    assert cells[SWIN][0].startswith("100 % [")
    assert cells[BASELINE][0].startswith("50 % [")
    assert cells[BASELINE][1].startswith("0 % [0 to ")
    assert cells[BASELINE][1].endswith(f" of {n - 2}")
    assert cells[BASELINE][3:] == [f"1.000 ({n - 2} cases)", "3.000 (2 cases)"]


def test_results_without_segmentations_have_no_such_section(tmp_path: Path) -> None:
    given = report_input(tmp_path, score_table(dice_values()))
    assert not detection_section(SetView(given, compute(given), "cross-validation")).blocks
