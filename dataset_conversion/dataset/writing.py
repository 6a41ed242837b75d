"""Put a checked case into nnU-Net's raw folder: files linked where they can stay as they are, rewritten where not."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np

from dataset_conversion.checks.case import CaseVoxels, CheckedCase
from dataset_conversion.checks.file import CheckedFile, Reading
from dataset_conversion.errors import stop
from dataset_conversion.options import Link
from nnunet_transformers.common.volumes import nifti

# Other types, and scaled values, become float32, which is what nnU-Net's reader makes of every image.
_KEPT_TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float32")

_LINKS: dict[Link, tuple[str, ...]] = {"copy": (), "symlink": ("symlink",), "hard": ("link",)}
"""Functions of `os` that make a kind of link."""


def destinations(checked: CheckedCase) -> list[tuple[CheckedFile, str]]:
    """(file, path inside the dataset folder) of each file of a case; channels are numbered in table order."""
    if checked.content is None:
        return []
    case, part = checked.case.case, "Tr" if checked.case.split == "train" else "Ts"
    images = [
        (file, f"images{part}/{case}_{channel:04d}.nii.gz") for channel, file in enumerate(checked.content.images)
    ]
    mask = checked.content.mask
    return images + ([(mask, f"labels{part}/{case}.nii.gz")] if mask else [])


def referenced(checked: CheckedCase, file: CheckedFile, link: Link) -> bool:
    """Whether dataset.json names the source instead of a file in the dataset folder; nnU-Net does so for training."""
    return link == "reference" and checked.case.split == "train" and not file.changes


def write_case(checked: CheckedCase, voxels: CaseVoxels, source: Path, dataset: Path, link: Link = "auto") -> None:
    """Write the files of a case into a dataset folder whose sub-folders exist.

    Args:
        checked: a case that passed the checks.
        voxels: its files in memory.
        source: the folder its paths are relative to.
        dataset: `DatasetNNN_Name`.
        link: how unchanged files get there. "hard" makes hard links, "symlink" symbolic ones, "auto" the first of hard
            link, symbolic link and copy that works there, "copy" copies, "reference" leaves training files where they
            are, for dataset.json to name them, and treats others as "auto" does.

    Raises:
        OSError: where a file cannot be written.
        ConversionError: where one cannot be linked as asked.
    """
    for file, destination in destinations(checked):
        path = dataset / destination
        path.unlink(missing_ok=True)
        if file.changes:
            reading = voxels.mask if file.role == "mask" else voxels.images[file.role]
            assert reading is not None
            _rewrite(reading, path, voxels)
        elif not referenced(checked, file, link):
            _place((source / file.sources[0][0]).resolve(), path, link)


def _place(path: Path, destination: Path, link: Link) -> None:
    for way in _LINKS.get(link, ("link", "symlink")):
        try:
            getattr(os, way)(path, destination)
            return
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            # Another file system, or one without such links, or not allowed to link other people's files.
            if link in ("hard", "symlink"):
                problem = f"cannot link {destination.name} as asked (--link {link}): {error.strerror}"
                raise stop("CANNOT_WRITE", problem, "Use --link auto, which takes what is possible.") from None
    shutil.copyfile(path, destination)


def _rewrite(reading: Reading, destination: Path, voxels: CaseVoxels) -> None:
    data = reading.voxels
    assert data is not None
    if reading.file.role == "mask":
        data = data.astype(np.uint8) if reading.labels else (data != 0).astype(np.uint8)
    elif data.dtype.name in _KEPT_TYPES and nifti.SCALED not in reading.file.changes:
        data = data.astype(data.dtype.newbyteorder("="), copy=False)
    else:
        data = data.astype(np.float32)
    nifti.write(destination, data, voxels.grid)
