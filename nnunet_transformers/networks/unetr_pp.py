"""UNETR++: paired spatial and channel attention in every stage of a U-Net that starts at low resolution.

Shaker et al., "UNETR++: Delving into Efficient and Accurate 3D Medical Image Segmentation", IEEE Transactions on
Medical Imaging 2024, section III. The published network is the one of a plan with six stages of strides (1, 1, 1),
(1, 2, 2) and four times (2, 2, 2): a strided stem takes the image to the third stage, and full resolution is left to
convolutions. Differences from the authors' code: stages, strides and kernels are the plan's; the second stage, which
the network passes over, has logits too; see `layers.efficient_paired_attention`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dynamic_network_architectures.building_blocks.helper import get_matching_convtransp
from torch import Tensor, nn

from nnunet_transformers.networks.layers.convolution import ConvSettings, ResidualBlock
from nnunet_transformers.networks.layers.efficient_paired_attention import EPABlock
from nnunet_transformers.networks.layers.unet_decoder import Addition, UNetDecoder
from nnunet_transformers.networks.planned_network import Configuration, Paper, Plan, PlannedNetwork
from nnunet_transformers.networks.topology import Sizes, Topology, per_stage_and_axis

# The published network ends at 16 times its feature size; deeper plans keep that width.
_MAX_WIDENING = 16


class EPAEncoder(nn.Module):
    """Per stage a strided convolution, a group norm and EPA blocks.

    Args:
        input_channels: channels of the image.
        features: width of each stage.
        strides: stride into each stage, the first from the image; also the kernel.
        stages: the blocks of each stage.
        settings: the plan's.
    """

    def __init__(
        self,
        input_channels: int,
        features: Sequence[int],
        strides: Sequence[Sizes],
        stages: Iterable[nn.Module],
        settings: ConvSettings,
    ) -> None:
        super().__init__()
        # As many groups as channels come in, as published, where that leaves groups of at least two channels.
        self.downsamplings = nn.ModuleList(
            nn.Sequential(
                settings.conv_op(width_in, width, stride, stride, bias=settings.conv_bias),
                nn.GroupNorm(math.gcd(width_in, width // 2), width),
            )
            for width_in, width, stride in zip([input_channels, *features], features, strides, strict=False)
        )
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, input_channels, *spatial) to the map (B, C, *spatial) of each stage."""
        maps = []
        for downsample, stage in zip(self.downsamplings, self.stages, strict=True):
            x = stage(downsample(x))
            maps.append(x)
        return maps


class PassedOver(nn.Module):
    """Joins of a stage that the network passes over: the deep map goes on as it is."""

    def forward(self, deep: Tensor, upsampled: Tensor, skip: Tensor) -> Tensor:
        return deep


class UNETRPP(PlannedNetwork):
    """UNETR++ built from an nnU-Net plan.

    The plan's arguments are `PlannedNetwork`'s; below is what they mean here where it differs, and the network's own.

    Args:
        n_stages: resolutions, at least 2. All from the third on have EPA blocks; of three stages the last two, of two
            the last.
        features_per_stage: the plan's widths; not used, this network's widths follow from feature_size.
        n_blocks_per_stage: EPA blocks of each stage, in the encoder and again in the decoder, an int or n_stages of
            them; 3 as published. Those of stages without EPA blocks are not used.
        n_conv_per_stage_decoder: the plan's; not used.
        conv_bias, norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs: of the convolutions.
            As published: no bias; BatchNorm in the EPA blocks and InstanceNorm without affine map at full resolution;
            Dropout3d of 0.1, which stands in the EPA blocks only; LeakyReLU.
        feature_size: width at full resolution, twice that at the first EPA stage and doubled from there; twice of it is
            a multiple of num_heads.
        num_heads: heads of every EPA block.
        patch_size: voxels of the patch, per axis, that position embeddings and token projections are learnt for; a
            multiple of the total stride. Other images are accepted.
        projection_size: tokens that keys and values are projected to; at most half of a map's.
        attention_dropout: of the weights of both attentions, in training.

    Raises:
        ValueError: a stage count, width, patch or stride that cannot be.
    """

    paper = Paper(
        "Shaker, Maaz, Rasheed, Khan, Yang, Khan",
        "UNETR++: Delving into Efficient and Accurate 3D Medical Image Segmentation",
        "IEEE Transactions on Medical Imaging 2024",
        arxiv="2212.04497",
        family="interleaved",
    )

    def build(
        self,
        plan: Plan,
        *,
        feature_size: int = 16,
        num_heads: int = 4,
        patch_size: Sequence[int] = (64, 128, 128),
        projection_size: int = 64,
        attention_dropout: float = 0.15,
    ) -> None:
        self.key_to_encoder = "encoder"
        self.key_to_stem = "encoder.downsamplings.0"
        self.keys_to_in_proj = ("encoder.downsamplings.0.0",)

        topology, settings = plan.topology, plan.settings
        depths = plan.n_blocks_per_stage
        first = max(1, min(2, topology.n_stages - 2))
        attended = range(first, topology.n_stages)
        features = [feature_size] * first + [
            feature_size * min(2 ** (i + 1), _MAX_WIDENING) for i in range(len(attended))
        ]
        grids = _grids(topology, patch_size)

        def epa_blocks(stage: int) -> nn.Module:
            return nn.Sequential(
                *(
                    EPABlock(
                        features[stage],
                        num_heads,
                        grids[stage],
                        projection_size,
                        attention_dropout,
                        topology.kernel_sizes[stage],
                        settings,
                    )
                    for _ in range(depths[stage])
                )
            )

        self.encoder = EPAEncoder(
            plan.input_channels,
            features=features[first:],
            strides=[topology.stride_between(0, first), *topology.strides[first + 1 :]],
            stages=[epa_blocks(stage) for stage in attended],
            settings=settings,
        )
        self.image_block = ResidualBlock(plan.input_channels, features[0], topology.kernel_sizes[0], settings)
        self.decoder = epa_decoder(features, first, plan, epa_blocks)
        self.passes_second_stage = first == 2

    @classmethod
    def own_arguments(cls, configuration: Configuration) -> dict[str, Any]:
        # Two channels at the least for each of the four heads of the first EPA stage. nnU-Net trains without dropout.
        return {
            "n_blocks_per_stage": configuration.narrowed(3),
            "feature_size": configuration.narrowed(16, step=4),
            "patch_size": configuration.patch_size,
            "attention_dropout": 0.0,
        }

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(B, input_channels, *spatial), sizes multiples of the total stride, to logits (B, num_classes, *spatial)."""
        self.check_size(x)
        skips = [self.image_block(x), *self.encoder(x)]
        if self.passes_second_stage:
            skips.insert(1, x)  # in the place of a skip that nothing reads
        return self.decoder(skips)


def _grids(topology: Topology, patch_size: Sequence[int]) -> list[Sizes]:
    """Size of the patch's map at each stage.

    Raises:
        ValueError: the patch is no multiple of the strides.
    """
    (patch,) = per_stage_and_axis("patch_size", [patch_size], 1, topology.dims)
    total = topology.stride_between(0, topology.n_stages - 1)
    if any(n % s for n, s in zip(patch, total, strict=True)):
        raise ValueError(f"patch_size={patch} is not a multiple of the total stride {total}")
    to_stage = [topology.stride_between(0, stage) for stage in range(topology.n_stages)]
    return [tuple(n // s for n, s in zip(patch, stride, strict=True)) for stride in to_stage]


def epa_decoder(
    features: Sequence[int],
    first: int,
    plan: Plan,
    epa_blocks: Callable[[int], nn.Module],
) -> UNetDecoder:
    """Transposed convolutions, addition of the skips, EPA blocks; at full resolution a residual block.

    A stage between full resolution and the first with EPA blocks is passed over; its logits are a transposed
    convolution of the next deeper map.

    Args:
        features: width of each stage's map, full resolution first.
        first: the first stage with EPA blocks.
        plan: the constructor's.
        epa_blocks: makes the blocks of a stage.
    """
    topology, settings, num_classes = plan.topology, plan.settings, plan.num_classes
    transposed_conv = get_matching_convtransp(settings.conv_op)

    def stage(deeper: int, level: int, block: nn.Module) -> tuple[nn.Module, ...]:
        stride = topology.stride_between(level, deeper)
        return (
            transposed_conv(features[deeper], features[level], stride, stride, bias=settings.conv_bias),
            Addition(),
            block,
            settings.pointwise(features[level], num_classes, bias=True),
        )

    stages = [stage(level + 1, level, epa_blocks(level)) for level in range(topology.n_stages - 2, first - 1, -1)]
    for level in range(first - 1, 0, -1):
        stride = topology.stride_between(level, first)
        head = transposed_conv(features[first], num_classes, stride, stride)
        stages.append((nn.Identity(), PassedOver(), nn.Identity(), head))
    stages.append(stage(first, 0, ResidualBlock(features[0], features[0], topology.kernel_sizes[0], settings)))
    upsamplings, joins, blocks, seg_layers = zip(*stages, strict=True)
    return UNetDecoder(upsamplings, joins, blocks, seg_layers, plan.deep_supervision)
