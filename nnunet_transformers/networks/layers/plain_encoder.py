"""The convolutional stages of nnU-Net's plain U-Net and the encoder made of them.

Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature
Methods 2021, section "Blueprint parameters". Difference from dynamic-network-architectures' `StackedConvBlocks` and
`PlainConvEncoder`: a weight is registered under one name, so a checkpoint holds it once.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nnunet_transformers.networks.layers.channels_last import norm, to_channels_last
from nnunet_transformers.networks.layers.convolution import ConvSettings
from nnunet_transformers.networks.topology import Topology


class ConvBlock(nn.Module):
    """Convolution, dropout, norm, non-linearity.

    Args:
        in_channels, out_channels: widths.
        kernel_size: per axis, odd.
        settings: the plan's.
        stride: per axis; a map must be a multiple of it. None for 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        settings: ConvSettings,
        stride: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.conv = settings.conv(in_channels, out_channels, kernel_size, stride)
        self.dropout = settings.dropout()
        self.norm = settings.norm(out_channels)
        self.nonlin = settings.nonlinearity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, *spatial) to (B, out_channels, *spatial / stride)."""
        return norm(self.norm, self.dropout(to_channels_last(self.conv(x))), self.nonlin)


def stacked_convs(
    n_convs: int,
    in_channels: int,
    out_channels: int,
    kernel_size: Sequence[int],
    settings: ConvSettings,
    stride: Sequence[int] | None = None,
) -> nn.Sequential:
    """Convolution blocks one after the other; the first changes the width and has the stride."""
    return nn.Sequential(
        ConvBlock(in_channels, out_channels, kernel_size, settings, stride),
        *(ConvBlock(out_channels, out_channels, kernel_size, settings) for _ in range(n_convs - 1)),
    )


class ResidualConvs(nn.Module):
    """Two convolution blocks; plus the input, with nothing after the sum.

    Args:
        width: channels.
        kernel_size: of both convolutions, per axis.
        settings: the plan's.
    """

    def __init__(self, width: int, kernel_size: Sequence[int], settings: ConvSettings) -> None:
        super().__init__()
        self.convs = stacked_convs(2, width, width, kernel_size, settings)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, *spatial) to the same."""
        return x + self.convs(x)


class PlainEncoder(nn.Module):
    """The encoder of nnU-Net's plain U-Net: stages of convolution blocks, the first of each with the plan's stride.

    Its stem is `stages.0`, the convolution that sees the image `stages.0.0.conv`.

    Args:
        input_channels: channels of the image.
        features: width of each stage, full resolution first.
        topology: strides and kernels of the stages.
        n_convs: convolution blocks of each stage.
        settings: the plan's.

    Raises:
        ValueError: a stage without a convolution.
    """

    def __init__(
        self,
        input_channels: int,
        features: Sequence[int],
        topology: Topology,
        n_convs: Sequence[int],
        settings: ConvSettings,
    ) -> None:
        super().__init__()
        if min(n_convs) < 1:
            raise ValueError(f"each stage needs a convolution, n_convs={list(n_convs)}")
        widths_in = [input_channels, *features[:-1]]
        self.stages = nn.ModuleList(
            stacked_convs(n, width_in, width, kernel, settings, stride)
            for n, width_in, width, kernel, stride in zip(
                n_convs, widths_in, features, topology.kernel_sizes, topology.strides, strict=True
            )
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, input_channels, *spatial) to the map (B, C, *spatial) of each stage, full resolution first."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps
