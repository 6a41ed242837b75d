"""What nnU-Net writes into training_log_*.txt: epochs, their times, losses and pseudo Dice."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from nnunet_transformers.comparison.nnunet.state import training_logs

_LINE = re.compile(
    r"^(?P<stamp>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?): +(?:"
    r"Epoch (?P<epoch>\d+)[ \t]*$"
    r"|Epoch time: (?P<seconds>[\d.]+) s"
    r"|(?P<loss>train_loss|val_loss) +(?P<value>\S+)[ \t]*$"
    r"|Pseudo dice +\[(?P<dice>.*)\][ \t]*$"
    r"|(?P<trained>Training done\.)"
    r"|(?P<validated>Validation complete))",
    re.MULTILINE,
)
_NUMBER = re.compile(r"(?<![\w.])(?:nan|\d+(?:\.\d*)?(?:e-?\d+)?)(?![\w.])", re.IGNORECASE)


@dataclass(frozen=True)
class TrainingLog:
    """A training, going on or ended, from all logs of its fold.

    A start that goes on from an epoch, or begins anew, replaces what came after it.

    Attributes:
        epoch: the one begun last, from 0 as nnU-Net counts; None before the first.
        is_trained: whether the last training of the logs came to its end.
        seconds: of each finished epoch.
        train_loss, validation_loss: of each epoch.
        pseudo_dice: nnU-Net's Dice over validation patches, mean over the classes; not the Dice of whole cases.
        validation_seconds: from the end of the training to that of the validation; None if they are not in one log.
    """

    epoch: int | None = None
    is_trained: bool = False
    seconds: Mapping[int, float] = field(default_factory=dict)
    train_loss: Mapping[int, float] = field(default_factory=dict)
    validation_loss: Mapping[int, float] = field(default_factory=dict)
    pseudo_dice: Mapping[int, float] = field(default_factory=dict)
    validation_seconds: float | None = None

    @property
    def is_epoch_finished(self) -> bool:
        """Whether the epoch begun last has ended."""
        return self.epoch in self.seconds


def read_training_log(fold: Path) -> TrainingLog:
    """The training of a fold_X folder; empty without a log."""
    by_epoch: dict[str, dict[int, float]] = {"seconds": {}, "train_loss": {}, "val_loss": {}, "dice": {}}
    last: int | None = None
    is_trained, validation = False, None
    for log in training_logs(fold):
        epoch, trained = None, None  # what a log says before its first epoch belongs to none
        for line in _LINE.finditer(log.read_text(errors="replace")):
            if line["epoch"]:
                epoch = int(line["epoch"])
                if last is not None and epoch <= last:
                    by_epoch = {name: {k: v for k, v in own.items() if k < epoch} for name, own in by_epoch.items()}
                last = epoch
                is_trained, validation = False, None
            elif line["trained"]:
                trained, is_trained = datetime.fromisoformat(line["stamp"]), True
            elif line["validated"]:
                if trained is not None:
                    validation = (datetime.fromisoformat(line["stamp"]) - trained).total_seconds()
                    trained = None
            elif epoch is None:
                continue
            elif line["seconds"]:
                by_epoch["seconds"][epoch] = float(line["seconds"])
            elif line["loss"]:
                by_epoch[line["loss"]][epoch] = _number(line["value"])
            else:
                by_epoch["dice"][epoch] = _mean_of_classes(line["dice"])
    return TrainingLog(
        last,
        is_trained,
        by_epoch["seconds"],
        by_epoch["train_loss"],
        by_epoch["val_loss"],
        by_epoch["dice"],
        validation,
    )


def _mean_of_classes(text: str) -> float:
    classes = [value for number in _NUMBER.findall(text) if not math.isnan(value := float(number))]
    return sum(classes) / len(classes) if classes else math.nan


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
