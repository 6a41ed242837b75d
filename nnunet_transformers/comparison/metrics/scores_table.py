"""The table of scores: one row per model, test set, case and metric."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from nnunet_transformers.common.files import replacing
from nnunet_transformers.comparison.errors import ComparisonError

CROSS_VALIDATION = "cross-validation"
"""The set of the cases that models were validated on, each by the fold that was not trained on it."""

COLUMNS: dict[str, type | str] = {
    "model": str,
    "set": str,
    "fold": "Int64",
    "case": str,
    "subject": str,
    "site": str,
    "reference_ml": float,
    "metric": str,
    "value": float,
}
"""Name and type. `set` is "cross-validation" or a test set's name, `fold` is missing on test sets, `site` is "" where
unknown, `metric` is a name of `definitions.METRICS`, and `value` is not a number where the metric is undefined."""


def write_scores(scores: pd.DataFrame, path: Path) -> None:
    """Write the table as CSV and, with pyarrow installed, as Parquet beside it; whole files or none.

    Args:
        path: of the CSV. Numbers come back from it bit by bit.
    """
    path = Path(path)
    columns = scores[list(COLUMNS)]
    with replacing(path) as partial:
        columns.to_csv(partial, index=False, lineterminator="\n", encoding="utf-8")
    parquet = path.with_suffix(".parquet")
    if find_spec("pyarrow"):
        with replacing(parquet) as partial:
            columns.to_parquet(partial, index=False)
    else:
        parquet.unlink(missing_ok=True)  # it would be of an earlier table


def read_scores(path: Path) -> pd.DataFrame:
    """Read what `write_scores` wrote, a .csv or a .parquet.

    Raises:
        ComparisonError: the file is missing or is not such a table.
    """
    path = Path(path)
    try:
        if path.suffix == ".parquet":
            scores = pd.read_parquet(path)
        else:
            # As text first: a case may be called NA, and only strings become numbers bit by bit in every pandas.
            text = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
            scores = pd.DataFrame({name: _parsed(text[name], dtype) for name, dtype in COLUMNS.items()})
        return scores[list(COLUMNS)].astype(COLUMNS)
    except (OSError, ValueError, KeyError) as error:
        raise ComparisonError(
            f"not a table of scores: {path} ({error})",
            f"It needs the columns {', '.join(COLUMNS)}. Evaluate again to write it.",
            "BAD_SCORES",
        ) from error


def _parsed(text: pd.Series, dtype: type | str) -> pd.Series:
    return text if dtype is str else text.where(text != "").astype(float)
