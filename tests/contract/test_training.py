"""What every trainer promises: its recipe trains its network on a lesion, in every precision, and nothing overflows."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from helpers.plans import Plan, build_network
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor, nn

from nnunet_transformers.training.registry import Entry, registry

STEPS = 200

# At this size a step costs what calling its few thousand operations costs; a larger one would only take longer.
PLAN = Plan("phantom", (8, 8, 8), (1, 1, 1), ((1, 1, 1), (2, 2, 2), (2, 2, 2)))
FEATURES = [4, 8, 16]


def tiny(network_class: type[nn.Module]) -> nn.Module:
    configuration = PLAN.configuration()
    configuration["architecture"]["arch_kwargs"]["features_per_stage"] = FEATURES
    return build_network(network_class, configuration, 1, 2, deep_supervision=True)


def phantom() -> tuple[Tensor, list[Tensor]]:
    """Noise with a bright ball off the centre, (1, 1, *patch), and the ball's mask at the scales of the heads."""
    position = torch.stack(torch.meshgrid(*map(torch.arange, PLAN.patch_size), indexing="ij"), dim=-1)
    ball = ((position - torch.tensor([3, 4, 5])).square().sum(-1) <= 4).float()[None, None]
    image = torch.randn_like(ball) + 2 * ball
    return image, [F.interpolate(ball, size) for size in PLAN.map_sizes[:-1]]


def nnunets_loss() -> nn.Module:
    """The loss nnU-Net's trainer builds for two labels: Dice and cross-entropy of every head."""
    trainer = SimpleNamespace(
        label_manager=SimpleNamespace(has_regions=False, ignore_label=None),
        configuration_manager=SimpleNamespace(batch_dice=False),
        enable_deep_supervision=True,
        is_ddp=False,
        _do_i_compile=lambda: False,
        _get_deep_supervision_scales=lambda: PLAN.map_sizes[:-1],
    )
    return nnUNetTrainer._build_loss(trainer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("entry", registry(), ids=lambda entry: entry.network.__name__)
def test_200_steps_stay_finite_and_the_loss_falls(
    entry: Entry, dtype: torch.dtype, convolutions_right_in_bfloat16: None
):
    torch.manual_seed(0)
    network, loss_of = tiny(entry.network), nnunets_loss()
    image, target = phantom()
    optimizer = entry.recipe.optimizer(network)
    for group in optimizer.param_groups:
        group["foreach"] = True  # the same update in fewer calls
    scaler = torch.amp.GradScaler("cpu", enabled=dtype == torch.float16)
    losses = torch.zeros(STEPS)
    for step in range(STEPS):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            loss = loss_of(network(image), target)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        losses[step] = loss.detach()
    assert losses.isfinite().all()
    assert all(p.isfinite().all() for p in network.parameters())
    assert losses[-20:].mean() < losses[:20].mean() - 0.1
