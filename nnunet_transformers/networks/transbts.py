"""TransBTS: a convolutional U-Net with a Transformer on its map at 1/8.

Wang et al., "TransBTS: Multimodal Brain Tumor Segmentation Using Transformer", MICCAI 2021, section 2. The published
network is the one of a plan with four stages of stride 2 and a patch of 128^3. Differences from the authors' code:
logits instead of probabilities, no dropout in inference, a position embedding that resizes, no layer without effect;
stages, strides and kernels are the plan's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dynamic_network_architectures.building_blocks.helper import get_matching_convtransp, get_matching_pool_op
from torch import Tensor, nn

from nnunet_transformers.networks.layers.channels_last import norm, pointwise_conv, to_channels_last
from nnunet_transformers.networks.layers.convolution import ConvSettings
from nnunet_transformers.networks.layers.map_transformer import MapTransformer
from nnunet_transformers.networks.layers.plain_encoder import ResidualConvs, stacked_convs
from nnunet_transformers.networks.layers.unet_decoder import Concatenation, UNetDecoder
from nnunet_transformers.networks.planned_network import Configuration, Paper, Plan, PlannedNetwork
from nnunet_transformers.networks.topology import PerAxis, Sizes, Topology, per_stage_and_axis, total_stride

_PUBLISHED_PATCH = 8
# Four times the published 16^3; the time of attention grows with the square.
_MAX_TOKENS = 4 * 16**3
# The published network widens 8 times on its way to 1/8; deeper stages keep that width.
_MAX_WIDENING = 8


def choose_token_stage(patch_size: Sizes, strides: Sequence[Sizes]) -> int:
    """The stage of a plan whose map the tokens are.

    The deepest with a total stride of at most 8 along every axis, but not full resolution; from there on the first
    where the patch has at most 16384 tokens.
    """
    stages = range(1, len(strides))
    patches = {stage: total_stride(strides[: stage + 1], len(patch_size)) for stage in stages}
    n_tokens = {s: math.prod(n // p for n, p in zip(patch_size, patches[s], strict=True)) for s in stages}
    finest = max((stage for stage in stages if max(patches[stage]) <= _PUBLISHED_PATCH), default=1)
    return next((stage for stage in stages if stage >= finest and n_tokens[stage] <= _MAX_TOKENS), stages[-1])


class PreActivationBlock(nn.Module):
    """Twice norm, non-linearity, convolution; plus the input (He et al., ECCV 2016, figure 4e).

    Args:
        width: channels.
        kernel_size: of both convolutions, per axis.
        settings: the plan's.
    """

    def __init__(self, width: int, kernel_size: Sequence[int], settings: ConvSettings) -> None:
        super().__init__()
        self.norm1 = settings.norm(width)
        self.nonlin1 = settings.nonlinearity()
        self.conv1 = settings.conv(width, width, kernel_size)
        self.dropout = settings.dropout()
        self.norm2 = settings.norm(width)
        self.nonlin2 = settings.nonlinearity()
        self.conv2 = settings.conv(width, width, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, *spatial) to the same."""
        y = self.dropout(self.conv1(norm(self.norm1, x, self.nonlin1)))
        return x + self.conv2(norm(self.norm2, y, self.nonlin2))


class ConvolutionalEncoder(nn.Module):
    """A convolution at full resolution, then per stage a strided convolution and pre-activation blocks.

    Args:
        input_channels: channels of the image.
        features: width of each stage, full resolution first.
        topology: its stages.
        depths: blocks of each stage.
        settings: the plan's.
    """

    def __init__(
        self,
        input_channels: int,
        features: Sequence[int],
        topology: Topology,
        depths: Sequence[int],
        settings: ConvSettings,
    ) -> None:
        super().__init__()
        self.stem = settings.conv(input_channels, features[0], topology.kernel_sizes[0])
        self.downsamplings = nn.ModuleList(
            settings.conv(features[i], features[i + 1], topology.kernel_sizes[i + 1], topology.strides[i + 1])
            for i in range(topology.n_stages - 1)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(PreActivationBlock(width, kernel, settings) for _ in range(depth)))
            for width, kernel, depth in zip(features, topology.kernel_sizes, depths, strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, input_channels, *spatial) to the map (B, C, *spatial) of each stage, full resolution first."""
        maps = [self.stages[0](to_channels_last(self.stem(x)))]
        for downsample, stage in zip(self.downsamplings, self.stages[1:], strict=True):
            maps.append(stage(downsample(maps[-1])))
        return maps


class TransformerBottleneck(nn.Module):
    """A convolution to the width of the tokens, the Transformer, convolutions back to the width of the map.

    Args:
        width: channels of the map.
        kernel_size: of the convolutions, per axis.
        settings: the plan's.
        transformer: of (B, *spatial, C).
        dim: its channels C.
    """

    def __init__(
        self, width: int, kernel_size: Sequence[int], settings: ConvSettings, transformer: MapTransformer, dim: int
    ) -> None:
        super().__init__()
        self.norm = settings.norm(width)
        self.nonlin = settings.nonlinearity()
        self.embed = settings.conv(width, dim, kernel_size)
        self.transformer = transformer
        self.feature_mapping = nn.Sequential(
            stacked_convs(2, dim, width, kernel_size, settings), ResidualConvs(width, kernel_size, settings)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, *spatial) to the same."""
        x = self.embed(norm(self.norm, x, self.nonlin))
        return self.feature_mapping(self.transformer(x.movedim(1, -1)).movedim(-1, 1))


class NarrowAndUpsample(nn.Module):
    """A convolution of kernel 1 to the width of the finer stage, then a transposed convolution to its size.

    Args:
        in_channels, out_channels: widths of the deep and the finer stage.
        stride: between them, per axis.
        settings: the plan's.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: Sizes, settings: ConvSettings) -> None:
        super().__init__()
        self.narrow = settings.pointwise(in_channels, out_channels, bias=settings.conv_bias)
        upsample_op = get_matching_convtransp(settings.conv_op)
        self.upsample = upsample_op(out_channels, out_channels, stride, stride, bias=settings.conv_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, *spatial) to (B, out_channels, *spatial * stride)."""
        return self.upsample(pointwise_conv(self.narrow, x))


class DecoderStage(nn.Module):
    """A convolution of kernel 1 that halves the joined maps' width, then `ResidualConvs`.

    Args:
        width: channels out.
        kernel_size, settings: see `PreActivationBlock`.
    """

    def __init__(self, width: int, kernel_size: Sequence[int], settings: ConvSettings) -> None:
        super().__init__()
        self.fuse = settings.pointwise(2 * width, width, bias=settings.conv_bias)
        self.convs = ResidualConvs(width, kernel_size, settings)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2 * width, *spatial) to (B, width, *spatial)."""
        return self.convs(pointwise_conv(self.fuse, x))


class OnlySkip(nn.Module):
    """Joins by taking the skip as it is."""

    def forward(self, deep: Tensor, upsampled: Tensor, skip: Tensor) -> Tensor:
        return skip


class TransBTS(PlannedNetwork):
    """TransBTS built from an nnU-Net plan.

    The plan's arguments are `PlannedNetwork`'s; below is what they mean here where it differs, and the network's own.

    Args:
        n_stages: resolutions, at least 2. Those below token_stage have no layers but the heads of deep supervision, on
            means of the map there.
        features_per_stage: the plan's widths; not used, this network's widths follow from feature_size.
        n_blocks_per_stage: blocks of each encoder stage, an int or n_stages of them; 1, 2, 2, 4 as published; those
            below token_stage are not used.
        n_conv_per_stage_decoder: the plan's; not used, a decoder stage has two convolutions as published.
        conv_bias, norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs: of all convolutions.
            As published: bias, GroupNorm of 8 groups in the encoder and BatchNorm after it, ReLU.
        feature_size: width at full resolution, doubled from stage to stage up to 8 times.
        hidden_size: width of the Transformer, a multiple of num_heads.
        num_heads: heads.
        num_layers: Transformer blocks.
        mlp_ratio: width of the MLPs' hidden layer.
        token_stage: stage whose positions are the tokens.
        grid_size: tokens of the patch, an int or one per axis; 16 as published, at a patch of 128. Other images take
            an interpolated position embedding.

    Raises:
        ValueError: a stage count, token stage, width, grid or stride that cannot be, or no norm_op.
    """

    paper = Paper(
        "Wang, Chen, Ding, Yu, Zha, Li",
        "TransBTS: Multimodal Brain Tumor Segmentation Using Transformer",
        "MICCAI 2021",
        arxiv="2103.04430",
        family="bottleneck",
    )

    def build(
        self,
        plan: Plan,
        *,
        feature_size: int = 16,
        hidden_size: int = 512,
        num_heads: int = 8,
        num_layers: int = 4,
        mlp_ratio: float = 8.0,
        token_stage: int = 3,
        grid_size: PerAxis = 16,
    ) -> None:
        self.key_to_encoder = "encoder"
        self.key_to_stem = "encoder.stem"
        self.keys_to_in_proj = ("encoder.stem",)
        self.key_to_lpe = "bottleneck.transformer.position_embedding"

        topology, settings = plan.topology, plan.settings
        if not 1 <= token_stage < topology.n_stages:
            raise ValueError(f"token_stage={token_stage} is none of the stages 1 to {topology.n_stages - 1}")
        if settings.norm_op is None:
            raise ValueError("norm_op is None, and a pre-activation block begins with a norm")
        features = [feature_size * min(2**stage, _MAX_WIDENING) for stage in range(token_stage + 1)]

        self.encoder = ConvolutionalEncoder(
            plan.input_channels,
            features,
            topology.until(token_stage),
            plan.n_blocks_per_stage[: token_stage + 1],
            settings,
        )
        self.bottleneck = TransformerBottleneck(
            features[-1],
            topology.kernel_sizes[token_stage],
            settings,
            MapTransformer(
                per_stage_and_axis("grid_size", [grid_size], 1, topology.dims)[0],
                dim=hidden_size,
                num_heads=num_heads,
                mlp_dim=int(hidden_size * mlp_ratio),
                num_layers=num_layers,
                qkv_bias=False,
            ),
            dim=hidden_size,
        )
        pool_op = get_matching_pool_op(settings.conv_op, pool_type="avg")
        self.pools = nn.ModuleList(pool_op(stride, stride) for stride in topology.strides[token_stage + 1 :])
        # A stage from the tokens down, but the deepest of the plan, has a head and nothing else.
        only_heads = range(topology.n_stages - 2, token_stage - 1, -1)
        levels = range(token_stage - 1, -1, -1)
        self.decoder = UNetDecoder(
            upsamplings=[
                *(nn.Identity() for _ in only_heads),
                *(NarrowAndUpsample(features[i + 1], features[i], topology.strides[i + 1], settings) for i in levels),
            ],
            joins=[*(OnlySkip() for _ in only_heads), *(Concatenation() for _ in levels)],
            stages=[
                *(nn.Identity() for _ in only_heads),
                *(DecoderStage(features[i], topology.kernel_sizes[i], settings) for i in levels),
            ],
            seg_layers=[
                *(settings.pointwise(features[-1], plan.num_classes, bias=True) for _ in only_heads),
                *(settings.pointwise(features[i], plan.num_classes, bias=True) for i in levels),
            ],
            deep_supervision=plan.deep_supervision,
        )

    @classmethod
    def own_arguments(cls, configuration: Configuration) -> dict[str, Any]:
        strides, patch_size = configuration.strides, configuration.patch_size
        token_stage = choose_token_stage(patch_size, strides)
        patch = total_stride(strides[: token_stage + 1], len(patch_size))
        return {
            "n_blocks_per_stage": [1, *[2] * (token_stage - 1), 4, *[0] * (len(strides) - token_stage - 1)],
            "feature_size": configuration.narrowed(16, step=4),
            "hidden_size": configuration.narrowed(512, step=64),
            "token_stage": token_stage,
            "grid_size": [n // p for n, p in zip(patch_size, patch, strict=True)],
        }

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(B, input_channels, *spatial), sizes multiples of the total stride, to logits (B, num_classes, *spatial)."""
        self.check_size(x)
        *skips, deep = self.encoder(x)
        maps = [*skips, self.bottleneck(deep)]
        for pool in self.pools:
            maps.append(pool(maps[-1]))
        return self.decoder(maps)
