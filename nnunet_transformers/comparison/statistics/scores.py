"""The table of scores as the statistics need it: one value per model, set, metric and case, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.metrics.definitions import METRICS, Metric
from nnunet_transformers.comparison.metrics.scores_table import COLUMNS

_REQUIRED = tuple(column for column in COLUMNS if column not in ("fold", "site", "reference_ml"))
_VALUE_OF = ["model", "set", "metric", "case"]


def checked(scores: pd.DataFrame, also: Iterable[str] = ()) -> pd.DataFrame:
    """A copy sorted by subject and case; a case without a subject is its own subject.

    Args:
        scores: one row per model, set, metric and case; NaN where a metric is undefined.
        also: columns needed beside the usual ones.

    Raises:
        ComparisonError: a column is missing, a case was scored twice, or a value is infinite.
    """
    missing = [column for column in (*_REQUIRED, *also) if column not in scores]
    if missing:
        raise ComparisonError(
            f"the table of scores lacks {', '.join(missing)}",
            "Evaluate again: nnunet-transformers compare evaluate. Nothing was written.",
            "SCORES_WITHOUT_COLUMN",
        )
    _refuse(
        scores[scores.duplicated(_VALUE_OF, keep=False)],
        "scored more than once",
        "A case belongs to one validation fold: see splits_final.json, or remove the fold that was trained on another "
        "split. Nothing was written.",
        "CASE_SCORED_TWICE",
    )
    _refuse(
        scores[np.isinf(scores["value"].astype(float))],
        "infinite",
        "An undefined value is left empty (NaN). Evaluate again: nnunet-transformers compare evaluate. "
        "Nothing was written.",
        "INFINITE_SCORE",
    )
    known = scores["subject"].notna() & (scores["subject"] != "")
    table = scores.assign(subject=scores["subject"].where(known, scores["case"]), value=scores["value"].astype(float))
    return table.sort_values(["subject", "case"], kind="stable", ignore_index=True)


def metric_definition(name: str) -> Metric:
    """The definition of a metric, or a ComparisonError that names those there are."""
    if name not in METRICS:
        raise ComparisonError(
            f"unknown metric in the table of scores: {name}",
            f"Known are {', '.join(METRICS)}. Nothing was written.",
            "UNKNOWN_METRIC",
        )
    return METRICS[name]


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """One set and one metric of a checked table: a row per (subject, case), a column per model."""
    models = list(dict.fromkeys(table["model"]))
    return table.pivot(index=["subject", "case"], columns="model", values="value")[models].sort_index()


def _refuse(rows: pd.DataFrame, problem: str, remedy: str, code: str) -> None:
    if len(rows):
        model, set_, metric, case = rows.iloc[0][_VALUE_OF]
        more = rows["case"].nunique() - 1
        others = f" and {more} other case{'s' if more > 1 else ''}" if more else ""
        raise ComparisonError(f"{problem}: {metric} of {case}{others}, by {model}, {set_}", remedy, code)
