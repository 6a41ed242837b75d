"""Put a checked case into nnU-Net's raw folder: files linked where they can stay as they are, rewritten where not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal

import numpy as np

from dataset_conversion import nifti
from dataset_conversion.checks import CheckedCase, CheckedFile
from dataset_conversion.errors import stop
from dataset_conversion.geometry import orthonormal, to_ras

Link = Literal["auto", "copy"]

# Other types, and scaled values, become float32, which is what nnU-Net's reader makes of every image.
_KEPT_TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float32")


def destinations(checked: CheckedCase) -> list[tuple[CheckedFile, str]]:
    """(source file, path inside the dataset folder) of each file of a case; channels are numbered in table order."""
    if checked.content is None:
        return []
    case, part = checked.case.case, "Tr" if checked.case.split == "train" else "Ts"
    images = [
        (file, f"images{part}/{case}_{channel:04d}.nii.gz") for channel, file in enumerate(checked.content.images)
    ]
    mask = checked.content.mask
    return images + ([(mask, f"labels{part}/{case}.nii.gz")] if mask else [])


def write_case(checked: CheckedCase, source: Path, dataset: Path, link: Link = "auto") -> None:
    """Write the files of a case into a dataset folder whose sub-folders exist.

    Args:
        checked: a case that passed the checks.
        source: the folder its paths are relative to.
        dataset: ``DatasetNNN_Name``.
        link: "auto" makes hard links of unchanged files and copies them where the file system cannot; "copy" copies.
    """
    for file, destination in destinations(checked):
        if file.changes:
            _rewrite(checked, file, source, dataset / destination)
        else:
            _place(source / file.path, dataset / destination, link)


def _place(path: Path, destination: Path, link: Link) -> None:
    if link == "auto":
        try:
            os.link(path.resolve(), destination)
            return
        except OSError:  # another file system, or one without hard links, or not allowed to link other people's files
            pass
    shutil.copyfile(path, destination)


def _rewrite(checked: CheckedCase, file: CheckedFile, source: Path, destination: Path) -> None:
    assert checked.content is not None
    volume = nifti.read(source / file.path)
    if volume.sha256 != file.sha256:
        raise stop(
            "SOURCE_CHANGED", f"{file.path} changed while it was being converted", "Run again when it is stable."
        )
    data = volume.data
    if file.role == "mask":
        data = (data != 0).astype(np.uint8)
    elif data.dtype.name in _KEPT_TYPES and "scale factors in the header" not in file.changes:
        data = data.astype(data.dtype.newbyteorder("="), copy=False)
    else:
        data = data.astype(np.float32)
    voxels, _ = to_ras(data, orthonormal(volume.affine))
    nifti.write(destination, voxels, checked.content.grid)
