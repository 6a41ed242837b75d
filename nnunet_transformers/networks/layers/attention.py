"""Scaled dot-product attention, of all tokens and of windows with a learnt bias, fused and explicit.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.2.1; the bias as in Liu et al., "Swin Transformer",
ICCV 2021, equation 4. `fused` and `fused_in_windows` keep no (n_tokens, n_tokens) matrix for the backward pass;
`explicit` and `explicit_in_windows` are their plain twins, for tests and for reading. Layers call them through this
module, so that a test can put one in the place of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nnunet_transformers.networks.layers.windows import WindowGroup

# Scores that one chunk of the backward pass holds at a time; bounds its memory and keeps it near the cache.
_CHUNK_BYTES = 8 << 20


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


def explicit_in_windows(qkv: Tensor, bias: Tensor, groups: Sequence[WindowGroup], scale: float) -> Tensor:
    """softmax(q k^T * scale + bias + mask) v, written out.

    Args:
        qkv: (n, n_tokens, 3, heads, head_dim), n windows, those of each group side by side.
        bias: (heads, n_tokens, n_tokens).
        groups: consecutive ranges of windows and their masks; together all n.
        scale: factor of the scores.

    Returns:
        (n, n_tokens, heads, head_dim).
    """
    out = []
    for group in groups:
        q, k, v = _heads_first(qkv[group.start : group.stop])
        scores = (q * scale) @ k.transpose(-2, -1) + _masked(bias, group)
        out.append(scores.softmax(dim=-1).to(v.dtype) @ v)
    return torch.cat(out).transpose(1, 2)


def fused_in_windows(qkv: Tensor, bias: Tensor, groups: Sequence[WindowGroup], scale: float) -> Tensor:
    """`explicit_in_windows` through PyTorch's fused kernels; same arguments, same result."""
    if qkv.device.type in ("cpu", "meta") and torch.is_grad_enabled() and (qkv.requires_grad or bias.requires_grad):
        # PyTorch's CPU kernel gives no gradient for the bias and falls back to one that keeps all scores.
        return _RecomputedAttention.apply(qkv, bias, tuple(groups), scale)
    return _forward_in_windows(qkv, bias, groups, scale)


def _heads_first(qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v as (n, heads, n_tokens, head_dim) views."""
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def _masked(bias: Tensor, group: WindowGroup) -> Tensor:
    return bias if group.mask is None else bias + group.mask.to(bias.dtype)


def _forward_in_windows(qkv: Tensor, bias: Tensor, groups: Sequence[WindowGroup], scale: float) -> Tensor:
    out = []
    for group in groups:
        q, k, v = _heads_first(qkv[group.start : group.stop])
        out.append(
            F.scaled_dot_product_attention(q, k, v, attn_mask=_masked(bias, group)[None].to(q.dtype), scale=scale)
        )
    return (out[0] if len(out) == 1 else torch.cat(out)).transpose(1, 2)


class _RecomputedAttention(torch.autograd.Function):
    """Attention that keeps its inputs and output and computes the scores again, chunk by chunk, for the gradient.

    Dao et al., "FlashAttention", NeurIPS 2022, section 3.1 and appendix B.2: with P the softmax and delta the row sums
    of dO * O, dV = P^T dO, dS = P * (dO V^T - delta), dQ = dS K, dK = dS^T Q; the bias' gradient is dS summed over
    windows.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, bias: Tensor, groups: tuple[WindowGroup, ...], scale: float) -> Tensor:
        out = _forward_in_windows(qkv.detach(), bias.detach(), groups, scale)
        ctx.save_for_backward(qkv, bias, out)
        ctx.groups, ctx.scale = groups, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        qkv, bias, out = ctx.saved_tensors
        _, n_tokens, _, heads, head_dim = qkv.shape
        grad_qkv = torch.empty_like(qkv)
        grad_bias = torch.zeros_like(bias, dtype=torch.promote_types(bias.dtype, torch.float32))
        delta = (grads[0] * out).sum(-1, keepdim=True).transpose(1, 2)
        chunk = max(1, _CHUNK_BYTES // (heads * n_tokens**2 * qkv.element_size()))
        for group in ctx.groups:
            masked_bias = _masked(bias, group).to(qkv.dtype)
            for start in range(group.start, group.stop, chunk):
                part = slice(start, min(start + chunk, group.stop))
                q, k, v = (t.reshape(-1, n_tokens, head_dim) for t in _heads_first(qkv[part]))
                grad_out = grads[0][part].transpose(1, 2).reshape(-1, n_tokens, head_dim)
                q = q * ctx.scale
                scores = torch.bmm(q, k.transpose(1, 2)).unflatten(0, (-1, heads)).add_(masked_bias)
                p = torch.softmax(scores, dim=-1).flatten(0, 1)
                grad_scores = torch.bmm(grad_out, v.transpose(1, 2)).sub_(delta[part].flatten(0, 1)).mul_(p)
                grad_bias += grad_scores.unflatten(0, (-1, heads)).sum(0)
                grad_q, grad_k, grad_v = grad_qkv[part].permute(2, 0, 3, 1, 4).unbind(0)
                grad_q.copy_(torch.bmm(grad_scores, k).mul_(ctx.scale).view_as(grad_q))
                grad_k.copy_(torch.bmm(grad_scores.transpose(1, 2), q).view_as(grad_k))
                grad_v.copy_(torch.bmm(p.transpose(1, 2), grad_out).view_as(grad_v))
        return grad_qkv, grad_bias.to(bias.dtype), None, None
