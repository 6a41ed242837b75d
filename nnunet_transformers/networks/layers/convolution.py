"""The convolution settings of an nnU-Net plan, carried as one value, and the residual block made of them.

The block is that of UNETR's and Swin UNETR's decoders (Hatamizadeh et al., "UNETR", WACV 2022, figure 2): two
convolutions with a projection of the input where the width changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from nnunet_transformers.networks.layers.channels_last import conv_of_parts, norm, to_channels_last


@dataclass(frozen=True)
class ConvSettings:
    """What a plan says about every convolution: operator, bias, normalisation, dropout, non-linearity.

    The fields are the arguments of the same names of dynamic-network-architectures' networks.
    """

    conv_op: type[nn.Module]
    conv_bias: bool = False
    norm_op: type[nn.Module] | None = None
    norm_op_kwargs: dict[str, Any] | None = None
    dropout_op: type[nn.Module] | None = None
    dropout_op_kwargs: dict[str, Any] | None = None
    nonlin: type[nn.Module] | None = None
    nonlin_kwargs: dict[str, Any] | None = None

    def conv(
        self, in_channels: int, out_channels: int, kernel_size: Sequence[int], stride: Sequence[int] | None = None
    ) -> nn.Module:
        """A convolution that keeps the map's size, or makes it smaller by a stride: *spatial to *spatial / stride."""
        padding = tuple((k - 1) // 2 for k in kernel_size)
        strides = 1 if stride is None else tuple(stride)
        return self.conv_op(in_channels, out_channels, tuple(kernel_size), strides, padding, bias=self.conv_bias)

    def pointwise(self, in_channels: int, out_channels: int, bias: bool) -> nn.Module:
        """A convolution of kernel 1."""
        return self.conv_op(in_channels, out_channels, 1, bias=bias)

    def norm(self, channels: int) -> nn.Module:
        return nn.Identity() if self.norm_op is None else self.norm_op(channels, **(self.norm_op_kwargs or {}))

    def dropout(self) -> nn.Module:
        return nn.Identity() if self.dropout_op is None else self.dropout_op(**(self.dropout_op_kwargs or {}))

    def nonlinearity(self) -> nn.Module:
        return nn.Identity() if self.nonlin is None else self.nonlin(**(self.nonlin_kwargs or {}))


class _Projection(nn.Module):
    """The residual of a block that changes the width."""

    def __init__(self, in_channels: int, out_channels: int, settings: ConvSettings) -> None:
        super().__init__()
        self.conv = settings.pointwise(in_channels, out_channels, bias=False)
        self.norm = settings.norm(out_channels)

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        return norm(self.norm, conv_of_parts(self.conv, parts))


class ResidualBlock(nn.Module):
    """conv, norm, non-linearity, conv, norm; plus the input (projected where the width changes); non-linearity.

    Args:
        in_channels, out_channels: widths.
        kernel_size: of both convolutions, per axis; the map keeps its size.
        settings: the plan's.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Sequence[int], settings: ConvSettings) -> None:
        super().__init__()
        self.conv1 = settings.conv(in_channels, out_channels, kernel_size)
        self.dropout = settings.dropout()
        self.norm1 = settings.norm(out_channels)
        self.nonlin1 = settings.nonlinearity()
        self.conv2 = settings.conv(out_channels, out_channels, kernel_size)
        self.norm2 = settings.norm(out_channels)
        self.projection = _Projection(in_channels, out_channels, settings) if in_channels != out_channels else None
        self.nonlin2 = settings.nonlinearity()

    def forward(self, x: Tensor | tuple[Tensor, ...]) -> Tensor:
        """(B, in_channels, *spatial) to (B, out_channels, *spatial); several maps stand for their concatenation."""
        parts = x if isinstance(x, tuple) else (x,)
        y = self.dropout(to_channels_last(conv_of_parts(self.conv1, parts)))
        y = norm(self.norm1, y, self.nonlin1)
        y = norm(self.norm2, self.conv2(y))
        # In place, into a map that no backward pass needs: a new one as large costs as much time as the sum.
        return self.nonlin2(y.add_(parts[0] if self.projection is None else self.projection(parts)))
