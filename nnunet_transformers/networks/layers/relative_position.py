"""Relative-position bias: one learnt number per head and offset between two tokens of a window.

Liu et al., "Swin Transformer", ICCV 2021, section 3.2 ("Relative position bias"), for any number of axes. Difference
from MONAI's version: a window smaller than the table's takes the entries of its own offsets, where MONAI cuts the
corner out of the large window's index and so gives most pairs the bias of another offset.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from torch import Tensor, nn

from nnunet_transformers.networks.layers.made_once import made_once


def relative_position_index(window: Sequence[int], table_window: Sequence[int]) -> np.ndarray:
    """Row of the bias table for each pair of tokens, (n_tokens, n_tokens); query first.

    Args:
        window: window size per axis.
        table_window: the window the table is made for, at least as large along each axis; its table has
            prod(2 * table_window - 1) rows, the offsets in raster order.

    Raises:
        ValueError: the window is larger than the table's.
    """
    if any(w > t for w, t in zip(window, table_window, strict=True)):
        raise ValueError(f"a window of {tuple(window)} needs offsets that a table for {tuple(table_window)} lacks")
    coordinates = np.indices(window).reshape(len(window), -1)
    offsets = coordinates[:, :, None] - coordinates[:, None, :]
    index = np.zeros(offsets.shape[1:], dtype=np.int64)
    for axis_offsets, t in zip(offsets, table_window, strict=True):
        index = index * (2 * t - 1) + axis_offsets + t - 1
    return index


@made_once(maxsize=128)
def _index(window: tuple[int, ...], table_window: tuple[int, ...], device: str) -> Tensor:
    return torch.from_numpy(relative_position_index(window, table_window).reshape(-1)).to(device)


@torch.library.custom_op(
    "nnunet_transformers::relative_position_bias",
    mutates_args=(),
    schema="(Tensor table, SymInt[] window, SymInt[] table_window) -> Tensor",
)
def _bias(table: Tensor, window: Sequence[int], table_window: Sequence[int]) -> Tensor:
    n_tokens = math.prod(window)
    index = _index(tuple(window), tuple(table_window), str(table.device))
    return F.embedding(index, table).view(n_tokens, n_tokens, -1).permute(2, 0, 1).contiguous()


@_bias.register_fake
def _(table: Tensor, window: Sequence[int], table_window: Sequence[int]) -> Tensor:
    n_tokens = math.prod(window)
    return table.new_empty(table.shape[1], n_tokens, n_tokens)


@torch.library.custom_op(
    "nnunet_transformers::relative_position_bias_backward",
    mutates_args=(),
    schema="(Tensor grad, SymInt[] window, SymInt[] table_window) -> Tensor",
)
def _bias_backward(grad: Tensor, window: Sequence[int], table_window: Sequence[int]) -> Tensor:
    index = _index(tuple(window), tuple(table_window), str(grad.device))
    rows = grad.permute(1, 2, 0).reshape(-1, grad.shape[0])
    return torch.ops.aten.embedding_dense_backward(rows, index, table_rows(table_window), -1, False)


@_bias_backward.register_fake
def _(grad: Tensor, window: Sequence[int], table_window: Sequence[int]) -> Tensor:
    return grad.new_empty(table_rows(table_window), grad.shape[0])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, *ctx.windows = inputs


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _bias_backward(grad, *ctx.windows), None, None


_bias.register_autograd(_gradients, setup_context=_keep)


def table_rows(table_window: Sequence[int]) -> int:
    """Offsets between two tokens of a window."""
    return math.prod(2 * w - 1 for w in table_window)


class RelativePositionBias(nn.Module):
    """The bias of every pair of tokens in a window, per head.

    Args:
        window: the largest window; smaller ones use the part of the table that holds their offsets.
        num_heads: heads.
    """

    def __init__(self, window: Sequence[int], num_heads: int) -> None:
        super().__init__()
        self.window = tuple(window)
        self.table = nn.Parameter(torch.zeros(table_rows(window), num_heads))
        trunc_normal_(self.table, std=0.02)

    def forward(self, window: Sequence[int]) -> Tensor:
        """(heads, n_tokens, n_tokens) for a window of this size."""
        return _bias(self.table, tuple(window), self.window)
