"""Efficient paired attention: spatial and channel attention that share queries and keys, and UNETR++'s block around it.

Shaker et al., "UNETR++: Delving into Efficient and Accurate 3D Medical Image Segmentation", IEEE Transactions on
Medical Imaging 2024, section III. Differences from the authors' code: the output of the spatial attention
keeps its tokens and channels in place; the learnt projection of the tokens, which fixes the size of the map there,
takes a map of any size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import LayerScale
from torch import Tensor, nn

from nnunet_transformers.networks.layers import attention
from nnunet_transformers.networks.layers.convolution import ConvSettings, ResidualBlock
from nnunet_transformers.networks.layers.position_embedding import LearnedPositionEmbedding
from nnunet_transformers.networks.layers.transformer_block import initialize_linear

_ADAPTIVE_AVG_POOL: dict[int, Any] = {4: F.adaptive_avg_pool2d, 5: F.adaptive_avg_pool3d}


class TokenProjection(nn.Module):
    """Learnt weighted sums of all tokens of a map (Wang et al., "Linformer", 2020, section 4).

    A map of another size is first averaged over the cells of the grid, so a sum stays one of as many tokens.

    Args:
        grid: size of the map the weights are learnt for.
        size: number of sums.
    """

    def __init__(self, grid: Sequence[int], size: int) -> None:
        super().__init__()
        self.grid = tuple(grid)
        self.linear = nn.Linear(math.prod(grid), size)
        initialize_linear(self.linear)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *spatial, C) to (B, size, C)."""
        if x.shape[1:-1] != self.grid:
            x = _ADAPTIVE_AVG_POOL[x.ndim](x.movedim(-1, 1), self.grid).movedim(1, -1)
        return self.linear.weight @ x.flatten(1, -2) + self.linear.bias[:, None]


class EfficientPairedAttention(nn.Module):
    """Attention between tokens, to few projected ones, beside attention between channels; half the output from each.

    Spatial attention is softmax(t q P(k)^T) P(v), linear in the number of tokens: P is one `TokenProjection` for keys
    and values. Channel attention is v softmax(t q^T k)^T, over the channels of a head. The queries of both and the keys
    of the second are divided by their norm over all tokens; t is a learnt temperature per head.

    Args:
        dim: channels, a multiple of num_heads.
        num_heads: heads.
        grid: size of the map the projection is learnt for.
        projection_size: tokens that keys and values are projected to; at most half of the grid's.
        dropout: of both attentions' weights, in training.

    Raises:
        ValueError: channels that cannot be split into the heads.
    """

    def __init__(
        self, dim: int, num_heads: int, grid: Sequence[int], projection_size: int = 64, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{dim} channels cannot be split into {num_heads} heads")
        self.num_heads = num_heads
        self.n_grid_tokens = math.prod(grid)
        self.dropout = nn.Dropout(dropout)
        self.qkvv = nn.Linear(dim, 4 * dim, bias=False)
        self.projection = TokenProjection(grid, max(1, min(projection_size, self.n_grid_tokens // 2)))
        self.spatial_temperature = nn.Parameter(torch.ones(num_heads))
        self.channel_temperature = nn.Parameter(torch.ones(num_heads))
        self.spatial_proj = nn.Linear(dim, dim // 2)
        self.channel_proj = nn.Linear(dim, dim - dim // 2)
        initialize_linear(self.qkvv, self.spatial_proj, self.channel_proj)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *spatial, C) to the same; the first half of the channels is the spatial attention's."""
        dim = x.shape[-1]
        qkvv = self.qkvv(x)
        projected_k, projected_v = self._heads(self.projection(qkvv[..., dim : 3 * dim]), 2)
        tokens = qkvv.flatten(1, -2)
        q, k = self._heads(_unit_norm_over_tokens(tokens[..., : 2 * dim]), 2)
        (v,) = self._heads(tokens[..., 3 * dim :], 1)
        spatial = self._spatial_attention(q, projected_k, projected_v).transpose(1, 2).flatten(2)
        channel = self._channel_attention(q, k, v).transpose(1, 2).flatten(2)
        return torch.cat((self.spatial_proj(spatial), self.channel_proj(channel)), dim=-1).view(x.shape)

    def _heads(self, x: Tensor, n: int) -> tuple[Tensor, ...]:
        """(B, n_tokens, n * C) to n of (B, heads, n_tokens, d)."""
        return x.unflatten(-1, (n, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    def _spatial_attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (B, heads, n_tokens, d), k and v (B, heads, projection_size, d), to (B, heads, n_tokens, d)."""
        # Undoes the factor 1 / sqrt(d) of the attention, and makes the norm that of the grid's number of tokens.
        scale = math.sqrt(q.shape[-1] * q.shape[-2] / self.n_grid_tokens)
        q = q * (self.spatial_temperature * scale).view(-1, 1, 1)
        if self.training and self.dropout.p:
            return F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout.p)
        return attention.fused(q, k, v)

    def _channel_attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, heads, n_tokens, d) each, to the same; the scores are (d, d), too small to gain from a fused kernel."""
        scores = (q.transpose(-2, -1) @ k) * self.channel_temperature.view(-1, 1, 1)
        weights = self.dropout(scores.softmax(dim=-1)).to(v.dtype)
        return v @ weights.transpose(-2, -1)


def _unit_norm_over_tokens(x: Tensor) -> Tensor:
    """Each channel of each sample, (B, n_tokens, C), divided by its norm; in float32, as float16 takes eps for 0."""
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=1).to(x.dtype)


class EPABlock(nn.Module):
    """Position embedding, paired attention added to its input, and a convolutional branch added to that.

    Args:
        dim, num_heads, grid, projection_size: see `EfficientPairedAttention`.
        attention_dropout: its dropout.
        kernel_size: of the convolutions, per axis.
        settings: the plan's; its dropout stands before the last convolution, and there only.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        grid: Sequence[int],
        projection_size: int,
        attention_dropout: float,
        kernel_size: Sequence[int],
        settings: ConvSettings,
    ) -> None:
        super().__init__()
        self.position_embedding = LearnedPositionEmbedding(grid, dim)
        nn.init.zeros_(self.position_embedding.table)
        self.norm = nn.LayerNorm(dim)
        self.attention = EfficientPairedAttention(dim, num_heads, grid, projection_size, attention_dropout)
        self.layer_scale = LayerScale(dim, 1e-6)
        self.convolution = ResidualBlock(dim, dim, kernel_size, replace(settings, dropout_op=None))
        self.dropout = settings.dropout()
        # A convolution of kernel 1 in the paper; He initialisation, which convolutions get, would let the maps grow
        # from block to block.
        self.pointwise = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) to the same."""
        tokens = self.position_embedding(x.movedim(1, -1))
        x = (tokens + self.layer_scale(self.attention(self.norm(tokens)))).movedim(-1, 1)
        return x + self.pointwise(self.dropout(self.convolution(x)).movedim(1, -1)).movedim(-1, 1)
