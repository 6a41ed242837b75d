"""How a network is trained: optimiser, schedule, gradient clipping.

AdamW: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019. Parameters that are vectors (norms,
biases) and position tables are not decayed, as in Liu et al., "Swin Transformer", ICCV 2021, appendix A2. The schedule
is nnU-Net's polynomial decay after a linear warm-up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

# Parameters of these modules say where a token is, not what it holds.
_POSITION_MODULES = ("position_bias", "position_embedding")


@dataclass(frozen=True)
class Recipe:
    """What differs between trainers beside the network.

    Attributes:
        lr: learning rate at the end of the warm-up.
        weight_decay: decoupled weight decay.
        betas, eps: AdamW's.
        warmup_fraction: part of the epochs over which the learning rate rises from near 0.
        poly_exponent: of the decay to 0.
        clip_norm: largest norm of the gradient; at most 12, nnU-Net's own bound.
    """

    lr: float
    weight_decay: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    warmup_fraction: float = 0.05
    poly_exponent: float = 0.9
    clip_norm: float = 1.0

    def __str__(self) -> str:
        return (
            f"AdamW {self.lr:g}, weight decay {self.weight_decay:g}, warm-up {self.warmup_fraction:.0%}, "
            f"clip {self.clip_norm:g}"
        )

    def lr_at(self, epoch: int, num_epochs: int) -> float:
        """Learning rate of an epoch, a pure function: a resumed training has the schedule of an uninterrupted one."""
        warmup = round(self.warmup_fraction * num_epochs)
        if epoch < warmup:
            return self.lr * (epoch + 1) / (warmup + 1)
        return self.lr * (1 - (epoch - warmup) / (num_epochs - warmup)) ** self.poly_exponent

    def optimizer(self, network: nn.Module) -> torch.optim.AdamW:
        """AdamW over the network's parameters that clips the gradient before each step."""
        optimizer = torch.optim.AdamW(
            parameter_groups(network.named_parameters(), self.weight_decay), lr=self.lr, betas=self.betas, eps=self.eps
        )
        parameters = [p for group in optimizer.param_groups for p in group["params"]]

        # nnU-Net clips to 12 in the middle of its train_step; a hook sees the same unscaled gradient right after it.
        def clip(*_: object) -> None:
            nn.utils.clip_grad_norm_(parameters, self.clip_norm)

        optimizer.register_step_pre_hook(clip)
        return optimizer


class EpochSchedule:
    """Sets the learning rate of every parameter group from the epoch; nnU-Net calls `step(epoch)` as each epoch
    starts."""

    def __init__(self, optimizer: torch.optim.Optimizer, recipe: Recipe, num_epochs: int) -> None:
        self.optimizer, self.recipe, self.num_epochs = optimizer, recipe, num_epochs

    def step(self, epoch: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr_at(epoch, self.num_epochs)


def parameter_groups(named_parameters: Iterable[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict]:
    """Two groups for an optimiser: matrices and kernels, which are decayed, and all that is not.

    A parameter's name may carry the prefixes of torch.compile and DistributedDataParallel.
    """
    decayed: list[nn.Parameter] = []
    undecayed: list[nn.Parameter] = []
    for name, parameter in named_parameters:
        is_position = any(module in name.split(".") for module in _POSITION_MODULES)
        (undecayed if parameter.ndim <= 1 or is_position else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": undecayed, "weight_decay": 0.0}]
