"""Scaled dot-product attention, of all tokens and of windows with a learnt bias, fused and explicit.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.2.1; the bias as in Liu et al., "Swin Transformer",
ICCV 2021, equation 4. `fused` and `fused_in_windows` keep no (n_tokens, n_tokens) matrix for the backward pass;
`explicit` and `explicit_in_windows` are their plain twins, for tests and for reading. Layers call them through this
module, so that a test can put one in the place of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nnunet_transformers.networks.layers.windows import MapWindows, WindowGroup, n_windows

# Scores that one chunk of the backward pass holds at a time: on a CPU as many as its cache does, elsewhere more, as few
# large kernels are worth more there than the cache.
_CHUNK_BYTES_ON_CPU, _CHUNK_BYTES = 8 << 20, 256 << 20


def explicit(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, written out.

    Args:
        q: (B, heads, n_queries, d).
        k: (B, heads, n_keys, d).
        v: (B, heads, n_keys, d_v).

    Returns:
        (B, heads, n_queries, d_v).
    """
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return scores.softmax(dim=-1).to(v.dtype) @ v


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`explicit` through PyTorch's fused kernels; same arguments, same result."""
    if q.device.type == "meta":
        return _ShapeOfAttention.apply(q, k, v)
    return F.scaled_dot_product_attention(q, k, v)


class _ShapeOfAttention(torch.autograd.Function):
    """What a fused kernel returns and saves, for tensors without data; on the meta device PyTorch would take its
    kernel that saves the scores."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        ctx.save_for_backward(q, k, v, out)
        return out


def explicit_in_windows(qkv: Tensor, bias: Tensor, windows: MapWindows, scale: float) -> Tensor:
    """softmax(q k^T * scale + bias + mask) v, written out.

    Args:
        qkv: (n_windows * B, n_tokens, 3, heads, head_dim), rows as `MapWindows.to_windows` makes them.
        bias: (heads, n_tokens, n_tokens).
        windows: of the map; they say which tokens see each other.
        scale: factor of the scores.

    Returns:
        (n_windows * B, n_tokens, heads, head_dim).
    """
    out = []
    for group in _groups(qkv, windows):
        q, k, v = _heads_first(qkv[group.start : group.stop])
        scores = (q * scale) @ k.transpose(-2, -1) + _masked(bias, group)
        out.append(scores.softmax(dim=-1).to(v.dtype) @ v)
    return torch.cat(out).transpose(1, 2)


def fused_in_windows(qkv: Tensor, bias: Tensor, windows: MapWindows, scale: float) -> Tensor:
    """`explicit_in_windows` through PyTorch's fused kernels; same arguments, same result."""
    return _window_attention(qkv, bias, *windows, scale)


# One operator, so that a compiler sees one node: the masks, which follow from shapes, never become constants of a
# graph, and the bias reaches its kernel in the layout that it has here. PyTorch's own kernels give no gradient for a
# bias (CPU) or keep all scores for it (CUDA).


@torch.library.custom_op(
    "nnunet_transformers::window_attention",
    mutates_args=(),
    schema="(Tensor qkv, Tensor bias, SymInt[] map_size, SymInt[] window, SymInt[] shift, float scale) -> Tensor",
)
def _window_attention(
    qkv: Tensor, bias: Tensor, map_size: Sequence[int], window: Sequence[int], shift: Sequence[int], scale: float
) -> Tensor:
    # A bias that asks for a gradient, even where none is recorded, keeps PyTorch from its fused kernel.
    qkv, bias, out = qkv.detach(), bias.detach(), []
    with torch.no_grad(), _as_given(qkv.device):
        for group in _groups(qkv, _map_windows(map_size, window, shift)):
            q, k, v = _heads_first(qkv[group.start : group.stop])
            masked_bias = _masked(bias, group)[None].to(q.dtype)
            out.append(F.scaled_dot_product_attention(q, k, v, attn_mask=masked_bias, scale=scale).transpose(1, 2))
        return (out[0] if len(out) == 1 else torch.cat(out)).contiguous()


@_window_attention.register_fake
def _(
    qkv: Tensor, bias: Tensor, map_size: Sequence[int], window: Sequence[int], shift: Sequence[int], scale: float
) -> Tensor:
    n, n_tokens, _, heads, head_dim = qkv.shape
    return qkv.new_empty(n, n_tokens, heads, head_dim)


@torch.library.custom_op(
    "nnunet_transformers::window_attention_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor qkv, Tensor bias, Tensor out, SymInt[] map_size, SymInt[] window, SymInt[] shift, "
    "float scale) -> (Tensor, Tensor)",
)
def _window_attention_backward(
    grad: Tensor,
    qkv: Tensor,
    bias: Tensor,
    out: Tensor,
    map_size: Sequence[int],
    window: Sequence[int],
    shift: Sequence[int],
    scale: float,
) -> tuple[Tensor, Tensor]:
    """The scores computed again, chunk by chunk.

    Dao et al., "FlashAttention", NeurIPS 2022, section 3.1 and appendix B.2: with P the softmax and delta the row sums
    of dO * O, dV = P^T dO, dS = P * (dO V^T - delta), dQ = dS K, dK = dS^T Q; the bias' gradient is dS summed over
    windows.
    """
    _, n_tokens, _, heads, head_dim = qkv.shape
    grad_qkv = torch.empty(qkv.shape, dtype=qkv.dtype, device=qkv.device)
    # Sums in float32: over windows and channels, gradients scaled for float16 would leave its range.
    sum_dtype = torch.promote_types(qkv.dtype, torch.float32)
    grad_bias = torch.zeros(bias.shape, dtype=sum_dtype, device=bias.device)
    chunk_bytes = _CHUNK_BYTES_ON_CPU if qkv.device.type == "cpu" else _CHUNK_BYTES
    chunk = max(1, chunk_bytes // (heads * n_tokens**2 * qkv.element_size()))
    with torch.no_grad(), _as_given(qkv.device):
        delta = (grad.to(sum_dtype) * out).sum(-1, keepdim=True).transpose(1, 2)
        for group in _groups(qkv, _map_windows(map_size, window, shift)):
            masked_bias = _masked(bias, group).to(qkv.dtype)
            for start in range(group.start, group.stop, chunk):
                part = slice(start, min(start + chunk, group.stop))
                q, k, v = (t.reshape(-1, n_tokens, head_dim) for t in _heads_first(qkv[part]))
                grad_out = grad[part].transpose(1, 2).reshape(-1, n_tokens, head_dim)
                q = q * scale
                scores = torch.bmm(q, k.transpose(1, 2)).unflatten(0, (-1, heads)).add_(masked_bias)
                p = torch.softmax(scores, dim=-1).flatten(0, 1)
                grad_scores = torch.bmm(grad_out, v.transpose(1, 2)).sub_(delta[part].flatten(0, 1)).mul_(p)
                grad_bias += grad_scores.unflatten(0, (-1, heads)).sum(0, dtype=sum_dtype)
                grad_q, grad_k, grad_v = grad_qkv[part].permute(2, 0, 3, 1, 4).unbind(0)
                grad_q.copy_(torch.bmm(grad_scores, k).mul_(scale).view_as(grad_q))
                grad_k.copy_(torch.bmm(grad_scores.transpose(1, 2), q).view_as(grad_k))
                grad_v.copy_(torch.bmm(p.transpose(1, 2), grad_out).view_as(grad_v))
    return grad_qkv, grad_bias.to(bias.dtype)


@_window_attention_backward.register_fake
def _(
    grad: Tensor,
    qkv: Tensor,
    bias: Tensor,
    out: Tensor,
    map_size: Sequence[int],
    window: Sequence[int],
    shift: Sequence[int],
    scale: float,
) -> tuple[Tensor, Tensor]:
    return qkv.new_empty(qkv.shape), bias.new_empty(bias.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    qkv, bias, *ctx.shapes_and_scale = inputs
    ctx.save_for_backward(qkv, bias, output)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *_window_attention_backward(grad, *ctx.saved_tensors, *ctx.shapes_and_scale), None, None, None, None


_window_attention.register_autograd(_gradients, setup_context=_keep)


def _as_given(device: torch.device) -> AbstractContextManager:
    """Without autocast: what is given to an operator has its precision already."""
    has_autocast = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if has_autocast else nullcontext()


def _heads_first(qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v as (n, heads, n_tokens, head_dim) views."""
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def _masked(bias: Tensor, group: WindowGroup) -> Tensor:
    return bias if group.mask is None else bias + group.mask.to(bias.dtype)


def _map_windows(map_size: Sequence[int], window: Sequence[int], shift: Sequence[int]) -> MapWindows:
    return MapWindows(tuple(map_size), tuple(window), tuple(shift))


def _groups(qkv: Tensor, windows: MapWindows) -> tuple[WindowGroup, ...]:
    return windows.groups(qkv.shape[0] // n_windows(windows.map_size, windows.window), qkv.device)
