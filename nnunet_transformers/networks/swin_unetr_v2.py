"""Swin UNETR V2: Swin UNETR with a residual convolutional block before the Swin blocks of each stage.

He et al., "SwinUNETR-V2: Stronger Swin Transformers with Stagewise Convolutions for 3D Medical Image Segmentation",
MICCAI 2023, section 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from nnunet_transformers.networks.layers.convolution import ConvSettings, ResidualBlock
from nnunet_transformers.networks.planned_network import Paper
from nnunet_transformers.networks.swin_unetr import SwinUNETR


class SwinUNETRV2(SwinUNETR):
    """Swin UNETR V2 built from an nnU-Net plan; arguments and errors are `SwinUNETR`'s."""

    paper = Paper(
        "He, Nath, Yang, Tang, Myronenko, Xu",
        "SwinUNETR-V2: Stronger Swin Transformers with Stagewise Convolutions for 3D Medical Image Segmentation",
        "MICCAI 2023",
        arxiv="",
        family="encoder",
    )

    @staticmethod
    def stage_convolution(width: int, kernel_size: Sequence[int], settings: ConvSettings) -> nn.Module:
        """The residual block before the Swin blocks of a stage."""
        return ResidualBlock(width, width, kernel_size, settings)
