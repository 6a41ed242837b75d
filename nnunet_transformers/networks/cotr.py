"""CoTr: a convolutional encoder, deformable attention over its deepest maps, and a convolutional decoder.

Xie et al., "CoTr: Efficiently Bridging CNN and Transformer for 3D Medical Image Segmentation", MICCAI 2021, section 2.
The published network is the one of a plan with five stages of strides 1, (1, 2, 2), 2, 2, 2: a convolution of kernel 7
into the second stage, residual stages, a Transformer on the tokens of the two deepest maps together, skips that are
added; nothing but the last logits at full resolution. Differences from the authors' code: stages, strides and kernels
are the plan's; see `layers.deformable_attention` for the points that tokens look at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from dynamic_network_architectures.building_blocks.helper import get_matching_convtransp
from timm.layers import Mlp
from torch import Tensor, nn

from nnunet_transformers.networks.layers.channels_last import norm, pointwise_conv, to_channels_last
from nnunet_transformers.networks.layers.convolution import ConvSettings
from nnunet_transformers.networks.layers.deformable_attention import DeformableAttention
from nnunet_transformers.networks.layers.interpolation import resize
from nnunet_transformers.networks.layers.level_position import LevelPositionEmbedding
from nnunet_transformers.networks.layers.plain_encoder import ConvBlock, ResidualConvs
from nnunet_transformers.networks.layers.unet_decoder import Addition, UNetDecoder
from nnunet_transformers.networks.planned_network import Configuration, Paper, Plan, PlannedNetwork
from nnunet_transformers.networks.topology import Sizes, Topology, per_stage

_STEM_KERNEL = 7
# Published blocks of the stages after the stem; deeper ones have those of the last.
_DEPTHS = (3, 3, 2)
# The first stage that has tokens in the published network.
_FIRST_TOKEN_STAGE = 3


class EncoderBlock(nn.Module):
    """One convolution and norm; plus the input (projected where size or width change); non-linearity.

    Args:
        in_channels, out_channels: widths.
        kernel_size, stride: of the convolution, per axis.
        settings: the plan's.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        stride: Sequence[int],
        settings: ConvSettings,
    ) -> None:
        super().__init__()
        self.conv = settings.conv(in_channels, out_channels, kernel_size, stride)
        self.dropout = settings.dropout()
        self.norm = settings.norm(out_channels)
        self.projection = None
        if in_channels != out_channels or any(s != 1 for s in stride):
            pointwise = settings.conv(in_channels, out_channels, [1] * len(stride), stride)
            self.projection = nn.ModuleDict({"conv": pointwise, "norm": settings.norm(out_channels)})
        self.nonlin = settings.nonlinearity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, *spatial) to (B, out_channels, *spatial / stride)."""
        y = norm(self.norm, self.dropout(to_channels_last(self.conv(x))))
        if self.projection is not None:
            x = norm(self.projection["norm"], to_channels_last(self.projection["conv"](x)))
        return self.nonlin(y + x)


class Encoder(nn.Module):
    """The CNN-encoder: a convolution of kernel 7, then stages of residual blocks, each stage with its stride.

    Args:
        input_channels: channels of the image.
        features: width of each map it makes, from the stem's on.
        topology: strides and kernels of the plan; the stem makes the map of the second stage.
        depths: blocks of each stage after the stem.
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
        # Where the plan does not convolve across thick slices, the stem does not either.
        stem_kernel = [1 if k == 1 else _STEM_KERNEL for k in topology.kernel_sizes[0]]
        self.stem = ConvBlock(input_channels, features[0], stem_kernel, settings, topology.strides[1])
        no_stride = (1,) * topology.dims
        self.stages = nn.ModuleList(
            nn.Sequential(
                EncoderBlock(width_in, width, kernel, stride, settings),
                *(EncoderBlock(width, width, kernel, no_stride, settings) for _ in range(depth - 1)),
            )
            for width_in, width, kernel, stride, depth in zip(
                features[:-1], features[1:], topology.kernel_sizes[2:], topology.strides[2:], depths, strict=True
            )
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, input_channels, *spatial) to the maps (B, C, *spatial) of the stem and each stage."""
        maps = [self.stem(x)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps


class DeformableBlock(nn.Module):
    """Deformable attention and MLP, each added to its input and normed after (Xie 2021, figure 1).

    Args:
        dim, num_heads, num_levels, num_points, dims: see `DeformableAttention`.
        mlp_dim: width of the MLP's hidden layer.
        dropout: of the attention's output and of both layers of the MLP.
    """

    def __init__(
        self, dim: int, num_heads: int, num_levels: int, num_points: int, dims: int, mlp_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.attention = DeformableAttention(dim, num_heads, num_levels, num_points, dims)
        self.dropout = nn.Dropout(dropout)
        self.norm1 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_dim, drop=dropout)
        self.norm2 = nn.LayerNorm(dim)
        nn.init.xavier_uniform_(self.mlp.fc1.weight)
        nn.init.xavier_uniform_(self.mlp.fc2.weight)

    def forward(self, x: Tensor, position: Tensor, sizes: tuple[Sizes, ...]) -> Tensor:
        """(B, n_tokens, C) to the same; see `DeformableAttention`."""
        x = self.norm1(x + self.dropout(self.attention(x, position, sizes)))
        return self.norm2(x + self.mlp(x))


class DeformableTransformer(nn.Module):
    """The DeTrans-encoder: deformable blocks on the tokens of several maps together.

    Args:
        num_layers: blocks.
        dim, num_heads, num_levels, num_points, dims, mlp_dim, dropout: see `DeformableBlock`.
    """

    def __init__(
        self,
        num_layers: int,
        dim: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
        dims: int,
        mlp_dim: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.position_embedding = LevelPositionEmbedding(num_levels, dim)
        self.blocks = nn.ModuleList(
            DeformableBlock(dim, num_heads, num_levels, num_points, dims, mlp_dim, dropout) for _ in range(num_layers)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """num_levels maps (B, dim, *spatial), each of its own size, to the same."""
        sizes = tuple([tuple(m.shape[2:]) for m in maps])
        x = torch.cat([m.flatten(2) for m in maps], dim=2).transpose(1, 2)
        position = self.position_embedding(sizes).to(x.dtype)
        for block in self.blocks:
            x = block(x, position, sizes)
        tokens = x.split([math.prod(size) for size in sizes], dim=1)
        return [t.unflatten(1, size).movedim(-1, 1) for t, size in zip(tokens, sizes, strict=True)]


class NoSkip(nn.Module):
    """The join of a stage without a skip."""

    def forward(self, deep: Tensor, upsampled: Tensor, skip: Tensor) -> Tensor:
        return upsampled


class UpsampledHead(nn.Module):
    """Logits of a map, up-sampled linearly.

    The authors up-sample the map and then take its logits. Interpolation and a pointwise convolution commute; the maps
    at full resolution have num_classes channels instead of the map's.

    Args:
        conv: the map to its logits; kernel 1.
        stride: up-sampling, per axis.
    """

    def __init__(self, conv: nn.Module, stride: Sequence[int]) -> None:
        super().__init__()
        self.conv, self.stride = conv, tuple(stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) to (B, num_classes, *spatial * stride)."""
        return resize(pointwise_conv(self.conv, x), [n * s for n, s in zip(x.shape[2:], self.stride, strict=True)])


class CoTr(PlannedNetwork):
    """CoTr built from an nnU-Net plan.

    The plan's arguments are `PlannedNetwork`'s; below is what they mean here where it differs, and the network's own.

    Args:
        n_stages: resolutions, at least 3. The encoder makes the maps of all but full resolution.
        features_per_stage: the plan's widths; not used, this network's widths follow from widths.
        kernel_sizes: kernel of the convolutions at each stage, an int or one per axis. The stem's is 7 along the axes
            where that of full resolution is not 1.
        n_blocks_per_stage: residual blocks of each stage, an int or n_stages of them; the first two are not used.
        n_conv_per_stage_decoder: the plan's; not used, a decoder stage is one residual block as published.
        conv_bias, norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs: of all convolutions.
            As published: no bias, InstanceNorm with affine map, LeakyReLU.
        widths: at half resolution (the stem), at the stage after it, and of all deeper stages and all tokens; the last
            is a multiple of num_heads.
        num_layers: blocks of the Transformer.
        num_heads: heads of the Transformer.
        num_levels: maps that are tokens, the deepest ones; at most n_stages - 2. They all have the last of the widths.
        num_points: points each head looks at in each map.
        mlp_ratio: width of the MLPs' hidden layer.
        dropout: of the Transformer; 0.1 as published, 0 from a plan.

    Raises:
        ValueError: a number of stages, blocks or levels, a width or a stride that cannot be.
    """

    paper = Paper(
        "Xie, Zhang, Shen, Xia",
        "CoTr: Efficiently Bridging CNN and Transformer for 3D Medical Image Segmentation",
        "MICCAI 2021",
        arxiv="2103.03024",
        family="bottleneck",
    )
    min_stages = 3

    def build(
        self,
        plan: Plan,
        *,
        widths: Sequence[int] = (64, 192, 384),
        num_layers: int = 6,
        num_heads: int = 6,
        num_levels: int = 2,
        num_points: int = 4,
        mlp_ratio: float = 4.0,
        dropout: float = 0.1,
    ) -> None:
        self.key_to_encoder = "encoder"
        self.key_to_stem = "encoder.stem"
        self.keys_to_in_proj = ("encoder.stem.conv",)

        topology, settings = plan.topology, plan.settings
        if not 1 <= num_levels <= topology.n_stages - 2:
            raise ValueError(
                f"num_levels={num_levels}; tokens come from 1 to {topology.n_stages - 2} of the deepest maps"
            )
        stem_width, middle_width, dim = per_stage("widths", widths, 3)
        # Of all maps but full resolution's.
        n_without_tokens = topology.n_stages - 1 - num_levels
        features = [stem_width, middle_width, *[dim] * n_without_tokens][:n_without_tokens] + [dim] * num_levels

        depths = plan.n_blocks_per_stage[2:]
        if min(depths) < 1:
            raise ValueError(f"each stage after the stem needs a block, n_blocks_per_stage={plan.n_blocks_per_stage}")
        self.encoder = Encoder(plan.input_channels, features, topology, depths, settings)
        self.num_levels = num_levels
        self.transformer = DeformableTransformer(
            num_layers, dim, num_heads, num_levels, num_points, topology.dims, int(dim * mlp_ratio), dropout
        )
        self.decoder = self._decoder(features, plan)

    @staticmethod
    def _decoder(features: Sequence[int], plan: Plan) -> UNetDecoder:
        """Transposed convolutions, addition of the skips, residual blocks; at full resolution logits only."""
        topology, settings = plan.topology, plan.settings
        upsample_op = get_matching_convtransp(settings.conv_op)
        # Stages whose maps the decoder makes, deepest first; features[i - 1] is the width of stage i.
        stages = range(topology.n_stages - 2, 0, -1)
        heads: list[nn.Module] = [settings.pointwise(features[i - 1], plan.num_classes, bias=True) for i in stages]
        last_head = UpsampledHead(settings.pointwise(features[0], plan.num_classes, bias=True), topology.strides[1])
        return UNetDecoder(
            upsamplings=[
                *(
                    upsample_op(
                        features[i],
                        features[i - 1],
                        topology.strides[i + 1],
                        topology.strides[i + 1],
                        bias=settings.conv_bias,
                    )
                    for i in stages
                ),
                nn.Identity(),
            ],
            joins=[*(Addition() for _ in stages), NoSkip()],
            stages=[
                *(ResidualConvs(features[i - 1], topology.kernel_sizes[i], settings) for i in stages),
                nn.Identity(),
            ],
            seg_layers=[*heads, last_head],
            deep_supervision=plan.deep_supervision,
        )

    @classmethod
    def own_arguments(cls, configuration: Configuration) -> dict[str, Any]:
        n_stages = len(configuration.strides)
        depths = [_DEPTHS[min(i, len(_DEPTHS) - 1)] for i in range(n_stages - 2)]
        return {
            "n_blocks_per_stage": [1, 1, *depths],
            # A multiple of the six heads, which a relative width of 1 leaves at 384.
            "widths": [configuration.narrowed(64), configuration.narrowed(192), configuration.narrowed(384, step=6)],
            # The published stages and all deeper ones, two at least where the plan has them.
            "num_levels": min(max(2, n_stages - _FIRST_TOKEN_STAGE), n_stages - 2),
            # nnU-Net trains without dropout.
            "dropout": 0.0,
        }

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(B, input_channels, *spatial), sizes multiples of the total stride, to logits (B, num_classes, *spatial)."""
        self.check_size(x)
        maps = self.encoder(x)
        skips, tokens = maps[: -self.num_levels], maps[-self.num_levels :]
        return self.decoder([x, *skips, *self.transformer(tokens)])
