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
from typing import Any, NamedTuple

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


class MapWindows(NamedTuple):
    """How a map is cut into windows: shapes only, so a compiler and an exporter may look at it.

    Attributes:
        map_size: spatial size of the map.
        window: window size per axis, at most the map's.
        shift: cyclic shift per axis, smaller than the window.
    """

    map_size: tuple[int, ...]
    window: tuple[int, ...]
    shift: tuple[int, ...]

    @classmethod
    def of_map(cls, map_size: Sequence[int], window: Sequence[int], shift: Sequence[int]) -> MapWindows:
        """Those of a map of this size, clipped to it (`clip_window`)."""
        return cls(tuple(map_size), *clip_window(map_size, window, shift))

    def to_windows(self, x: Tensor) -> Tensor:
        """(B, *spatial, C) to (n_windows * B, n_tokens, C); padded tokens are 0.

        Windows come in the order of `WindowLayout` with the samples of the batch side by side: row `w * B + b`. So the
        windows of one mask stay consecutive for any batch.
        """
        return _to_windows(x, self.window, self.shift)

    def from_windows(self, windows: Tensor) -> Tensor:
        """(n_windows * B, n_tokens, C) to (B, *spatial, C)."""
        return _from_windows(windows, *self)

    def groups(self, batch: int, device: torch.device) -> tuple[WindowGroup, ...]:
        """Ranges of rows of `to_windows` that share a mask."""
        groups = window_layout(*self, str(device)).groups
        return tuple(WindowGroup(g.start * batch, g.stop * batch, g.mask) for g in groups)


# The two operators are linear and each other's transpose: what one gathers, the other one's backward pass scatters, and
# neither needs the slow scatter-add of index_select.


@torch.library.custom_op(
    "nnunet_transformers::to_windows", mutates_args=(), schema="(Tensor x, SymInt[] window, SymInt[] shift) -> Tensor"
)
def _to_windows(x: Tensor, window: Sequence[int], shift: Sequence[int]) -> Tensor:
    batch, *map_size, channels = x.shape
    layout = window_layout(tuple(map_size), tuple(window), tuple(shift), str(x.device))
    n_tokens = layout.source.shape[1]
    sample = torch.arange(batch, device=x.device)[None, :, None] * math.prod(map_size)
    rows = x.reshape(-1, channels).index_select(0, (layout.source[:, None, :] + sample).reshape(-1))
    windows = rows.view(-1, n_tokens, channels)
    if layout.padding is not None:
        windows.view(-1, batch, n_tokens, channels).masked_fill_(layout.padding[:, None, :, None], 0)
    return windows


@_to_windows.register_fake
def _(x: Tensor, window: Sequence[int], shift: Sequence[int]) -> Tensor:
    batch, *map_size, channels = x.shape
    return x.new_empty(n_windows(map_size, window) * batch, math.prod(window), channels)


@torch.library.custom_op(
    "nnunet_transformers::from_windows",
    mutates_args=(),
    schema="(Tensor windows, SymInt[] map_size, SymInt[] window, SymInt[] shift) -> Tensor",
)
def _from_windows(windows: Tensor, map_size: Sequence[int], window: Sequence[int], shift: Sequence[int]) -> Tensor:
    n_rows, n_tokens, channels = windows.shape
    layout = window_layout(tuple(map_size), tuple(window), tuple(shift), str(windows.device))
    batch = n_rows // layout.source.shape[0]
    sample = torch.arange(batch, device=windows.device)[:, None]
    index = ((layout.window * batch + sample) * n_tokens + layout.token).reshape(-1)
    return windows.reshape(-1, channels).index_select(0, index).view(batch, *map_size, channels)


@_from_windows.register_fake
def _(windows: Tensor, map_size: Sequence[int], window: Sequence[int], shift: Sequence[int]) -> Tensor:
    batch = windows.shape[0] // n_windows(map_size, window)
    return windows.new_empty(batch, *map_size, windows.shape[-1])


def _keep_map_size(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, *ctx.window_and_shift = inputs
    ctx.map_size = x.shape[1:-1]


def _keep_shapes(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, _, *ctx.window_and_shift = inputs


def _to_windows_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _from_windows(grad, ctx.map_size, *ctx.window_and_shift), None, None


def _from_windows_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _to_windows(grad, *ctx.window_and_shift), None, None, None


_to_windows.register_autograd(_to_windows_backward, setup_context=_keep_map_size)
_from_windows.register_autograd(_from_windows_backward, setup_context=_keep_shapes)


def n_windows(map_size: Sequence[int], window: Sequence[int]) -> int:
    """Windows that cover a map."""
    return math.prod((n + w - 1) // w for n, w in zip(map_size, window, strict=True))
