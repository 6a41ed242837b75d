"""Images that are one scan, though a normalisation gave their voxels another scale and shift.

A thumbnail of about a thousand voxels of each image tells all but such pairs apart; those are compared voxel by voxel.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

_SIDE = 10  # voxels of a thumbnail along each axis, about
_CANDIDATES = 0.9998
# Rounding to 256 grey levels leaves 0.99998; two scans of one head in one session reach 0.99.
_ALIKE = 0.99995
_BLOCK = 1024


def thumbnail(voxels: np.ndarray) -> str:
    """Voxels at even distances, with mean 0 and length 1, as text; empty where they all have one value."""
    steps = [-(-size // _SIDE) for size in voxels.shape]
    points = voxels[tuple(slice(step // 2, None, step) for step in steps)].astype(np.float64).ravel()
    points -= points.mean()
    length = float(np.linalg.norm(points))
    return base64.b64encode((points / length).astype("<f4").tobytes()).decode() if length else ""


def candidates(thumbnails: Sequence[str]) -> list[tuple[int, int]]:
    """The pairs, by index, that may be alike."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, each in enumerate(thumbnails):
        by_length[len(each)].append(index)
    pairs = []
    for length, there in by_length.items():
        if not length or len(there) < 2:
            continue
        points = np.stack([np.frombuffer(base64.b64decode(thumbnails[index]), "<f4") for index in there])
        for start in range(0, len(there), _BLOCK):
            close = np.abs(points[start : start + _BLOCK] @ points.T) > _CANDIDATES
            pairs += [(there[start + a], there[b]) for a, b in np.argwhere(close).tolist() if start + a < b]
    return pairs


def alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two images are equal up to scale and shift of their values, but for rounding."""
    if one.shape != other.shape:
        return False
    a, b = (voxels.astype(np.float64).ravel() for voxels in (one, other))
    a -= a.mean()
    b -= b.mean()
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return lengths > 0 and abs(float(a @ b)) > _ALIKE * lengths
