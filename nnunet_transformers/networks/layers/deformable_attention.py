"""Multi-scale deformable self-attention: every token looks at a few points, which it chooses, of each of several maps.

Zhu et al., "Deformable DETR: Deformable Transformers for End-to-End Object Detection", ICLR 2021, section 4.1; in 3D as
in Xie et al., "CoTr", MICCAI 2021, section 2.2. Differences from CoTr's code: a token looks around its own place, where
there the axes of points and of the sampler differ in order and a token at (z, y, x) looks around (y, x, z); points are
float32 under autocast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from torch import Tensor, nn

from nnunet_transformers.networks.topology import Sizes


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """Values of maps between their voxels, linearly interpolated between voxel centres and towards 0 outside.

    Args:
        maps: (N, C, *spatial), 2D or 3D.
        points: (N, n, m, dims), from 0 to 1 over the extent of the map; axes in the map's order.

    Returns:
        (N, C, n, m).
    """
    # grid_sample counts from -1 to 1 and has the coordinate of a map's last axis first.
    grid = (2 * points - 1).flip(-1)
    grid = grid.unflatten(2, (-1, *(1,) * (maps.ndim - 4)))
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False).flatten(3)


def token_centres(sizes: Sequence[Sequence[int]], device: torch.device | None = None) -> Tensor:
    """Where the tokens of maps of these sizes stand, from 0 to 1 over the maps' extent, (n_tokens, dims), float32."""
    centres = []
    for size in sizes:
        along_axes = [(torch.arange(n, device=device) + 0.5) / n for n in size]
        centres.append(torch.stack(torch.meshgrid(*along_axes, indexing="ij"), dim=-1).flatten(0, -2))
    return torch.cat(centres)


class DeformableAttention(nn.Module):
    """Multi-head attention of each token of all maps to `num_points` points of each map.

    Offsets of the points, in tokens, and their weights are linear in the token. At the start a head's points lie one to
    num_points tokens away from the token's own place, each head in its own direction, and weigh the same.

    Args:
        dim: channels, a multiple of num_heads.
        num_heads: heads.
        num_levels: maps.
        num_points: points per head and map.
        dims: axes of the maps, 2 or 3.

    Raises:
        ValueError: channels that cannot be split into the heads.
    """

    def __init__(self, dim: int, num_heads: int, num_levels: int, num_points: int, dims: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{dim} channels cannot be split into {num_heads} heads")
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        self.sampling_offsets = nn.Linear(dim, num_heads * num_levels * num_points * dims)
        self.attention_weights = nn.Linear(dim, num_heads * num_levels * num_points)
        self.value = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)
        for linear in (self.value, self.proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        for linear in (self.sampling_offsets, self.attention_weights):
            # 0 as published would give the tokens' positions no gradient in the first step.
            trunc_normal_(linear.weight, std=1e-3)
            nn.init.zeros_(linear.bias)
        steps = torch.arange(1, num_points + 1)[:, None] * _directions(num_heads, dims)[:, None, None, :]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(steps.expand(-1, num_levels, -1, -1).flatten())

    def forward(self, x: Tensor, position: Tensor, sizes: tuple[Sizes, ...]) -> Tensor:
        """(B, n_tokens, C) to the same.

        Args:
            x: the tokens of all maps one after another, those of a map in raster order.
            position: (n_tokens, C), added to the tokens where they choose points and weights.
            sizes: spatial size of each map.
        """
        queries = x + position
        # (B * heads, n_tokens, n_levels * n_points), and the same for each axis of the offsets.
        weights, offsets = (
            linear(queries).unflatten(-1, (self.num_heads, -1)).transpose(1, 2).flatten(0, 1)
            for linear in (self.attention_weights, self.sampling_offsets)
        )
        dtype = torch.promote_types(x.dtype, torch.float32)
        centres = token_centres(sizes, x.device).to(dtype)
        weights = weights.softmax(-1, dtype=dtype).unflatten(-1, (self.num_levels, self.num_points))
        offsets = offsets.to(dtype).unflatten(-1, (self.num_levels, self.num_points, -1))
        values = self.value(x).to(dtype).unflatten(-1, (self.num_heads, -1)).permute(0, 2, 3, 1).flatten(0, 1)

        out = []
        for level, tokens in enumerate(values.split([math.prod(size) for size in sizes], dim=-1)):
            steps = [o / n for o, n in zip(offsets[:, :, level].unbind(-1), sizes[level], strict=True)]
            points = centres[:, None] + torch.stack(steps, dim=-1)
            samples = sample(tokens.unflatten(-1, sizes[level]), points)
            out.append((samples * weights[:, None, :, level]).sum(-1))
        heads = sum(out[1:], out[0]).to(x.dtype)
        return self.proj(heads.unflatten(0, (-1, self.num_heads)).flatten(1, 2).transpose(1, 2))


def _directions(num_heads: int, dims: int) -> Tensor:
    """A direction for each head, (num_heads, dims), whose largest component is 1 or -1.

    In 2D those of Deformable DETR, evenly spread over the circle; in 3D those of CoTr, where both spherical angles are
    the same.
    """
    angle = torch.arange(num_heads) * (2 * math.pi / num_heads)
    components = [angle.cos() * angle.sin() ** axis for axis in range(dims - 1)] + [angle.sin() ** (dims - 1)]
    directions = torch.stack(components, dim=-1)
    return directions / directions.abs().amax(-1, keepdim=True)
