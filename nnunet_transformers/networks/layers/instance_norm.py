"""Instance norm of a channels-last map, for CPU.

Ulyanov et al., "Instance Normalization", arXiv 1607.08022, as `torch.nn.functional.instance_norm`. PyTorch's kernel
copies a channels-last map to channels-first and back; its group norm does not, but takes E[x^2] - E[x]^2 for the
variance and loses all digits where a channel's mean is far from 0. Here sums over the map are matrix products of slices
of the map, and the variance is that of the centred map.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def instance_norm_channels_last(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Each channel of each sample to mean 0 and variance 1, then times weight plus bias.

    Args:
        x: (B, C, *spatial), float32 or float64, channels last in memory.
        weight, bias: (C,) each, or None.
        eps: added to the variance.

    Returns:
        The same shape and layout.
    """
    slices = x.movedim(1, -1).flatten(2, -2) if x.ndim > 4 else x.movedim(1, -1)
    y = _InstanceNorm.apply(slices, eps)
    if weight is not None and bias is not None:
        y = torch.addcmul(bias, y, weight)
    return y.unflatten(2, x.shape[3:]).movedim(-1, 1) if x.ndim > 4 else y.movedim(-1, 1)


class _InstanceNorm(torch.autograd.Function):
    """On (B, slices, positions, C)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        mean = _mean(x)
        y = x - mean
        inverse_std = (_mean_of_product(y, y) + eps).rsqrt_()
        ctx.save_for_backward(x, mean, inverse_std)
        return y.mul_(inverse_std)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        # dx = (dy - mean(dy) - y mean(dy y)) / std with y = (x - mean) / std, as factors of dy, x and 1.
        x, mean, inverse_std = ctx.saved_tensors
        (grad,) = grads
        grad_mean = _mean(grad)
        of_x = (_mean_of_product(grad, x) - grad_mean * mean) * -(inverse_std**3)
        of_one = -grad_mean * inverse_std - of_x * mean
        return torch.addcmul(of_one, grad, inverse_std).addcmul_(x, of_x), None


def _mean(x: Tensor) -> Tensor:
    """(B, slices, positions, C) to (B, 1, 1, C)."""
    row = x.new_full((1, x.shape[2]), 1 / x.shape[2])
    return torch.matmul(row, x).mean(1, keepdim=True)


def _mean_of_product(x: Tensor, y: Tensor) -> Tensor:
    """Mean over the map of x * y, (B, 1, 1, C): the diagonal of x^T y of each slice, so no map holds the product."""
    diagonal = torch.matmul(x.transpose(2, 3), y).diagonal(dim1=2, dim2=3)
    return (diagonal.mean(1) / x.shape[2])[:, None, None]
