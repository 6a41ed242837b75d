"""3D TransUNet, encoder variant, against the paper and the numbers of the authors' code."""

from __future__ import annotations

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from helpers.plans import paper_arguments
from torch import nn

from nnunet_transformers.networks.planned_network import Configuration
from nnunet_transformers.networks.transunet import TransUNet

# nnU-Net's convolution settings, which the authors keep.
NNUNET = {"conv_bias": True, "norm_op_kwargs": {"eps": 1e-5, "affine": True}}


def small(dims: int = 2, deep_supervision: bool = False, **changed: object) -> TransUNet:
    torch.manual_seed(0)
    arguments = {
        "input_channels": 2, "n_stages": 3, "features_per_stage": [4, 8, 16], "kernel_sizes": 3, "strides": [1, 2, 2],
        "n_blocks_per_stage": 2, "num_classes": 3, "n_conv_per_stage_decoder": 2, "hidden_size": 24, "num_heads": 2,
        "num_layers": 2, **paper_arguments(dims), **NNUNET, **changed,
    }  # fmt: skip
    return TransUNet(deep_supervision=deep_supervision, **arguments).eval()


class BlockWithAScaledShortcut(nn.Module):
    """The block of the authors' code with LayerScale, x = branch(x) + scale * x, as a stand-in."""

    def __init__(self, block: nn.Module, scale: float = 1e-5) -> None:
        super().__init__()
        self.block, self.scale = block, scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block.attention(self.block.norm1(x)) + self.scale * x
        return self.block.mlp(self.block.norm2(x)) + self.scale * x


def test_the_shortcut_of_a_block_is_not_scaled_unlike_the_authors():
    transformer = small().bottleneck.transformer
    wrong = nn.Sequential(*(BlockWithAScaledShortcut(block) for block in transformer.blocks))
    tokens = torch.randn(1, 5, 24)
    with torch.no_grad():
        for block in transformer.blocks:
            for branch in (block.attention.proj, block.mlp.fc2):
                branch.weight.zero_()
        # With nothing in the branches a residual network is the identity; theirs forgets its input.
        torch.testing.assert_close(transformer.blocks(tokens), tokens, rtol=0, atol=0)
        assert wrong(tokens).abs().max() < 1e-8


def test_the_shortcuts_carry_the_gradient_through_all_blocks():
    transformer = small(num_layers=12).bottleneck.transformer
    wrong = nn.Sequential(*(BlockWithAScaledShortcut(block) for block in transformer.blocks))
    tokens = torch.randn(1, 5, 24, requires_grad=True)
    ours, theirs = (
        torch.autograd.grad(blocks(tokens).square().sum(), tokens)[0].norm() for blocks in (transformer.blocks, wrong)
    )
    assert ours > 1e3 * theirs


@pytest.mark.parametrize("dims", [2, 3])
def test_around_the_transformer_it_is_nnu_nets_plain_u_net(dims):
    arguments = {
        "input_channels": 2, "n_stages": 4, "features_per_stage": [4, 8, 16, 16], "kernel_sizes": 3,
        "strides": [1, 2, 2, 2], "num_classes": 3, "n_conv_per_stage_decoder": [1, 2, 3], **paper_arguments(dims),
        **NNUNET,
    }  # fmt: skip
    torch.manual_seed(0)
    plain = PlainConvUNet(n_conv_per_stage=[1, 2, 3, 2], deep_supervision=True, **arguments).eval()
    ours = TransUNet(
        n_blocks_per_stage=[1, 2, 3, 2], deep_supervision=True, hidden_size=24, num_heads=2, num_layers=1, **arguments
    ).eval()
    ours.bottleneck = nn.Identity()
    # The same convolutions in the same order; nnU-Net's have each weight under several names.
    weights = [p for part in (plain.encoder.stages, plain.decoder.transpconvs, plain.decoder.stages,
                              plain.decoder.seg_layers) for p in part.parameters()]  # fmt: skip
    parts = (ours.encoder, ours.decoder.upsamplings, ours.decoder.stages, ours.decoder.seg_layers)
    with torch.no_grad():
        for own, weight in zip((p for part in parts for p in part.parameters()), weights, strict=True):
            own.copy_(weight)
        x = torch.randn(2, 2, *(16, 32, 24)[:dims])
        for a, b in zip(ours(x), plain(x), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_a_voxel_far_away_is_seen():
    # Without norms only attention reaches from one end of this image to the other.
    network = small(norm_op=None, norm_op_kwargs=None)
    x = torch.randn(1, 2, 128, 8, requires_grad=True)
    *_, deepest = network.encoder(x)
    for bottleneck, is_seen in ((network.bottleneck, True), (nn.Identity(), False)):
        (gradient,) = torch.autograd.grad(bottleneck(deepest)[:, :, 0].sum(), x, retain_graph=True)
        assert gradient[:, :, -1].any() == is_seen


def test_the_decoder_has_the_deepest_map_from_the_transformer_alone():
    network = small()
    x = torch.randn(1, 2, 16, 16)
    with torch.no_grad():
        for parameter in network.bottleneck.proj.parameters():
            parameter.zero_()
        *skips, deepest = network.encoder(x)
        without = network.decoder([*skips, torch.zeros_like(deepest)])
        torch.testing.assert_close(network(x), without, rtol=0, atol=1e-5)


def test_the_position_embedding_is_interpolated_for_another_image():
    network = small(grid_size=(4, 2))
    embedding = network.bottleneck.transformer.position_embedding
    tokens = torch.zeros(1, 8, 4, 24)
    with torch.no_grad():
        resized = embedding(tokens)[0].movedim(-1, 0)
    expected = nn.functional.interpolate(embedding.table, size=(8, 4), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(resized, expected)


def test_the_published_network_has_the_published_number_of_parameters():
    # BraTS encoder_only.yaml of the authors: 4 channels, 6 stages, 4 classes at 128^3, and without its LayerScale.
    with torch.device("meta"):
        network = TransUNet(
            4, 6, [32, 64, 128, 256, 320, 320], kernel_sizes=3, strides=[1, *[2] * 5], n_blocks_per_stage=2,
            num_classes=4, n_conv_per_stage_decoder=2, deep_supervision=True, **paper_arguments(3) | NNUNET,
        )  # fmt: skip
    # We have biases that their heads and transposed convolutions lack.
    biases = [m.bias.numel() for part in (network.decoder.seg_layers, network.decoder.upsamplings) for m in part]
    assert sum(p.numel() for p in network.parameters()) - sum(biases) == 116_796_736
    assert sum(p.numel() for p in network.bottleneck.transformer.blocks.parameters()) == 12 * 7_087_872  # ViT-B


def test_a_plan_gives_the_grid_of_its_deepest_map_and_the_published_transformer():
    anisotropic = ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2))
    plan = Configuration((20, 256, 224), (5, 1.5, 1.5), anisotropic, windows=(), relative_width=1)
    assert TransUNet.own_arguments(plan) == {
        "hidden_size": 768, "num_heads": 12, "num_layers": 12, "grid_size": [5, 16, 14],
    }  # fmt: skip
    narrow = Configuration((64, 64), (1, 1), ((1, 1), (2, 2), (2, 2)), windows=(), relative_width=0.25)
    assert TransUNet.own_arguments(narrow) == {
        "hidden_size": 192, "num_heads": 3, "num_layers": 3, "grid_size": [16, 16],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"hidden_size": 25}, "heads"),
        ({"grid_size": (4, 4, 4)}, "grid_size needs 2"),
        ({"n_blocks_per_stage": [2, 0, 2]}, "needs a convolution"),
        ({"n_conv_per_stage_decoder": [2, 2, 2]}, "n_conv_per_stage_decoder needs 2"),
        ({"features_per_stage": [4, 8]}, "features_per_stage needs 3"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_construction(changed, complaint):
    with pytest.raises(ValueError, match=complaint):
        small(**changed)
