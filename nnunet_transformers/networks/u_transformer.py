"""U-Transformer: a U-Net with self-attention at the bottom and cross-attention gates on its skips.

Petit et al., "U-Net Transformer: Self and Cross Attention for Medical Image Segmentation", MLMI 2021, section 2. The
U-Net is the plan's own, with its stages, strides, kernels and widths, and training starts close to it. Differences from
the paper: 3D and anisotropy; the self-attention is a residual behind a layer norm; positions are in mm; see
`layers.cross_attention_gate` for the gates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from timm.layers import trunc_normal_
from torch import Tensor, nn

from nnunet_transformers.networks.layers.cross_attention_gate import CrossAttentionGate
from nnunet_transformers.networks.layers.plain_encoder import PlainEncoder, stacked_convs
from nnunet_transformers.networks.layers.sine_position import sine_position_of_map
from nnunet_transformers.networks.layers.transformer_block import SelfAttention
from nnunet_transformers.networks.layers.unet_decoder import Concatenation, convolutional_decoder
from nnunet_transformers.networks.planned_network import Configuration, Paper, Plan, PlannedNetwork
from nnunet_transformers.networks.topology import Topology


class SelfAttentionOfMap(nn.Module):
    """Multi-head self-attention (MHSA) of all voxels of a map, normed before and added to the map.

    It starts close to doing nothing: the last layer's weights are small, and not 0, so that all layers learn at once.

    Args:
        dim: channels, a multiple of num_heads.
        num_heads: heads.
        voxel: size of the map's voxels per axis, in mm.
    """

    def __init__(self, dim: int, num_heads: int, voxel: Sequence[float]) -> None:
        super().__init__()
        self.voxel = tuple(voxel)
        self.norm = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, num_heads, qkv_bias=False)
        trunc_normal_(self.attention.proj.weight, std=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) to the same."""
        size = tuple(x.shape[2:])
        y = self.norm(x.movedim(1, -1))
        y = y + sine_position_of_map(size, self.voxel, y.shape[-1], str(y.device)).to(y.dtype)
        return x + self.attention(y.flatten(1, -2)).unflatten(1, size).movedim(-1, 1)


class GatedConcatenation(Concatenation):
    """Joins as the U-Net does, with a skip that has gone through a gate.

    Args:
        gate: (deep map, skip) to factors of the skip.
    """

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, deep: Tensor, upsampled: Tensor, skip: Tensor) -> Tensor:
        return super().forward(deep, upsampled, skip * self.gate(deep, skip))


class UTransformer(PlannedNetwork):
    """U-Transformer built from an nnU-Net plan.

    The plan's arguments are `PlannedNetwork`'s; below is what they mean here where it differs, and the network's own.

    Args:
        n_stages: resolutions, at least 2.
        features_per_stage: width of each stage, full resolution first, an int or n_stages of them.
        n_blocks_per_stage: convolutions of each stage of the encoder, an int or n_stages of them; 2 as published.
        n_conv_per_stage_decoder: convolutions of each stage of the decoder, deepest first, an int or n_stages - 1 of
            them; 2 as published.
        num_heads: heads of every attention; a stage whose width they do not divide has as many of them as do.
        max_tokens: largest number of tokens that attend to each other in a gate.
        spacing: of the voxels in mm, a number or one per axis.

    Raises:
        ValueError: a stage count, width, stride, spacing or number of heads or tokens that cannot be.
    """

    paper = Paper(
        "Petit, Thome, Rambour, Themyr, Collins, Soler",
        "U-Net Transformer: Self and Cross Attention for Medical Image Segmentation",
        "MLMI 2021",
        arxiv="2103.06104",
        family="skip and decoder",
    )

    def build(
        self,
        plan: Plan,
        *,
        num_heads: int = 8,
        max_tokens: int = 4096,
        spacing: float | Sequence[float] = 1.0,
    ) -> None:
        self.key_to_encoder = "encoder"
        self.key_to_stem = "encoder.stages.0"
        self.keys_to_in_proj = ("encoder.stages.0.0.conv",)

        if min(num_heads, max_tokens) < 1:
            raise ValueError(f"num_heads={num_heads} and max_tokens={max_tokens} must be at least 1")
        topology, settings = plan.topology, plan.settings
        features = plan.features_per_stage
        heads = [math.gcd(num_heads, width) for width in features]
        voxels = voxel_sizes(spacing, topology)

        self.encoder = PlainEncoder(plan.input_channels, features, topology, plan.n_blocks_per_stage, settings)
        self.bottleneck = SelfAttentionOfMap(features[-1], heads[-1], voxels[-1])
        gates = [
            CrossAttentionGate(
                features[i + 1], features[i], heads[i], topology.strides[i + 1], voxels[i + 1], max_tokens
            )
            for i in range(topology.n_stages - 1)
        ]
        n_convs = iter(plan.n_conv_per_stage_decoder)
        self.decoder = convolutional_decoder(
            features,
            topology,
            plan.num_classes,
            plan.deep_supervision,
            settings,
            block=lambda width_in, width, kernel: stacked_convs(next(n_convs), width_in, width, kernel, settings),
            joins=[GatedConcatenation(gate) for gate in reversed(gates)],
        )

    @classmethod
    def own_arguments(cls, configuration: Configuration) -> dict[str, Any]:
        return {"num_heads": configuration.narrowed(8), "spacing": configuration.spacing}

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(B, input_channels, *spatial), sizes multiples of the total stride, to logits (B, num_classes, *spatial)."""
        self.check_size(x)
        *skips, deepest = self.encoder(x)
        return self.decoder([*skips, self.bottleneck(deepest)])


def voxel_sizes(spacing: float | Sequence[float], topology: Topology) -> list[tuple[float, ...]]:
    """Size of the voxels of each stage's map per axis, in mm.

    Args:
        spacing: of the image's voxels in mm, a number or one per axis.
        topology: strides of the stages.

    Raises:
        ValueError: not one positive number per axis.
    """
    finest = (spacing,) * topology.dims if isinstance(spacing, (int, float)) else tuple(spacing)
    if len(finest) != topology.dims or min(finest) <= 0:
        raise ValueError(f"spacing needs {topology.dims} positive sizes in mm, got {spacing}")
    return [
        tuple(mm * stride for mm, stride in zip(finest, topology.stride_between(0, stage), strict=True))
        for stage in range(topology.n_stages)
    ]
