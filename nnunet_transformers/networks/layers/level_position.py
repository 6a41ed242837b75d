"""Where a token stands in one of several maps: sines of its coordinates, and a learnt vector of the map.

Zhu et al., "Deformable DETR", ICLR 2021, section 4.1 ("scale-level embedding"); sines of coordinates that run from 0
to 2 pi along each axis as in Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, and in 3D as in
Xie et al., "CoTr", MICCAI 2021, section 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunet_transformers.networks.layers.sine_position import with_doubles
from nnunet_transformers.networks.topology import Sizes

_TEMPERATURE = 10000.0


def sine_encoding(size: Sequence[int], dim: int, device: torch.device | None = None) -> Tensor:
    """Sines and cosines in turn of the coordinate along each axis at falling frequencies.

    Each axis has the same part of the channels, the first also what is left over. A frequency serves as many channels
    in a row as there are axes: in 2D a sine and a cosine; in 3D, as in CoTr's code, every third repeats another.

    Args:
        size: of the map.
        dim: channels.
        device: where it is made; not every device has float64.

    Returns:
        (*size, dim), float64.
    """
    dims = len(size)
    encodings = []
    for axis, n in enumerate(size):
        width = dim // dims + (dim % dims if axis == 0 else 0)
        channel = torch.arange(width, device=device)
        frequency = _TEMPERATURE ** -(dims * (channel // dims).double() / width)
        angle = 2 * math.pi * (torch.arange(n, dtype=torch.float64, device=device)[:, None] + 0.5) / n * frequency
        encoding = torch.where(channel % 2 == 1, angle.cos(), angle.sin())
        shape = [n if a == axis else 1 for a in range(dims)]
        encodings.append(encoding.view(*shape, width).expand(*size, width))
    return torch.cat(encodings, dim=-1)


class LevelPositionEmbedding(nn.Module):
    """The position of every token of several maps.

    Args:
        num_levels: maps.
        dim: channels.
    """

    def __init__(self, num_levels: int, dim: int) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.randn(num_levels, dim))

    def forward(self, sizes: tuple[Sizes, ...]) -> Tensor:
        """(n_tokens, C) for maps of these sizes, one map after another, the tokens of a map in raster order."""
        dim, device = self.levels.shape[1], self.levels.device
        encodings = [sine_encoding(size, dim, with_doubles(device)).flatten(0, -2) for size in sizes]
        return torch.cat([e.to(device, torch.float32) + level for e, level in zip(encodings, self.levels, strict=True)])
