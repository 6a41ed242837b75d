"""An image or a mask on another grid."""

from __future__ import annotations

import numpy as np
import SimpleITK

from dataset_conversion.alignment.grids import Grid
from dataset_conversion.alignment.itk import sitk_geometry, to_sitk
from nnunet_transformers.common.volumes.geometry import Affine


def resample(
    data: np.ndarray,
    affine: Affine,
    onto: Grid,
    transform: SimpleITK.Transform | None = None,
    *,
    nearest: bool,
) -> np.ndarray:
    """The values of an image where another grid has its voxels.

    Images are interpolated linearly: no value leaves the range of its neighbours, so the zeros around an extracted
    brain stay zeros, which splines and windowed sincs turn into ripples. Nothing is smoothed before a coarser grid is
    filled.

    Args:
        data: (i, j, k).
        affine: its grid, to RAS mm.
        onto: the grid to fill.
        transform: from points of `onto` to points of the data, in LPS mm, as `Registration.transform` has it;
            None where both are in the same scanner space.
        nearest: take the nearest voxel's value, as a mask needs it, and 0 beyond the data. Otherwise interpolate, and
            beyond the data continue the background: 0, or where the image's outermost voxels are mostly negative (air
            in CT, an image scaled to mean 0) their median.

    Returns:
        (i, j, k) of shape `onto.shape`; the type of `data` if `nearest`, else float32.
    """
    values = data if nearest else data.astype(np.float32, copy=False)
    origin, spacing, direction = sitk_geometry(onto.affine)
    resampler = SimpleITK.ResampleImageFilter()
    resampler.SetSize(onto.shape)
    resampler.SetOutputOrigin(origin)
    resampler.SetOutputSpacing(spacing)
    resampler.SetOutputDirection(direction)
    if transform is not None:
        resampler.SetTransform(transform)
    resampler.SetInterpolator(SimpleITK.sitkNearestNeighbor if nearest else SimpleITK.sitkLinear)
    resampler.SetDefaultPixelValue(0.0 if nearest else _background(values))
    result = SimpleITK.GetArrayFromImage(resampler.Execute(to_sitk(values, affine))).T
    return result.astype(values.dtype, copy=False)


def _background(data: np.ndarray) -> float:
    """The median of the voxels on the six faces of the volume, or 0 where that is positive."""
    faces = [face.ravel() for axis in range(data.ndim) for face in (data.take(0, axis), data.take(-1, axis))]
    return min(0.0, float(np.median(np.concatenate(faces))))
