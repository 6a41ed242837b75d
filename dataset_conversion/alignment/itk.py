"""Arrays with a RAS affine as SimpleITK images, and back.

SimpleITK counts millimetres towards left, posterior and superior (LPS) and takes its arrays as (k, j, i).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK

from dataset_conversion.geometry import Affine, voxel_sizes

RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From RAS mm to LPS mm, and from LPS mm to RAS mm."""


def to_sitk(data: npt.NDArray[Any], affine: Affine) -> SimpleITK.Image:
    """The image with these voxels in these places.

    Args:
        data: (i, j, k) of any real type; bool becomes uint8, and byte orders and types that SimpleITK does not know
            become the nearest that it knows.
        affine: from (i, j, k) to RAS mm; oblique, anisotropic and left-handed grids are fine.
    """
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(data.T, dtype=_sitk_dtype(data.dtype)))
    lps = RAS_LPS @ affine
    spacing = voxel_sizes(lps)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def from_sitk(image: SimpleITK.Image) -> tuple[npt.NDArray[Any], Affine]:
    """The voxels (i, j, k) of a 3D image, and the affine from there to RAS mm."""
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).T, RAS_LPS @ lps


def _sitk_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    return np.dtype(f"{dtype.kind}{min(max(dtype.itemsize, 4) if dtype.kind == 'f' else dtype.itemsize, 8)}")
