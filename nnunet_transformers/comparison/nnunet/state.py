"""What of nnU-Net's work is finished, read from the files it leaves. A file that was cut off does not count."""

from __future__ import annotations

import glob
import gzip
import json
import pickletools
import re
import zipfile
import zlib
from collections.abc import Collection, Iterable, Sequence
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any

from nnunet_transformers.common.files import write_whole
from nnunet_transformers.comparison.nnunet.model_id import ModelId
from nnunet_transformers.comparison.nnunet.results import case_name


class FoldState(Enum):
    """How far a fold is, and the option with which nnUNetv2_train goes on from there."""

    NEW = ""
    STARTED = "--c"
    TRAINED = "--val"
    VALIDATED = None


def fold_state(folder: Path, next_stage: str = "", *, probabilities: bool = True) -> FoldState:
    """State of a fold_X folder.

    Args:
        next_stage: configuration of a cascade that goes on from the predictions of the validation.
        probabilities: a validation counts with those of each case (--npz) only, which ensembles need.
    """
    if not is_checkpoint(folder / "checkpoint_final.pth"):
        started = any(is_checkpoint(folder / f"checkpoint_{kind}.pth") for kind in ("latest", "best"))
        return FoldState.STARTED if started else FoldState.NEW
    summary = folder / "validation" / "summary.json"
    content = load_json(summary)
    cases = content.get("metric_per_case", []) if isinstance(content, dict) else []
    if not cases or summary.stat().st_mtime < (folder / "checkpoint_final.pth").stat().st_mtime:
        return FoldState.TRAINED
    names = [case_name(Path(case["prediction_file"]).name) for case in cases]
    complete = not probabilities or all((summary.parent / f"{name}.npz").is_file() for name in names)
    if next_stage:
        left = folder.parent / "predicted_next_stage" / next_stage
        complete &= all(any(left.glob(f"{glob.escape(name)}.*")) for name in names)
    return FoldState.VALIDATED if complete else FoldState.TRAINED


def training_logs(folder: Path) -> list[Path]:
    """The logs of a fold, one per start, oldest first; nnU-Net writes the date into the name without leading zeros."""
    return sorted(folder.glob("training_log_*.txt"), key=lambda log: tuple(map(int, re.findall(r"\d+", log.stem))))


def remove_broken_checkpoints(folder: Path) -> list[Path]:
    """Remove checkpoints of a fold that were cut off while being written: nnU-Net would try to go on from them."""
    broken = [path for path in sorted(folder.glob("checkpoint_*.pth")) if not is_checkpoint(path)]
    for path in broken:
        path.unlink()
    return broken


def dataset_folder(parent: Path, dataset_id: int) -> Path | None:
    """The folder DatasetNNN_Name of a dataset in one of nnU-Net's three folders; None if there is none, or two."""
    found = [path for path in parent.glob(f"Dataset{dataset_id:03d}_*") if path.is_dir()]
    return found[0] if len(found) == 1 else None


def plans_of(preprocessed: Path, plans: str) -> dict[str, Any] | None:
    """Plans in a dataset's preprocessed folder; None while they are not there."""
    content = load_json(preprocessed / f"{plans}.json")
    return content if isinstance(content, dict) and (preprocessed / "dataset.json").is_file() else None


def configuration_of(plans: dict[str, Any], name: str) -> dict[str, Any] | None:
    """A configuration of plans with what it inherits; None if the plans do not have it."""
    own = plans["configurations"].get(name)
    if own is None or "inherits_from" not in own:
        return own
    return {**(configuration_of(plans, own["inherits_from"]) or {}), **own}


def is_preprocessed(preprocessed: Path, plans: str, configurations: Iterable[str]) -> bool:
    """Whether every case is preprocessed for these configurations, and every reference kept for the validation.

    A configuration nnU-Net did not plan counts as done: the training will say so.
    """
    content, fingerprint = plans_of(preprocessed, plans), load_json(preprocessed / "dataset_fingerprint.json")
    if content is None or not isinstance(fingerprint, dict):
        return False
    cases = len(fingerprint["spacings"])
    planned = [found for name in configurations if (found := configuration_of(content, name))]
    # The properties of a case are written after its voxels, the references after all cases.
    done = [_whole(preprocessed / configuration["data_identifier"], "*.pkl") for configuration in planned]
    return all(n >= cases for n in [*done, _not_empty(preprocessed / "gt_segmentations", "*")])


def write_default_splits(preprocessed: Path, plans: str, configuration: str) -> None:
    """Write splits_final.json if it is not there: the five folds nnU-Net would make of the preprocessed cases."""
    path = preprocessed / "splits_final.json"
    content = plans_of(preprocessed, plans)
    planned = configuration_of(content, configuration) if content else None
    if path.exists() or not planned:
        return
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    cases = sorted(file.stem for file in (preprocessed / planned["data_identifier"]).glob("*.pkl"))
    write_whole(path, json.dumps(generate_crossval_split(cases), indent=4))


def is_selected(results: Path, models: Collection[str], folds: Sequence[int], *, ensembles: bool) -> bool:
    """Whether nnUNetv2_find_best_configuration has selected among exactly these models, after they were validated."""
    information = results / "inference_information.json"
    content = load_json(information)
    if not isinstance(content, dict):
        return False
    considered = {
        str(ModelId(model["trainer"], model["plans"], model["configuration"])) for model in content["considered_models"]
    }
    asked = (considered, list(content["folds"]), content["ensembling_allowed"]) == (set(models), list(folds), ensembles)
    return asked and is_newer(information, summaries(results, models, folds))


def summaries(results: Path, models: Iterable[str], folds: Iterable[int]) -> list[Path]:
    """The scores of the folds of some models, whether they are there or not."""
    folds = list(folds)
    return [results / model / f"fold_{fold}" / "validation" / "summary.json" for model in models for fold in folds]


def cases_in(images: Path) -> list[str]:
    """Names of the cases in a folder of images as nnU-Net names them, CASE_0000.nii.gz."""
    matches = (re.fullmatch(r"(.+)_0000\..+", path.name) for path in images.iterdir())
    return sorted(match[1] for match in matches if match)


def unfinished_predictions(
    folder: Path, cases: Iterable[str], ending: str, *, probabilities: bool, newer_than: Sequence[Path]
) -> list[str]:
    """The cases without a complete prediction in a folder, or with one older than the files it depends on."""
    endings = [ending, ".npz", ".pkl"] if probabilities else [ending]
    return [
        case
        for case in cases
        if not all(is_complete(file := folder / f"{case}{e}") and is_newer(file, newer_than) for e in endings)
    ]


def is_complete(path: Path) -> bool:
    """Whether a file is there and was not cut off, as far as its format tells."""
    try:
        status = path.stat()
    except OSError:
        return False
    return status.st_size > 0 and _is_whole(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _is_whole(path: Path, size: int, changed: int) -> bool:
    if path.suffix in (".npz", ".pth"):
        return zipfile.is_zipfile(path)
    if path.suffix == ".pkl":
        try:
            return all(True for _ in pickletools.genops(path.read_bytes()))  # to its end, without running any of it
        except (OSError, ValueError):
            return False
    if path.suffix != ".gz":
        return True
    try:
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error):
        return False
    return True


def _whole(folder: Path, pattern: str) -> int:
    return sum(map(is_complete, folder.glob(pattern)))


def _not_empty(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size > 0 for path in folder.glob(pattern))


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a complete checkpoint: torch writes a zip archive, whose directory comes last."""
    return path.is_file() and zipfile.is_zipfile(path)


def load_json(path: Path) -> object:
    """The content of a JSON file, None if it is missing or not complete."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def is_newer(path: Path, others: Iterable[Path]) -> bool:
    """Whether a file or folder exists and is at least as new as each of the others, which exist as well."""
    try:
        changed = path.stat().st_mtime
        return all(other.stat().st_mtime <= changed for other in others)
    except FileNotFoundError:
        return False
