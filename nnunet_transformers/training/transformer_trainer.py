"""nnU-Net's trainer with one of our networks and a recipe in place of its own."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_transformers.networks.planned_network import PlannedNetwork
from nnunet_transformers.planning.network_arguments import network_arguments
from nnunet_transformers.training.recipe import EpochSchedule, Recipe


class TransformerTrainer(nnUNetTrainer):
    """Base of our trainers; a subclass names its network and its recipe.

    Attributes:
        architecture: the network.
        recipe: optimiser, schedule and clipping.
    """

    architecture: ClassVar[type[PlannedNetwork]]
    recipe: ClassVar[Recipe]

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
        self.initial_lr = self.recipe.lr
        self.weight_decay = self.recipe.weight_decay

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """The network for a configuration of any plans; nnU-Net calls this for training and for inference."""
        arguments, to_import = network_arguments(cls.architecture, configuration_manager.configuration)
        return get_network_from_plans(
            f"{cls.architecture.__module__}.{cls.architecture.__qualname__}",
            arguments,
            to_import,
            num_input_channels,
            num_output_channels,
            allow_init=True,
            deep_supervision=enable_deep_supervision,
        )

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        optimizer = self.recipe.optimizer(self.network)
        return optimizer, EpochSchedule(optimizer, self.recipe, self.num_epochs)
