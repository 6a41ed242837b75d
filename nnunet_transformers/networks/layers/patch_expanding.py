"""Patch expanding: the up-sampling between the stages of Swin-Unet, without convolution or interpolation.

Cao et al., "Swin-Unet: Unet-like Pure Transformer for Medical Image Segmentation", ECCV Workshops 2022, section 3.5,
with the stride of the plan instead of 2 (or 4, at the end) along every axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from nnunet_transformers.networks.layers.transformer_block import initialize_linear


class PatchExpanding(nn.Module):
    """Projects each token to a patch of finer tokens and normalises these.

    Args:
        dim: channels in.
        out_dim: channels out.
        stride: patch size per axis.
    """

    def __init__(self, dim: int, out_dim: int, stride: Sequence[int]) -> None:
        super().__init__()
        self.stride = tuple(stride)
        self.expansion = nn.Linear(dim, out_dim * math.prod(stride), bias=False)
        self.norm = nn.LayerNorm(out_dim)
        initialize_linear(self.expansion)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *spatial, dim) to (B, *spatial * stride, out_dim); a patch's tokens in raster order."""
        batch, *spatial, _ = x.shape
        n = len(spatial)
        patches = self.expansion(x).unflatten(-1, (*self.stride, -1))
        interleaved = [axis for i in range(1, n + 1) for axis in (i, n + i)]
        sizes = [size * s for size, s in zip(spatial, self.stride, strict=True)]
        return self.norm(patches.permute(0, *interleaved, 2 * n + 1).reshape(batch, *sizes, -1))
