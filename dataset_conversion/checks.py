"""What must hold before anything is written: readable files, one grid, finite voxels, a mask that says one thing.

nnU-Net itself finds few of these problems, and only during preprocessing or training: it ignores orientation, warns
when image and mask lie on different grids, and stops at mask values other than the labels.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt

from dataset_conversion import nifti
from dataset_conversion.case_table import Case
from dataset_conversion.errors import Finding
from dataset_conversion.geometry import Affine, corner_distance, orientation, orthonormal, to_ras, voxel_sizes

EmptyMasks = Literal["error", "keep", "skip"]

SAME_MM = 1e-3
"""Grids whose corners lie this close are the same."""
ROUNDING_MM = 0.05
"""Up to here a difference is put down to rounding in a header, mended and reported; beyond, it is an error."""
_MAX_VALUES_SHOWN = 8


@dataclass(frozen=True)
class CheckedFile:
    """A file that can be used; ``changes`` says why it must be rewritten, and is empty where it can stay as it is."""

    role: str
    path: str
    sha256: str
    changes: tuple[str, ...]


@dataclass(frozen=True)
class Lesion:
    """What a mask says: the one non-zero value found in it (None: it is empty), and how much of it there is."""

    value: float | None
    voxels: int
    ml: float


@dataclass(frozen=True)
class Content:
    """A case that passed: its files, what they hold, and the grid they share (axes right, anterior, superior)."""

    images: tuple[CheckedFile, ...]
    mask: CheckedFile | None
    lesion: Lesion | None
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    """In mm."""
    grid: nib.Nifti1Header
    """The header whose grid the rewritten files of the case get."""
    digests: tuple[tuple[str, str], ...]
    """(role, digest of the voxels on the RAS grid), to find the same data under two names."""


@dataclass(frozen=True)
class CheckedCase:
    """The outcome of the checks of one case; ``content`` is None where they found an error."""

    case: Case
    findings: tuple[Finding, ...]
    content: Content | None


@dataclass(frozen=True)
class _Checked:
    """One file's voxels and grid on RAS axes, with what was found on the way."""

    file: CheckedFile
    voxels: npt.NDArray[Any]
    affine: Affine
    seen: Affine | None
    volume: nifti.Volume
    warnings: tuple[Finding, ...]


class _RejectedError(Exception):
    """Carries the error of one file to `check_case`."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.problem)
        self.finding = finding


def check_case(case: Case, source: Path, empty_masks: EmptyMasks = "error") -> CheckedCase:
    """Read all files of a case completely and check them.

    Args:
        case: a row of the case table with all its files named.
        source: the folder that the paths of the case are relative to.
        empty_masks: whether a mask without a lesion is an error; otherwise it passes.
    """
    images: list[_Checked] = []
    mask: _Checked | None = None
    findings: list[Finding] = []
    for role, path in case.images.items():
        try:
            image = _check_file(case, role, source, path)
            _check_image(case, image)
            images.append(image)
        except _RejectedError as rejected:
            findings.append(rejected.finding)
    lesion = None
    for path in case.masks:
        try:
            mask = _check_file(case, "mask", source, path)
            lesion = _check_mask(case, mask, empty_masks)
        except _RejectedError as rejected:
            findings.append(rejected.finding)
    if images:
        findings += [
            found for other in (*images[1:], mask) if other for found in _compare_grids(case, images[0], other)
        ]
    findings += [warning for checked in (*images, mask) if checked for warning in checked.warnings]
    if any(finding.severity == "error" for finding in findings):
        return CheckedCase(case, tuple(findings), None)

    first = images[0]
    digests = [(image.file.role, _digest(image.voxels)) for image in images]
    mask_file = None
    if mask and lesion:
        findings += _lesion_warnings(case, first, mask, lesion)
        mask_file = CheckedFile("mask", mask.file.path, mask.file.sha256, _mask_changes(first, mask, lesion))
        if lesion.voxels:
            digests.append(("mask", _digest(mask.voxels != 0)))
    rewritten = bool(first.file.changes)
    content = Content(
        images=tuple(image.file for image in images),
        mask=mask_file,
        lesion=lesion,
        shape=first.voxels.shape,
        spacing=tuple(round(float(size), 6) for size in voxel_sizes(first.affine)),
        grid=nifti.grid_header(first.affine, first.volume.code) if rewritten else first.volume.header,
        digests=tuple(digests),
    )
    return CheckedCase(case, tuple(findings), content)


def across_cases(checked: Sequence[CheckedCase]) -> list[Finding]:
    """Warnings that need more than one case: the same voxels twice, a subject both in training and in test."""
    warnings = []
    same: dict[tuple[str, str], list[Case]] = defaultdict(list)
    splits: dict[str, set[str]] = defaultdict(set)
    for one in checked:
        splits[one.case.subject].add(one.case.split)
        for key in one.content.digests if one.content else ():
            same[key].append(one.case)
    for (role, _), cases in same.items():
        if len(cases) > 1:
            names = ", ".join(case.case for case in cases)
            paths = tuple((case.case, case.masks[0] if role == "mask" else case.images[role]) for case in cases)
            problem = f"{names}: the same {role} voxels under {len(cases)} names"
            remedy = "Where they are one scan, exclude all but one: between folds it would leak."
            warnings.append(Finding("DUPLICATE_VOXELS", problem, remedy, files=paths, severity="warning"))
    for subject, found in sorted(splits.items()):
        if len(found) > 1:
            remedy = "Results on the test cases are not independent of the training."
            problem = f"{subject}: has cases both in training and in test"
            warnings.append(Finding("SUBJECT_IN_BOTH_PARTS", problem, remedy, severity="warning"))
    return warnings


def _name(role: str) -> str:
    return role if role == "mask" else f"{role} image"


def _reject(case: Case, code: str, problem: str, remedy: str, *files: tuple[str, str]) -> _RejectedError:
    return _RejectedError(
        Finding(code, problem, f"{remedy}, or exclude the case (--exclude {case.case}).", case.case, files)
    )


def _warning(case: Case, code: str, problem: str, remedy: str, *files: tuple[str, str]) -> Finding:
    return Finding(code, problem, remedy, case.case, files, severity="warning")


def _check_file(case: Case, role: str, source: Path, path: str) -> _Checked:
    """Read one file and bring it to RAS axes."""
    try:
        volume = nifti.read(source / path)
    except nifti.BadFileError as bad:
        raise _reject(case, bad.code, f"the {_name(role)}: {bad.problem}", bad.remedy, (role, path)) from None
    straight = orthonormal(volume.affine)
    skew = corner_distance(volume.affine, straight, volume.data.shape)
    if skew > ROUNDING_MM:
        problem = (
            f"the axes of the {_name(role)} are not perpendicular: a corner is {skew:.2f} mm off a rectangular grid"
        )
        raise _reject(case, "NOT_ORTHONORMAL", problem, "Resample it to a rectangular grid", (role, path))
    changes, warnings = list(volume.oddities), []
    seen = nifti.seen_by_simpleitk(source / path)
    if seen is None:
        changes.append("SimpleITK refuses its header")
    elif corner_distance(seen, volume.affine, volume.data.shape) > SAME_MM:
        changes.append("SimpleITK takes another grid from its header")
        problem = f"the {_name(role)}: its header holds two positions (qform and sform); the sform is taken"
        remedy = "Check the overlay of image and mask."
        warnings.append(_warning(case, "FORMS_DISAGREE", problem, remedy, (role, path)))
    if skew > SAME_MM:
        problem = f"the {_name(role)}: its axes are not quite perpendicular; corners move by {skew:.3f} mm"
        warnings.append(_warning(case, "AXES_ROUNDED", problem, "No action needed.", (role, path)))
    axes = orientation(straight)
    if axes != "RAS":
        changes.append(f"orientation {axes}")
    voxels, affine = to_ras(volume.data, straight)
    file = CheckedFile(role, path, volume.sha256, tuple(changes))
    return _Checked(file, voxels, affine, seen, volume, tuple(warnings))


def _check_image(case: Case, image: _Checked) -> None:
    place = (image.file.role, image.file.path)
    with np.errstate(over="ignore"):  # what overflows float32, nnU-Net's type, is not finite to it
        bad = int(image.voxels.size - np.isfinite(image.voxels.astype(np.float32, copy=False)).sum())
    if bad:
        what = f"{bad} of {image.voxels.size} voxels are not finite (NaN, infinite or above 3e38)"
        problem = f"the {_name(image.file.role)}: {what}"
        raise _reject(case, "NOT_FINITE", problem, "Replace them by a sensible value", place)
    if image.voxels.min() == image.voxels.max():
        problem = f"the {_name(image.file.role)}: all voxels have the value {image.voxels.flat[0]:g}"
        raise _reject(case, "BLANK_IMAGE", problem, "Export the image again", place)


def _check_mask(case: Case, mask: _Checked, empty_masks: EmptyMasks) -> Lesion:
    place = ("mask", mask.file.path)
    voxels = mask.voxels
    if not np.isfinite(voxels).all():
        bad = int(voxels.size - np.isfinite(voxels).sum())
        raise _reject(
            case, "NOT_FINITE", f"the mask: {bad} voxels are NaN or infinite", "Redraw or re-export it", place
        )
    lesion = voxels[voxels != 0]
    values = np.unique(lesion)
    if len(values) and values[0] < 0:
        problem = f"the mask has negative values, down to {values[0]:.10g}"
        raise _reject(case, "MASK_NEGATIVE", problem, "Re-export it with 0 for background and 1 for lesion", place)
    if len(values) > 1:
        shown = ", ".join(f"{value:.10g}" for value in values[:_MAX_VALUES_SHOWN])
        more = f" … {values[-1]:.10g}" if len(values) > _MAX_VALUES_SHOWN else ""
        problem = f"the mask has {len(values)} non-zero values ({shown}{more}), so what is lesion is not clear"
        raise _reject(case, "MASK_VALUES", problem, "Re-export it with 0 for background and 1 for lesion", place)
    if not len(values) and empty_masks == "error":
        remedy = "Get the mask again, choose --empty-masks keep or skip"
        raise _reject(case, "EMPTY_MASK", "the mask is empty", remedy, place)
    if len(lesion) == voxels.size:
        remedy = "Re-export it with 0 for background and 1 for lesion"
        raise _reject(case, "MASK_FULL", "the mask has no background: every voxel is lesion", remedy, place)
    ml = float(len(lesion) * np.prod(voxel_sizes(mask.affine)) / 1000)
    return Lesion(float(values[0]) if len(values) else None, len(lesion), round(ml, 6))


def _compare_grids(case: Case, image: _Checked, other: _Checked) -> list[Finding]:
    places = ((image.file.role, image.file.path), (other.file.role, other.file.path))
    role = other.file.role
    remedy = f"Re-export the {role} on the image's grid"
    if image.voxels.shape != other.voxels.shape:
        sizes = [" × ".join(map(str, each.voxels.shape)) for each in (image, other)]
        problem = f"image and {role} differ in size: {sizes[0]} and {sizes[1]} voxels (right, anterior, superior)"
        return [_reject(case, "SHAPE_MISMATCH", problem, remedy, *places).finding]
    distance = corner_distance(image.affine, other.affine, image.voxels.shape)
    if distance > ROUNDING_MM:
        problem = (
            f"image and {role} are not on the same grid: the {role}'s corner lies {distance:.3g} mm from the image's"
        )
        return [_reject(case, "GRID_MISMATCH", problem, remedy, *places).finding]
    if distance > SAME_MM:
        problem = f"image and {role} differ by {distance:.3f} mm at a corner, taken as rounding in a header"
        return [_warning(case, "GRID_ROUNDED", problem, f"The {role} gets the image's grid.", *places)]
    return []


def _lesion_warnings(case: Case, image: _Checked, mask: _Checked, lesion: Lesion) -> list[Finding]:
    places = ((image.file.role, image.file.path), ("mask", mask.file.path))
    if not lesion.voxels:
        return [
            _warning(case, "EMPTY_MASK", "the mask is empty", "Its Dice is undefined in nnU-Net's summary.", places[1])
        ]
    warnings = []
    if lesion.value != 1:
        problem = f"the lesion has the value {lesion.value:.10g} in the mask"
        warnings.append(_warning(case, "MASK_VALUE", problem, "It is written as 1.", places[1]))
    if 2 * lesion.voxels > mask.voxels.size:
        problem = f"the lesion fills {100 * lesion.voxels / mask.voxels.size:.0f} % of the volume"
        remedy = "Check that lesion and background are not swapped."
        warnings.append(_warning(case, "LESION_TOO_LARGE", problem, remedy, places[1]))
    blank = int(np.count_nonzero(image.voxels[mask.voxels != 0] == 0))
    if 2 * blank > lesion.voxels:
        problem = f"{100 * blank / lesion.voxels:.0f} % of the lesion lies where the image is 0"
        remedy = "Check the overlay of image and mask."
        warnings.append(_warning(case, "LESION_OUTSIDE_IMAGE", problem, remedy, *places))
    return warnings


def _mask_changes(image: _Checked, mask: _Checked, lesion: Lesion) -> tuple[str, ...]:
    """Why a mask cannot be nnU-Net's label as it is."""
    changes = list(mask.file.changes)
    dtype = mask.volume.header.get_data_dtype()
    if dtype != np.uint8:
        changes.append(f"stored as {dtype.name}")
    if lesion.value not in (None, 1):
        changes.append(f"lesion value {lesion.value:.10g}")
    if image.file.changes:
        changes.append("its image is rewritten")
    elif not (mask.seen is not None and image.seen is not None and np.array_equal(mask.seen, image.seen)):
        changes.append("its grid differs from the image's by rounding")
    return tuple(changes)


def _digest(voxels: npt.NDArray[Any]) -> str:
    """Of the values, whatever their stored type."""
    values = voxels if voxels.dtype == bool else voxels.astype(np.float32, copy=False)
    hashed = hashlib.sha256(repr(values.shape).encode())
    hashed.update(np.ascontiguousarray(values.T).data)
    return hashed.hexdigest()
