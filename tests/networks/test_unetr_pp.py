"""UNETR++ against the paper's formulas and the published network."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers.plans import paper_arguments
from torch import Tensor, nn

from nnunet_transformers.networks.layers.convolution import ConvSettings
from nnunet_transformers.networks.layers.efficient_paired_attention import EfficientPairedAttention, EPABlock
from nnunet_transformers.networks.planned_network import Configuration
from nnunet_transformers.networks.unetr_pp import UNETRPP

# The published patch and topology (Synapse), as a plan.
PUBLISHED_STRIDES = [(1, 1, 1), (1, 2, 2), *[(2, 2, 2)] * 4]


def unetr_pp(dims: int, strides: list[Any], patch_size: tuple[int, ...], **changed: Any) -> UNETRPP:
    arguments = {"feature_size": 4, "attention_dropout": 0.0, "n_blocks_per_stage": 1, "num_classes": 2}
    return UNETRPP(
        input_channels=1,
        n_stages=len(strides),
        features_per_stage=32,
        kernel_sizes=3,
        strides=strides,
        n_conv_per_stage_decoder=2,
        patch_size=patch_size,
        **{**arguments, **paper_arguments(dims), **changed},
    )


def attention(grid: tuple[int, ...], dim: int = 12, heads: int = 3, size: int = 5) -> EfficientPairedAttention:
    """With weights that make every part count."""
    torch.manual_seed(0)
    layer = EfficientPairedAttention(dim, heads, grid, size).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter))
        layer.spatial_temperature.mul_(3)
    return layer


def paired_attention_of_the_paper(layer: EfficientPairedAttention, x: Tensor, scrambled: bool = False) -> Tensor:
    """Its formula, sample by sample and head by head; scrambled as in the authors' code, if asked for.

    x: (B, n_tokens, C).
    """
    heads = layer.num_heads
    weight, bias = layer.projection.linear.weight, layer.projection.linear.bias[:, None]
    samples = []
    for sample in x:
        q, k, v_spatial, v_channel = (sample @ w.T for w in layer.qkvv.weight.chunk(4))
        spatial, channel = [], []
        for h in range(heads):
            qh, kh, vsh, vch = (t.chunk(heads, dim=1)[h] for t in (q, k, v_spatial, v_channel))
            q_unit, k_unit = qh / qh.norm(dim=0), kh / kh.norm(dim=0)
            to_tokens = (layer.spatial_temperature[h] * q_unit @ (weight @ kh + bias).T).softmax(dim=1)
            spatial.append(to_tokens @ (weight @ vsh + bias))
            to_channels = (layer.channel_temperature[h] * q_unit.T @ k_unit).softmax(dim=1)
            channel.append(vch @ to_channels.T)
        joined = torch.cat(spatial, dim=1)
        if scrambled:
            joined = torch.stack(spatial).permute(2, 0, 1).reshape(joined.shape)
        samples.append(torch.cat((layer.spatial_proj(joined), layer.channel_proj(torch.cat(channel, 1))), dim=1))
    return torch.stack(samples)


@pytest.mark.parametrize("grid", [(4, 5), (2, 3, 4)], ids=str)
def test_paired_attention_is_the_papers(grid):
    layer = attention(grid)
    x = torch.randn(2, *grid, 12, dtype=torch.float64)
    expected = paired_attention_of_the_paper(layer, x.flatten(1, -2))
    torch.testing.assert_close(layer(x).flatten(1, -2), expected, rtol=1e-9, atol=1e-9)
    scrambled = paired_attention_of_the_paper(layer, x.flatten(1, -2), scrambled=True)
    assert (layer(x).flatten(1, -2) - scrambled).abs().max() > 0.1


def test_spatial_attention_leaves_tokens_in_place_unlike_the_authors_code():
    # Tokens in another order, with the projection's weights in that order too, are the output in that order.
    layer = attention((4, 5))
    x = torch.randn(1, 4, 5, 12, dtype=torch.float64)
    order = torch.randperm(20)
    before = layer(x).view(1, 20, 12), paired_attention_of_the_paper(layer, x.view(1, 20, 12), scrambled=True)
    moved = x.view(1, 20, 12)[:, order]
    with torch.no_grad():
        layer.projection.linear.weight.copy_(layer.projection.linear.weight[:, order])
    torch.testing.assert_close(layer(moved.view(1, 4, 5, 12)).view(1, 20, 12), before[0][:, order])
    scrambled = paired_attention_of_the_paper(layer, moved, scrambled=True)
    assert (scrambled - before[1][:, order]).abs().max() > 0.1


@pytest.mark.parametrize("times", [(2, 1), (3, 2)], ids=str)
def test_a_map_of_another_size_is_attended_as_the_patchs_map(times):
    # Every token twice, or six times: nothing new is in the map, so each copy gets what its original got.
    layer = attention((4, 5))
    x = torch.randn(2, 4, 5, 12, dtype=torch.float64)

    def repeated(t: Tensor) -> Tensor:
        return t.repeat_interleave(times[0], dim=1).repeat_interleave(times[1], dim=2)

    torch.testing.assert_close(layer(repeated(x)), repeated(layer(x)))


def test_a_channel_of_zeros_is_finite_in_half_precision():
    # Its norm is bounded from below by 1e-12, which float16 takes for 0.
    layer = EfficientPairedAttention(8, 2, (4, 4)).half()
    with torch.no_grad():
        layer.qkvv.weight.zero_()
        assert layer(torch.ones(1, 4, 4, 8, dtype=torch.float16)).isfinite().all()


def test_dropout_of_the_attention_acts_in_training_only():
    layer = EfficientPairedAttention(8, 2, (4, 4), dropout=0.15)
    x = torch.randn(1, 4, 4, 8)
    with torch.no_grad():
        first, second = layer(x), layer(x)
        layer.eval()
        torch.testing.assert_close(layer(x), layer(x), rtol=0, atol=0)
    assert (first[..., :4] != second[..., :4]).any()
    assert (first[..., 4:] != second[..., 4:]).any()


def test_maps_do_not_grow_from_block_to_block_at_the_start():
    # He initialisation of the block's last layer would double the map: 1e5 times after the published 21 blocks.
    torch.manual_seed(0)
    settings = ConvSettings(nn.Conv2d, norm_op=nn.InstanceNorm2d, nonlin=nn.LeakyReLU)
    block = EPABlock(32, 4, (8, 8), 64, 0.0, (3, 3), settings).apply(UNETRPP.initialize)
    x = torch.randn(2, 32, 8, 8)
    assert 1 < block(x).std() / x.std() < 1.3


def test_the_published_network_has_the_published_number_of_parameters():
    with torch.device("meta"):
        network = unetr_pp(
            3,
            PUBLISHED_STRIDES,
            (64, 128, 128),
            n_blocks_per_stage=3,
            feature_size=16,
            num_classes=14,
            norm_op=nn.BatchNorm3d,
        )
    of_heads = [sum(p.numel() for p in head.parameters()) for head in network.decoder.seg_layers]
    # Counted in the authors' network (unetr_pp_synapse.py, norm_name="batch", 14 classes), which lacks two heads.
    assert sum(p.numel() for p in network.parameters()) - of_heads[0] - of_heads[3] == 42_953_010


def test_the_published_topology_follows_from_its_plan():
    with torch.device("meta"):
        network = unetr_pp(3, PUBLISHED_STRIDES, (64, 128, 128), feature_size=16)
    assert [conv.stride for conv, _ in network.encoder.downsamplings] == [(2, 4, 4), *[(2, 2, 2)] * 3]
    assert [conv.out_channels for conv, _ in network.encoder.downsamplings] == [32, 64, 128, 256]
    assert [norm.num_groups for _, norm in network.encoder.downsamplings] == [1, 32, 64, 128]
    projections = [stage[0].attention.projection for stage in network.encoder.stages]
    assert [p.linear.out_features for p in projections] == [64, 64, 64, 32]
    assert [p.grid for p in projections] == [(n, n, n) for n in (32, 16, 8, 4)]
    assert network.decoder.upsamplings[-1].stride == (2, 4, 4)


@pytest.mark.parametrize(
    ("n_stages", "stem", "widths"),
    [(3, (2, 2), [8, 16]), (4, (4, 4), [8, 16]), (8, (4, 4), [8, 16, 32, 64, 64, 64])],
)
def test_the_stem_reaches_the_third_stage_and_widths_stop_at_16_times(n_stages, stem, widths):
    with torch.device("meta"):
        network = unetr_pp(2, [1, *[2] * (n_stages - 1)], (256, 256))
    assert network.encoder.downsamplings[0][0].stride == stem
    assert [conv.out_channels for conv, _ in network.encoder.downsamplings] == widths
    assert all(norm.num_channels >= 2 * norm.num_groups for _, norm in network.encoder.downsamplings)


def test_logits_of_the_second_stage_come_from_the_third_map():
    network = unetr_pp(3, [(1, 1, 1), (1, 2, 2), (2, 2, 1), (2, 2, 2)], (8, 16, 16), deep_supervision=True).eval()
    third_map = {}
    network.decoder.stages[0].register_forward_hook(lambda module, inputs, out: third_map.update(out=out))
    with torch.no_grad():
        logits = network(torch.randn(1, 1, 8, 16, 16))
        assert [tuple(x.shape[2:]) for x in logits] == [(8, 16, 16), (8, 8, 8), (4, 4, 8)]
        torch.testing.assert_close(logits[1], network.decoder.seg_layers[1](third_map["out"]))


def test_from_a_plan_the_network_has_the_published_width_or_is_narrower_with_the_plan():
    plan = {"patch_size": (128, 96), "spacing": (1.0, 1.0), "strides": ((1, 1), (2, 2)), "windows": ()}
    assert UNETRPP.own_arguments(Configuration(**plan, relative_width=1)) == {
        "n_blocks_per_stage": 3,
        "feature_size": 16,
        "patch_size": (128, 96),
        "attention_dropout": 0.0,
    }
    assert UNETRPP.own_arguments(Configuration(**plan, relative_width=0.25))["feature_size"] == 4


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"patch_size": (64, 60)}, r"\(64, 60\) is not a multiple of the total stride \(8, 8\)"),
        ({"patch_size": (64, 64, 64)}, "patch_size needs 2 positive sizes"),
        ({"feature_size": 5}, "10 channels cannot be split into 4 heads"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_construction(changed, complaint):
    with pytest.raises(ValueError, match=complaint):
        unetr_pp(2, [1, 2, 2, 2], **{"patch_size": (64, 64), **changed})


def test_a_map_of_few_tokens_is_projected_to_half_of_them():
    for grid in ((1, 1), (3, 1), (8, 8), (40, 40)):
        size = EfficientPairedAttention(8, 2, grid).projection.linear.out_features
        assert size == max(1, min(64, math.prod(grid) // 2))
