"""Swin UNETR: a Swin Transformer encoder and a residual convolutional decoder.

Hatamizadeh et al., "Swin UNETR: Swin Transformers for Semantic Segmentation of Brain Tumors in MRI Images", BrainLes
2021, section 3. The published network is the one of a plan with six stages of stride 2: patch embedding to 1/2, four
Swin stages that each run their blocks before merging, skips normalised without an affine map, the map at 1/16 handed to
the decoder as it is. Differences from MONAI's version: stages, strides and kernels are the plan's; see `layers` for
windows and position bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from dynamic_network_architectures.architectures.abstract_arch import AbstractDynamicNetworkArchitectures
from dynamic_network_architectures.building_blocks.helper import convert_conv_op_to_dim
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import Tensor, nn

from nnunet_transformers.networks.layers.convolution import ConvSettings, ResidualBlock
from nnunet_transformers.networks.layers.patch_merging import PatchMerging
from nnunet_transformers.networks.layers.residual_decoder import ResidualDecoder
from nnunet_transformers.networks.layers.swin_block import SwinBlock

# The published network ends at 16 times its feature size; deeper plans keep that width.
_MAX_WIDENING = 16

PerAxis = int | Sequence[int]


class SwinEncoder(nn.Module):
    """Patch embedding, then per stage Swin blocks and patch merging.

    Args:
        input_channels: channels of the image.
        features: width of each map it makes: the embedding's, then one per merging.
        strides: patch size of the embedding, then stride of each merging, per axis.
        windows: window of each stage, per axis.
        depths: Swin blocks of each stage.
        num_heads: heads of each stage.
        conv_op: convolution of the embedding.
        mlp_ratio, fused_attention: see `SwinBlock`.
        drop_path_rate: of the last block; it grows linearly from 0.
    """

    def __init__(
        self,
        input_channels: int,
        features: Sequence[int],
        strides: Sequence[Sequence[int]],
        windows: Sequence[Sequence[int]],
        depths: Sequence[int],
        num_heads: Sequence[int],
        conv_op: type[nn.Module],
        mlp_ratio: float,
        drop_path_rate: float,
        fused_attention: bool,
    ) -> None:
        super().__init__()
        self.features, self.depths, self.mlp_ratio = tuple(features), tuple(depths), mlp_ratio
        self.strides = tuple(tuple(stride) for stride in strides)
        self.patch_embed = conv_op(input_channels, features[0], self.strides[0], self.strides[0])
        rates = iter(drop_path_rate * i / max(1, sum(depths) - 1) for i in range(sum(depths)))
        self.stages, self.merges = nn.ModuleList(), nn.ModuleList()
        for i, (window, depth, heads) in enumerate(zip(windows, depths, num_heads, strict=True)):
            shifts = ([0] * len(window), [w // 2 for w in window])
            self.stages.append(
                nn.Sequential(
                    *(
                        SwinBlock(features[i], heads, window, shifts[j % 2], mlp_ratio, next(rates), fused_attention)
                        for j in range(depth)
                    )
                )
            )
            self.merges.append(PatchMerging(features[i], features[i + 1], self.strides[i + 1]))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, input_channels, *spatial) to the normalised maps (B, C, *spatial) of the embedding and each merging."""
        x = self.patch_embed(x).movedim(1, -1).contiguous()
        maps = [x]
        for stage, merge in zip(self.stages, self.merges, strict=True):
            x = merge(stage(x))
            maps.append(x)
        return [F.layer_norm(m, m.shape[-1:]).movedim(-1, 1) for m in maps]

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> float:
        """Elements kept for the backward pass by one sample of this spatial size, with fused attention."""
        sizes = [tuple(input_size)]
        for stride in self.strides:
            sizes.append(tuple(n // s for n, s in zip(sizes[-1], stride, strict=True)))
        elements = [width * math.prod(size) for width, size in zip(self.features, sizes[1:], strict=True)]
        # A block keeps two norms, q, k, v, the attention's output, its projection and two sums, and the MLP twice.
        blocks = sum(depth * n for depth, n in zip(self.depths, elements[:-1], strict=True))
        return blocks * (9 + 2 * self.mlp_ratio) + 2 * sum(elements)


class SwinUNETR(AbstractDynamicNetworkArchitectures):
    """Swin UNETR built from an nnU-Net plan.

    The first arguments are those of dynamic-network-architectures' `ResidualEncoderUNet` and come from the plan.

    Args:
        input_channels: channels of the image.
        n_stages: resolutions, at least 3; n_stages - 2 of them have Swin blocks: all but full resolution and the
        deepest.
        features_per_stage: the plan's widths; not used, this network's widths follow from feature_size.
        conv_op: torch.nn.Conv2d or Conv3d.
        kernel_sizes: kernel of the convolutions at each stage, an int or one per axis.
        strides: stride into each stage, an int or one per axis; the first is 1.
        n_blocks_per_stage: Swin blocks of each stage, an int or n_stages of them; the first and the last are not used.
        num_classes: segmentation channels.
        n_conv_per_stage_decoder: the plan's; not used, a decoder stage is one residual block as published.
        conv_bias, norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs: of all convolutions.
            As published: no bias, InstanceNorm without affine map, LeakyReLU.
        deep_supervision: return the logits of every decoder stage, full resolution first.
        feature_size: width at full and half resolution, doubled from stage to stage; a multiple of num_heads.
        num_heads: heads of the first Swin stage; a head keeps its width as the stages widen.
        window_sizes: window of the Swin stages: an int, or for each of them one size per axis. 7 as published; a
        planner
            chooses windows that divide the maps of its patch.
        mlp_ratio: width of the MLPs' hidden layer.
        drop_path_rate: stochastic depth of the last Swin block; it grows linearly from 0.
        fused_attention: False writes the attention out, for tests.

    Raises:
        ValueError: a stage count, width, window or stride that cannot be.
    """

    def __init__(
        self,
        input_channels: int,
        n_stages: int,
        features_per_stage: int | Sequence[int],
        conv_op: type[nn.Module],
        kernel_sizes: int | Sequence[PerAxis],
        strides: int | Sequence[PerAxis],
        n_blocks_per_stage: int | Sequence[int],
        num_classes: int,
        n_conv_per_stage_decoder: int | Sequence[int],
        conv_bias: bool = False,
        norm_op: type[nn.Module] | None = None,
        norm_op_kwargs: dict[str, Any] | None = None,
        dropout_op: type[nn.Module] | None = None,
        dropout_op_kwargs: dict[str, Any] | None = None,
        nonlin: type[nn.Module] | None = None,
        nonlin_kwargs: dict[str, Any] | None = None,
        deep_supervision: bool = False,
        *,
        feature_size: int = 48,
        num_heads: int = 3,
        window_sizes: int | Sequence[PerAxis] = 7,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        fused_attention: bool = True,
    ) -> None:
        super().__init__()
        self.key_to_encoder = "encoder"
        self.key_to_stem = "encoder.patch_embed"
        self.keys_to_in_proj = ("encoder.patch_embed",)

        if n_stages < 3:
            raise ValueError(f"Swin UNETR needs at least 3 resolutions, the plan has n_stages={n_stages}")
        if feature_size % num_heads:
            raise ValueError(f"feature_size={feature_size} is not a multiple of num_heads={num_heads}")
        dims = convert_conv_op_to_dim(conv_op)
        strides = _per_stage_and_axis("strides", strides, n_stages, dims)
        kernels = _per_stage_and_axis("kernel_sizes", kernel_sizes, n_stages, dims)
        windows = _per_stage_and_axis("window_sizes", window_sizes, n_stages - 2, dims)
        depths = _per_stage("n_blocks_per_stage", n_blocks_per_stage, n_stages)[1:-1]
        if any(s != 1 for s in strides[0]):
            raise ValueError(f"the first stage is full resolution, the plan gives it stride {strides[0]}")
        widening = [1] + [min(2**i, _MAX_WIDENING) for i in range(n_stages - 1)]
        features = [feature_size * factor for factor in widening]
        settings = ConvSettings(
            conv_op=conv_op,
            conv_bias=conv_bias,
            norm_op=norm_op,
            norm_op_kwargs=norm_op_kwargs or {},
            dropout_op=dropout_op,
            dropout_op_kwargs=dropout_op_kwargs or {},
            nonlin=nonlin,
            nonlin_kwargs=nonlin_kwargs or {},
        )

        self.strides = strides
        self.encoder = SwinEncoder(
            input_channels,
            features=features[1:],
            strides=strides[1:],
            windows=windows,
            depths=depths,
            num_heads=[num_heads * factor for factor in widening[1:-1]],
            conv_op=conv_op,
            mlp_ratio=mlp_ratio,
            drop_path_rate=drop_path_rate,
            fused_attention=fused_attention,
        )
        # The decoder takes the image and the encoder's maps through a residual block each, all but the last skip.
        self.skip_blocks = nn.ModuleList(
            nn.Identity() if stage == n_stages - 2 else ResidualBlock(width_in, width, kernel, settings)
            for stage, (width_in, width, kernel) in enumerate(
                zip([input_channels, *features[1:]], features, kernels, strict=True)
            )
        )
        self.decoder = ResidualDecoder(features, strides, kernels, num_classes, deep_supervision, settings)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(B, input_channels, *spatial), sizes multiples of the total stride, to logits (B, num_classes, *spatial)."""
        maps = [x, *self.encoder(x)]
        return self.decoder([block(m) for block, m in zip(self.skip_blocks, maps, strict=True)])

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> float:
        """Elements of the feature maps of one sample of this spatial size: the planner's measure of GPU memory."""
        total = self.encoder.compute_conv_feature_map_size(input_size)
        total += self.decoder.compute_conv_feature_map_size(input_size)
        size = tuple(input_size)
        for stride, block in zip(self.strides, self.skip_blocks, strict=True):
            size = tuple(n // s for n, s in zip(size, stride, strict=True))
            if isinstance(block, ResidualBlock):
                total += block.compute_conv_feature_map_size(size)
        return total

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """He initialisation of a convolution, as nnU-Net's; linear layers have theirs from construction."""
        InitWeights_He(1e-2)(module)


def _per_stage(name: str, value: int | Sequence[Any], n_stages: int) -> list[Any]:
    values = [value] * n_stages if isinstance(value, int) else list(value)
    if len(values) != n_stages:
        raise ValueError(f"{name} needs {n_stages} entries, got {len(values)}: {values}")
    return values


def _per_stage_and_axis(name: str, value: int | Sequence[PerAxis], n_stages: int, dims: int) -> list[tuple[int, ...]]:
    sizes = [(v,) * dims if isinstance(v, int) else tuple(v) for v in _per_stage(name, value, n_stages)]
    if any(len(size) != dims or min(size) < 1 for size in sizes):
        raise ValueError(f"{name} needs {dims} positive sizes per stage, got {sizes}")
    return sizes
