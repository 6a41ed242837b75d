"""Swin UNETR: a Swin Transformer encoder and a residual convolutional decoder.

Hatamizadeh et al., "Swin UNETR: Swin Transformers for Semantic Segmentation of Brain Tumors in MRI Images", BrainLes
2021, section 3. The published network is the one of a plan with six stages of stride 2: patch embedding to 1/2, four
Swin stages that each run their blocks before merging, skips normalised without an affine map, the map at 1/16 handed to
the decoder as it is. Differences from MONAI's version: stages, strides and kernels are the plan's; see `layers` for
windows and position bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from nnunet_transformers.networks.layers.convolution import ConvSettings, ResidualBlock
from nnunet_transformers.networks.layers.patch_merging import PatchMerging
from nnunet_transformers.networks.layers.swin_block import swin_blocks
from nnunet_transformers.networks.layers.unet_decoder import Parts, convolutional_decoder
from nnunet_transformers.networks.planned_network import Configuration, Paper, Plan, PlannedNetwork
from nnunet_transformers.networks.topology import PerAxis, per_stage_and_axis

# The published network ends at 16 times its feature size; deeper plans keep that width.
_MAX_WIDENING = 16


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
        mlp_ratio: see `SwinBlock`.
        drop_path_rate: of the last block; it grows linearly from 0.
        convolutions: a block of each stage that runs before its Swin blocks, on (B, C, *spatial).
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
        convolutions: Sequence[nn.Module],
    ) -> None:
        super().__init__()
        self.features = tuple(features)
        self.patch_embed = conv_op(input_channels, features[0], tuple(strides[0]), tuple(strides[0]))
        self.convolutions = nn.ModuleList(convolutions)
        self.stages = swin_blocks(features[:-1], num_heads, windows, depths, mlp_ratio, drop_path_rate)
        self.merges = nn.ModuleList(
            PatchMerging(features[i], features[i + 1], stride) for i, stride in enumerate(strides[1:])
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, input_channels, *spatial) to the normalised maps (B, C, *spatial) of the embedding and each merging."""
        x = self.patch_embed(x).movedim(1, -1).contiguous()
        maps = [x]
        for convolution, stage, merge in zip(self.convolutions, self.stages, self.merges, strict=True):
            x = merge(stage(convolution(x.movedim(-1, 1)).movedim(1, -1)))
            maps.append(x)
        return [F.layer_norm(m, m.shape[-1:]).movedim(-1, 1) for m in maps]


class SwinUNETR(PlannedNetwork):
    """Swin UNETR built from an nnU-Net plan.

    The plan's arguments are `PlannedNetwork`'s; below is what they mean here where it differs, and the network's own.

    Args:
        n_stages: resolutions, at least 3; n_stages - 2 of them have Swin blocks: all but full resolution and
            the deepest.
        features_per_stage: the plan's widths; not used, this network's widths follow from feature_size.
        n_blocks_per_stage: Swin blocks of each stage, an int or n_stages of them; the first and the last are not used.
        n_conv_per_stage_decoder: the plan's; not used, a decoder stage is one residual block as published.
        conv_bias, norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs: of all convolutions.
            As published: no bias, InstanceNorm without affine map, LeakyReLU.
        feature_size: width at full and half resolution, doubled from stage to stage; a multiple of num_heads.
        num_heads: heads of the first Swin stage; a head keeps its width as the stages widen.
        window_sizes: window of the Swin stages: an int, or for each of them one size per axis. 7 as published; from
            a plan, windows that divide the maps of its patch.
        mlp_ratio: width of the MLPs' hidden layer.
        drop_path_rate: stochastic depth of the last Swin block; it grows linearly from 0.

    Raises:
        ValueError: a stage count, width, window or stride that cannot be.
    """

    paper = Paper(
        "Hatamizadeh, Nath, Tang, Yang, Roth, Xu",
        "Swin UNETR: Swin Transformers for Semantic Segmentation of Brain Tumors in MRI Images",
        "BrainLes 2021",
        arxiv="2201.01266",
        family="encoder",
    )
    min_stages = 3

    def build(
        self,
        plan: Plan,
        *,
        feature_size: int = 48,
        num_heads: int = 3,
        window_sizes: int | Sequence[PerAxis] = 7,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        self.key_to_encoder = "encoder"
        self.key_to_stem = "encoder.patch_embed"
        self.keys_to_in_proj = ("encoder.patch_embed",)

        if feature_size % num_heads:
            raise ValueError(f"feature_size={feature_size} is not a multiple of num_heads={num_heads}")
        topology, settings = plan.topology, plan.settings
        widening = [1] + [min(2**i, _MAX_WIDENING) for i in range(topology.n_stages - 1)]
        features = [feature_size * factor for factor in widening]

        self.encoder = SwinEncoder(
            plan.input_channels,
            features=features[1:],
            strides=topology.strides[1:],
            windows=per_stage_and_axis("window_sizes", window_sizes, topology.n_stages - 2, topology.dims),
            depths=plan.n_blocks_per_stage[1:-1],
            num_heads=[num_heads * factor for factor in widening[1:-1]],
            conv_op=settings.conv_op,
            mlp_ratio=mlp_ratio,
            drop_path_rate=drop_path_rate,
            convolutions=[
                self.stage_convolution(width, kernel, settings)
                for width, kernel in zip(features[1:-1], topology.kernel_sizes[1:-1], strict=True)
            ],
        )
        # The decoder takes the image and the encoder's maps through a residual block each, all but the last skip.
        self.skip_blocks = nn.ModuleList(
            nn.Identity() if stage == topology.n_stages - 2 else ResidualBlock(width_in, width, kernel, settings)
            for stage, (width_in, width, kernel) in enumerate(
                zip([plan.input_channels, *features[1:]], features, topology.kernel_sizes, strict=True)
            )
        )
        self.decoder = convolutional_decoder(
            features,
            topology,
            plan.num_classes,
            plan.deep_supervision,
            settings,
            partial(ResidualBlock, settings=settings),
            joins=[Parts() for _ in features[1:]],
        )

    @staticmethod
    def stage_convolution(width: int, kernel_size: Sequence[int], settings: ConvSettings) -> nn.Module:
        """What runs before the Swin blocks of a stage: nothing in this network."""
        return nn.Identity()

    @classmethod
    def own_arguments(cls, configuration: Configuration) -> dict[str, Any]:
        # Four channels at the least for each of the three heads of the first stage.
        return {"feature_size": configuration.narrowed(48, step=12), "window_sizes": configuration.windows[1:-1]}

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(B, input_channels, *spatial), sizes multiples of the total stride, to logits (B, num_classes, *spatial)."""
        self.check_size(x)
        maps = [x, *self.encoder(x)]
        return self.decoder([block(m) for block, m in zip(self.skip_blocks, maps, strict=True)])
