"""Boxes around what an image holds."""

from __future__ import annotations

import numpy as np


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds all voxels of a mask of any rank; of no size for an empty one."""
    box: list[slice] = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        extent = slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 0)
        box.append(extent)
        mask = mask[(slice(None),) * axis + (extent,)]
    return tuple(box)
