"""U-Transformer against the paper, the plain U-Net it starts from, and the mistakes of its unofficial code.

That code is HXLH50K/U-Net-Transformer on GitHub, which others have copied.
"""

from __future__ import annotations

import math
import re

import pytest
import torch
import torch.nn.functional as F
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from helpers.plans import PLANS
from torch import Tensor, nn

from nnunet_transformers.networks.layers import attention, cross_attention_gate
from nnunet_transformers.networks.layers.cross_attention_gate import CrossAttentionGate, pooling_factor
from nnunet_transformers.networks.layers.sine_position import sine_position, sine_position_of_map
from nnunet_transformers.networks.u_transformer import GatedConcatenation, SelfAttentionOfMap, UTransformer
from nnunet_transformers.planning.network_arguments import network_arguments

PLAIN_2D = {
    "n_stages": 5,
    "features_per_stage": [16, 32, 64, 128, 128],
    "conv_op": nn.Conv2d,
    "norm_op": nn.InstanceNorm2d,
    "kernel_sizes": 3,
    "strides": [1, 2, 2, 2, 2],
    "n_conv_per_stage_decoder": [2, 1, 2, 1],
}
ANISOTROPIC_3D = {
    "n_stages": 4,
    "features_per_stage": [8, 16, 32, 64],
    "conv_op": nn.Conv3d,
    "norm_op": nn.InstanceNorm3d,
    "kernel_sizes": [[1, 3, 3], [1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 1, 2]],
    "n_conv_per_stage_decoder": 2,
}
SHARED = {"input_channels": 1, "num_classes": 2, "conv_bias": True, "norm_op_kwargs": {"affine": True}}
both_plans = pytest.mark.parametrize(
    ("plan", "size"), [(PLAIN_2D, (64, 48)), (ANISOTROPIC_3D, (8, 16, 24))], ids=["2d", "anisotropic 3d"]
)


def pair(plan: dict) -> tuple[UTransformer, PlainConvUNet]:
    """Our network as training starts with it, and the plain U-Net with the same weights of its convolutions."""
    torch.manual_seed(0)
    ours = UTransformer(**SHARED, **plan, nonlin=nn.LeakyReLU, n_blocks_per_stage=2)
    ours.apply(ours.initialize)
    unet = PlainConvUNet(**SHARED, **plan, nonlin=nn.LeakyReLU, n_conv_per_stage=2)
    weights = ours.state_dict()
    for name, weight in unet.state_dict().items():
        weight.copy_(weights[our_name(name)])
    return ours.eval(), unet.eval()


def our_name(name: str) -> str:
    """What dynamic-network-architectures' parameter is called in our network; it has each under several names."""
    name = re.sub(r"^decoder\.encoder\.", "encoder.", name)
    name = re.sub(r"^encoder\.stages\.(\d+)\.0\.", r"encoder.stages.\1.", name)
    name = name.replace(".all_modules.0.", ".conv.").replace(".all_modules.1.", ".norm.")
    return name.replace(".convs.", ".").replace("transpconvs", "upsamplings")


def gate_of(deep_dim: int = 16, dim: int = 8, num_heads: int = 2, dims: int = 2, max_tokens: int = 4096):
    """A gate with weights far from their initial values, which depends on its inputs."""
    torch.manual_seed(0)
    gate = CrossAttentionGate(deep_dim, dim, num_heads, (2,) * dims, (1.0,) * dims, max_tokens)
    with torch.no_grad():
        for parameter in gate.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.7 if parameter.ndim > 1 else 0.5))
    return gate


def maps(size: tuple[int, ...], deep_dim: int = 16, dim: int = 8) -> tuple[Tensor, Tensor]:
    """A deep map of this size and the skip of twice its size."""
    torch.manual_seed(1)
    return torch.randn(2, deep_dim, *size), torch.randn(2, dim, *(2 * n for n in size))


def open_for_good(gate: CrossAttentionGate) -> None:
    nn.init.zeros_(gate.gate.weight)
    nn.init.constant_(gate.gate.bias, math.inf)


@both_plans
@torch.no_grad()
def test_training_starts_within_a_few_percent_of_the_plain_unet(plan, size):
    ours, unet = pair(plan)
    x = torch.randn(2, 1, *size)
    expected = unet(x)
    assert 1e-4 < (ours(x) - expected).norm() / expected.norm() < 0.04


@both_plans
@torch.no_grad()
def test_with_open_gates_and_no_self_attention_it_is_the_plain_unet(plan, size):
    ours, unet = (network.double() for network in pair(plan))
    for join in ours.decoder.joins:
        open_for_good(join.gate)
    nn.init.zeros_(ours.bottleneck.attention.proj.weight)
    x = torch.randn(2, 1, *size, dtype=torch.float64)
    expected = unet(x)
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-10)
    nn.init.normal_(ours.bottleneck.attention.proj.weight)
    assert (ours(x) - expected).norm() / expected.norm() > 0.05


@torch.no_grad()
def test_the_gate_is_the_papers_formula_by_pytorchs_own_attention():
    gate = gate_of()
    deep, skip = maps((5, 6))
    peer = nn.MultiheadAttention(8, 2, batch_first=True)
    peer.in_proj_weight.copy_(torch.cat((gate.query_key.weight, gate.value.weight)))
    peer.out_proj.load_state_dict(gate.proj.state_dict())
    position = sine_position_of_map((5, 6), (1.0, 1.0), 8, "cpu")
    y = (gate.embed_deep(deep.movedim(1, -1)) + position).flatten(1, 2)
    s = (gate.embed_skip(F.max_pool2d(skip, 2).movedim(1, -1)) + position).flatten(1, 2)
    z = peer(y, y, s, need_weights=False)[0]
    expected = torch.sigmoid(gate.gate(gate.norm(z))).unflatten(1, (5, 6)).movedim(-1, 1)
    expected = F.interpolate(expected, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(gate(deep, skip), expected, rtol=0, atol=1e-6)
    assert expected.std() > 0.1


@torch.no_grad()
def test_the_self_attention_is_the_papers_formula_by_pytorchs_own_attention():
    torch.manual_seed(0)
    layer = SelfAttentionOfMap(16, 4, (2.0, 1.0, 1.0))
    peer = nn.MultiheadAttention(16, 4, batch_first=True)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn_like(parameter))
    peer.in_proj_weight.copy_(layer.attention.qkv.weight)
    peer.out_proj.load_state_dict(layer.attention.proj.state_dict())
    x = torch.randn(2, 16, 2, 3, 4)
    tokens = (layer.norm(x.movedim(1, -1)) + sine_position_of_map((2, 3, 4), (2.0, 1.0, 1.0), 16, "cpu")).flatten(1, 3)
    expected = x + peer(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_a_querys_weights_over_the_keys_sum_to_one_unlike_in_the_unofficial_code(monkeypatch):
    def softmax_over_queries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-2) @ v

    # Where all values are the same, so is their weighted mean, and the gate is the same everywhere.
    monkeypatch.setattr(cross_attention_gate, "sine_position_of_map", lambda *_: torch.zeros(()))
    deep, skip = maps((4, 4))
    skip = skip[..., :1, :1].expand_as(skip)
    gate = gate_of()
    assert gate(deep, skip).std(dim=(2, 3)).max() < 1e-6
    monkeypatch.setattr(attention, "fused", softmax_over_queries)
    assert gate(deep, skip).std(dim=(2, 3)).max() > 1e-2


@torch.no_grad()
def test_heads_attend_on_their_own_unlike_in_the_unofficial_code(monkeypatch):
    assert UTransformer(**SHARED, **PLAIN_2D, n_blocks_per_stage=2).bottleneck.attention.num_heads == 8
    seen = []
    monkeypatch.setattr(attention, "fused", lambda q, k, v: seen.append((q, k, v)) or attention.explicit(q, k, v))
    several, one = gate_of(num_heads=4), gate_of(num_heads=1)
    deep, skip = maps((4, 4))
    assert (several(deep, skip) - one(deep, skip)).abs().max() > 0.05
    (q, k, v), (q1, k1, v1) = seen
    assert q.shape == (2, 4, 16, 2)
    # Head h has channels 2h and 2h + 1 of the projections.
    for heads, whole in ((q, q1), (k, k1), (v, v1)):
        torch.testing.assert_close(heads.transpose(1, 2).flatten(2), whole[:, 0], rtol=0, atol=0)


@torch.no_grad()
def test_a_gate_lies_between_0_and_1_and_never_amplifies_unlike_in_the_unofficial_code():
    gate = gate_of()
    deep, skip = maps((4, 4))
    gate.gate.weight.mul_(10)
    factors = gate(deep, skip)
    assert 0 <= factors.min() < 0.01
    assert 0.99 < factors.max() <= 1
    joined = GatedConcatenation(gate)(deep, skip, skip)
    assert (joined[:, 8:].abs() <= skip.abs()).all()
    # What the unofficial code multiplies with: ReLU in place of the sigmoid.
    assert factors.logit(eps=1e-6).relu().max() > 3


@torch.no_grad()
def test_the_self_attention_is_a_residual_unlike_in_the_unofficial_code():
    layer = SelfAttentionOfMap(16, 4, (1.0, 1.0))
    x = torch.randn(1, 16, 4, 4)
    assert 0 < (layer(x) - x).norm() / x.norm() < 0.01
    nn.init.zeros_(layer.attention.proj.weight)
    torch.testing.assert_close(layer(x), x, rtol=0, atol=0)


@torch.no_grad()
def test_positions_stay_in_the_attention_and_off_the_skip_unlike_in_the_unofficial_code():
    # The unofficial code gates skip + position: even an open gate would change the skip.
    deep, skip = maps((4, 4))
    upsampled = torch.randn_like(skip)
    gate = gate_of()
    open_for_good(gate)
    joined = GatedConcatenation(gate)(deep, upsampled, skip)
    torch.testing.assert_close(joined, torch.cat((upsampled, skip), dim=1), rtol=0, atol=0)


@torch.no_grad()
def test_deep_map_and_skip_agree_on_where_a_token_is(monkeypatch):
    # The unofficial code counts voxels of each map, so a place has another position in a map of half its resolution.
    seen = []
    position_of_map = sine_position_of_map
    monkeypatch.setattr(
        cross_attention_gate, "sine_position_of_map", lambda *args: seen.append(args) or position_of_map(*args)
    )
    network = UTransformer(**SHARED, **ANISOTROPIC_3D, n_blocks_per_stage=2, spacing=(5, 1, 1), max_tokens=48)
    network(torch.zeros(1, 1, 8, 16, 24))
    extents = [tuple(n * mm for n, mm in zip(size, voxel, strict=True)) for size, voxel, *_ in seen]
    assert extents == [(40, 16, 24)] * 3
    assert [size for size, *_ in seen] == [(2, 4, 3), (4, 2, 6), (8, 2, 3)]


@torch.no_grad()
def test_a_gate_does_not_depend_on_the_rest_of_the_batch_even_in_training():
    gate = gate_of().train()
    deep, skip = maps((4, 4))
    torch.testing.assert_close(gate(deep, skip)[:1], gate(deep[:1], skip[:1]))


@pytest.mark.parametrize(
    ("size", "voxel", "max_tokens", "expected"),
    [
        pytest.param((64, 64, 64), (2.0, 2.0, 2.0), 4096, (4, 4, 4), id="to 16 cubed"),
        pytest.param((16, 16, 16), (2.0, 2.0, 2.0), 4096, (1, 1, 1), id="within the budget"),
        pytest.param((20, 128, 112), (5.0, 3.1, 3.1), 4096, (4, 8, 4), id="thick slices"),
        pytest.param((256, 256), (2.0, 2.0), 4096, (4, 4), id="2d"),
        pytest.param((5, 3), (1.0, 1.0), 1, (8, 4), id="one token"),
    ],
)
def test_the_finest_axes_are_pooled_until_the_tokens_fit_the_budget(size, voxel, max_tokens, expected):
    assert pooling_factor(size, voxel, max_tokens) == expected


@pytest.mark.parametrize("max_tokens", [1, 7, 12, 4096])
@torch.no_grad()
def test_no_more_tokens_attend_than_the_budget_at_any_size(max_tokens, monkeypatch):
    seen = []
    monkeypatch.setattr(attention, "fused", lambda q, k, v: seen.append(q) or attention.explicit(q, k, v))
    deep, skip = maps((5, 3, 6))
    factors = gate_of(dims=3, max_tokens=max_tokens)(deep, skip)
    assert factors.shape == skip.shape
    assert factors.isfinite().all()
    assert seen[0].shape[2] <= max_tokens


@torch.no_grad()
def test_a_pooled_gate_lies_over_its_own_part_of_the_skip():
    # Ten voxels in three tokens of four: the gate is that of the map extended to twelve, cut to ten.
    gate = gate_of(max_tokens=3)
    deep, skip = maps((1, 10))
    longer = F.pad(deep, (0, 2), value=-math.inf), F.pad(skip, (0, 4), value=-math.inf)
    torch.testing.assert_close(gate(deep, skip), gate(*longer)[..., :20])


def test_the_encoding_is_sines_and_cosines_of_mm_with_wavelengths_up_to_ten_thousand():
    # 4 channels for the first axis, whose second pair has half the exponent, and 2 for the second.
    encoded = sine_position([torch.tensor([0.0, 30.0]), torch.tensor([7.0])], 7)
    expected = [math.sin(30), math.sin(30 / 100), math.cos(30), math.cos(30 / 100), math.sin(7), math.cos(7), 0]
    torch.testing.assert_close(encoded[1, 0], torch.tensor(expected))


def test_the_encoding_compares_distances_in_mm_along_all_axes():
    encoded = sine_position_of_map((3, 11, 11), (5.0, 1.0, 1.0), 24, "cpu")[0].double()

    def similarity(a: tuple[int, ...], b: tuple[int, ...]) -> Tensor:
        return encoded[a] @ encoded[b]

    torch.testing.assert_close(similarity((0, 0, 0), (1, 0, 0)), similarity((0, 0, 0), (0, 5, 0)))
    torch.testing.assert_close(similarity((0, 0, 0), (1, 0, 0)), similarity((1, 3, 4), (2, 3, 4)))
    # A token of 2 mm stands in the middle of its two voxels of 1 mm.
    coarse = sine_position_of_map((2,), (2.0,), 4, "cpu")[0]
    torch.testing.assert_close(coarse, sine_position([torch.tensor([1.0, 3.0])], 4))


def test_parameters_at_the_classic_width_are_the_unets_and_the_two_modules_of_the_paper():
    # U-Net of 64 to 1024 channels in 2D. By hand: MHSA is 4 C^2 + 3 C, an MHCA from D to C channels D C + 6 C^2 + 10 C.
    plan = {**PLAIN_2D, "features_per_stage": [64, 128, 256, 512, 1024], "n_conv_per_stage_decoder": 2}
    with torch.device("meta"):
        ours = UTransformer(**SHARED, **plan, n_blocks_per_stage=2)
        unet = PlainConvUNet(**SHARED, **plan, n_conv_per_stage=2)
    assert parameters(ours.bottleneck) == 4_197_376
    assert [parameters(join) for join in ours.decoder.joins] == [2_102_272, 526_848, 132_352, 33_408]
    assert parameters(unet) == 31_044_232
    assert parameters(ours) == parameters(unet) + 4_197_376 + 2_102_272 + 526_848 + 132_352 + 33_408


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_spacing_widths_and_heads_follow_from_the_plan():
    plan = PLANS[1]  # 5×1.56×1.56 mm, a quarter of nnU-Net's width
    arguments, _ = network_arguments(UTransformer, plan.configuration())
    assert arguments["num_heads"] == 2
    arguments.update(conv_op=nn.Conv3d, norm_op=nn.InstanceNorm3d, nonlin=nn.LeakyReLU)
    network = UTransformer(1, num_classes=2, **arguments)
    joins = list(network.decoder.joins)[::-1]
    for join, voxel in zip(joins, [(5, 3.12, 3.12), (10, 6.24, 6.24), (20, 6.24, 6.24)], strict=True):
        assert join.gate.voxel == pytest.approx(voxel)
    assert [join.gate.stride for join in joins] == [(1, 2, 2), (2, 2, 2), (2, 1, 1)]
    assert network.bottleneck.voxel == pytest.approx((20, 6.24, 6.24))


def test_a_width_that_eight_heads_do_not_divide_has_as_many_as_do():
    plan = {**PLAIN_2D, "features_per_stage": [12, 20, 33, 64, 64]}
    network = UTransformer(**SHARED, **plan, n_blocks_per_stage=2)
    assert [join.gate.num_heads for join in network.decoder.joins] == [8, 1, 4, 4]


def test_a_gate_can_learn_to_close_everywhere():
    # From its open start, and although a norm of each channel over the image would hold the mean where it is.
    torch.manual_seed(0)
    gate = CrossAttentionGate(16, 8, 2, (2, 2), (1.0, 1.0), 4096)
    deep, skip = maps((4, 4))
    optimizer = torch.optim.AdamW(gate.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        (skip * gate(deep, skip)).square().mean().backward()
        optimizer.step()
    assert gate(deep, skip).max() < 0.1


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"num_heads": 0}, "at least 1"),
        ({"max_tokens": 0}, "at least 1"),
        ({"spacing": (1, 1, 1)}, "spacing needs 2 positive sizes"),
        ({"spacing": 0}, "spacing needs 2 positive sizes"),
        ({"n_blocks_per_stage": 0}, "each stage needs a convolution"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_construction(changed, complaint):
    with pytest.raises(ValueError, match=complaint):
        UTransformer(**{**SHARED, **PLAIN_2D, "n_blocks_per_stage": 2, **changed})
