"""Swin-Unet: a U-Net of Swin Transformer blocks only, encoder and decoder.

Cao et al., "Swin-Unet: Unet-like Pure Transformer for Medical Image Segmentation", ECCV Workshops 2022, section 3. The
published network is the one of a 2D plan with six stages of stride 2: tokens from patches of 4, Swin stages at 1/4,
1/8, 1/16 and the bottleneck at 1/32, patch merging down and patch expanding up, skips concatenated and projected, and
one expansion by 4 to full resolution at the end. Differences from the authors' code: 3D as well as 2D; stages and
strides are the plan's; images of any size; deep supervision; windows that cover their map along one axis are still
shifted along the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_transformers.networks.layers.channels_last import pointwise_conv
from nnunet_transformers.networks.layers.patch_expanding import PatchExpanding
from nnunet_transformers.networks.layers.patch_merging import PatchMerging
from nnunet_transformers.networks.layers.swin_block import swin_blocks
from nnunet_transformers.networks.layers.transformer_block import initialize_linear
from nnunet_transformers.networks.layers.unet_decoder import UNetDecoder
from nnunet_transformers.networks.planned_network import Configuration, Paper, Plan, PlannedNetwork
from nnunet_transformers.networks.topology import PerAxis, per_stage_and_axis

# The published network ends at 8 times its first width; deeper plans keep that width.
_MAX_WIDENING = 8


def _first_token_stage(n_stages: int) -> int:
    """The stage whose strides make up the patch size: 1/4, or 1/2 where a plan has too few stages for a bottleneck."""
    return min(2, n_stages - 2)


class SwinUnetEncoder(nn.Module):
    """Patch embedding, Swin stages with patch merging between them; the last stage is the bottleneck.

    Args:
        patch_embed: strided convolution of the image, to the first stage's width.
        stages: Swin blocks of each stage.
        merges: patch merging after each stage but the last.
        features: width of each stage.
    """

    def __init__(
        self, patch_embed: nn.Module, stages: nn.ModuleList, merges: Iterable[nn.Module], features: Sequence[int]
    ) -> None:
        super().__init__()
        self.patch_embed = patch_embed
        self.patch_norm = nn.LayerNorm(features[0])
        self.stages = stages
        self.merges = nn.ModuleList(merges)
        self.norm = nn.LayerNorm(features[-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, input_channels, *spatial) to maps (B, *spatial, C): what enters each stage but the last, and what leaves
        the last."""
        x = self.patch_norm(self.patch_embed(x).movedim(1, -1).contiguous())
        skips = []
        for stage, merge in zip(self.stages[:-1], self.merges, strict=True):
            skips.append(x)
            x = merge(stage(x))
        return [*skips, self.norm(self.stages[-1](x))]


class ProjectedConcatenation(nn.Module):
    """Joins two maps of `dim` channels by a linear projection of their concatenation, the up-sampled map first."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.projection = nn.Linear(2 * dim, dim)
        initialize_linear(self.projection)

    def forward(self, deep: Tensor, upsampled: Tensor, skip: Tensor) -> Tensor:
        """(B, *spatial, dim) each, to the same."""
        return self.projection(torch.cat((upsampled, skip), dim=-1))


class SwinUnetDecoder(UNetDecoder):
    """A U-Net decoder of maps (B, *spatial, C) that ends at the patch embedding's resolution, and from there one
    expansion to each finer stage.

    Args:
        upsamplings, joins, stages, deep_supervision: see `UNetDecoder`; stages as far as there are tokens.
        norms: of each stage's map, before its head; the last also before the expansions.
        expansions: of the last map to each finer stage, full resolution last.
        seg_layers: convolutions of kernel 1 to the logits of each stage, then of each expansion.
    """

    def __init__(
        self,
        upsamplings: Iterable[nn.Module],
        joins: Iterable[nn.Module],
        stages: Iterable[nn.Module],
        norms: Iterable[nn.Module],
        expansions: Iterable[nn.Module],
        seg_layers: Iterable[nn.Module],
        deep_supervision: bool,
    ) -> None:
        super().__init__(upsamplings, joins, stages, seg_layers, deep_supervision)
        self.norms = nn.ModuleList(norms)
        self.expansions = nn.ModuleList(expansions)

    def forward(self, skips: Sequence[Tensor]) -> Tensor | list[Tensor]:
        """Maps of the encoder, (B, *spatial, C), finest first, to logits (B, num_classes, *spatial).

        With deep supervision a list, full resolution first.
        """
        x = skips[-1]
        maps = []
        for upsample, join, stage, skip in zip(self.upsamplings, self.joins, self.stages, skips[-2::-1], strict=True):
            x = stage(join(x, upsample(x), skip))
            maps.append(x)
        if not self.deep_supervision:
            return self._logits(self.seg_layers[-1], self.expansions[-1](self.norms[-1](x)))
        maps = [norm(m) for norm, m in zip(self.norms, maps, strict=True)]
        maps += [expand(maps[-1]) for expand in self.expansions]
        return [self._logits(head, m) for head, m in zip(self.seg_layers, maps, strict=True)][::-1]

    def only_for_deep_supervision(self) -> list[nn.Parameter]:
        skipped = (*self.norms[:-1], *self.expansions[:-1])
        return [*super().only_for_deep_supervision(), *(p for module in skipped for p in module.parameters())]

    @staticmethod
    def _logits(head: nn.Module, x: Tensor) -> Tensor:
        return pointwise_conv(head, x.movedim(-1, 1))


class SwinUnet(PlannedNetwork):
    """Swin-Unet built from an nnU-Net plan.

    The plan's arguments are `PlannedNetwork`'s; below is what they mean here where it differs, and the network's own.

    Args:
        n_stages: resolutions, at least 3. All but the two finest have Swin blocks, the deepest is the bottleneck; a
            plan of three has them at the second, too.
        features_per_stage: the plan's widths; not used, this network's widths follow from embed_dim.
        kernel_sizes: the plan's; not used, a patch is as large as its stride.
        n_blocks_per_stage: Swin blocks of each stage of the encoder and of the decoder, an int or n_stages of them;
            stages without tokens have none. 2 as published.
        n_conv_per_stage_decoder: the plan's; not used, the decoder mirrors the encoder.
        conv_bias, norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs: the plan's; not used,
            there is no convolution block.
        embed_dim: width of the first tokens, doubled from stage to stage; a multiple of num_heads.
        num_heads: heads of the first Swin stage; a head keeps its width as the stages widen.
        window_sizes: window of the Swin stages: an int, or for each of them one size per axis. 7 as published; from
            a plan, windows that divide the maps of its patch.
        mlp_ratio: width of the MLPs' hidden layer.
        drop_path_rate: stochastic depth of the bottleneck's last block; it grows linearly from 0 along the encoder,
            and a block of the decoder has the rate of its twin in the encoder. From a plan 0.

    Raises:
        ValueError: a stage count, width, window or stride that cannot be.
    """

    paper = Paper(
        "Cao, Wang, Chen, Jiang, Zhang, Tian, Wang",
        "Swin-Unet: Unet-like Pure Transformer for Medical Image Segmentation",
        "ECCV Workshops 2022",
        arxiv="2105.05537",
        family="pure",
    )
    min_stages = 3

    def build(
        self,
        plan: Plan,
        *,
        embed_dim: int = 96,
        num_heads: int = 3,
        window_sizes: int | Sequence[PerAxis] = 7,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.2,
    ) -> None:
        self.key_to_encoder = "encoder"
        self.key_to_stem = "encoder.patch_embed"
        self.keys_to_in_proj = ("encoder.patch_embed",)

        if embed_dim % num_heads:
            raise ValueError(f"embed_dim={embed_dim} is not a multiple of num_heads={num_heads}")
        topology, settings = plan.topology, plan.settings
        first = _first_token_stage(topology.n_stages)
        patch_size = topology.stride_between(0, first)
        merge_strides = topology.strides[first + 1 :]
        widening = [min(2**i, _MAX_WIDENING) for i in range(topology.n_stages - first)]
        features = [embed_dim * factor for factor in widening]
        heads = [num_heads * factor for factor in widening]
        windows = per_stage_and_axis("window_sizes", window_sizes, topology.n_stages - first, topology.dims)
        depths = plan.n_blocks_per_stage[first:]

        self.encoder = SwinUnetEncoder(
            patch_embed=settings.conv_op(plan.input_channels, embed_dim, patch_size, patch_size),
            stages=swin_blocks(features, heads, windows, depths, mlp_ratio, drop_path_rate),
            merges=[PatchMerging(features[i], features[i + 1], stride) for i, stride in enumerate(merge_strides)],
            features=features,
        )
        twin_rate = drop_path_rate * max(0, sum(depths[:-1]) - 1) / max(1, sum(depths) - 1)
        stages = swin_blocks(features[:-1], heads[:-1], windows[:-1], depths[:-1], mlp_ratio, twin_rate)
        levels = range(len(features) - 2, -1, -1)
        self.decoder = SwinUnetDecoder(
            upsamplings=[PatchExpanding(features[i + 1], features[i], merge_strides[i]) for i in levels],
            joins=[ProjectedConcatenation(features[i]) for i in levels],
            stages=[stages[i] for i in levels],
            norms=[nn.LayerNorm(features[i]) for i in levels],
            expansions=[
                PatchExpanding(embed_dim, embed_dim, topology.stride_between(stage, first))
                for stage in range(first - 1, -1, -1)
            ],
            seg_layers=[
                settings.pointwise(width, plan.num_classes, bias=False)
                for width in [*(features[i] for i in levels), *[embed_dim] * first]
            ],
            deep_supervision=plan.deep_supervision,
        )

    @classmethod
    def own_arguments(cls, configuration: Configuration) -> dict[str, Any]:
        # Four channels at the least for each of the three heads of the first stage.
        return {
            "embed_dim": configuration.narrowed(96, step=12),
            "window_sizes": configuration.windows[_first_token_stage(len(configuration.strides)) :],
            "drop_path_rate": 0.0,  # nnU-Net trains without dropout
        }

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(B, input_channels, *spatial), sizes multiples of the total stride, to logits (B, num_classes, *spatial)."""
        self.check_size(x)
        return self.decoder(self.encoder(x))
