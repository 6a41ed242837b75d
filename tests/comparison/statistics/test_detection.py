"""Which lesions are found, by their size."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from nnunet_transformers.comparison.metrics.lesions_table import LESION_COLUMNS, no_lesions
from nnunet_transformers.comparison.statistics.detection import detection_by_size
from nnunet_transformers.comparison.statistics.options import Options

OPTIONS = Options(resamples=1000)


def table(rows: list[tuple[str, float, bool]], site: str = "") -> pd.DataFrame:
    """(case, ml, found) of one model."""
    values = [("unet", "cross-validation", case, case, site, ml, found) for case, ml, found in rows]
    return pd.DataFrame(values, columns=list(LESION_COLUMNS)).astype(LESION_COLUMNS)


def test_lesions_are_counted_by_class_of_size_with_the_bound_in_the_smaller_one() -> None:
    found = detection_by_size(
        table([("a", 0.05, False), ("a", 0.1, True), ("b", 0.11, True), ("b", 1.0, False), ("c", 200, True)]), OPTIONS
    )
    counts = {(row.low_ml, row.high_ml): (row.lesions, row.found, row.subjects) for row in found.itertuples()}
    assert counts == {
        (0, 0.1): (2, 1, 1),
        (0.1, 1): (2, 1, 1),
        (100, math.inf): (1, 1, 1),
        (0, math.inf): (5, 3, 3),
    }
    (every,) = found[(found["low_ml"] == 0) & (found["high_ml"] == math.inf)].to_dict("records")
    assert every["sensitivity"] == pytest.approx(3 / 5)


def test_lesions_of_one_subject_are_no_independent_evidence() -> None:
    rng = np.random.default_rng(0)
    of_subject = rng.random(30) < 0.5
    one = [(f"case{n}", 2.0, bool(found)) for n, found in enumerate(of_subject)]
    width = np.ptp(detection_by_size(table(one), OPTIONS).loc[0, ["sensitivity_low", "sensitivity_high"]].to_numpy())
    same = detection_by_size(table(one * 20), OPTIONS)
    assert np.ptp(same.loc[0, ["sensitivity_low", "sensitivity_high"]].to_numpy()) == pytest.approx(width)


@pytest.mark.parametrize("found", [True, False])
def test_all_or_none_found_is_no_certainty(found: bool) -> None:
    row = detection_by_size(table([(f"case{n}", 2.0, found) for n in range(8)]), OPTIONS).iloc[0]
    assert row["sensitivity"] == found
    other = row["sensitivity_low"] if found else 1 - row["sensitivity_high"]
    assert 0.5 < other < 0.8


def test_without_lesions_there_is_no_row() -> None:
    assert detection_by_size(no_lesions(), OPTIONS).empty
