"""Arrays with a RAS affine as SimpleITK images, and back.

SimpleITK counts millimetres towards left, posterior and superior (LPS) and takes its arrays as (k, j, i).
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import SimpleITK

from nnunet_transformers.common.volumes.geometry import Affine, voxel_sizes

RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From RAS mm to LPS mm, and from LPS mm to RAS mm."""


def to_sitk(data: np.ndarray, affine: Affine) -> SimpleITK.Image:
    """The image with these voxels in these places.

    Args:
        data: (i, j, k) of any real type; bool becomes uint8, and byte orders and types that SimpleITK does not know
            become the nearest that it knows.
        affine: from (i, j, k) to RAS mm; oblique, anisotropic and left-handed grids are fine.
    """
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(data.T, dtype=_sitk_dtype(data.dtype)))
    origin, spacing, direction = sitk_geometry(affine)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    return image


def from_sitk(image: SimpleITK.Image) -> tuple[np.ndarray, Affine]:
    """The voxels (i, j, k) of a 3D image, and the affine from there to RAS mm."""
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).T, RAS_LPS @ lps


def sitk_geometry(affine: Affine) -> tuple[list[float], list[float], list[float]]:
    """Origin (LPS mm), spacing (mm) and direction (row by row) of a grid with this affine to RAS mm."""
    lps = RAS_LPS @ affine
    spacing = voxel_sizes(lps)
    # ITK fails to invert a matrix with numbers near 1e-310, and then sees every point outside the image.
    direction = (lps[:3, :3] / spacing).round(15)
    return lps[:3, 3].tolist(), spacing.tolist(), direction.ravel().tolist()


def _sitk_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        return np.dtype(np.float64)
    return dtype.newbyteorder("=")


def silence_warnings() -> None:
    """Keep ITK from writing to stderr what it thinks of a header; the checks compare its grid with ours and say so.

    For the whole process, so for programs to call and not for libraries.
    """
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)


class _OneThread:
    """While any thread of this process is inside, what ITK starts runs on one thread each.

    A registration adds up numbers in the order in which its threads finish, so that its last digits vary from run to
    run. The number of threads set for an `ImageRegistrationMethod` does not reach its metric; only the default of the
    process does.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
                SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(self._before)


ONE_THREAD = _OneThread()
