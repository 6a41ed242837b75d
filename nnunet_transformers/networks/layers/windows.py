"""Where each token of a feature map goes when the map is cut into shifted windows.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021, section 3.2 (the
cyclic shift and its mask), for any number of axes. Differences from MONAI's version: pad, roll and partition are one
gather; a padded token is never a key of a real one; windows that share a mask lie side by side, so a mask is stored
once per kind of window (at most 8 kinds in 3D where windows divide the map) and not once per window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnunet_transformers.networks.layers.made_once import made_once


@dataclass(frozen=True)
class WindowGroup:
    """Consecutive windows that share one attention mask.

    Attributes:
        start, stop: range of windows, in the layout's order.
        mask: (n_tokens, n_tokens), 0 where a query may see a key and -inf where not; None where it may see all.
    """

    start: int
    stop: int
    mask: Tensor | None


@dataclass(frozen=True)
class WindowLayout:
    """The windows of one map: `n_windows` windows of `n_tokens` tokens each, grouped by their mask.

    Attributes:
        source: (n_windows, n_tokens), flat position in the map of each token; 0 where the token is padding.
        window, token: (n_positions,), where each position of the map lies in the windows.
        padding: (n_windows, n_tokens), True where the token is padding; None where nothing is padded.
        groups: the windows' masks.
    """

    source: Tensor
    window: Tensor
    token: Tensor
    padding: Tensor | None
    groups: tuple[WindowGroup, ...]


def clip_window(
    map_size: Sequence[int], window: Sequence[int], shift: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A window no larger than the map, and no shift along an axis that one window covers (Swin's own rule)."""
    clipped = tuple(min(n, w) for n, w in zip(map_size, window, strict=True))
    return clipped, tuple(s if w < n else 0 for n, w, s in zip(map_size, clipped, shift, strict=True))


def _axis_windows(size: int, window: int, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """One axis cut into windows: (n_windows, window) positions, -1 for padding, and the region of each token.

    Tokens attend to each other when they share a region along every axis: 0 for the map in its order, 1 for what the
    cyclic shift brought round from its other end, -1 for padding.
    """
    padded = math.ceil(size / window) * window
    position = np.roll(np.arange(padded), -shift)
    region = np.where(np.arange(padded) >= padded - shift, 1, 0)
    region[position >= size] = -1
    position = np.where(position < size, position, -1)
    return position.reshape(-1, window), region.reshape(-1, window)


def _outer(values: Sequence[np.ndarray], weights: Sequence[int]) -> np.ndarray:
    """(n_windows, n_tokens) weighted sums over all axes of per-axis (n_windows_axis, window_axis) arrays."""
    dims = len(values)
    total = np.zeros((1,) * (2 * dims), dtype=np.int64)
    for axis, (value, weight) in enumerate(zip(values, weights, strict=True)):
        shape = [1] * (2 * dims)
        shape[axis], shape[dims + axis] = value.shape
        total = total + (value * weight).reshape(shape)
    return total.reshape(math.prod(total.shape[:dims]), -1)


def build_window_layout(map_size: Sequence[int], window: Sequence[int], shift: Sequence[int]) -> WindowLayout:
    """The windows of a map, rolled by `-shift`; a map that is no multiple of the window is padded at its far end.

    Args:
        map_size: spatial size of the map.
        window: window size per axis, at most the map's.
        shift: cyclic shift per axis, smaller than the window.

    Raises:
        ValueError: window or shift does not fit.
    """
    if any(not 1 <= w <= n or not 0 <= s < w for n, w, s in zip(map_size, window, shift, strict=True)):
        raise ValueError(f"windows of {tuple(window)} shifted by {tuple(shift)} do not fit a map of {tuple(map_size)}")
    axes = [_axis_windows(n, w, s) for n, w, s in zip(map_size, window, shift, strict=True)]
    strides = [math.prod(map_size[axis + 1 :]) for axis in range(len(map_size))]
    source = _outer([position for position, _ in axes], strides)
    padding = _outer([region == -1 for _, region in axes], [1] * len(axes)) > 0
    region = _outer([region == 1 for _, region in axes], [2**axis for axis in range(len(axes))])
    region[padding] = -1
    source[padding] = 0

    kinds, kind = np.unique(region, axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    order = np.argsort(kind, kind="stable")
    source, padding = source[order], padding[order]
    stops = np.cumsum(np.bincount(kind))
    groups = []
    for regions, start, stop in zip(kinds, [0, *stops[:-1]], stops, strict=True):
        same = regions[:, None] == regions[None, :]
        mask = None if same.all() else torch.from_numpy(np.where(same, 0.0, -np.inf).astype(np.float32))
        groups.append(WindowGroup(int(start), int(stop), mask))

    where = np.empty(math.prod(map_size), dtype=np.int64)
    where[source[~padding]] = np.flatnonzero(~padding)
    return WindowLayout(
        source=torch.from_numpy(source),
        window=torch.from_numpy(where // source.shape[1]),
        token=torch.from_numpy(where % source.shape[1]),
        padding=torch.from_numpy(padding) if padding.any() else None,
        groups=tuple(groups),
    )


# A network meets the shapes of one patch, or of a few whole volumes: two entries per stage and shape.
@made_once(maxsize=128)
def window_layout(
    map_size: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...], device: str
) -> WindowLayout:
    """`build_window_layout` on a device."""
    layout = build_window_layout(map_size, window, shift)
    return WindowLayout(
        source=layout.source.to(device),
        window=layout.window.to(device),
        token=layout.token.to(device),
        padding=None if layout.padding is None else layout.padding.to(device),
        groups=tuple(
            WindowGroup(g.start, g.stop, None if g.mask is None else g.mask.to(device)) for g in layout.groups
        ),
    )


class _ToWindows(torch.autograd.Function):
    """A gather whose backward is the inverse gather, not the slow scatter-add of index_select."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, to_windows: Tensor, from_windows: Tensor) -> Tensor:
        ctx.save_for_backward(from_windows)
        return rows.index_select(0, to_windows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (from_windows,) = ctx.saved_tensors
        return grads[0].index_select(0, from_windows), None, None


class _FromWindows(torch.autograd.Function):
    """The way back; padded tokens receive no gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, to_windows: Tensor, from_windows: Tensor, padding: Tensor | None) -> Tensor:
        ctx.save_for_backward(to_windows, padding)
        return rows.index_select(0, from_windows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        to_windows, padding = ctx.saved_tensors
        grad = grads[0].index_select(0, to_windows)
        if padding is not None:
            grad = grad.masked_fill(padding[:, None], 0)
        return grad, None, None, None


class WindowPartition:
    """Moves tokens of a batch of maps into windows and back, for one layout.

    Windows come in the layout's order with the samples of the batch side by side: row `w * batch + b`. So the windows
    of one mask stay consecutive for any batch.
    """

    def __init__(self, layout: WindowLayout, batch: int) -> None:
        n_windows, n_tokens = layout.source.shape
        n_positions = layout.window.numel()
        sample = torch.arange(batch, device=layout.source.device)
        self.groups = tuple(WindowGroup(g.start * batch, g.stop * batch, g.mask) for g in layout.groups)
        self.layout, self.batch = layout, batch
        self._to = (layout.source[:, None, :] + sample[None, :, None] * n_positions).reshape(-1)
        self._from = ((layout.window * batch + sample[:, None]) * n_tokens + layout.token).reshape(-1)
        padding = layout.padding
        self._padding = None if padding is None else padding[:, None].expand(n_windows, batch, n_tokens).reshape(-1)

    def to_windows(self, x: Tensor) -> Tensor:
        """(B, *spatial, C) to (n_windows * B, n_tokens, C)."""
        rows = _ToWindows.apply(x.reshape(-1, x.shape[-1]), self._to, self._from)
        return rows.view(-1, self.layout.source.shape[1], x.shape[-1])

    def from_windows(self, windows: Tensor, spatial: Sequence[int]) -> Tensor:
        """(n_windows * B, n_tokens, C) to (B, *spatial, C)."""
        rows = windows.reshape(-1, windows.shape[-1])
        rows = _FromWindows.apply(rows, self._to, self._from, self._padding)
        return rows.view(self.batch, *spatial, windows.shape[-1])
