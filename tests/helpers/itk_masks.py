"""Masks as 3D Slicer and ITK-SNAP write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK

RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def turned(*angles: float, spacing: tuple[float, float, float] = (1.0, 1.2, 2.5), flip: int = 1) -> np.ndarray:
    """A RAS affine turned by these angles in radians."""
    affine = np.eye(4)
    matrix = np.reshape(SimpleITK.Euler3DTransform((0, 0, 0), *angles).GetMatrix(), (3, 3))
    affine[:3, :3] = matrix * np.multiply(spacing, (flip, 1, 1))
    affine[:3, 3] = (-87.25, 12.5, -44.125)
    return affine


def save_itk(path: Path, data: np.ndarray, affine: np.ndarray, *, compress: bool = True) -> Path:
    """Write (i, j, k) with a RAS affine, in the form that the ending says."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(data.T))
    lps = RAS_LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path), useCompression=compress)
    return path


def with_texts(path: Path, texts: Mapping[str, str]) -> Path:
    """Add what 3D Slicer says of segments to the header of an NRRD file."""
    head, blank, voxels = path.read_bytes().partition(b"\n\n")
    lines = "".join(f"\n{key}:={value}" for key, value in texts.items())
    path.write_bytes(head + lines.encode() + blank + voxels)
    return path
