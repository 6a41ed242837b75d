"""Lesion shapes of real masks: NIfTI files in MNI space whose non-zero voxels are lesion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_transformers.common.volumes import nifti
from nnunet_transformers.common.volumes.stored import BadFileError
from nnunet_transformers.phantom.anatomy import Anatomy, Scar
from nnunet_transformers.phantom.errors import refusal
from nnunet_transformers.phantom.fields import Array
from nnunet_transformers.phantom.lesions import MIN_TISSUE

# A file with more distinct values than this is an image, not a mask or a label map.
_MAX_LABELS = 32

_MARGIN_MM = 8.0

# A lesion this close to tissue is at the brain's edge, farther away it is elsewhere.
_CLOSE_MM = 3.0

_REMEDY = "Mend the file or take it out of the folder"


@dataclass(frozen=True)
class MaskShape:
    """One mask, cropped to its lesion.

    Attributes:
        path: the file.
        depth: mm to the lesion's border on the mask's own voxels, positive inside.
        world_to_index: (4, 4) from mm to the indices of `depth`.
        scar: its centre and volume.
    """

    path: Path
    depth: Array
    world_to_index: NDArray[np.float64]
    scar: Scar


def find_masks(folder: Path) -> list[Path]:
    """The NIfTI files directly in a folder, by name.

    Raises:
        PhantomError: the folder does not exist, cannot be read, or has no NIfTI file.
    """
    remedy = "Give a folder that holds NIfTI masks in MNI space (*.nii.gz or *.nii), not in sub-folders"
    try:
        names = [path for path in folder.iterdir() if path.name.endswith((".nii", ".nii.gz"))]
    except OSError as error:
        raise refusal("NO_MASKS", f"no lesion masks can be read from {folder} ({error.strerror})", remedy) from None
    masks = sorted((path for path in names if not path.name.startswith(".")), key=lambda path: path.name)
    if not masks:
        raise refusal("NO_MASKS", f"there is no NIfTI file in the folder of lesion masks {folder}", remedy)
    return masks


def load_mask(path: Path) -> MaskShape:
    """Read one mask; every non-zero voxel is lesion.

    Raises:
        PhantomError: unreadable, not three-dimensional, empty, not a mask, or without a place in space.
    """
    try:
        volume = nifti.read(path)
    except BadFileError as error:
        raise refusal(error.code, error.problem, f"{error.remedy}, or take it out of the folder", path) from error
    values, affine = volume.data, volume.affine
    if not np.isfinite(values).all():
        raise refusal("MASK_NOT_FINITE", "it has voxels that are not numbers (NaN or infinite)", _REMEDY, path)
    lesion = values != 0
    if not lesion.any():
        raise refusal("MASK_EMPTY", "the lesion mask is empty", _REMEDY, path)
    distinct = np.unique(values[lesion]).size
    if distinct > _MAX_LABELS:
        problem = f"it has {distinct} different values, so it is an image rather than a mask"
        raise refusal("NOT_A_MASK", problem, _REMEDY, path)

    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    margin = np.ceil(_MARGIN_MM / spacing).astype(int)
    filled = np.argwhere(lesion)
    # Room on all sides, also where the lesion touches the border of the file.
    start, stop = filled.min(axis=0) - margin, filled.max(axis=0) + margin + 1
    crop = np.zeros(stop - start, dtype=bool)
    crop[tuple((filled - start).T)] = True
    depth = ndimage.distance_transform_edt(crop, sampling=spacing) - ndimage.distance_transform_edt(
        ~crop, sampling=spacing
    )
    # Distances are to the centre of the nearest voxel of the other kind; the border is half a voxel before it.
    depth -= np.sign(depth) * spacing.min() / 2

    cropped_affine = affine.copy()
    cropped_affine[:3, 3] = affine[:3, :3] @ start + affine[:3, 3]
    centre = affine[:3, :3] @ filled.mean(axis=0) + affine[:3, 3]
    volume_ml = float(len(filled) * abs(np.linalg.det(affine[:3, :3])) / 1000)
    return MaskShape(
        path=path,
        depth=depth.astype(np.float32),
        world_to_index=np.linalg.inv(cropped_affine),
        scar=Scar(centre.astype(np.float32), volume_ml),
    )


def mask_depth(shape: MaskShape, anatomy: Anatomy, spacing: float) -> Array:
    """How deep inside the mask's lesion each brain voxel is after the deformation: (n,) mm, negative outside.

    A lesion smaller than the subject's voxels (edge `spacing`, mm) keeps the one voxel that comes closest to it.

    Raises:
        PhantomError: the lesion lies outside the brain.
    """
    depth = np.full(anatomy.tissue.shape, -np.inf, dtype=np.float32)
    matrix = shape.world_to_index.astype(np.float32)
    index = np.einsum("ij,jn->in", matrix[:3, :3], anatomy.points, optimize=False) + matrix[:3, 3:]
    near = np.flatnonzero(((index >= 0) & (index <= np.array(shape.depth.shape)[:, None] - 1)).all(axis=0))
    depth[near] = ndimage.map_coordinates(shape.depth, index[:, near], order=1, output=np.float32)

    tissue = anatomy.tissue > MIN_TISSUE
    if not (depth[tissue] > 0).any():
        best = int(np.where(tissue, depth, -np.inf).argmax())
        if not tissue[best] or depth[best] < -max(spacing, _CLOSE_MM):
            raise refusal(
                "MASK_OUTSIDE", "its lesion lies outside the brain: it is not in MNI space", _REMEDY, shape.path
            )
        depth[best] = 0.1
    return depth
