"""Tables that are kept for the next report."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
from helpers.report_example import BASELINE, CASES, SWIN, dice_values, report_input, score_table

from nnunet_transformers.comparison.reporting import numbers
from nnunet_transformers.comparison.reporting.numbers import compute

TABLES = ("summaries", "comparisons", "stratum_summaries", "stratum_comparisons")


def test_kept_tables_are_those_that_were_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = dice_values()
    values[SWIN][3] = float("nan")
    volumes = [0.0, float("nan"), *[0.1 * number + 1 / 3 for number in range(CASES - 2)]]
    scores = pd.concat([score_table(values, volumes=volumes), score_table(values, metric="volume_difference_ml")])
    scores.loc[scores["metric"] != "dice", "reference_ml"] = float("nan")
    given = report_input(tmp_path, scores)
    computed = compute(given, tmp_path / "numbers.json")
    monkeypatch.setattr(numbers, "comparisons", None)  # not to be called again
    kept = compute(given, tmp_path / "numbers.json")
    for table in TABLES:
        pd.testing.assert_frame_equal(getattr(kept, table), getattr(computed, table), check_exact=True)


def test_changed_scores_and_options_and_a_file_that_was_cut_off_are_computed_again(tmp_path: Path) -> None:
    given = report_input(tmp_path, score_table(dice_values()))
    path = tmp_path / "numbers.json"
    first = compute(given, path)
    changed = given.scores.copy()
    changed.loc[(changed["model"] == BASELINE) & (changed["case"] == "case05"), "value"] = 0.123
    again = compute(dataclasses.replace(given, scores=changed), path)
    assert not again.summaries.equals(first.summaries)
    other = dataclasses.replace(given, options=dataclasses.replace(given.options, confidence=0.9))
    assert not compute(other, path).summaries.equals(compute(given, path).summaries)
    path.write_text(path.read_text()[:-20])
    pd.testing.assert_frame_equal(compute(given, path).comparisons, first.comparisons, check_exact=True)
