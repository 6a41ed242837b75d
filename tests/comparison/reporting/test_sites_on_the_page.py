"""What the page says of sites."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from helpers.report_example import BASELINE, SWIN, dice_values, report_input, score_table

from nnunet_transformers.comparison.reporting.blocks import Chart, Table
from nnunet_transformers.comparison.reporting.numbers import compute
from nnunet_transformers.comparison.reporting.outputs import markdown
from nnunet_transformers.comparison.reporting.page import report_sections
from nnunet_transformers.comparison.reporting.stratum_sections import site_section
from nnunet_transformers.comparison.reporting.views import SetView


def test_the_answer_is_of_sites_where_there_are_enough_and_says_that_of_subjects_beside_it(tmp_path: Path) -> None:
    scores = score_table(dice_values(48), sites=8)
    text = markdown("t", report_sections(report_input(tmp_path / "many", scores)))
    assert "on 48 cases of 48 subjects at 8 sites" in text
    assert "The difference has this sign at 8 of 8 sites" in text
    assert "with subjects resampled alone the interval would be +0." in text
    few = markdown("t", report_sections(report_input(tmp_path / "few", score_table(dice_values(48), sites=3))))
    assert "on 48 cases of 48 subjects;" in few
    assert "with subjects resampled alone" not in few


def test_differences_by_site_are_drawn_with_the_whole_and_how_sites_vary(tmp_path: Path) -> None:
    scores = score_table(dice_values(48), sites=8)
    given = report_input(tmp_path, scores)
    numbers = compute(given)
    chart, table, *_ = site_section(SetView(given, numbers, "cross-validation")).blocks
    assert isinstance(chart, Chart)
    assert isinstance(table, Table)
    assert chart.name == "forest_by_site"
    for name in [*(f"site{number} (n = 6)" for number in range(8)), "all (n = 48)"]:
        assert name in chart.drawing.description
    assert "The sign of the whole holds at 8 of 8 sites" in chart.caption
    assert f"baseline ({BASELINE})" in chart.drawing.description
    assert isinstance(table.data, pd.DataFrame)
    assert table.data.set_index("model").loc[SWIN, "agreeing"] == 8


def test_the_page_says_whether_networks_had_seen_the_sites_they_were_scored_on(tmp_path: Path) -> None:
    values = dice_values(40)
    mixed = markdown("t", report_sections(report_input(tmp_path / "mixed", score_table(values, sites=8))))
    assert "Of 8 sites 8 have cases in several folds" in mixed
    apart = markdown("t", report_sections(report_input(tmp_path / "apart", score_table(values, sites=10))))
    assert "Folds are cut by site: every case was scored by a network that has seen no case of its site." in apart
    unknown = score_table(values, sites=8).assign(site="")
    assert "several folds" not in markdown("t", report_sections(report_input(tmp_path / "unknown", unknown)))
