"""How long nnU-Net's trainings took and on what, from training_log_*.txt, debug.json and checkpoint_final.pth."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from nnunet_transformers.common.words import counted
from nnunet_transformers.comparison.nnunet.peak_memory import PeakMemory, read_peak_memory
from nnunet_transformers.comparison.nnunet.results import Model
from nnunet_transformers.comparison.nnunet.state import load_json
from nnunet_transformers.comparison.nnunet.training_log import TrainingLog, read_training_log

NNUNET_EPOCHS, NNUNET_ITERATIONS = 1000, 250

_NUMPY_NUMBERS = [np.dtype, type(np.dtype(np.float32)), type(np.dtype(np.float64)), np.float32(0).__reduce__()[0]]


@dataclass(frozen=True)
class Training:
    """How a model was trained; None or empty where nnU-Net left no record.

    Attributes:
        logs: of each fold that was begun, without an epoch where it has no log.
        network: class name.
        epochs, iterations: planned, by debug.json of the first fold or by the trainer's name; without both, the epochs
            that its log has.
        batch_size: of the first fold.
        machines: host, device and torch version, one entry per different setting.
        parameters: floating-point numbers in the network.
        memory: the highest peak of its folds, where `compare run` trained them.
    """

    logs: dict[int, TrainingLog]
    network: str | None
    epochs: int | None
    iterations: int | None
    batch_size: int | None
    machines: tuple[str, ...]
    parameters: int | None
    memory: PeakMemory | None = None

    @property
    def folds(self) -> dict[int, TrainingLog]:
        """The logs in which an epoch was finished."""
        return {fold: log for fold, log in self.logs.items() if log.seconds}

    @property
    def seconds_per_epoch(self) -> float | None:
        """Median over all epochs of all folds."""
        times = [seconds for fold in self.folds.values() for seconds in fold.seconds.values()]
        return median(times) if times else None

    @property
    def training_seconds(self) -> float:
        return sum(seconds for fold in self.folds.values() for seconds in fold.seconds.values())

    @property
    def validation_seconds(self) -> float | None:
        times = [fold.validation_seconds for fold in self.folds.values() if fold.validation_seconds is not None]
        return sum(times) if times else None

    @property
    def is_short(self) -> bool:
        """Less than a tenth of the 1000 epochs of 250 iterations that nnU-Net trains for."""
        return self.updates < NNUNET_EPOCHS * NNUNET_ITERATIONS / 10

    @property
    def updates(self) -> int:
        """Epochs times iterations, nnU-Net's where they are not known."""
        return (self.epochs or NNUNET_EPOCHS) * (self.iterations or NNUNET_ITERATIONS)

    @property
    def length(self) -> str:
        """Epochs and iterations in words."""
        if not self.epochs:
            return "unknown"
        iterations = f" of {counted(self.iterations, 'iteration')}" if self.iterations else ""
        return f"{counted(self.epochs, 'epoch')}{iterations}"


def read_training(model: Model) -> Training:
    """Read the records of a model's trainings; a missing record leaves its field empty."""
    folders = {
        int(path.name.removeprefix("fold_")): path
        for path in sorted(model.folder.glob("fold_*"))
        if path.name.removeprefix("fold_").isdigit()
    }
    debug = [read for path in folders.values() if isinstance(read := load_json(path / "debug.json"), dict)]
    first = debug[0] if debug else {}
    machines = [
        f"{d.get('hostname', 'unknown host')}, {d.get('gpu_name') or d.get('device', 'unknown device')}, "
        f"torch {d.get('torch_version', 'unknown')}"
        for d in debug
    ]
    peaks = [peak for path in folders.values() if (peak := read_peak_memory(path))]
    checkpoints = [file for path in folders.values() if (file := path / "checkpoint_final.pth").is_file()]
    logs = {fold: read_training_log(path) for fold, path in folders.items()}
    begun = max((log.epoch for log in logs.values() if log.epoch is not None), default=None)
    named = model.id.parts
    return Training(
        logs=logs,
        network=first.get("network"),
        epochs=_integer(first.get("num_epochs")) or named.epochs or (None if begun is None else begun + 1),
        iterations=_integer(first.get("num_iterations_per_epoch")) or named.iterations,
        batch_size=_integer(first.get("batch_size")),
        machines=tuple(dict.fromkeys(machines)),
        parameters=count_parameters(checkpoints[0]) if checkpoints else None,
        memory=max(peaks, key=lambda peak: peak.mib, default=None),
    )


def count_parameters(checkpoint: Path) -> int | None:
    """Floating-point numbers in a checkpoint's network weights; None where torch cannot tell without running its code.

    A tensor that is stored under two names, as the encoder of nnU-Net's U-Net is, counts once.
    """
    try:
        with torch.serialization.safe_globals(_NUMPY_NUMBERS):  # nnU-Net's log of losses lies beside the weights
            weights = torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=True)["network_weights"]
    except Exception:  # an unreadable checkpoint costs one number of a table
        return None
    tensors = {
        (t.untyped_storage().data_ptr(), t.storage_offset()): t.numel()
        for t in weights.values()
        if t.is_floating_point()
    }
    return sum(tensors.values())


def _integer(value: str | None) -> int | None:
    return int(value) if value is not None and re.fullmatch(r"\d+", str(value)) else None
