"""Patch merging: the down-sampling between the stages of a Swin Transformer.

Liu et al., "Swin Transformer", ICCV 2021, section 3.1, with the stride of the plan instead of 2 along every axis.
Difference from MONAI before 1.5: every voxel of a patch is taken once (there, two of the eight were taken twice and two
never).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from timm.layers import trunc_normal_
from torch import Tensor, nn


class PatchMerging(nn.Module):
    """Concatenates the tokens of each patch, normalises and projects them.

    Args:
        dim: channels in.
        out_dim: channels out.
        stride: patch size per axis; a map must be a multiple of it.
    """

    def __init__(self, dim: int, out_dim: int, stride: Sequence[int]) -> None:
        super().__init__()
        self.stride = tuple(stride)
        self.norm = nn.LayerNorm(dim * math.prod(stride))
        self.reduction = nn.Linear(dim * math.prod(stride), out_dim, bias=False)
        trunc_normal_(self.reduction.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *spatial, C) to (B, *spatial / stride, out_dim); a patch's tokens in raster order."""
        batch, *spatial, dim = x.shape
        n = len(spatial)
        split = [size for pair in zip(spatial, self.stride, strict=True) for size in (pair[0] // pair[1], pair[1])]
        outer, inner = range(1, 2 * n, 2), range(2, 2 * n + 1, 2)
        patches = x.view(batch, *split, dim).permute(0, *outer, *inner, 2 * n + 1).flatten(n + 1)
        return self.reduction(self.norm(patches))
