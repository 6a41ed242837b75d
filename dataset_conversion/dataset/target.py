"""Where a dataset goes: a folder that nnU-Net can tell from all others."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from dataset_conversion.errors import stop
from nnunet_transformers.common.problems import Finding, writing_to
from nnunet_transformers.common.staging import finish_renames
from nnunet_transformers.common.words import joined


def raw_folder_or_environment(raw_folder: Path | None) -> Path:
    """The given folder, or the one that nnU-Net's environment variable names.

    Raises:
        ConversionError: NO_RAW_FOLDER.
    """
    if raw_folder is not None:
        return Path(raw_folder)
    if not os.environ.get("nnUNet_raw"):
        remedy = "Run: export nnUNet_raw=/path/to/nnUNet_raw (or give the folder)."
        raise stop("NO_RAW_FOLDER", "the environment variable nnUNet_raw is not set", remedy)
    return Path(os.environ["nnUNet_raw"])


def name_problems(dataset_id: int, name: str) -> list[str]:
    problems = []
    if not 1 <= dataset_id <= 999:
        problems.append(f"the dataset id is {dataset_id}; nnU-Net's go from 1 to 999")
    # nnU-Net joins trainer, plans and configuration with a double underscore, and takes names apart there.
    if not re.fullmatch(r"[A-Za-z0-9]+([_-][A-Za-z0-9]+)*", name):
        problems.append(f"the name is {name!r}; use letters and digits, with single - or _ between them")
    return problems


def finish_earlier(raw_folder: Path) -> list[Path]:
    """Put datasets in place that were complete when an earlier run was killed, and say so."""
    finished = finish_renames(raw_folder)
    if finished:
        names = joined([str(folder) for folder in finished])
        print(f"An earlier run was killed as it put {names} in place; this is done now.", file=sys.stderr)
    return finished


def new_dataset(raw_folder: Path, dataset_id: int, name: str, finished: Sequence[Path] = ()) -> Path:
    """The folder to make, which does not exist yet and whose id is free.

    Args:
        finished: what `finish_earlier` has put in place.

    Raises:
        ConversionError: TARGET_EXISTS or ID_TAKEN.
    """
    target = raw_folder / f"Dataset{dataset_id:03d}_{name}"
    if target in finished:
        remedy = "Nothing is left to do, unless you want it otherwise: then delete it, or choose another dataset id."
        raise stop("TARGET_EXISTS", f"{target} exists already: it was complete when an earlier run was killed", remedy)
    with writing_to(raw_folder):  # nor can a folder be looked into by whoever may not
        refuse_taken(target)
    return target


def refuse_taken(target: Path) -> None:
    """Stop where a dataset's folder exists, or its id has another name.

    Raises:
        ConversionError: TARGET_EXISTS or ID_TAKEN.
    """
    if os.path.lexists(target):
        raise stop("TARGET_EXISTS", f"{target} exists already", "Delete it yourself, or choose another dataset id.")
    numbered = target.name.partition("_")[0]
    dataset_id = int(numbered.removeprefix("Dataset"))
    places = {target.parent}
    places |= {Path(os.environ[key]) for key in ("nnUNet_preprocessed", "nnUNet_results") if os.environ.get(key)}
    for place in sorted(filter(os.path.isdir, places)):
        for other in sorted(place.glob(f"{numbered}*")):
            if other.name != target.name:
                problem = f"dataset id {dataset_id} is taken by {other}; nnU-Net refuses two datasets with one id"
                raise stop("ID_TAKEN", problem, "Choose another dataset id.")


def stale_preprocessing(name: str) -> list[Finding]:
    """nnU-Net's planner stops with a bare assertion where an earlier conversion had other folds."""
    preprocessed = os.environ.get("nnUNet_preprocessed")
    if not preprocessed or not os.path.exists(Path(preprocessed) / name / "splits_final.json"):
        return []
    problem = f"nnUNet_preprocessed/{name} is from an earlier conversion"
    return [Finding("STALE_PREPROCESSED", problem, "Delete it before you plan again.", severity="warning")]
