"""What models cost beside what they reach."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from helpers.report_example import BASELINE, SWIN, UNETR, dice_values, report_input, score_table, write_log

from nnunet_transformers.comparison.reporting.blocks import Chart, Table
from nnunet_transformers.comparison.reporting.evidence import gather
from nnunet_transformers.comparison.reporting.inputs import ReportInput
from nnunet_transformers.comparison.reporting.numbers import compute
from nnunet_transformers.comparison.reporting.trainings import runtime


def section(given: ReportInput) -> tuple[Table, list[Chart]]:
    table, *charts = runtime(gather(given), compute(given).summaries)[0].blocks
    assert isinstance(table, Table)
    return table, [chart for chart in charts if isinstance(chart, Chart)]


def test_the_metric_is_drawn_against_the_hours_of_all_folds(tmp_path: Path) -> None:
    given = report_input(tmp_path, score_table(dice_values()))
    assert section(given)[1] == []  # logs of one fold each
    for model in given.results.models:
        for fold in range(5):
            write_log(model.folder / f"fold_{fold}", epochs=12 if model.trainer == BASELINE else 24)
    table, (chart,) = section(given)
    assert isinstance(table.data, pd.DataFrame)
    seconds = table.data.set_index("model")["training_seconds"]
    assert seconds[SWIN] > 1.5 * seconds[BASELINE]
    assert chart.name == "against_cost"
    for model in (BASELINE, SWIN, UNETR):
        assert f"for {seconds[model] / 3600:.3g}" in chart.drawing.description


def test_a_prediction_takes_the_validation_divided_by_its_cases(tmp_path: Path) -> None:
    given = report_input(tmp_path, score_table(dice_values()))
    (log,) = given.results.models[0].folder.glob("fold_0/training_log_*.txt")
    log.write_text(
        log.read_text()
        + "2026-01-01 11:00:07.500000: Training done.\n"
        + "2026-01-01 11:00:10.000000: Validation complete\n"
    )
    data = section(given)[0].data
    assert isinstance(data, pd.DataFrame)
    row = data.set_index("model").loc[BASELINE]
    of_fold = given.results.models[0].scores["fold"].eq(0).sum()
    assert row["validation_seconds_per_case"] == pytest.approx(2.5 / of_fold)
