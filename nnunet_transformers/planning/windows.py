"""Attention windows that suit a plan: they divide its feature maps and are as cubic, in mm, as the maps allow.

A window of 7, as published, fits none of the maps of a patch of 128: padding makes 1.3 to 5.4 times as many tokens.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

MAX_TOKENS = 512  # 8^3, the largest power-of-two cube near the published 7^3
MIN_TOKENS = 64  # with fewer, unless the map has no more, a token sees too little of its surroundings
MAX_EDGE = 16

# How much longer, in mm, one side of a window may be than another; a map too thin for that is covered whole.
_MAX_ELONGATIONS = (2.0, 4.0)


def choose_window(map_size: Sequence[int], spacing: Sequence[float]) -> tuple[int, ...]:
    """The window for a feature map.

    Among the windows of 64 to 512 tokens and at most 16 along an axis that divide the map and are at most twice
    (failing that, four times) as long in mm along one axis as along another, the one with most tokens, then the most
    cubic. A map that has none (its sizes are large primes) is left to padding with a window of 5 to 8.

    Args:
        map_size: spatial size of the map, in tokens.
        spacing: size of a token per axis, in mm.
    """
    divisors = [[w for w in range(1, min(n, MAX_EDGE) + 1) if n % w == 0] for n in map_size]
    min_tokens = min(MIN_TOKENS, math.prod(map_size))
    windows = [w for w in itertools.product(*divisors) if min_tokens <= math.prod(w) <= MAX_TOKENS]
    for max_elongation in _MAX_ELONGATIONS:
        allowed = [w for w in windows if _elongation(w, map_size, spacing) <= max_elongation]
        if allowed:
            return max(allowed, key=lambda w: (math.prod(w), -_elongation(w, map_size, spacing)))
    return tuple(n if n <= 8 else min(range(8, 4, -1), key=lambda w: -n % w) for n in map_size)


def _elongation(window: Sequence[int], map_size: Sequence[int], spacing: Sequence[float]) -> float:
    """Longest over shortest side in mm; a side that covers its map is as long as it can be, so it is never short."""
    sides = [w * mm for w, mm in zip(window, spacing, strict=True)]
    free = [side for side, w, n in zip(sides, window, map_size, strict=True) if w < n]
    return max(sides) / min(free, default=max(sides))


def choose_windows(
    patch_size: Sequence[int], spacing: Sequence[float], strides: Sequence[Sequence[int]]
) -> list[tuple[int, ...]]:
    """A window for the feature map of every stage, full resolution first.

    Args:
        patch_size: of the plan.
        spacing: voxel size of the plan's target spacing, in mm.
        strides: stride into each stage, per axis.

    Raises:
        ValueError: a map's size is not a multiple of the stride that halves it.
    """
    size, token = tuple(patch_size), tuple(spacing)
    windows = []
    for stride in strides:
        if any(n % s for n, s in zip(size, stride, strict=True)):
            raise ValueError(
                f"a map of {size} cannot be divided by a stride of {tuple(stride)}; patch {tuple(patch_size)}"
            )
        size = tuple(n // s for n, s in zip(size, stride, strict=True))
        token = tuple(mm * s for mm, s in zip(token, stride, strict=True))
        windows.append(choose_window(size, token))
    return windows
