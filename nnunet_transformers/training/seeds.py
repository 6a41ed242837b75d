"""A training that can be repeated, and repetitions that differ."""

from __future__ import annotations

import random
from typing import Any, ClassVar

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class SeededTrainer(nnUNetTrainer):
    """A trainer that draws all its random numbers from a seed: weights, patches, augmentation, dropout.

    What is not determined by the seed is the order in which nnU-Net's augmenting processes hand in their batches (with
    nnUNet_n_proc_DA=0 there are none), and sums that a GPU adds up in any order.
    """

    seed_by_name: ClassVar[int]

    def initialize(self) -> None:
        self._draw_from(self._seeds(1)[0])
        super().initialize()

    def get_dataloaders(self) -> tuple[Any, Any]:
        # By epoch, so that a training that goes on does not see the first batches again; by rank, so that each GPU
        # sees others.
        here, *of_loaders = self._seeds(3, self.current_epoch, self.local_rank)
        self._draw_from(here)
        loaders = super().get_dataloaders()
        for loader, seed in zip(loaders, of_loaders, strict=True):
            if hasattr(loader, "seeds"):  # it works in other processes, which have begun without one
                loader._finish()
                loader.seeds = np.random.SeedSequence(seed).generate_state(len(loader.seeds)).tolist()
        return loaders

    def _seeds(self, count: int, *more: int) -> list[int]:
        return np.random.SeedSequence([self.seed_by_name, *more]).generate_state(count).tolist()

    @staticmethod
    def _draw_from(seed: int) -> None:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
