"""A trainer of another length, in epochs and in iterations of an epoch."""

from __future__ import annotations

from typing import ClassVar

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

# nnU-Net's own 50 validation iterations for 250 of training.
_TRAINING_PER_VALIDATION_ITERATION = 5


class ShortTrainer(nnUNetTrainer):
    """What makes a trainer shorter, before it in the order of its bases; None is the trainer's own."""

    epochs_by_name: ClassVar[int | None]
    iterations_by_name: ClassVar[int | None]

    # nnU-Net reads the arguments' names off this signature.
    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.epochs_by_name:
            self.num_epochs = self.epochs_by_name
        if self.iterations_by_name:
            self.num_iterations_per_epoch = self.iterations_by_name
            self.num_val_iterations_per_epoch = max(1, self.iterations_by_name // _TRAINING_PER_VALIDATION_ITERATION)
