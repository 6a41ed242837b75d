"""The tables of statistics, kept beside the report: equal scores and options need no second computation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pandas as pd

from nnunet_transformers import __version__
from nnunet_transformers.common.files import write_whole
from nnunet_transformers.comparison.metrics.definitions import METRICS
from nnunet_transformers.comparison.statistics.options import Options
from nnunet_transformers.comparison.statistics.verdict import RULES, Verdict

Tables = Mapping[str, pd.DataFrame]

FILE = "numbers.json"


def stamp_of(scores: pd.DataFrame, lesions: pd.DataFrame, baseline: str, metric: str, options: Options) -> str:
    """What the tables depend on: every score and lesion, what is asked of them, and this version's rules."""
    how = repr((__version__, pd.__version__, RULES, METRICS, baseline, metric, options))
    digest = hashlib.sha256(how.encode())
    for table in (scores, lesions):
        digest.update(table.to_csv(index=False).encode())
    return digest.hexdigest()


def kept_or_computed(path: Path | None, stamp: str, compute: Callable[[], Tables]) -> Tables:
    """The tables of a file if it has this stamp; else they are computed and written there.

    Args:
        path: None keeps nothing. Its folder is not made: a report that fails leaves none behind.
    """
    if path and (kept := _read(path, stamp)):
        return kept
    tables = compute()
    if path and path.parent.is_dir():
        content = {name: _as_lists(table) for name, table in tables.items()}
        with suppress(OSError):  # a folder that cannot be written to is said by the report itself
            write_whole(path, json.dumps({"stamp": stamp, "tables": content}))
    return tables


def _as_lists(table: pd.DataFrame) -> dict[str, object]:
    # Floats as Python writes them, so that they are read back equal, NaN and infinity included.
    types = {str(column): str(dtype) for column, dtype in table.dtypes.items()}
    columns = {str(column): [None if value is pd.NA else value for value in table[column].tolist()] for column in table}
    return {"types": types, "columns": columns}


def _read(path: Path, stamp: str) -> Tables | None:
    try:
        content = json.loads(path.read_text())
        if content["stamp"] != stamp:
            return None
        return {name: _as_table(**table) for name, table in content["tables"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _as_table(types: Mapping[str, str], columns: Mapping[str, list]) -> pd.DataFrame:
    table = pd.DataFrame({name: pd.Series(values, dtype=types[name]) for name, values in columns.items()})
    if "verdict" in table:
        table["verdict"] = pd.Series([Verdict(word) for word in table["verdict"]], index=table.index, dtype=object)
    return table
