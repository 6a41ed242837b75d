"""Shifted-window self-attention and the Swin block around it, for 2D and 3D maps.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021, section 3.2; in 3D as
in Hatamizadeh et al., "Swin UNETR", BrainLes 2021. Differences from MONAI's version: see `windows` and
`relative_position`; attention is fused.
"""

from __future__ import annotations

from collections.abc import Sequence

from timm.layers import DropPath, Mlp
from torch import Tensor, nn

from nnunet_transformers.networks.layers import attention
from nnunet_transformers.networks.layers.relative_position import RelativePositionBias
from nnunet_transformers.networks.layers.transformer_block import initialize_linear
from nnunet_transformers.networks.layers.windows import MapWindows


class ShiftedWindowAttention(nn.Module):
    """Multi-head self-attention inside the windows of a map.

    Args:
        dim: channels, a multiple of num_heads.
        num_heads: heads.
        window: window size per axis; clipped to a smaller map, and a map that is no multiple of it is padded.
        shift: cyclic shift per axis, zero or half a window.
    """

    def __init__(self, dim: int, num_heads: int, window: Sequence[int], shift: Sequence[int]) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{dim} channels cannot be split into {num_heads} heads")
        self.num_heads = num_heads
        self.window, self.shift = tuple(window), tuple(shift)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.position_bias = RelativePositionBias(window, num_heads)
        self.proj = nn.Linear(dim, dim)
        initialize_linear(self.qkv, self.proj)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *spatial, C) to the same."""
        windows = MapWindows.of_map(x.shape[1:-1], self.window, self.shift)
        head_dim = x.shape[-1] // self.num_heads
        qkv = self.qkv(windows.to_windows(x)).unflatten(-1, (3, self.num_heads, head_dim))
        out = attention.fused_in_windows(qkv, self.position_bias(windows.window), windows, head_dim**-0.5)
        return self.proj(windows.from_windows(out.flatten(2)))


class SwinBlock(nn.Module):
    """Pre-norm window attention and MLP, each with a residual (Liu 2021, figure 3b).

    Args:
        dim, num_heads, window, shift: see `ShiftedWindowAttention`.
        mlp_ratio: width of the MLP's hidden layer in units of dim.
        drop_path: probability of skipping each residual branch in training.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window: Sequence[int],
        shift: Sequence[int],
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = ShiftedWindowAttention(dim, num_heads, window, shift)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        initialize_linear(self.mlp.fc1, self.mlp.fc2)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, *spatial, C) to the same."""
        x = x + self.drop_path(self.attention(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


def swin_blocks(
    features: Sequence[int],
    num_heads: Sequence[int],
    windows: Sequence[Sequence[int]],
    depths: Sequence[int],
    mlp_ratio: float = 4.0,
    drop_path_rate: float = 0.0,
) -> nn.ModuleList:
    """The Swin blocks of each stage, every second with windows shifted by half.

    Args:
        features, num_heads, windows, depths: width, heads, window and number of blocks of each stage.
        mlp_ratio: see `SwinBlock`.
        drop_path_rate: of the last block; it grows linearly from 0.
    """
    rates = iter(drop_path_rate * i / max(1, sum(depths) - 1) for i in range(sum(depths)))
    return nn.ModuleList(
        nn.Sequential(
            *(
                SwinBlock(width, heads, window, [w // 2 * (i % 2) for w in window], mlp_ratio, next(rates))
                for i in range(depth)
            )
        )
        for width, heads, window, depth in zip(features, num_heads, windows, depths, strict=True)
    )
