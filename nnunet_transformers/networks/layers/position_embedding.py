"""Where a token stands in its map, learnt.

Dosovitskiy et al., "An Image is Worth 16×16 Words", ICLR 2021, section 3.1; interpolated to maps of another size as in
section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from nnunet_transformers.networks.layers.interpolation import resize


class LearnedPositionEmbedding(nn.Module):
    """Adds a learnt vector to each token; a map of another size takes interpolated ones.

    The recipe knows parameters of a module named `position_embedding`, and does not decay them.

    Args:
        grid: size of the map the vectors are learnt for.
        dim: channels.
    """

    def __init__(self, grid: Sequence[int], dim: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(1, dim, *grid))
        trunc_normal_(self.table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *spatial, C) to the same."""
        return x + resize(self.table, x.shape[1:-1]).movedim(1, -1)
