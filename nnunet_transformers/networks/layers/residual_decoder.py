"""A U-Net decoder of residual blocks with nnU-Net's deep supervision.

The decoder of Hatamizadeh et al., "UNETR", WACV 2022, section 3.1, with the plan's strides and kernels. Heads and their
order are dynamic-network-architectures' `UNetDecoder`'s, so nnU-Net finds `deep_supervision` and `seg_layers` where it
looks for them; unlike it, the decoder does not hold the encoder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from dynamic_network_architectures.building_blocks.helper import get_matching_convtransp
from torch import Tensor, nn

from nnunet_transformers.networks.layers.channels_last import pointwise_conv
from nnunet_transformers.networks.layers.convolution import ConvSettings, ResidualBlock


class ResidualDecoder(nn.Module):
    """Per stage, deepest first: transposed convolution, concatenation with the skip, residual block, segmentation head.

    Args:
        features: widths of the maps it is given, full resolution first, bottleneck last.
        strides: stride from the map above to each map, full resolution first (the first is not used).
        kernel_sizes: kernel per map and axis.
        num_classes: segmentation channels.
        deep_supervision: return the logits of every stage.
        settings: the plan's.
    """

    def __init__(
        self,
        features: Sequence[int],
        strides: Sequence[Sequence[int]],
        kernel_sizes: Sequence[Sequence[int]],
        num_classes: int,
        deep_supervision: bool,
        settings: ConvSettings,
    ) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision
        self.num_classes = num_classes
        self.strides = [tuple(stride) for stride in strides]
        upsample_op = get_matching_convtransp(settings.conv_op)
        self.transpconvs, self.stages, self.seg_layers = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for skip in reversed(range(len(features) - 1)):
            stride = self.strides[skip + 1]
            width = features[skip]
            self.transpconvs.append(upsample_op(features[skip + 1], width, stride, stride, bias=settings.conv_bias))
            self.stages.append(ResidualBlock(2 * width, width, kernel_sizes[skip], settings))
            # Always built, so that a network trained with deep supervision loads into one without.
            self.seg_layers.append(settings.pointwise(width, num_classes, bias=True))

    def forward(self, skips: Sequence[Tensor]) -> Tensor | list[Tensor]:
        """Maps (B, features[i], *spatial_i), full resolution first, to logits (B, num_classes, *spatial).

        With deep supervision a list, full resolution first, one entry per stage.
        """
        *skips, x = skips
        logits = []
        for upsample, stage, head in zip(self.transpconvs, self.stages, self.seg_layers, strict=True):
            x = stage(torch.cat((upsample(x), skips.pop()), dim=1))
            if self.deep_supervision or not skips:
                logits.append(pointwise_conv(head, x))
        return logits[::-1] if self.deep_supervision else logits[0]

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> int:
        """Elements of the decoder's convolution outputs for one sample of this spatial size."""
        sizes = [tuple(input_size)]
        for stride in self.strides[1:-1]:
            sizes.append(tuple(n // s for n, s in zip(sizes[-1], stride, strict=True)))
        total = 0
        for stage, size in zip(self.stages, reversed(sizes), strict=True):
            assert isinstance(stage, ResidualBlock)
            total += stage.compute_conv_feature_map_size(size) + stage.out_channels * math.prod(size)
            if self.deep_supervision or size == sizes[0]:
                total += self.num_classes * math.prod(size)
        return total
