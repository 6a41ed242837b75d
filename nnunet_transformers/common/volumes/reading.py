"""Read the volume that a path of a case table names, whatever its form: see `names`."""

from __future__ import annotations

from pathlib import Path

from nnunet_transformers.common.volumes import itk_files, names, nifti
from nnunet_transformers.common.volumes.nifti import Header, Volume


def read(path: Path) -> Volume:
    """Read a file completely, also where one volume of several is meant.

    Raises:
        BadFileError: where it cannot be used; see `nifti.read` and `itk_files.read`.
    """
    if names.is_mask_form(path.name):
        return itk_files.read(path)
    return nifti.read(*names.file_and_volume(path))


def read_header(path: Path) -> Header:
    """Read the header only; the voxels may still be damaged or missing.

    Raises:
        BadFileError: as `read`, as far as the header shows it.
    """
    if names.is_mask_form(path.name):
        return itk_files.read_header(path)
    return nifti.read_header(*names.file_and_volume(path))
