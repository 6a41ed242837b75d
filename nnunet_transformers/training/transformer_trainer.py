"""nnU-Net's trainer with one of our networks and a recipe in place of its own."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel
from torch.torch_version import TorchVersion

from nnunet_transformers import __version__
from nnunet_transformers.networks.planned_network import PlannedNetwork
from nnunet_transformers.planning.network_arguments import network_arguments
from nnunet_transformers.training.eager_fallback import EagerFallback, one_line
from nnunet_transformers.training.recipe import EpochSchedule, Recipe

# What the sessions of noxfile.py hold; before it, compiling is left alone.
OLDEST_TORCH_TO_COMPILE = "2.6"


class TransformerTrainer(nnUNetTrainer):
    """Base of our trainers; a subclass names its network and its recipe.

    Attributes:
        architecture: the network.
        recipe: optimiser, schedule and clipping.
    """

    architecture: ClassVar[type[PlannedNetwork]]
    recipe: ClassVar[Recipe]
    network: nn.Module

    # nnU-Net reads the arguments' names off this signature.
    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ) -> None:
        # Kept with the model, which an exported zip brings to people who have never heard of this package.
        dataset_json = {**dataset_json, "trainer_from": f"Python package nnunet-transformers {__version__}"}
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.initial_lr = self.recipe.lr
        self.weight_decay = self.recipe.weight_decay
        # Of two stages there is one output; nnU-Net's deep supervision would give it the weight 0 / 0.
        self.enable_deep_supervision = len(self.configuration_manager.pool_op_kernel_sizes) > 2

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
        network = get_network_from_plans(
            f"{cls.architecture.__module__}.{cls.architecture.__qualname__}",
            arguments,
            to_import,
            num_input_channels,
            num_output_channels,
            allow_init=True,
            deep_supervision=enable_deep_supervision,
        )
        EagerFallback(print).guard(network)  # for a prediction; a training puts its own in this place
        return network

    def initialize(self) -> None:
        super().initialize()
        if (reason := reason_not_to_compile()) and super()._do_i_compile():
            self.print_to_log_file(f"Training in eager mode, slower and with the same result: {reason}")
        self.eager_fallback = EagerFallback(self.print_to_log_file)
        for owner in (self.network, self.loss):
            for module in owner.modules():
                if isinstance(module, OptimizedModule):
                    self.eager_fallback.guard(module._orig_mod)

    def _do_i_compile(self) -> bool:
        return super()._do_i_compile() and not reason_not_to_compile()

    def train_step(self, batch: dict) -> dict:
        return self.eager_fallback.tried(partial(super().train_step, batch), self.network, self._wrap_again)

    def _wrap_again(self) -> None:
        """DistributedDataParallel anew: one whose backward pass broke off waits for its end for ever."""
        if self.is_ddp:
            self.network = DistributedDataParallel(self.network.module, device_ids=[self.local_rank])

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        optimizer = self.recipe.optimizer(self.network)
        return optimizer, EpochSchedule(optimizer, self.recipe, self.num_epochs)


def reason_not_to_compile() -> str:
    """Why torch.compile is left alone here; empty where it is not."""
    if TorchVersion(torch.__version__) < OLDEST_TORCH_TO_COMPILE:
        return f"torch {torch.__version__} is older than {OLDEST_TORCH_TO_COMPILE}, the first that they compile with"
    try:
        torch.compile(nn.Identity())  # compiles nothing yet, but refuses a Python or a platform that it does not know
    except Exception as error:
        return one_line(error)
    return ""
