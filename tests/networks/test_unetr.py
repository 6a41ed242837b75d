"""UNETR against the paper and against MONAI's implementation."""

from __future__ import annotations

import pytest
import torch
from helpers.plans import PLANS, paper_arguments
from monai.networks import nets as monai_nets
from torch import nn

from nnunet_transformers.networks.unetr import UNETR, token_stage
from nnunet_transformers.planning.network_arguments import network_arguments
from nnunet_transformers.weights.monai import load_monai_unetr


def published(dims: int, grid_size: object = 6, **own: object) -> UNETR:
    return UNETR(
        input_channels=1,
        n_stages=5,
        features_per_stage=32,
        kernel_sizes=3,
        strides=[1, 2, 2, 2, 2],
        n_blocks_per_stage=2,
        num_classes=2,
        n_conv_per_stage_decoder=2,
        grid_size=grid_size,
        **paper_arguments(dims),
        **own,
    ).eval()


def pair(size: tuple[int, ...]) -> tuple[nn.Module, UNETR]:
    """MONAI's network and ours with the same weights, narrow, and with vectors far from their initial values."""
    torch.manual_seed(0)
    widths = {"feature_size": 4, "hidden_size": 48, "num_heads": 3}
    monai = monai_nets.UNETR(1, 2, size, mlp_dim=4 * 48, spatial_dims=len(size), **widths).eval()
    with torch.no_grad():
        for name, parameter in monai.named_parameters():
            if parameter.ndim == 1 or "position" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    ours = published(len(size), [n // 16 for n in size], **widths)
    load_monai_unetr(ours, monai.state_dict())
    return monai, ours


@pytest.mark.parametrize("size", [(48, 32, 64), (96, 64)], ids=str)
def test_monais_weights_give_monais_output(size):
    monai, ours = pair(size)
    x = torch.randn(2, 1, *size)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), monai(x), rtol=0, atol=1e-5)


def test_monais_weights_give_monais_gradients():
    monai, ours = (network.double() for network in pair((32, 32, 48)))
    x, grad = (torch.randn(1, channels, 32, 32, 48, dtype=torch.float64) for channels in (1, 2))
    for network in (monai, ours):
        (network(x) * grad).sum().backward()
    gradients = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    load_monai_unetr(ours, {name: p.grad for name, p in monai.named_parameters()})
    for name, expected in ours.named_parameters():
        if name in gradients:
            torch.testing.assert_close(gradients[name], expected.data, rtol=1e-8, atol=1e-8, msg=name)


def test_the_published_network_has_the_published_number_of_parameters():
    with torch.device("meta"):
        network = published(3, grid_size=6)
        monai = monai_nets.UNETR(1, 2, 96)
    parameters = sum(p.numel() for p in network.parameters())
    heads = sum(p.numel() for p in network.decoder.seg_layers[:-1].parameters())
    # The paper's table 3. MONAI 1.5 has 121.35 M at 128^3: 28.3 M are of cross-attention that its UNETR never uses.
    assert parameters == pytest.approx(92.58e6, rel=0.02)
    assert parameters - heads == sum(p.numel() for n, p in monai.named_parameters() if "cross_attn" not in n)


@pytest.mark.parametrize(
    ("strides", "stage"),
    [
        ([1, 2, 2], 2),
        ([1, 2, 2, 2, 2], 4),
        ([1, 2, 2, 2, 2, 2], 4),
        ([1, *[2] * 7], 6),
        ([(1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)], 4),
        ([(1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 1, 1)], 4),
    ],
)
def test_tokens_are_the_deepest_stage_of_at_most_16_voxels_or_the_last_but_one(strides, stage):
    per_axis = [(s,) * 3 if isinstance(s, int) else s for s in strides]
    assert token_stage(per_axis) == stage


def test_the_grid_is_the_patchs_and_the_width_narrows_with_the_plan():
    planned = PLANS[1].configuration()
    arguments, _ = network_arguments(UNETR, planned)
    assert arguments["grid_size"] == [5, 8, 7]
    assert (arguments["hidden_size"], arguments["num_heads"], arguments["feature_size"]) == (192, 3, 4)
    planned["architecture"]["arch_kwargs"]["features_per_stage"] = [32, 64, 128, 256]
    arguments, _ = network_arguments(UNETR, planned)
    assert (arguments["hidden_size"], arguments["num_heads"], arguments["feature_size"]) == (768, 12, 16)


def test_positions_of_another_image_are_interpolated():
    # A table that is linear along an axis stays so on a grid twice as fine, but for the half token at each end.
    network = published(2, grid_size=[4, 4], feature_size=4, hidden_size=8, num_heads=1)
    embedding = network.encoder.position_embedding
    with torch.no_grad():
        embedding.table.copy_(torch.arange(4.0)[None, None, :, None].expand(1, 8, 4, 4))
        added = embedding(torch.zeros(1, 8, 8, 8))
    torch.testing.assert_close(added[0, 1:-1, 3, 0], torch.arange(0.25, 3, 0.5))
    torch.testing.assert_close(added[0, [0, -1], 3, 0], torch.tensor([0.0, 3.0]))


def test_weights_of_another_network_are_refused_and_nothing_is_loaded():
    monai, ours = pair((32, 32))
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    larger = monai_nets.UNETR(1, 2, (48, 32), feature_size=4, hidden_size=48, mlp_dim=192, num_heads=3, spatial_dims=2)
    with pytest.raises(ValueError, match=r"of another shape: \['encoder.position_embedding.table'\]"):
        load_monai_unetr(ours, larger.state_dict())
    with pytest.raises(ValueError, match=r"without a place here: \['surprise'\]; missing: \[\]"):
        load_monai_unetr(ours, {**monai.state_dict(), "surprise": torch.zeros(1)})
    torch.testing.assert_close(dict(ours.state_dict()), before, rtol=0, atol=0)


def test_more_skips_than_layers_are_refused():
    with pytest.raises(ValueError, match="need 4 layers, num_layers=3"):
        published(2, num_layers=3)
