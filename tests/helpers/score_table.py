"""Tables of scores for the tests of statistics."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd


def score_table(
    values: dict[str, Sequence[float]],
    *,
    metric: str = "dice",
    subjects: Sequence[str] | None = None,
    sites: Sequence[str] | None = None,
    folds: Sequence[int | None] | None = None,
    volumes: Sequence[float] | None = None,
    set_: str = "cross-validation",
) -> pd.DataFrame:
    """A table of scores from one list of values per model, in the order of the cases c000, c001, …"""
    parts = []
    for model, scores in values.items():
        n = len(scores)
        cases = [f"c{i:03}" for i in range(n)]
        parts.append(
            pd.DataFrame(
                {
                    "model": model,
                    "set": set_,
                    "fold": pd.array(folds or [i % 5 for i in range(n)], dtype="Int64"),
                    "case": cases,
                    "subject": list(subjects) if subjects else cases,
                    "site": list(sites) if sites else "",
                    "reference_ml": list(volumes) if volumes else 1.0,
                    "metric": metric,
                    "value": list(scores),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)
