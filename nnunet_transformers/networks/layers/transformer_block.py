"""The Transformer block of the Vision Transformer: self-attention of all tokens, then an MLP, each behind a norm.

Dosovitskiy et al., "An Image is Worth 16×16 Words", ICLR 2021, section 3.1.
"""

from __future__ import annotations

from timm.layers import DropPath, Mlp, trunc_normal_
from torch import Tensor, nn

from nnunet_transformers.networks.layers import attention


class SelfAttention(nn.Module):
    """Multi-head self-attention of all tokens.

    Args:
        dim: channels, a multiple of num_heads.
        num_heads: heads.
        qkv_bias: bias of the queries', keys' and values' projection.
    """

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{dim} channels cannot be split into {num_heads} heads")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        initialize_linear(self.qkv, self.proj)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_tokens, C) to the same."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(attention.fused(q, k, v).transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Self-attention and MLP, each normed before and added to its input.

    Args:
        dim, num_heads, qkv_bias: see `SelfAttention`.
        mlp_dim: width of the MLP's hidden layer.
        drop_path: probability of skipping each residual branch in training.
        norm_eps: of the layer norms.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_dim: int,
        qkv_bias: bool = True,
        drop_path: float = 0.0,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attention = SelfAttention(dim, num_heads, qkv_bias)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, mlp_dim)
        initialize_linear(self.mlp.fc1, self.mlp.fc2)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_tokens, C) to the same."""
        x = x + self.drop_path(self.attention(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


def initialize_linear(*layers: nn.Linear) -> None:
    """Normal weights of standard deviation 0.02, biases 0, as Vision Transformers have them."""
    for layer in layers:
        trunc_normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
