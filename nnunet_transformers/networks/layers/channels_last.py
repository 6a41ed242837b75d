"""Operations of a convolutional network that PyTorch does faster in another form on some device; results are the same.

On a CPU maps have their channels last (benchmarks/swin_unetr_vs_monai.py times the whole network so), on a GPU norms of
large maps have kernels of their own (`fused_norm`). In a graph that is compiled or exported the modules run as they
are: such a graph is the same on every device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnunet_transformers.networks.layers import fused_norm
from nnunet_transformers.networks.layers.instance_norm import instance_norm_channels_last

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def to_channels_last(x: Tensor) -> Tensor:
    """On CPU the map with its channels last in memory, as the encoder's maps are; convolutions keep that layout."""
    return x.contiguous(memory_format=_CHANNELS_LAST[x.ndim]) if _is_run_on_cpu(x) else x


def pointwise_conv(conv: Any, x: Tensor) -> Tensor:
    """A convolution of kernel 1; on a channels-last map as a matrix product, which oneDNN does faster.

    Another module runs as it is.
    """
    if isinstance(conv, (nn.Conv2d, nn.Conv3d)) and math.prod(conv.kernel_size) == 1 and _is_channels_last_on_cpu(x):
        return F.linear(x.movedim(1, -1), conv.weight.flatten(1), conv.bias).movedim(-1, 1)
    return conv(x)


def conv_of_parts(conv: Any, parts: Sequence[Tensor]) -> Tensor:
    """A convolution of maps put together along channels, without putting them together.

    A copy as large as all of them would be kept for the backward pass.
    """
    if len(parts) == 1 or not isinstance(conv, (nn.Conv2d, nn.Conv3d)):
        return pointwise_conv(conv, parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1))
    weights = conv.weight.split([part.shape[1] for part in parts], dim=1)
    pointwise = math.prod(conv.kernel_size) == 1
    result = None
    for part, weight in zip(parts, weights, strict=True):
        bias = conv.bias if result is None else None
        if pointwise and _is_channels_last_on_cpu(part):
            y = F.linear(part.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)
        else:
            y = conv._conv_forward(part, weight, bias)
        result = y if result is None else result.add_(y)
    assert result is not None
    return result


def norm(module: Any, x: Tensor, nonlin: nn.Module | None = None) -> Tensor:
    """A normalisation layer and, where one is given, a non-linearity after it.

    Instance norm keeps a channels-last map on a CPU as it is; on a GPU it takes a leaky ReLU into its own passes.
    """
    is_instance_norm = isinstance(module, (nn.InstanceNorm2d, nn.InstanceNorm3d)) and not module.track_running_stats
    if is_instance_norm and fused_norm.is_used(x):
        slope = _slope_below_0(nonlin)
        if slope is not None:
            return fused_norm.fused_norm(x, module.weight, module.bias, module.eps, slope)
        y = fused_norm.fused_norm(x, module.weight, module.bias, module.eps, 1.0)
    elif is_instance_norm and _is_channels_last_on_cpu(x) and x.dtype in (torch.float32, torch.float64):
        y = instance_norm_channels_last(x, module.weight, module.bias, module.eps)
    else:
        y = module(x)
    return y if nonlin is None else nonlin(y)


def _slope_below_0(nonlin: nn.Module | None) -> float | None:
    """Of what is linear on either side of 0; None of anything else."""
    if isinstance(nonlin, nn.LeakyReLU):
        return nonlin.negative_slope
    if isinstance(nonlin, nn.ReLU):
        return 0.0
    return 1.0 if nonlin is None or isinstance(nonlin, nn.Identity) else None


def _is_run_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _is_channels_last_on_cpu(x: Tensor) -> bool:
    return _is_run_on_cpu(x) and x.is_contiguous(memory_format=_CHANNELS_LAST[x.ndim])
