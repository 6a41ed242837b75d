"""Voxel grids in millimetres and smooth random fields on them.

Every grid is axis-aligned and RAS: a position is three numbers in mm (x to the right, y to the front, z up), and a
field on a grid is separable work, one axis at a time, in plain NumPy. So the result does not depend on a thread count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float32]

# Cubic B-spline weights of white noise have this standard deviation in 3D: (151/315)^(3/2).
_BSPLINE_STD = (151 / 315) ** 1.5


@dataclass(frozen=True)
class Grid:
    """An axis-aligned RAS voxel grid.

    Attributes:
        shape: voxels along x, y, z.
        spacing: edge of the cubic voxel in mm.
        origin: centre of voxel (0, 0, 0) in mm.
    """

    shape: tuple[int, int, int]
    spacing: float
    origin: tuple[float, float, float]

    @property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4) voxel index to mm."""
        affine = np.diag([self.spacing] * 3 + [1.0])
        affine[:3, 3] = self.origin
        return affine

    @property
    def voxel_ml(self) -> float:
        return self.spacing**3 / 1000

    def axes(self) -> list[Array]:
        """Voxel centres along x, y and z in mm."""
        return [
            (start + self.spacing * np.arange(size)).astype(np.float32)
            for start, size in zip(self.origin, self.shape, strict=True)
        ]

    def sample(self, volume: Array, points: Array, order: int = 1) -> Array:
        """Interpolate a volume on this grid at points (3, n) in mm; outside, its border value continues."""
        index = (points - np.asarray(self.origin, dtype=np.float32)[:, None]) / np.float32(self.spacing)
        return ndimage.map_coordinates(volume, index, order=order, mode="nearest", output=np.float32)


# ICBM 2009a symmetric at 1 mm, the grid of every image in ATLAS R2.0.
ICBM_GRID = Grid((197, 233, 189), 1.0, (-98.0, -134.0, -72.0))


def grid_at(spacing: float) -> Grid:
    """The ICBM field of view at another spacing: same centre, same extent to within half a voxel on each side."""
    centre = ICBM_GRID.affine[:3, 3] + (np.array(ICBM_GRID.shape) - 1) / 2
    shape = [max(1, round(size / spacing)) for size in ICBM_GRID.shape]
    x, y, z = (float(c - spacing * (size - 1) / 2) for c, size in zip(centre, shape, strict=True))
    return Grid((shape[0], shape[1], shape[2]), spacing, (x, y, z))


def _along_axis(volume: Array, axis: int, index: NDArray[np.intp], weights: Array) -> Array:
    """Weighted sum of `taps` neighbours along one axis; index and weights are (taps, n)."""
    shape = [1] * volume.ndim
    shape[axis] = -1
    result = np.take(volume, index[0], axis) * weights[0].reshape(shape)
    for i, w in zip(index[1:], weights[1:], strict=True):
        result += np.take(volume, i, axis) * w.reshape(shape)
    return result


def resample(volume: Array, source: Grid, target: Grid) -> Array:
    """Trilinear interpolation from one grid onto another; outside the source its border value continues."""
    for axis, centres in enumerate(target.axes()):
        last = source.shape[axis] - 1
        position = np.clip((centres - source.origin[axis]) / source.spacing, 0, last)
        lower = np.minimum(position.astype(np.intp), max(last - 1, 0))
        fraction = (position - lower).astype(np.float32)
        index = np.stack([lower, np.minimum(lower + 1, last)])
        volume = _along_axis(volume, axis, index, np.stack([1 - fraction, fraction]))
    return volume


def bspline_weights(fraction: Array) -> Array:
    """Weights (4, n) of the four uniform cubic B-splines that overlap a point at `fraction` in [0, 1) between knots."""
    t = fraction
    return np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / np.float32(6)


def random_field(rng: np.random.Generator, axes: Sequence[Array], scale_mm: float) -> Array:
    """A smooth Gaussian random field of mean 0 and standard deviation 1: a cubic B-spline with random coefficients.

    The knots cover the ICBM field of view whatever the axes, so one generator state gives one field in mm, seen through
    any grid.

    Args:
        axes: positions in mm along x, y, z, inside the ICBM field of view.
        scale_mm: knot distance; details are about this size.
    """
    start = np.array(ICBM_GRID.origin) - 1.5 * scale_mm
    size = [int(np.ceil(n / scale_mm)) + 5 for n in ICBM_GRID.shape]
    field = rng.standard_normal(size, dtype=np.float32) / np.float32(_BSPLINE_STD)
    for axis, centres in enumerate(axes):
        position = np.clip((centres - start[axis]) / scale_mm, 1, size[axis] - 3 - 1e-3)
        lower = position.astype(np.intp)
        index = np.stack([lower + tap for tap in (-1, 0, 1, 2)])
        field = _along_axis(field, axis, index, bspline_weights((position - lower).astype(np.float32)))
    return field


def ramp(x: Array, start: float, stop: float) -> Array:
    """0 below start, 1 above stop, smooth in between (3t² − 2t³)."""
    t = np.clip((x - np.float32(start)) / np.float32(stop - start), 0, 1)
    return t * t * (3 - 2 * t)
