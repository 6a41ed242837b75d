"""TransUNet in 3D, encoder variant: nnU-Net's U-Net with a Vision Transformer on its deepest map.

Chen et al., "TransUNet: Transformers Make Strong Encoders for Medical Image Segmentation", arXiv 2102.04306, section 3;
in 3D Chen et al., "3D TransUNet: Advancing Medical Image Segmentation through Vision Transformers", arXiv 2310.07781,
section 3.1. Differences from the authors' code: the position embedding resizes, the residual branches of a block and
not its shortcuts carry the weights, 2D and 3D are one network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from nnunet_transformers.networks.layers.map_transformer import MapTransformer
from nnunet_transformers.networks.layers.plain_encoder import PlainEncoder, stacked_convs
from nnunet_transformers.networks.layers.unet_decoder import convolutional_decoder
from nnunet_transformers.networks.planned_network import Configuration, Paper, Plan, PlannedNetwork
from nnunet_transformers.networks.topology import PerAxis, per_stage_and_axis, total_stride

_HEAD_DIM = 64


class VisionTransformerBottleneck(nn.Module):
    """A map projected to tokens, through a Vision Transformer and back to its own width.

    Args:
        width: channels of the map.
        grid: size of the map the position embedding is learnt for.
        dim, num_heads, mlp_dim, num_layers: of the Transformer.
    """

    def __init__(
        self, width: int, grid: Sequence[int], dim: int, num_heads: int, mlp_dim: int, num_layers: int
    ) -> None:
        super().__init__()
        self.patch_embed = nn.Linear(width, dim)
        self.transformer = MapTransformer(grid, dim, num_heads, mlp_dim, num_layers, norm_eps=1e-6)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.proj = nn.Linear(dim, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, *spatial) to the same."""
        tokens = self.transformer(self.patch_embed(x.movedim(1, -1)))
        return self.proj(self.norm(tokens)).movedim(-1, 1)


class TransUNet(PlannedNetwork):
    """TransUNet built from an nnU-Net plan.

    The plan's arguments are `PlannedNetwork`'s; below is what they mean here where it differs, and the network's own.

    Args:
        n_stages: resolutions, at least 2. The tokens are the positions of the deepest map.
        features_per_stage: width of each stage, an int or n_stages of them.
        n_blocks_per_stage: convolutions of each encoder stage, an int or n_stages of them; 2 as published.
        n_conv_per_stage_decoder: convolutions of each decoder stage, deepest first, an int or n_stages - 1 of them; 2
            as published.
        conv_bias, norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs: of all convolutions.
            As published: nnU-Net's own.
        hidden_size: width of the Transformer, a multiple of num_heads.
        num_heads: heads.
        num_layers: Transformer blocks.
        mlp_ratio: width of the MLPs' hidden layer.
        grid_size: tokens of the patch, an int or one per axis; 4 as published for BraTS, at a patch of 128. Other
            images take an interpolated position embedding.

    Raises:
        ValueError: a stage count, width, grid or stride that cannot be.
    """

    paper = Paper(
        "Chen, Mei, Li, Lu, Yu, Wei, Luo, Xie, Adeli, Wang, Lungren, Xing, Lu, Yuille, Zhou",
        "3D TransUNet: Advancing Medical Image Segmentation through Vision Transformers",
        "arXiv 2023",
        arxiv="2310.07781",
        family="bottleneck",
    )

    def build(
        self,
        plan: Plan,
        *,
        hidden_size: int = 768,
        num_heads: int = 12,
        num_layers: int = 12,
        mlp_ratio: float = 4.0,
        grid_size: PerAxis = 4,
    ) -> None:
        self.key_to_encoder = "encoder"
        self.key_to_stem = "encoder.stages.0"
        self.keys_to_in_proj = ("encoder.stages.0.0.conv",)
        self.key_to_lpe = "bottleneck.transformer.position_embedding"

        topology, settings = plan.topology, plan.settings
        features = plan.features_per_stage
        n_convs = plan.n_blocks_per_stage
        n_convs_decoder = iter(plan.n_conv_per_stage_decoder)

        self.encoder = PlainEncoder(plan.input_channels, features, topology, n_convs, settings)
        self.bottleneck = VisionTransformerBottleneck(
            features[-1],
            grid=per_stage_and_axis("grid_size", [grid_size], 1, topology.dims)[0],
            dim=hidden_size,
            num_heads=num_heads,
            mlp_dim=int(hidden_size * mlp_ratio),
            num_layers=num_layers,
        )
        self.decoder = convolutional_decoder(
            features,
            topology,
            plan.num_classes,
            plan.deep_supervision,
            settings,
            lambda width_in, width, kernel: stacked_convs(next(n_convs_decoder), width_in, width, kernel, settings),
        )

    @classmethod
    def own_arguments(cls, configuration: Configuration) -> dict[str, Any]:
        heads = configuration.narrowed(12)
        stride = total_stride(configuration.strides, len(configuration.patch_size))
        return {
            "hidden_size": heads * _HEAD_DIM,
            "num_heads": heads,
            "num_layers": configuration.narrowed(12),
            "grid_size": [n // s for n, s in zip(configuration.patch_size, stride, strict=True)],
        }

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(B, input_channels, *spatial), sizes multiples of the total stride, to logits (B, num_classes, *spatial)."""
        self.check_size(x)
        *skips, deepest = self.encoder(x)
        return self.decoder([*skips, self.bottleneck(deepest)])
