"""Losses and pseudo Dice per epoch, from nnU-Net's training_log_*.txt."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_transformers.comparison.nnunet.state import training_logs

_EPOCH = re.compile(r"Epoch (\d+)\s*$")
_VALUE = re.compile(r": +(train_loss|val_loss) +(\S+)\s*$")
_DICE = re.compile(r": +Pseudo dice +\[(.*)\]\s*$")
_NUMBER = re.compile(r"(?<![\w.])(?:nan|\d+(?:\.\d*)?(?:e-?\d+)?)(?![\w.])", re.IGNORECASE)

_MOST_POINTS = 150


@dataclass(frozen=True)
class LearningCurve:
    """Values by epoch. A training that goes on from an earlier epoch, or starts anew, replaces what came after it.

    Attributes:
        pseudo_dice: nnU-Net's Dice over validation patches, mean over the classes; not the Dice of whole cases.
    """

    train_loss: Mapping[int, float]
    validation_loss: Mapping[int, float]
    pseudo_dice: Mapping[int, float]


def read_learning_curve(fold: Path) -> LearningCurve:
    """The curve of a fold_X folder; empty without a log."""
    values: dict[str, dict[int, float]] = {"train_loss": {}, "val_loss": {}, "pseudo_dice": {}}
    epoch = None
    for log in training_logs(fold):
        for line in log.read_text(errors="replace").splitlines():
            if match := _EPOCH.search(line):
                epoch = int(match[1])
                values = {name: {k: v for k, v in own.items() if k < epoch} for name, own in values.items()}
            elif epoch is not None and (match := _VALUE.search(line)):
                values[match[1]][epoch] = _float(match[2])
            elif epoch is not None and (match := _DICE.search(line)):
                classes = [c for text in _NUMBER.findall(match[1]) if not math.isnan(c := float(text))]
                values["pseudo_dice"][epoch] = sum(classes) / len(classes) if classes else math.nan
        epoch = None
    return LearningCurve(values["train_loss"], values["val_loss"], values["pseudo_dice"])


def mean_curve(folds: Sequence[Mapping[int, float]]) -> list[tuple[float, float]]:
    """Mean over folds of the epochs that all of them have a finite value for, thinned out to what a chart can show."""
    common = set.intersection(*(set(fold) for fold in folds)) if folds else set()
    means = [(epoch, sum(fold[epoch] for fold in folds) / len(folds)) for epoch in sorted(common)]
    finite = [(float(epoch), value) for epoch, value in means if math.isfinite(value)]
    size = math.ceil(len(finite) / _MOST_POINTS)
    bins = [finite[start : start + size] for start in range(0, len(finite), size)] if size else []
    return [(sum(e for e, _ in part) / len(part), sum(v for _, v in part) / len(part)) for part in bins]


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
