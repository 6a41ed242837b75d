"""A Transformer whose tokens are the positions of a feature map.

Dosovitskiy et al., "An Image is Worth 16×16 Words", ICLR 2021, section 3.1, "hybrid architecture": the map of a
convolutional network takes the place of the image's patches.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nnunet_transformers.networks.layers.position_embedding import LearnedPositionEmbedding
from nnunet_transformers.networks.layers.transformer_block import TransformerBlock


class MapTransformer(nn.Module):
    """Learnt position embedding, then Transformer blocks over all positions of the map.

    Args:
        grid: size of the map the position embedding is learnt for; it resizes to other maps.
        dim, num_heads, mlp_dim, qkv_bias, norm_eps: of the blocks.
        num_layers: blocks.
    """

    def __init__(
        self,
        grid: Sequence[int],
        dim: int,
        num_heads: int,
        mlp_dim: int,
        num_layers: int,
        qkv_bias: bool = True,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.position_embedding = LearnedPositionEmbedding(grid, dim)
        self.blocks = nn.Sequential(
            *(TransformerBlock(dim, num_heads, mlp_dim, qkv_bias, norm_eps=norm_eps) for _ in range(num_layers))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, *spatial, C) to the same."""
        x = self.position_embedding(x)
        return self.blocks(x.flatten(1, -2)).view(x.shape)
