"""Find and read the images behind the scores.

Arrays are (z, y, x) of an image turned to LPS: x runs to the patient's left, y to the back, z up to the head.
"""

from __future__ import annotations

import filecmp
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from isal import igzip
from isal.igzip_lib import IsalError

from nnunet_transformers.comparison.nnunet.results import read_json


@dataclass(frozen=True)
class DataFolders:
    """Where a dataset's images and references may be; a folder that is None is not searched.

    Attributes:
        raw: nnUNet_raw/DatasetNNN_Name.
        preprocessed: nnUNet_preprocessed/DatasetNNN_Name.
    """

    raw: Path | None
    preprocessed: Path | None

    def reference(self, recorded: Path) -> Path | None:
        """The reference segmentation that a summary.json recorded, here or where this dataset keeps its references.

        The copy in gt_segmentations is the one that nnU-Net validates with: labels may be corrected after it was made.
        """
        candidates = [recorded]
        if self.preprocessed:
            candidates.append(self.preprocessed / "gt_segmentations" / recorded.name)
        if self.raw:
            candidates += [self.raw / "labelsTr" / recorded.name, self.raw / "labelsTs" / recorded.name]
        return next((path for path in candidates if path.is_file()), None)

    def image(self, case: str) -> Path | None:
        """The first channel of a case."""
        if not self.raw:
            return None
        found = [path for part in ("imagesTr", "imagesTs") for path in sorted(self.raw.glob(f"{part}/{case}_0000.*"))]
        description = self.raw / "dataset.json"
        if not found and description.is_file():
            # A dataset may list files that lie elsewhere, with paths relative to its folder.
            listed = read_json(description).get("dataset", {}).get(case, {}).get("images", [])
            found = [path for name in listed[:1] if (path := self.raw / name).is_file()]
        return found[0] if found else None

    def label(self, name: str) -> Path | None:
        """A training label of the raw dataset, by the name of its file."""
        path = self.raw / "labelsTr" / name if self.raw else None
        return path if path and path.is_file() else None

    @property
    def splits(self) -> Path | None:
        path = self.preprocessed / "splits_final.json" if self.preprocessed else None
        return path if path and path.is_file() else None


class UnreadableImageError(Exception):
    """Which image cannot be read, and why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} ({reason})")


def read_image(path: Path) -> sitk.Image:
    """An image in any format SimpleITK reads.

    Raises:
        UnreadableImageError: it is no image, or a damaged one. ITK refuses other formats that were cut off, but takes
            the voxels that are not there in a NIfTI file for background.
    """
    try:
        n_bytes = _content_size(path)
        image = sitk.ReadImage(str(path))
    except EOFError:
        raise UnreadableImageError(path, "its gzip data end too early") from None
    except (OSError, IsalError, RuntimeError) as error:  # type: ignore[misc]  # its stub calls the class an instance
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UnreadableImageError(path, lines[-1] if lines else "no reason given") from error
    if path.name.endswith((".nii", ".nii.gz")) and image.HasMetaDataKey("vox_offset"):
        per_voxel = int(image.GetMetaData("bitpix")) // 8
        expected = int(float(image.GetMetaData("vox_offset"))) + image.GetNumberOfPixels() * per_voxel
        if n_bytes < expected:
            raise UnreadableImageError(path, f"{n_bytes} bytes of {expected}")
    return image


def _content_size(path: Path) -> int:
    """Bytes of a file, decompressed where it is gzip: to its end, which checks the CRC and length of every member."""
    if path.suffix != ".gz":
        return path.stat().st_size
    buffer = bytearray(1 << 20)
    with igzip.open(path) as file:
        return sum(iter(lambda: file.readinto(buffer), 0))


def same_voxels(first: Path, second: Path) -> bool:
    """Whether two files hold the same voxels, however they are packed.

    Raises:
        UnreadableImageError: see `read_image`.
    """
    if first.samefile(second) or filecmp.cmp(first, second, shallow=False):
        return True
    images = [read_image(path) for path in (first, second)]
    return bool(np.array_equal(*map(sitk.GetArrayViewFromImage, images)))


def read_volume(path: Path) -> tuple[np.ndarray, tuple[float, ...]] | None:
    """Voxels (z, y, x) in LPS and their spacing in mm in the same order; None for an image that is not 3D.

    Raises:
        UnreadableImageError: see `read_image`.
    """
    image = read_image(path)
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        return None
    image = sitk.DICOMOrient(image, "LPS")
    return sitk.GetArrayFromImage(image), image.GetSpacing()[::-1]


def largest_lesion(mask: np.ndarray) -> np.ndarray:
    """The largest 26-connected component of a mask; an empty mask stays empty."""
    components = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True)
    return sitk.GetArrayFromImage(sitk.RelabelComponent(components, sortByObjectSize=True)) == 1


def fullest_slices(mask: np.ndarray) -> tuple[int, ...]:
    """Per axis, the slice that holds most of the mask; the middle slices of an empty mask."""
    if not mask.any():
        return tuple(size // 2 for size in mask.shape)
    others = [tuple(other for other in range(mask.ndim) if other != axis) for axis in range(mask.ndim)]
    return tuple(int(mask.sum(axis=across).argmax()) for across in others)
