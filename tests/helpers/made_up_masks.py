"""Pairs of masks made of a seed, the same with every NumPy; no other package is needed."""

from __future__ import annotations

import numpy as np


def mask_pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A reference and a prediction (i, j, k) of one to many boxes, which touch, overlap, are alike or are missing.

    They have fewer than 255 lesions each: panoptica 1.0.1 numbers them in 8 bits.
    """
    rng = np.random.default_rng(seed)
    shape = tuple(int(size) for size in rng.integers(3, 19, 3))
    reference, prediction = np.zeros(shape, bool), np.zeros(shape, bool)
    for _ in range(rng.integers(0, 14)):
        start = rng.integers(0, shape)
        size = rng.integers(1, 6, 3)
        shift = rng.integers(-2, 3, 3)
        kind = rng.random()
        if kind < 0.85:
            reference[_box(start, size)] = True
        if kind > 0.15:
            prediction[_box(start + shift, size + rng.integers(-1, 2, 3))] = True
    noise = rng.random(shape)
    prediction ^= noise < rng.choice([0, 0, 0.01, 0.03])
    return reference, prediction


def _box(start: np.ndarray, size: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(max(0, int(a)), max(0, int(a + n))) for a, n in zip(start, size, strict=True))
