"""What the name of a file of voxels says: its form, and which volume is meant.

`imagesTr/BRATS_001.nii.gz#2` is volume 2, counted from 0, of a NIfTI file that holds several.
"""

from __future__ import annotations

import re
from pathlib import Path

MASK_FORMS = (".nrrd", ".mha")
"""Endings of files that are read beside NIfTI, of masks only; `.seg.nrrd` is 3D Slicer's."""

_VOLUME = re.compile(r"(.+\.nii(?:\.gz)?)#([0-9]+)", re.IGNORECASE | re.DOTALL)


def is_nifti(name: str) -> bool:
    return name.lower().endswith((".nii", ".nii.gz"))


def is_mask_form(name: str) -> bool:
    return name.lower().endswith(MASK_FORMS)


def file_and_volume(path: str | Path) -> tuple[Path, int | None]:
    """The file on disk, and which of its volumes is meant, where the path says so."""
    match = _VOLUME.fullmatch(str(path))
    return (Path(match[1]), int(match[2])) if match else (Path(path), None)


def file_of(path: str | Path) -> Path:
    """The file on disk."""
    return file_and_volume(path)[0]


def identity(path: str | Path) -> tuple[Path, int]:
    """Equal for two paths that lead to the same volume of the same file."""
    file, volume = file_and_volume(path)
    return file.resolve(), volume or 0
