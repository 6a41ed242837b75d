"""A U-Net decoder with nnU-Net's deep supervision.

Ronneberger et al., "U-Net", MICCAI 2015. What happens at each stage is given to it: how the deep map is up-sampled, how
it is joined with the skip, which block follows. Heads and their order are dynamic-network-architectures'
`UNetDecoder`'s, so nnU-Net finds `deep_supervision` and `seg_layers` where it looks for them; unlike it, the decoder
does not hold the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from dynamic_network_architectures.building_blocks.helper import get_matching_convtransp
from torch import Tensor, nn

from nnunet_transformers.networks.layers.channels_last import pointwise_conv
from nnunet_transformers.networks.layers.convolution import ConvSettings
from nnunet_transformers.networks.topology import Topology


class Concatenation(nn.Module):
    """Joins by concatenating channels, the up-sampled map first, as the U-Net does."""

    def forward(self, deep: Tensor, upsampled: Tensor, skip: Tensor) -> Tensor:
        return torch.cat((upsampled, skip), dim=1)


class Parts(nn.Module):
    """Hands both maps, the up-sampled one first, to a block that does without their concatenation."""

    def forward(self, deep: Tensor, upsampled: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        return upsampled, skip


class Addition(nn.Module):
    """Joins by adding; both maps have the same width."""

    def forward(self, deep: Tensor, upsampled: Tensor, skip: Tensor) -> Tensor:
        return upsampled + skip


class UNetDecoder(nn.Module):
    """Per stage, deepest first: up-sampling, joining with the skip, a block, a segmentation head.

    Args:
        upsamplings: of each stage, deepest first: a map to one of the next finer size.
        joins: of each stage: (deep map, up-sampled map, skip) to one map.
        stages: the block of each stage.
        seg_layers: the head of each stage: a map to logits (B, num_classes, *spatial); with one more than stages, the
            first is of the deepest map, before any stage.
        deep_supervision: return the logits of every stage.
    """

    def __init__(
        self,
        upsamplings: Iterable[nn.Module],
        joins: Iterable[nn.Module],
        stages: Iterable[nn.Module],
        seg_layers: Iterable[nn.Module],
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision
        self.upsamplings = nn.ModuleList(upsamplings)
        self.joins = nn.ModuleList(joins)
        self.stages = nn.ModuleList(stages)
        # All are built even if only the last is used: a network trained with deep supervision loads into one without.
        self.seg_layers = nn.ModuleList(seg_layers)
        self.register_forward_hook(_with_unused)

    def forward(self, skips: Sequence[Tensor]) -> Tensor | list[Tensor]:
        """Maps of the encoder, full resolution first, to logits (B, num_classes, *spatial).

        With deep supervision a list, full resolution first, one entry per stage.
        """
        x = skips[-1]
        n_before = len(self.seg_layers) - len(self.stages)
        logits = [pointwise_conv(head, x) for head in self.seg_layers[:n_before]] if self.deep_supervision else []
        for upsample, join, stage, head, skip in zip(
            self.upsamplings, self.joins, self.stages, self.seg_layers[n_before:], skips[-2::-1], strict=True
        ):
            x = stage(join(x, upsample(x), skip))
            if self.deep_supervision:
                logits.append(pointwise_conv(head, x))
        return logits[::-1] if self.deep_supervision else pointwise_conv(self.seg_layers[-1], x)

    def only_for_deep_supervision(self) -> list[nn.Parameter]:
        """The parameters that logits at full resolution do without."""
        return list(self.seg_layers[:-1].parameters())


def _with_unused(decoder: UNetDecoder, skips: Sequence[Tensor], logits: Tensor) -> Tensor | None:
    """In training without deep supervision the logits as they are, and a gradient of 0 for what did not run.

    DistributedDataParallel, as nnU-Net uses it, waits for the gradient of every parameter.
    """
    if decoder.deep_supervision or not decoder.training:
        return None
    return _WithUnused.apply(logits, *decoder.only_for_deep_supervision())


class _WithUnused(torch.autograd.Function):
    """A result as it is, and a gradient of 0 for parameters it does not depend on."""

    @staticmethod
    def forward(ctx: Any, result: Tensor, *unused: Tensor) -> Tensor:
        ctx.save_for_backward(*unused)
        return result.view_as(result)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return grads[0], *(torch.zeros_like(parameter) for parameter in ctx.saved_tensors)


def convolutional_decoder(
    features: Sequence[int],
    topology: Topology,
    num_classes: int,
    deep_supervision: bool,
    settings: ConvSettings,
    block: Callable[[int, int, Sequence[int]], nn.Module],
    joins: Sequence[nn.Module] | None = None,
    head_of_deepest: bool = False,
) -> UNetDecoder:
    """The U-Net's decoder: transposed convolutions, concatenation, convolutional blocks, heads of kernel 1.

    Args:
        features: widths of the encoder's maps, one per stage of the topology, full resolution first.
        topology: strides and kernels.
        num_classes: segmentation channels.
        deep_supervision: return the logits of every stage.
        settings: the plan's.
        block: makes a block from its input width, output width and kernel.
        joins: instead of concatenation, deepest first; each returns twice the skip's width.
        head_of_deepest: the deepest map has a head too, for a plan with one stage more than the network.
    """
    levels = range(topology.n_stages - 2, -1, -1)
    upsample_op = get_matching_convtransp(settings.conv_op)
    return UNetDecoder(
        upsamplings=[
            upsample_op(
                features[i + 1], features[i], topology.strides[i + 1], topology.strides[i + 1], bias=settings.conv_bias
            )
            for i in levels
        ],
        joins=joins or [Concatenation() for _ in levels],
        stages=[block(2 * features[i], features[i], topology.kernel_sizes[i]) for i in levels],
        seg_layers=[
            settings.pointwise(features[i], num_classes, bias=True)
            for i in ([len(features) - 1] if head_of_deepest else []) + list(levels)
        ],
        deep_supervision=deep_supervision,
    )
