"""Instance norm and leaky ReLU of a large map in two kernels, and two for their gradient, for a CUDA GPU.

Ulyanov et al., "Instance Normalization", arXiv 1607.08022. In eager mode PyTorch's own kernels take several times as
long for it as a GPU's memory needs. torch.compile fuses the two by itself, so a compiled graph does without this.

Before its first use on a device the kernels are held against PyTorch's on a small map; where they fail or differ, they
step aside for the rest of the process, with one line.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK, _BLOCK = 32768, 4096
# Of fewer elements a map is normed before the kernels are started.
_SMALLEST = 1 << 20


def is_used(x: Tensor) -> bool:
    """Whether a map is one for the kernels: large, contiguous, on a GPU where they have been found right."""
    return (
        x.is_cuda
        and not torch.compiler.is_compiling()
        and x.numel() >= _SMALLEST
        and x.is_contiguous()
        and x.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and are_right(x.device)
    )


def fused_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, slope: float) -> Tensor:
    """Each channel of each sample to mean 0 and variance 1, times weight plus bias, then leaky ReLU.

    Args:
        x: (B, C, *spatial), contiguous.
        weight, bias: (C,) each, or None.
        eps: added to the variance.
        slope: of the activation below 0; 0 for a ReLU, 1 for none.

    Returns:
        As x.
    """
    channels = x.shape[1]
    weight = x.new_ones(channels, dtype=torch.float32) if weight is None else weight.float()
    bias = x.new_zeros(channels, dtype=torch.float32) if bias is None else bias.float()
    return _FusedNorm.apply(x, weight, bias, eps, slope)


class _FusedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float) -> Tensor:
        from nnunet_transformers.networks.layers import fused_norm_kernels as kernels

        rows, n = x.shape[0] * x.shape[1], x[0, 0].numel()
        n_chunks = -(-n // _CHUNK)
        means, squares = x.new_empty(2, rows, n_chunks, dtype=torch.float32).unbind()
        with torch.cuda.device_of(x):
            kernels.moments[rows, n_chunks](x, means, squares, n, n_chunks, CHUNK=_CHUNK, BLOCK=_BLOCK)
        counts = torch.full((n_chunks,), float(_CHUNK), device=x.device)
        counts[-1] = n - (n_chunks - 1) * _CHUNK
        mean = (means * counts).sum(1) / n
        variance = (squares + counts * (means - mean[:, None]).square()).sum(1) / n
        inverse_std = (variance + eps).rsqrt()
        scale = inverse_std * weight.repeat(x.shape[0])
        shift = bias.repeat(x.shape[0]) - mean * scale
        y = torch.empty_like(x)
        with torch.cuda.device_of(x):
            kernels.forward[rows, -(-n // _BLOCK)](x, y, scale, shift, n, slope, BLOCK=_BLOCK)
        ctx.save_for_backward(x, mean, inverse_std, scale, shift)
        ctx.slope = slope
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from nnunet_transformers.networks.layers import fused_norm_kernels as kernels

        x, mean, inverse_std, scale, shift = ctx.saved_tensors
        grad, rows, n = grads[0].contiguous(), len(mean), x[0, 0].numel()
        n_chunks = -(-n // _CHUNK)
        of_grad, of_product = x.new_empty(2, rows, n_chunks, dtype=torch.float32).unbind()
        chunked = {"CHUNK": _CHUNK, "BLOCK": _BLOCK}
        with torch.cuda.device_of(x):
            kernels.sums[rows, n_chunks](
                x, grad, scale, shift, mean, of_grad, of_product, n, n_chunks, ctx.slope, **chunked
            )
        sum_of_grad, sum_of_product = of_grad.sum(1), of_product.sum(1) * inverse_std
        # dx = scale * (g - mean(g) - y mean(g y)) with y = (x - mean) / std, as factors of g, x and 1.
        of_x = -scale * inverse_std * sum_of_product / n
        of_one = -scale * sum_of_grad / n - of_x * mean
        grad_x = torch.empty_like(x)
        with torch.cuda.device_of(x):
            kernels.backward[rows, -(-n // _BLOCK)](
                x, grad, grad_x, scale, shift, of_x, of_one, n, ctx.slope, BLOCK=_BLOCK
            )
        per_channel = (x.shape[0], x.shape[1])
        return grad_x, sum_of_product.view(per_channel).sum(0), sum_of_grad.view(per_channel).sum(0), None, None


@functools.cache
def are_right(device: torch.device) -> bool:
    """Whether the kernels give what PyTorch gives on this device; says so once where they do not."""
    try:
        with torch.autocast(device.type, enabled=False), torch.enable_grad(), torch.inference_mode(False):
            wrong = [str(dtype) for dtype in (torch.float32, torch.float16) if not _is_right(device, dtype)]
        reason = f"they differ from PyTorch's in {', '.join(wrong)}" if wrong else ""
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    if reason:
        print(f"Instance norm without our Triton kernels on {device}, slower and with the same result: {reason}")
    return not reason


def _is_right(device: torch.device, dtype: torch.dtype) -> bool:
    generator = torch.Generator().manual_seed(0)
    # Two chunks, of which one is not full, and a mean far from 0.
    size = (2, 2, 37, 40, 25)
    x = (3 * torch.randn(size, generator=generator) + 20).to(device, dtype).requires_grad_()
    factor = torch.randn(size, generator=generator).to(device, dtype)
    weight, bias = (torch.randn(2, 2, generator=generator) + 1).to(device).unbind()
    given = x, weight.requires_grad_(), bias.requires_grad_()
    results = []
    for y in (
        fused_norm(*given, 1e-5, 0.01),
        F.leaky_relu(F.instance_norm(x.float(), weight=weight, bias=bias, eps=1e-5), 0.01),
    ):
        results.append([y.detach(), *torch.autograd.grad((y * factor).float().sum(), given)])
    bound = 1e-4 if dtype == torch.float32 else 1e-2
    return all(
        bool((ours - theirs).float().norm() < bound * theirs.float().norm())
        for ours, theirs in zip(*results, strict=True)
    )
