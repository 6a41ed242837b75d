"""Trainers of the demo: learning rates for 480 iterations of a narrow network, where nnU-Net trains for 250 000.

A folder of trainers like this one, named in nnUNet_extTrainer, is how anybody adds trainers to nnU-Net; their shorter
runs, …_<N>epochs_<M>iterations, come with this package.
"""

from dataclasses import replace

import torch
from nnunetv2.training.nnUNetTrainer.variants.optimizer.nnUNetTrainerAdam import nnUNetTrainerAdam

from nnunet_transformers.training.trainers import nnUNetTrainerSwinUNETR


class nnUNetTrainerDemoUNet(nnUNetTrainerAdam):
    """nnU-Net's U-Net with AdamW at a high rate; its own SGD has hardly begun after 480 iterations."""

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008  nnU-Net's own signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.initial_lr = 5e-3


class nnUNetTrainerDemoSwinUNETR(nnUNetTrainerSwinUNETR):
    """Our Swin UNETR at thirty times its rate."""

    recipe = replace(nnUNetTrainerSwinUNETR.recipe, lr=3e-3)
