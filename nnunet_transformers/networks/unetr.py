"""UNETR: a Vision Transformer on large patches of the image, and a residual convolutional decoder.

Hatamizadeh et al., "UNETR: Transformers for 3D Medical Image Segmentation", WACV 2022, section 3. The published network
is the one of a plan with five stages of stride 2: tokens of 16^3 voxels, and the outputs of three of the Transformer's
blocks up-sampled to skips at 1/8, 1/4 and 1/2. Differences from MONAI's version: patch, stages, strides and kernels are
the plan's; the position embedding resizes to any image.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from dynamic_network_architectures.building_blocks.helper import get_matching_convtransp
from torch import Tensor, nn

from nnunet_transformers.networks.layers.convolution import ConvSettings, ResidualBlock
from nnunet_transformers.networks.layers.position_embedding import LearnedPositionEmbedding
from nnunet_transformers.networks.layers.transformer_block import TransformerBlock
from nnunet_transformers.networks.layers.unet_decoder import Parts, convolutional_decoder
from nnunet_transformers.networks.planned_network import Configuration, Paper, Plan, PlannedNetwork
from nnunet_transformers.networks.topology import PerAxis, Sizes, Topology, per_stage_and_axis, total_stride

_PUBLISHED_PATCH = 16
_HEAD_DIM = 64


def token_stage(strides: Sequence[Sizes]) -> int:
    """The stage whose map the tokens are: the deepest with patches of at most 16 voxels along every axis.

    Never finer than the last but one, so that deep supervision has a map for every stage, and never full resolution.
    """
    deepest = len(strides) - 1
    fits = max(total_stride(strides, len(strides[0]))) <= _PUBLISHED_PATCH
    return deepest if fits else max(1, deepest - 1)


class VisionTransformer(nn.Module):
    """Patch embedding, position embedding, Transformer blocks, norm (Dosovitskiy et al., ICLR 2021).

    Args:
        input_channels: channels of the image.
        dim, num_heads, mlp_dim: of the blocks; their queries, keys and values have no bias.
        depth: blocks.
        patch_size: voxels of a token, per axis.
        grid: tokens of the patch the position embedding is made for, per axis.
        conv_op: convolution of the patch embedding.
        drop_path_rate: of the last block; it grows linearly from 0.
        taps: blocks, counted from 1, whose outputs are returned too.
    """

    def __init__(
        self,
        input_channels: int,
        dim: int,
        num_heads: int,
        mlp_dim: int,
        depth: int,
        patch_size: Sizes,
        grid: Sizes,
        conv_op: type[nn.Module],
        drop_path_rate: float,
        taps: Sequence[int],
    ) -> None:
        super().__init__()
        self.taps = tuple(taps)
        self.patch_embed = conv_op(input_channels, dim, patch_size, patch_size)
        self.position_embedding = LearnedPositionEmbedding(grid, dim)
        self.blocks = nn.ModuleList(
            TransformerBlock(dim, num_heads, mlp_dim, qkv_bias=False, drop_path=drop_path_rate * i / max(1, depth - 1))
            for i in range(depth)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, input_channels, *spatial) to maps (B, dim, *grid): of the taps, then the normed output."""
        x = self.position_embedding(self.patch_embed(x).movedim(1, -1))
        grid = x.shape[1:-1]
        x = x.flatten(1, -2)
        maps = []
        for number, block in enumerate(self.blocks, 1):  # torch 2.4 does not trace start=1
            x = block(x)
            if number in self.taps:
                maps.append(x)
        return [tokens.unflatten(1, grid).movedim(-1, 1) for tokens in [*maps, self.norm(x)]]


class UNETR(PlannedNetwork):
    """UNETR built from an nnU-Net plan.

    The plan's arguments are `PlannedNetwork`'s; below is what they mean here where it differs, and the network's own.

    Args:
        n_stages: resolutions, at least 2. Tokens are the map of the deepest, or of the last but one where its patches
            are larger than 16 voxels (`token_stage`).
        features_per_stage: the plan's widths; not used, the decoder's widths follow from feature_size.
        n_blocks_per_stage: the plan's; not used, the Transformer's depth is num_layers.
        n_conv_per_stage_decoder: the plan's; not used, a decoder stage is one residual block as published.
        conv_bias, norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs: of all convolutions.
            As published: no bias, InstanceNorm without affine map, LeakyReLU.
        feature_size: width at full resolution, doubled from stage to stage.
        hidden_size: width of the Transformer, a multiple of num_heads.
        num_heads: heads.
        num_layers: Transformer blocks.
        mlp_ratio: width of the MLPs' hidden layer.
        grid_size: tokens of the patch, an int or one per axis; 6 as published, at a patch of 96. Other images take an
            interpolated position embedding.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.

    Raises:
        ValueError: a stage count, width, grid or stride that cannot be.
    """

    paper = Paper(
        "Hatamizadeh, Tang, Nath, Yang, Myronenko, Landman, Roth, Xu",
        "UNETR: Transformers for 3D Medical Image Segmentation",
        "WACV 2022",
        arxiv="2103.10504",
        family="encoder",
    )

    def build(
        self,
        plan: Plan,
        *,
        feature_size: int = 16,
        hidden_size: int = 768,
        num_heads: int = 12,
        num_layers: int = 12,
        mlp_ratio: float = 4.0,
        grid_size: PerAxis = 6,
        drop_path_rate: float = 0.0,
    ) -> None:
        self.key_to_encoder = "encoder"
        self.key_to_stem = "encoder.patch_embed"
        self.keys_to_in_proj = ("encoder.patch_embed",)
        self.key_to_lpe = "encoder.position_embedding"

        topology, settings = plan.topology, plan.settings
        deepest = token_stage(topology.strides)
        if num_layers < deepest:
            raise ValueError(f"{deepest - 1} skips and the bottleneck need {deepest} layers, num_layers={num_layers}")
        features = [feature_size * 2**stage for stage in range(deepest)]

        self.encoder = VisionTransformer(
            plan.input_channels,
            dim=hidden_size,
            num_heads=num_heads,
            mlp_dim=int(hidden_size * mlp_ratio),
            depth=num_layers,
            patch_size=topology.stride_between(0, deepest),
            grid=per_stage_and_axis("grid_size", [grid_size], 1, topology.dims)[0],
            conv_op=settings.conv_op,
            drop_path_rate=drop_path_rate,
            # Blocks 4, 7 and 10 in the published network: its code counts from 0 where the paper says 3, 6 and 9.
            taps=[stage * num_layers // deepest + 1 for stage in range(1, deepest)],
        )
        self.skip_blocks = nn.ModuleList(
            [
                ResidualBlock(plan.input_channels, features[0], topology.kernel_sizes[0], settings),
                *(_upsampled_tap(stage, deepest, hidden_size, features[stage], topology, settings)
                  for stage in range(1, deepest)),
                nn.Identity(),
            ]
        )  # fmt: skip
        self.decoder = convolutional_decoder(
            [*features, hidden_size],
            topology.until(deepest),
            plan.num_classes,
            plan.deep_supervision,
            settings,
            partial(ResidualBlock, settings=settings),
            joins=[Parts() for _ in features],
            head_of_deepest=deepest < topology.n_stages - 1,
        )

    @classmethod
    def own_arguments(cls, configuration: Configuration) -> dict[str, Any]:
        strides = configuration.strides
        patch = total_stride(strides[: token_stage(strides) + 1], len(strides[0]))
        heads = configuration.narrowed(12)
        return {
            "feature_size": configuration.narrowed(16, step=4),
            "hidden_size": heads * _HEAD_DIM,
            "num_heads": heads,
            "grid_size": [n // p for n, p in zip(configuration.patch_size, patch, strict=True)],
        }

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(B, input_channels, *spatial), sizes multiples of the total stride, to logits (B, num_classes, *spatial)."""
        self.check_size(x)
        maps = [x, *self.encoder(x)]
        return self.decoder([block(m) for block, m in zip(self.skip_blocks, maps, strict=True)])


def _upsampled_tap(
    stage: int, deepest: int, hidden_size: int, width: int, topology: Topology, settings: ConvSettings
) -> nn.Sequential:
    """From a map of tokens to the skip of a stage: a transposed convolution, then one and a residual block per stage.

    The blue and green blocks of the paper's figure 2.
    """
    upsample_op = get_matching_convtransp(settings.conv_op)
    layers: list[nn.Module] = []
    for level in range(deepest, stage, -1):
        stride = topology.strides[level]
        layers.append(upsample_op(hidden_size, width, stride, stride, bias=settings.conv_bias))
        if level < deepest:
            layers.append(ResidualBlock(width, width, topology.kernel_sizes[level - 1], settings))
        hidden_size = width
    return nn.Sequential(*layers)
