"""What of nnU-Net's work is finished, read from the files it leaves. A file that was cut off does not count."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from enum import Enum
from pathlib import Path


class FoldState(Enum):
    """How far a fold is, and the option with which nnUNetv2_train goes on from there."""

    NEW = ""
    STARTED = "--c"
    TRAINED = "--val"
    VALIDATED = None


def fold_state(folder: Path) -> FoldState:
    """State of a fold_X folder. Validated means: with probabilities (--npz), which ensembles need."""
    if not is_checkpoint(folder / "checkpoint_final.pth"):
        started = any(is_checkpoint(folder / f"checkpoint_{kind}.pth") for kind in ("latest", "best"))
        return FoldState.STARTED if started else FoldState.NEW
    summary = folder / "validation" / "summary.json"
    content = load_json(summary)
    cases = content.get("metric_per_case", []) if isinstance(content, dict) else []
    if not cases or summary.stat().st_mtime < (folder / "checkpoint_final.pth").stat().st_mtime:
        return FoldState.TRAINED
    names = (Path(case["prediction_file"]).name for case in cases)
    probabilities = all((summary.parent / f"{name.split('.')[0]}.npz").is_file() for name in names)
    return FoldState.VALIDATED if probabilities else FoldState.TRAINED


def remove_broken_checkpoints(folder: Path) -> list[Path]:
    """Remove checkpoints of a fold that were cut off while being written: nnU-Net would try to go on from them."""
    broken = [path for path in sorted(folder.glob("checkpoint_*.pth")) if not is_checkpoint(path)]
    for path in broken:
        path.unlink()
    return broken


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
    """Whether a file or folder exists and is at least as new as each of the others."""
    return path.exists() and all(other.stat().st_mtime <= path.stat().st_mtime for other in others)
