"""nnFormer: Swin blocks between convolutions that change resolution, and attention in the place of skip connections.

Zhou et al., "nnFormer: Volumetric Medical Image Segmentation via a 3D Transformer", IEEE TIP 2023, section III. The
published network is the one of a plan with six stages of stride 2: a convolutional embedding to 1/4, four Swin stages
at 1/4 to 1/32, three decoder stages back to 1/4, logits by a transposed convolution from there. Differences from the
authors' code: stages, strides and kernels are the plan's; a head for each scale of the plan's deep supervision; see
`layers` for windows and position bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dynamic_network_architectures.building_blocks.helper import get_matching_convtransp
from torch import Tensor, nn

from nnunet_transformers.networks.layers.skip_attention import SkipAttentionBlock
from nnunet_transformers.networks.layers.swin_block import SwinBlock, swin_blocks
from nnunet_transformers.networks.layers.unet_decoder import UNetDecoder
from nnunet_transformers.networks.planned_network import Configuration, Paper, Plan, PlannedNetwork
from nnunet_transformers.networks.topology import PerAxis, Topology, per_stage_and_axis

# The published network ends at 8 times the embedding's width; deeper plans keep that width.
_MAX_WIDENING = 8


class TokenConv(nn.Module):
    """A convolution of a map whose channels come last."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """(B, *spatial, C) to (B, *spatial', C')."""
        return self.conv(x.movedim(-1, 1)).movedim(1, -1)


def convolution(
    conv_op: type[nn.Module],
    in_channels: int,
    out_channels: int,
    kernel_size: Sequence[int],
    stride: int | Sequence[int],
) -> TokenConv:
    """A convolution that makes a map smaller by its stride."""
    return TokenConv(conv_op(in_channels, out_channels, kernel_size, stride, [(k - 1) // 2 for k in kernel_size]))


def embedding(
    conv_op: type[nn.Module],
    input_channels: int,
    dim: int,
    kernel_sizes: Sequence[Sequence[int]],
    strides: Sequence[Sequence[int]],
) -> nn.Sequential:
    """Image to tokens: per stride two convolutions, each with GELU and layer norm, the last without GELU.

    Args:
        conv_op: torch.nn.Conv2d or Conv3d.
        input_channels: channels of the image, (B, *spatial, input_channels).
        dim: width of the tokens; half of it after the first of two strides.
        kernel_sizes, strides: one or two, per axis.
    """
    widths = [input_channels, *[dim // 2] * (len(strides) - 1), dim]
    layers: list[nn.Module] = []
    for width_in, width, kernel_size, stride in zip(widths, widths[1:], kernel_sizes, strides, strict=False):
        layers += [convolution(conv_op, width_in, width, kernel_size, stride), nn.GELU(), nn.LayerNorm(width)]
        layers += [convolution(conv_op, width, width, kernel_size, 1), nn.GELU(), nn.LayerNorm(width)]
    del layers[-2]
    return nn.Sequential(*layers)


class NNFormerEncoder(nn.Module):
    """Per stage a down-sampling, of which the first is the embedding, and Swin blocks.

    Args:
        input_channels: channels of the image.
        features: width of each Swin stage.
        topology: the plan's stages; the last ones are the Swin stages.
        windows: window of each Swin stage, per axis.
        depths: Swin blocks of each stage.
        num_heads: heads of each stage.
        conv_op: torch.nn.Conv2d or Conv3d.
        mlp_ratio: see `SwinBlock`.
        drop_path_rate: of the last block; it grows linearly from 0.
    """

    def __init__(
        self,
        input_channels: int,
        features: Sequence[int],
        topology: Topology,
        windows: Sequence[Sequence[int]],
        depths: Sequence[int],
        num_heads: Sequence[int],
        conv_op: type[nn.Module],
        mlp_ratio: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        first = topology.n_stages - len(features)
        kernel_sizes, strides = topology.kernel_sizes, topology.strides
        self.downsamplings = nn.ModuleList(
            [embedding(conv_op, input_channels, features[0], kernel_sizes[1 : first + 1], strides[1 : first + 1])]
        )
        for width_in, width, kernel_size, stride in zip(
            features[:-1], features[1:], kernel_sizes[first + 1 :], strides[first + 1 :], strict=True
        ):
            self.downsamplings.append(
                nn.Sequential(
                    nn.GELU(), nn.LayerNorm(width_in), convolution(conv_op, width_in, width, kernel_size, stride)
                )
            )
        self.stages = swin_blocks(features, num_heads, windows, depths, mlp_ratio, drop_path_rate)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in features)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, input_channels, *spatial) to the normalised maps (B, *spatial, C) of the stages."""
        x = x.movedim(1, -1)
        maps = []
        for downsample, stage, norm in zip(self.downsamplings, self.stages, self.norms, strict=True):
            x = stage(downsample(x))
            maps.append(norm(x))
        return maps


class NNFormerDecoder(UNetDecoder):
    """Per stage, deepest first: up-sampling, skip attention, shifted Swin blocks; a head for each scale of the plan.

    The head of full resolution is a transposed convolution of the finest map, that of a coarser scale one of the map
    as many stages deeper, or of the deepest map the decoder makes.

    Args:
        features, topology, windows, depths, num_heads, conv_op, mlp_ratio, drop_path_rate: those of the encoder; a
            stage has as many blocks as the encoder's, the skip attention counted.
        num_classes: segmentation channels.
        deep_supervision: return the logits of every scale.
    """

    def __init__(
        self,
        features: Sequence[int],
        topology: Topology,
        windows: Sequence[Sequence[int]],
        depths: Sequence[int],
        num_heads: Sequence[int],
        conv_op: type[nn.Module],
        mlp_ratio: float,
        drop_path_rate: float,
        num_classes: int,
        deep_supervision: bool,
    ) -> None:
        first, deepest = topology.n_stages - len(features), topology.n_stages - 2
        transposed_conv = get_matching_convtransp(conv_op)
        n_blocks = sum(depths[:-1])
        rates = iter(drop_path_rate * i / max(1, n_blocks - 1) for i in range(n_blocks))
        upsamplings, joins, stages = [], [], []
        for i in reversed(range(len(features) - 1)):
            width, heads, window, stride = features[i], num_heads[i], windows[i], topology.strides[first + i + 1]
            upsamplings.append(
                nn.Sequential(
                    nn.LayerNorm(features[i + 1]), TokenConv(transposed_conv(features[i + 1], width, stride, stride))
                )
            )
            joins.append(SkipAttentionBlock(width, heads, window, mlp_ratio, next(rates)))
            shift = [w // 2 for w in window]
            stages.append(
                nn.Sequential(
                    *(SwinBlock(width, heads, window, shift, mlp_ratio, next(rates)) for _ in range(depths[i] - 1))
                )
            )
        seg_layers = []
        for scale in range(deepest, -1, -1):
            source = min(scale + first, deepest)
            stride = topology.stride_between(scale, source)
            seg_layers.append(transposed_conv(features[source - first], num_classes, stride, stride))
        super().__init__(upsamplings, joins, stages, seg_layers, deep_supervision)

    def forward(self, skips: Sequence[Tensor]) -> Tensor | list[Tensor]:
        """The encoder's maps (B, *spatial, C), finest first, to logits (B, num_classes, *spatial).

        With deep supervision a list, full resolution first, one entry per scale.
        """
        x = skips[-1]
        maps = []
        for upsample, join, stage, skip in zip(self.upsamplings, self.joins, self.stages, skips[-2::-1], strict=True):
            x = stage(join(x, upsample(x), skip))
            maps.append(x.movedim(-1, 1))
        if not self.deep_supervision:
            return self.seg_layers[-1](maps[-1])
        sources = maps[:1] * (len(self.seg_layers) - len(maps)) + maps
        return [head(m) for head, m in zip(self.seg_layers, sources, strict=True)][::-1]


class NNFormer(PlannedNetwork):
    """nnFormer built from an nnU-Net plan.

    The plan's arguments are `PlannedNetwork`'s; below is what they mean here where it differs, and the network's own.

    Args:
        n_stages: resolutions, at least 3; all but the first two (of three: all but the first) have Swin blocks.
        features_per_stage: the plan's widths; not used, this network's widths follow from embed_dim.
        n_blocks_per_stage: Swin blocks of each stage, an int or n_stages of them, at least 1; those above the first
            Swin stage are not used. A decoder stage has as many, of which the first is the skip attention.
        n_conv_per_stage_decoder: the plan's; not used.
        conv_bias, norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs: the plan's; not used,
            the convolutions between Swin stages have bias, GELU and layer norm as published.
        embed_dim: width of the first Swin stage, doubled from stage to stage up to 8 times; a multiple of num_heads.
            As published for brain tumours; 192 for abdominal organs.
        num_heads: heads of the first Swin stage; a head keeps its width as the stages widen. As published for brain
            tumours; 6 for abdominal organs.
        window_sizes: window of the Swin stages: an int, or for each of them an int or one size per axis. As published
            for four Swin stages; from a plan, windows that divide the maps of its patch.
        mlp_ratio: width of the MLPs' hidden layer.
        drop_path_rate: stochastic depth of the last block of the encoder and of the decoder; it grows linearly from 0
            in each. As in the authors' code; from a plan 0.

    Raises:
        ValueError: a stage count, depth, width, window or stride that cannot be.
    """

    paper = Paper(
        "Zhou, Guo, Zhang, Han, Yu, Wang, Yu",
        "nnFormer: Volumetric Medical Image Segmentation via a 3D Transformer",
        "IEEE Transactions on Image Processing 32, 2023",
        arxiv="2109.03201",
        family="interleaved",
    )
    min_stages = 3

    def build(
        self,
        plan: Plan,
        *,
        embed_dim: int = 96,
        num_heads: int = 3,
        window_sizes: int | Sequence[PerAxis] = (4, 4, 8, 4),
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.2,
    ) -> None:
        self.key_to_encoder = "encoder"
        self.key_to_stem = "encoder.downsamplings.0"
        self.keys_to_in_proj = ("encoder.downsamplings.0.0.conv",)

        topology, conv_op = plan.topology, plan.settings.conv_op
        first = _first_swin_stage(topology.n_stages)
        depths = plan.n_blocks_per_stage[first:]
        if min(depths) < 1:
            raise ValueError(f"each Swin stage needs a block, got n_blocks_per_stage={plan.n_blocks_per_stage}")
        widening = [min(2**i, _MAX_WIDENING) for i in range(topology.n_stages - first)]
        features = [embed_dim * factor for factor in widening]
        heads = [num_heads * factor for factor in widening]
        windows = per_stage_and_axis("window_sizes", window_sizes, topology.n_stages - first, topology.dims)

        self.encoder = NNFormerEncoder(
            plan.input_channels, features, topology, windows, depths, heads, conv_op, mlp_ratio, drop_path_rate
        )
        self.decoder = NNFormerDecoder(
            features, topology, windows, depths, heads, conv_op, mlp_ratio, drop_path_rate,
            num_classes=plan.num_classes, deep_supervision=plan.deep_supervision,
        )  # fmt: skip

    @classmethod
    def own_arguments(cls, configuration: Configuration) -> dict[str, Any]:
        return {
            # Four channels at the least for each of the three heads of the first stage.
            "embed_dim": configuration.narrowed(96, step=12),
            "window_sizes": configuration.windows[_first_swin_stage(len(configuration.windows)) :],
            "drop_path_rate": 0.0,  # nnU-Net trains without dropout
        }

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(B, input_channels, *spatial), sizes multiples of the total stride, to logits (B, num_classes, *spatial)."""
        self.check_size(x)
        return self.decoder(self.encoder(x))


def _first_swin_stage(n_stages: int) -> int:
    """Stage the embedding leads to: 2 as published, 1 where only two stages are left below full resolution."""
    return min(2, n_stages - 2)
