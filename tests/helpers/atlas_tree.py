"""Small ATLAS-like trees on disk, sound unless a test plants a fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

SHAPE = (12, 14, 13)
RAS = np.array([[1.0, 0, 0, -98], [0, 1, 0, -134], [0, 0, 1, -72], [0, 0, 0, 1]])


def voxels(name: str, shape: Sequence[int] = SHAPE) -> npt.NDArray[np.float32]:
    """Another image for every name."""
    return np.random.default_rng(list(name.encode())).random(tuple(shape), dtype=np.float32) * 900 + 100


def lesion(name: str, shape: Sequence[int] = SHAPE) -> npt.NDArray[np.uint8]:
    """Another ragged box for every name, off the centre on all axes."""
    mask = np.zeros(tuple(shape), np.uint8)
    mask[2:7, 3:6, 7:11] = np.random.default_rng(list(name.encode())).random((5, 3, 4)) < 0.6
    return mask


@dataclass
class AtlasTree:
    """Builds ``root`` case by case; ``folder`` is where subjects go, with {site} for R001 and so on."""

    root: Path
    folder: str = "Training/{site}"
    test_folder: str = "Testing/{site}"

    def stem(self, subject: str, session: str = "1", test: bool = False) -> Path:
        """Path of a case's files up to the space entity."""
        part = (self.test_folder if test else self.folder).format(site=subject[:4].upper())
        name = f"sub-{subject}_ses-{session}_space-MNI152NLin2009aSym"
        return self.root / part / f"sub-{subject}" / f"ses-{session}" / "anat" / name

    def image_path(self, subject: str, session: str = "1", test: bool = False) -> Path:
        stem = self.stem(subject, session, test)
        return stem.with_name(f"{stem.name}_T1w.nii.gz")

    def mask_path(self, subject: str, session: str = "1", test: bool = False) -> Path:
        stem = self.stem(subject, session, test)
        return stem.with_name(f"{stem.name}_label-L_desc-T1lesion_mask.nii.gz")

    def add_image(self, subject: str, session: str = "1", *, test: bool = False, **options: Any) -> Path:
        data = options.pop("data", voxels(subject + session))
        return save(self.image_path(subject, session, test), data, **options)

    def add_mask(self, subject: str, session: str = "1", *, test: bool = False, **options: Any) -> Path:
        data = options.pop("data", lesion(subject + session))
        return save(self.mask_path(subject, session, test), data, **options)

    def add(self, *subjects: str) -> AtlasTree:
        for subject in subjects:
            self.add_image(subject)
            self.add_mask(subject)
        return self


def save(path: Path, data: npt.NDArray[Any], affine: npt.NDArray[Any] = RAS, **header: Any) -> Path:
    """Write a NIfTI; further header fields by name. Voxels are stored as given."""
    image = nib.Nifti1Image(data, affine, dtype=data.dtype)
    for field, value in header.items():
        image.header[field] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path
