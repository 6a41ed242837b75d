from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nnunet_transformers.networks.layers.swin_block import SwinBlock
from nnunet_transformers.training.recipe import EpochSchedule, Recipe, parameter_groups
from nnunet_transformers.training.trainers import nnUNetTrainerSwinUNETR

RECIPE = Recipe(lr=1e-3, weight_decay=0.1, warmup_fraction=0.1, clip_norm=0.5)


@given(st.integers(1, 300), st.floats(0, 0.5))
def test_the_learning_rate_rises_to_its_peak_then_falls_and_stays_above_zero(epochs, warmup_fraction):
    recipe = Recipe(lr=1.0, weight_decay=0, warmup_fraction=warmup_fraction)
    rates = [recipe.lr_at(epoch, epochs) for epoch in range(epochs)]
    peak = rates.index(max(rates))
    assert rates[peak] == 1.0
    assert all(a < b for a, b in itertools.pairwise(rates[: peak + 1]))
    assert all(a > b > 0 for a, b in itertools.pairwise(rates[peak:]))
    assert peak == round(warmup_fraction * epochs)


def test_without_warm_up_the_schedule_is_nnunets():
    recipe = Recipe(lr=1e-2, weight_decay=0, warmup_fraction=0)
    assert [recipe.lr_at(e, 1000) for e in (0, 1, 999)] == pytest.approx(
        [1e-2 * (1 - e / 1000) ** 0.9 for e in (0, 1, 999)]
    )


def test_a_resumed_schedule_is_the_uninterrupted_one():
    def rates(start: int) -> list[float]:
        optimizer = RECIPE.optimizer(nn.Linear(2, 2))
        schedule = EpochSchedule(optimizer, RECIPE, 50)
        seen = []
        for epoch in range(start, 50):
            schedule.step(epoch)
            seen += [group["lr"] for group in optimizer.param_groups]
        return seen

    assert rates(20) == rates(0)[2 * 20 :]


def test_norms_biases_and_position_tables_are_not_decayed():
    block = SwinBlock(6, 2, window=(2, 2), shift=(1, 1))
    decayed, undecayed = (
        {id(p) for p in group["params"]} for group in parameter_groups(block.named_parameters(), weight_decay=0.1)
    )
    assert decayed == {id(m.weight) for m in block.modules() if isinstance(m, nn.Linear)}
    assert id(block.attention.position_bias.table) in undecayed
    assert decayed | undecayed == {id(p) for p in block.parameters()}


def test_compiling_the_network_does_not_change_its_groups():
    block = SwinBlock(6, 2, window=(2, 2), shift=(1, 1))
    plain = parameter_groups(block.named_parameters(), 0.1)
    compiled = parameter_groups(torch.compile(block).named_parameters(), 0.1)
    assert [list(map(id, g["params"])) for g in plain] == [list(map(id, g["params"])) for g in compiled]


def test_each_step_sees_a_gradient_of_at_most_the_clip_norm():
    linear = nn.Linear(3, 3)
    optimizer = RECIPE.optimizer(linear)
    seen = []
    optimizer.register_step_pre_hook(
        lambda *_: seen.append(torch.cat([p.grad.flatten() for p in linear.parameters()]).norm().item())
    )
    for factor in (100.0, 1e-3):
        optimizer.zero_grad()
        (factor * linear(torch.ones(1, 3)).sum()).backward()
        optimizer.step()
    assert seen[0] == pytest.approx(0.5, rel=1e-4)
    assert seen[1] < 0.01


def test_the_published_recipe_of_swin_unetr():
    assert nnUNetTrainerSwinUNETR.recipe == Recipe(lr=1e-4, weight_decay=3e-5, warmup_fraction=0.05, clip_norm=1.0)
