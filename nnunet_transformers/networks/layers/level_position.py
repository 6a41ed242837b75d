"""Where a token stands in one of several maps: sines of its coordinates, and a learnt vector of the map.

Zhu et al., "Deformable DETR", ICLR 2021, section 4.1 ("scale-level embedding"); sines of coordinates that run from 0
to 2 pi along each axis as in Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, and in 3D as in
Xie et al., "CoTr", MICCAI 2021, section 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from nnunet_transformers.networks.layers.made_once import made_once
from nnunet_transformers.networks.topology import Sizes

_TEMPERATURE = 10000.0


def sine_encoding(size: Sequence[int], dim: int) -> np.ndarray:
    """Sines and cosines in turn of the coordinate along each axis at falling frequencies.

    Each axis has the same part of the channels, the first also what is left over. A frequency serves as many channels
    in a row as there are axes: in 2D a sine and a cosine; in 3D, as in CoTr's code, every third repeats another.

    Args:
        size: of the map.
        dim: channels.

    Returns:
        (*size, dim).
    """
    dims = len(size)
    encodings = []
    for axis, n in enumerate(size):
        width = dim // dims + (dim % dims if axis == 0 else 0)
        channel = np.arange(width)
        frequency = _TEMPERATURE ** -(dims * (channel // dims) / width)
        angle = 2 * math.pi * (np.arange(n)[:, None] + 0.5) / n * frequency
        encoding = np.where(channel % 2, np.cos(angle), np.sin(angle))
        shape = [n if a == axis else 1 for a in range(dims)]
        encodings.append(np.broadcast_to(encoding.reshape(*shape, width), (*size, width)))
    return np.concatenate(encodings, axis=-1)


@made_once(maxsize=32)
def _encoding(size: Sizes, dim: int, device: str) -> Tensor:
    return torch.from_numpy(sine_encoding(size, dim).reshape(-1, dim).astype(np.float32)).to(device)


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
        dim, device = self.levels.shape[1], str(self.levels.device)
        return torch.cat([_encoding(size, dim, device) + level for size, level in zip(sizes, self.levels, strict=True)])
