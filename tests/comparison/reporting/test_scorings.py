"""The page by the metrics of a challenge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.report_example import BASELINE, SWIN, UNETR, dice_values, report_input, score_table

from nnunet_transformers.comparison.metrics.definitions import SCORINGS
from nnunet_transformers.comparison.reporting.blocks import Table
from nnunet_transformers.comparison.reporting.numbers import compute
from nnunet_transformers.comparison.reporting.score_sections import main_table, rank_section
from nnunet_transformers.comparison.reporting.views import SetView


def scores_of(*metrics: str) -> pd.DataFrame:
    """Swin is best by Dice alone; by each other metric it is last, and UNETR first."""
    values = dice_values()
    reverse = dict(zip((UNETR, BASELINE, SWIN), np.linspace(0.1, 0.3, 3), strict=True))
    others = {model: np.full(len(own), reverse[model]).tolist() for model, own in values.items()}
    tables = [score_table(values)]
    for name in metrics:
        sign = -1 if name in ("lesion_f1_isles26", "pr_auc") else 1
        tables.append(score_table({model: [sign * v for v in own] for model, own in others.items()}, metric=name))
    return pd.concat(tables)


@pytest.mark.parametrize("scoring", ["isles26", "all"])
def test_the_main_table_is_that_of_the_scoring(tmp_path: Path, scoring: str) -> None:
    given = report_input(tmp_path, scores_of(*SCORINGS["isles26"][1:]), scoring=scoring)
    table = main_table(SetView(given, compute(given), "cross-validation"))
    order = [row[0].removesuffix(" (baseline)") for row in table.rows if isinstance(row[0], str)]
    if scoring == "isles26":
        assert order == [UNETR, BASELINE, SWIN]
        assert [row[1] for row in table.rows] == ["1", "2", "3"]
        assert list(table.head)[3:] == [
            *("Dice ↑", "Absolute volume difference (ml) ↓"),
            "Lesion count difference (ISLES'22 and '26, 26-connected) (lesions) ↓",
            *("Lesion F1 (ISLES'26, 26-connected, one to one) ↑", "PR-AUC ↑"),
        ]
    else:
        assert order == [SWIN, BASELINE, UNETR]


def test_the_ranks_are_shown_with_their_intervals_and_the_share_of_resamples(tmp_path: Path) -> None:
    given = report_input(tmp_path, scores_of(*SCORINGS["isles26"][1:]), scoring="isles26")
    view = SetView(given, compute(given), "cross-validation")
    tables = {block.name: block for block in rank_section(view).blocks if isinstance(block, Table)}
    ranks = [[str(cell) for cell in row] for row in tables["challenge_ranks"].rows]
    assert [row[:2] for row in ranks] == [[UNETR, "1 [1 to 1]"], [BASELINE, "2 [2 to 2]"], [SWIN, "3 [3 to 3]"]]
    assert ranks[0][2].startswith("1.40 [")  # 3 by Dice, 1 by the four others
    assert [row[3] for row in ranks] == ["100 %", "100 %", ""]
    assert tables["challenge_order"].rows[0] == [UNETR, "", "100 %", "100 %"]


def test_metrics_that_nobody_has_and_models_that_lack_one_are_left_out_and_said(tmp_path: Path) -> None:
    scores = scores_of("absolute_volume_difference_ml", "lesion_f1_isles26")
    lacking = (scores["metric"] == "lesion_f1_isles26") & (scores["model"] == SWIN)
    scores.loc[lacking, "value"] = np.nan
    numbers = compute(report_input(tmp_path, scores, scoring="isles26"))
    assert list(numbers.challenge["cross-validation"].places) == [UNETR, BASELINE]
    notes = [note for note in numbers.notes if note.startswith("Ranking by isles26")]
    assert notes == [
        "Ranking by isles26 (cross-validation): without Lesion count difference (ISLES'22 and '26, 26-connected) and "
        "PR-AUC, of which no model has a value.",
        f"Ranking by isles26 (cross-validation): without {SWIN}, which lacks a metric.",
    ]
