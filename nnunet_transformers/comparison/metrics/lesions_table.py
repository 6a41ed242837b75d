"""The table of lesions: one row per lesion of a reference and model, beside the table of scores."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nnunet_transformers.common.files import replacing

LESION_COLUMNS: dict[str, type] = {
    "model": str,
    "set": str,
    "case": str,
    "subject": str,
    "site": str,
    "lesion_ml": float,
    "found": bool,
}
"""Name and type; `found`: the prediction has a partner for it, one to one, see `lesions.PARTNERS_IOU`."""

_NAME = "lesions.csv"


def no_lesions() -> pd.DataFrame:
    return pd.DataFrame(columns=list(LESION_COLUMNS)).astype(LESION_COLUMNS)


def write_lesions(lesions: pd.DataFrame, scores: Path) -> None:
    """Write the table beside that of the scores."""
    with replacing(scores.with_name(_NAME)) as partial:
        lesions.to_csv(partial, index=False, lineterminator="\n", encoding="utf-8")


def read_lesions(scores: Path) -> pd.DataFrame:
    """The table beside that of the scores; empty where there is none, as of results without segmentations."""
    path = scores.with_name(_NAME)
    if not path.is_file():
        return no_lesions()
    text = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    return text.assign(lesion_ml=text["lesion_ml"].astype(float), found=text["found"] == "True")
