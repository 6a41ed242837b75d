"""A gate on a skip connection: attention of a deep map, weighing what the skip holds.

Petit et al., "U-Net Transformer: Self and Cross Attention for Medical Image Segmentation", MLMI 2021, section 2.2
(MHCA). Queries and keys come from the deep map and values from the skip; a sigmoid makes of the result a gate between 0
and 1, up-sampled to the skip. Differences from the paper: any stride, 2D and 3D; a map of many tokens is pooled to a
budget of them first; layer norms, which see neither the batch nor the extent of the image, in place of batch norms, the
last before its linear layer; the gate starts open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from nnunet_transformers.networks.layers import attention
from nnunet_transformers.networks.layers.interpolation import resize
from nnunet_transformers.networks.layers.sine_position import sine_position_of_map
from nnunet_transformers.networks.layers.transformer_block import initialize_linear

_MAX_POOL = {4: F.max_pool2d, 5: F.max_pool3d}

_OPEN = 4.0  # sigmoid(4) = 0.98


class CrossAttentionGate(nn.Module):
    """Multi-head cross-attention (MHCA) as a gate on a skip.

    Args:
        deep_dim: channels of the deep map.
        dim: channels of the skip, a multiple of num_heads.
        num_heads: heads.
        stride: voxels of the skip in one of the deep map, per axis.
        voxel: size of the deep map's voxels per axis, in mm.
        max_tokens: largest number of tokens that attend to each other.
    """

    def __init__(
        self,
        deep_dim: int,
        dim: int,
        num_heads: int,
        stride: Sequence[int],
        voxel: Sequence[float],
        max_tokens: int,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{dim} channels cannot be split into {num_heads} heads")
        self.num_heads, self.max_tokens = num_heads, max_tokens
        self.stride, self.voxel = tuple(stride), tuple(voxel)
        self.embed_deep = nn.Sequential(nn.Linear(deep_dim, dim), nn.LayerNorm(dim), nn.ReLU())
        self.embed_skip = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim), nn.ReLU())
        self.query_key = nn.Linear(dim, 2 * dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.proj = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.gate = nn.Linear(dim, dim)
        initialize_linear(*(module for module in self.modules() if isinstance(module, nn.Linear)))
        nn.init.constant_(self.gate.bias, _OPEN)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        """The gate, (B, dim, *spatial) between 0 and 1.

        Args:
            deep: (B, deep_dim, *spatial / stride).
            skip: (B, dim, *spatial).
        """
        size = tuple(deep.shape[2:])
        factor = pooling_factor(size, self.voxel, self.max_tokens)
        skip_factor = tuple(f * s for f, s in zip(factor, self.stride, strict=True))

        y = self.embed_deep(_pool(deep, factor).movedim(1, -1))
        s = self.embed_skip(_pool(skip, skip_factor).movedim(1, -1))
        tokens = tuple(y.shape[1:-1])
        voxel = tuple(v * f for v, f in zip(self.voxel, factor, strict=True))
        position = sine_position_of_map(tokens, voxel, y.shape[-1], str(y.device)).to(y.dtype)

        q, k = self._heads(self.query_key(y + position), 2)
        (v,) = self._heads(self.value(s + position), 1)
        z = self.proj(attention.fused(q, k, v).transpose(1, 2).flatten(2))
        gate = self.gate(self.norm(z)).sigmoid().unflatten(1, tokens).movedim(-1, 1)
        gate = resize(gate, [n * f for n, f in zip(tokens, skip_factor, strict=True)])
        # The last tokens may reach beyond the map.
        for axis, (n, stride) in enumerate(zip(size, self.stride, strict=True), 2):
            gate = gate.narrow(axis, 0, n * stride)
        return gate

    def _heads(self, x: Tensor, n: int) -> tuple[Tensor, ...]:
        """(B, *spatial, n * dim) to n of (B, heads, n_tokens, head_dim)."""
        return x.flatten(1, -2).unflatten(-1, (n, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def pooling_factor(size: Sequence[int], voxel: Sequence[float], max_tokens: int) -> tuple[int, ...]:
    """By how much to pool a map so that at most max_tokens remain: axes are halved, the finest in mm first.

    Args:
        size: of the map, per axis.
        voxel: size of its voxels per axis, in mm.
        max_tokens: at least 1.

    Returns:
        Voxels per token, a power of 2 per axis; the last token of an axis may hold fewer.
    """
    factor, tokens = [1] * len(size), list(size)
    while math.prod(tokens) > max_tokens:
        # Not min(..., key=...), which torch.compile does not trace before 2.13.
        _, finest = min([(voxel[axis] * factor[axis], axis) for axis, n in enumerate(tokens) if n > 1])
        factor[finest] *= 2
        tokens[finest] = math.ceil(size[finest] / factor[finest])
    return tuple(factor)


def _pool(x: Tensor, factor: tuple[int, ...]) -> Tensor:
    """(B, C, *spatial) to (B, C, *ceil(spatial / factor)), the largest of each cell."""
    return x if math.prod(factor) == 1 else _MAX_POOL[x.ndim](x, factor, factor, ceil_mode=True)
