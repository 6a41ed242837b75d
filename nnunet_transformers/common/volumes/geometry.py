"""Voxel grids: affines from voxel index (i, j, k) to scanner or template millimetres (right, anterior, superior)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache

import nibabel as nib
import numpy as np

Affine = np.ndarray


def corner_distance(a: Affine, b: Affine, shape: Sequence[int]) -> float:
    """Largest distance in mm between where two affines place the eight corner voxels of a grid of this shape."""
    corners = np.array([(*corner, 1) for corner in itertools.product(*((0, size - 1) for size in shape))], dtype=float)
    return float(np.linalg.norm((corners @ (a - b).T)[:, :3], axis=1).max())


def voxel_sizes(affine: Affine) -> Affine:
    """Spacing in mm along i, j, k."""
    return np.linalg.norm(affine[:3, :3], axis=0)


def orthonormal(affine: Affine) -> Affine:
    """The affine with the nearest orthonormal axes (polar decomposition), the same spacing and the same first voxel."""
    spacing = voxel_sizes(affine)
    left, _, right = np.linalg.svd(affine[:3, :3] / spacing)
    result = affine.copy()
    result[:3, :3] = (left @ right) * spacing
    return result


def orientation(affine: Affine) -> str:
    """Where i, j, k point, as in "RAS" or "LPI"."""
    return "".join(nib.orientations.ornt2axcodes(_axes(affine)))


def to_ras(data: np.ndarray, affine: Affine) -> tuple[np.ndarray, Affine]:
    """Flip and permute axes so that i, j, k point right, anterior and superior as closely as they can.

    Args:
        data: (i, j, k).
        affine: its grid.

    Returns:
        A view of the same voxels, and the grid they now lie on.
    """
    axes = _axes(affine)
    moved = nib.orientations.inv_ornt_aff(axes, data.shape)
    return nib.apply_orientation(data, axes), affine @ moved


def ras_grid(shape: Sequence[int], affine: Affine) -> tuple[tuple[int, ...], Affine]:
    """Shape and affine of a grid after `to_ras`."""
    axes = _axes(affine)
    turned = [0, 0, 0]
    for size, (axis, _) in zip(shape, axes, strict=True):
        turned[int(axis)] = size
    return tuple(turned), affine @ nib.orientations.inv_ornt_aff(axes, shape)


def _axes(affine: Affine) -> np.ndarray:
    """nibabel's orientation array; most files of a dataset have one of a few."""
    return _axes_of(np.ascontiguousarray(affine[:3, :3], dtype=np.float64).tobytes()).copy()


@lru_cache(maxsize=1024)
def _axes_of(matrix: bytes) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.frombuffer(matrix).reshape(3, 3)
    return nib.io_orientation(affine)
