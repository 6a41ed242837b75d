"""Skip attention: the decoder's tokens look up the encoder's, where a U-Net concatenates.

Zhou et al., "nnFormer", IEEE TIP 2023, section III ("Skip attention"), for 2D and 3D maps. Differences from the
authors' code: see `windows` and `relative_position`; attention is fused.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.layers import DropPath, Mlp
from torch import Tensor, nn

from nnunet_transformers.networks.layers import attention
from nnunet_transformers.networks.layers.relative_position import RelativePositionBias
from nnunet_transformers.networks.layers.transformer_block import initialize_linear
from nnunet_transformers.networks.layers.windows import MapWindows


class WindowCrossAttention(nn.Module):
    """Multi-head attention from one map to another of the same size, inside windows.

    The queries are the tokens as they are: only keys and values are projected.

    Args:
        dim: channels of both maps, a multiple of num_heads.
        num_heads: heads.
        window: window size per axis; clipped to a smaller map, and a map that is no multiple of it is padded.
    """

    def __init__(self, dim: int, num_heads: int, window: Sequence[int]) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{dim} channels cannot be split into {num_heads} heads")
        self.num_heads = num_heads
        self.window = tuple(window)
        self.kv = nn.Linear(dim, 2 * dim)
        self.position_bias = RelativePositionBias(window, num_heads)
        self.proj = nn.Linear(dim, dim)
        initialize_linear(self.kv, self.proj)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """(B, *spatial, C) and the (B, *spatial, C) it attends to, to the former's size."""
        windows = MapWindows.of_map(x.shape[1:-1], self.window, (0,) * len(self.window))
        head_dim = x.shape[-1] // self.num_heads
        kv = self.kv(windows.to_windows(context)).unflatten(-1, (2, self.num_heads, head_dim))
        q = windows.to_windows(x).unflatten(-1, (1, self.num_heads, head_dim)).to(kv.dtype)
        qkv = torch.cat((q, kv), dim=2)
        out = attention.fused_in_windows(qkv, self.position_bias(windows.window), windows, head_dim**-0.5)
        return self.proj(windows.from_windows(out.flatten(2)))


class SkipAttentionBlock(nn.Module):
    """Adds to the sum of up-sampled map and skip what the former's tokens find in the latter; then an MLP.

    Args:
        dim, num_heads, window: see `WindowCrossAttention`.
        mlp_ratio: width of the MLP's hidden layer in units of dim.
        drop_path: probability of skipping each residual branch in training.
    """

    def __init__(
        self, dim: int, num_heads: int, window: Sequence[int], mlp_ratio: float = 4.0, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = WindowCrossAttention(dim, num_heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        initialize_linear(self.mlp.fc1, self.mlp.fc2)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, deep: Tensor, upsampled: Tensor, skip: Tensor) -> Tensor:
        """Two maps (B, *spatial, C) to one; the deep map, before up-sampling, has no say."""
        x = upsampled + skip + self.drop_path(self.attention(self.norm1(upsampled), self.norm1(skip)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
