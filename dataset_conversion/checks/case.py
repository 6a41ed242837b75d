"""What must hold before a case is written: readable files on one grid, finite voxels, a mask that says one thing.

nnU-Net itself finds few of these problems, and only during preprocessing or training: it ignores orientation, warns
when image and mask lie on different grids, and stops at mask values other than the labels.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import nibabel as nib
import numpy as np

from dataset_conversion.alignment import (
    Grid,
    Registration,
    check_overlap,
    drawn_on,
    register_rigid,
    resample,
    same_space_distance,
    share_inside,
    transform_text,
)
from dataset_conversion.checks.file import (
    ROUNDING_MM,
    SAME_MM,
    CheckedFile,
    Findings,
    Lesion,
    Reading,
    RejectedError,
    Statistics,
    name_of,
    no_lesion,
    read_image,
    read_masks,
    volume_ml,
)
from dataset_conversion.errors import ConversionError
from dataset_conversion.options import ConvertOptions, EmptyMasks
from dataset_conversion.tables.case_table import Case
from nnunet_transformers.common.problems import Finding
from nnunet_transformers.common.volumes import nifti
from nnunet_transformers.common.volumes.geometry import corner_distance, voxel_sizes
from nnunet_transformers.common.volumes.reading import read_header
from nnunet_transformers.common.volumes.stored import BadFileError

_SEED = 12345  # of the voxels that registration compares
_MOSTLY = 0.5  # of the reference's grid outside an image
_NOTABLE_LOSS = 0.2  # of a lesion's volume; nearest neighbour alone takes as much from a lesion of a few voxels only


@dataclass(frozen=True)
class Transform:
    """How an image came onto the reference's grid, as the text of an ITK transform file and in words."""

    moving: str
    itk: str
    summary: str


@dataclass(frozen=True)
class Content:
    """A case that passed: its files, what they hold, and the grid they share (axes right, anterior, superior).

    Attributes:
        spacing: in mm.
        statistics: (image name, statistics) of each image that was read.
    """

    images: tuple[CheckedFile, ...]
    mask: CheckedFile | None
    lesion: Lesion | None
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    affine: tuple[tuple[float, ...], ...]
    statistics: tuple[tuple[str, Statistics], ...]
    transforms: tuple[Transform, ...] = ()


@dataclass(frozen=True)
class CheckedCase:
    """The outcome of the checks of one case; `content` is None where they found an error."""

    case: Case
    findings: tuple[Finding, ...]
    content: Content | None


@dataclass(frozen=True)
class CaseVoxels:
    """A case that passed, in memory: its files on one grid, and the header that the rewritten ones get."""

    images: Mapping[str, Reading]
    mask: Reading | None
    grid: nib.Nifti1Header


@nifti.last_file_kept()
def check_case(
    case: Case, source: Path, options: ConvertOptions | None = None
) -> tuple[CheckedCase, CaseVoxels | None]:
    """Read the files of a case, check them, and bring them onto one grid.

    Args:
        case: a row of the case table with all its files named.
        source: the folder that the paths of the case are relative to.
        options: see there; the reference is an image of the case, the first one where there is none.

    Returns:
        The outcome, and the voxels for writing unless there was an error.
    """
    options = options or ConvertOptions()
    found = Findings(case, options.checks.allow)
    images: dict[str, Reading] = {}
    mask = None
    for role in case.images:
        with contextlib.suppress(RejectedError):
            images[role] = read_image(found, role, source, voxels=not options.checks.quick)
    if case.masks:
        with contextlib.suppress(RejectedError):
            mask = read_masks(found, source, options.masks, options.checks.empty_masks)
    transforms: tuple[Transform, ...] = ()
    if images and not found.has_errors:
        reference = options.alignment.reference or next(iter(images))
        with contextlib.suppress(RejectedError):
            images, mask, transforms = _on_one_grid(found, source, images, mask, reference, options)
            images, mask = _with_changes(found, source, images, mask, reference, options)
    if found.has_errors or not images:
        return CheckedCase(case, found.distinct, None), None
    first = images[reference]
    if mask and mask.lesion and mask.lesion.voxels:
        _note_lesion_outside(found, first, mask)
    content = Content(
        images=tuple(image.file for image in images.values()),
        mask=mask.file if mask else None,
        lesion=mask.lesion if mask else None,
        shape=first.shape,
        spacing=tuple(round(float(size), 6) for size in voxel_sizes(first.affine)),
        affine=tuple(tuple(round(float(element), 6) for element in row) for row in first.affine[:3]),
        statistics=tuple((role, image.statistics) for role, image in images.items() if image.statistics),
        transforms=transforms,
    )
    grid = nifti.grid_header(first.affine, first.header.code) if first.file.changes else first.header.nifti
    return CheckedCase(case, found.distinct, content), CaseVoxels(images, mask, grid)


def reference_image(cases: Sequence[Case], source: Path) -> str:
    """The image that the masks were drawn on: the one whose grid most masks have; the first one without a mask."""
    votes: Counter[str] = Counter()
    for case in cases:
        try:
            grids = {role: _header_grid(source / path) for role, path in case.images.items()}
            votes.update(drawn_on(_header_grid(source / case.masks[0]), grids, ROUNDING_MM) if case.masks else ())
        except BadFileError:
            continue  # check_case says what is wrong with it
    order = list(cases[0].images)
    return max(order, key=lambda role: (votes[role], -order.index(role)))


def _header_grid(path: Path) -> Grid:
    header = read_header(path)
    return Grid(header.shape, header.affine)


def _grid(reading: Reading) -> Grid:
    return Grid(reading.shape, reading.affine)


def _distance(a: Reading, b: Reading) -> float | None:
    """Largest distance of corresponding corners in mm; None where the shapes differ."""
    return corner_distance(a.affine, b.affine, a.shape) if a.shape == b.shape else None


def _same_grid(a: Reading, b: Reading) -> bool:
    distance = _distance(a, b)
    return distance is not None and distance <= ROUNDING_MM


def _on_one_grid(
    found: Findings,
    source: Path,
    images: Mapping[str, Reading],
    mask: Reading | None,
    reference: str,
    options: ConvertOptions,
) -> tuple[dict[str, Reading], Reading | None, tuple[Transform, ...]]:
    """Bring images and mask onto the reference's grid as far as the options permit, and refuse the rest."""
    fixed = images[reference]
    aligned, registrations = dict(images), {}
    for role, image in images.items():
        on_the_grid = _same_grid(image, fixed)
        if role == reference or (on_the_grid and options.alignment.align != "rigid"):
            continue
        if options.alignment.align == "refuse":
            remedy = (
                "Put both on one grid beforehand, or use --resample (images of one examination) or --register rigid"
            )
            _refuse_grid(found, fixed, image, remedy)
            continue
        fixed, image = _with_voxels(found, source, fixed), _with_voxels(found, source, image)
        _check_overlap(found, image, fixed)
        registration = _register(found, image, fixed) if options.alignment.align == "rigid" else None
        if registration and on_the_grid and _in_place(found, image, fixed, registration):
            continue
        if registration:
            registrations[role] = registration
        aligned[role] = _moved(image, fixed, registration)
    aligned[reference] = fixed
    if mask and not _same_grid(mask, fixed):
        mask = _mask_on(found, mask, fixed, images, registrations, options)
    transforms = tuple(Transform(role, transform_text(each), _summary(each)) for role, each in registrations.items())
    return aligned, mask, transforms


def _mask_on(
    found: Findings,
    mask: Reading,
    fixed: Reading,
    images: Mapping[str, Reading],
    registrations: Mapping[str, Registration],
    options: ConvertOptions,
) -> Reading:
    """The mask on the reference's grid, if the user asked for that."""
    of = next((role for role, image in images.items() if _same_grid(mask, image)), None)
    if options.alignment.resample_mask and (of or options.alignment.align != "refuse"):
        moved = _moved(mask, fixed, registrations.get(of or ""))
        return replace(moved, lesion=_lesion_after(found, mask, moved, fixed, options.checks.empty_masks))
    if of:
        remedy = f"It was drawn on the {of}: use --reference {of}, or --resample-mask to move it along"
    else:
        remedy = "Re-export the mask on the image's grid"
    _refuse_grid(found, fixed, mask, remedy)
    return mask


def _refuse_grid(found: Findings, fixed: Reading, other: Reading, remedy: str) -> None:
    """Say how far two grids are apart; only a shift of equal shapes can be allowed."""
    role, places = other.file.role, (*fixed.file.places, *other.file.places)
    what = name_of(role)
    distance = _distance(fixed, other)
    if distance is None:
        sizes = [" × ".join(map(str, each.shape)) for each in (fixed, other)]
        apart = same_space_distance(_grid(fixed), _grid(other))
        problem = (
            f"{name_of(fixed.file.role)} and {what} differ in size: {sizes[0]} and {sizes[1]} voxels (right, anterior, "
            f"superior); their corners lie {apart:.3g} mm apart"
        )
        found.reject("SHAPE_MISMATCH", problem, remedy, *places)
    problem = (
        f"{name_of(fixed.file.role)} and {what} are not on the same grid: the {role}'s corner lies {distance:.3g} mm "
        "from the image's"
    )
    found.refuse("GRID_MISMATCH", problem, remedy, *places)


def _check_overlap(found: Findings, image: Reading, fixed: Reading) -> None:
    """Refuse an image that has nothing to show on the reference's grid, and say where it has little."""
    places = (*image.file.places, *fixed.file.places)
    try:
        check_overlap(_grid(image), _grid(fixed))
    except ConversionError as error:
        _reject(found, error, *places)
    outside = 1 - share_inside(_grid(fixed), _grid(image))
    if outside > _MOSTLY:
        name = name_of(image.file.role)
        problem = f"{100 * outside:.0f} % of the {name_of(fixed.file.role)}'s grid lies outside the {name}"
        remedy = f"There the {name} has background only: check that both show the same part of the head."
        found.warn("SMALL_OVERLAP", problem, remedy, *places)


def _register(found: Findings, image: Reading, fixed: Reading) -> Registration:
    assert image.voxels is not None
    assert fixed.voxels is not None
    places = (*image.file.places, *fixed.file.places)
    try:
        registration = register_rigid(image.voxels, image.affine, fixed.voxels, fixed.affine, seed=_SEED)
    except ConversionError as error:
        _reject(found, error, *places)
    for finding in registration.quality:
        found.warn(finding.code, finding.problem, finding.remedy, *places)
    return registration


def _in_place(found: Findings, image: Reading, fixed: Reading, registration: Registration) -> bool:
    """Whether an image on the reference's grid lies where it should, up to a voxel, and need not be interpolated."""
    name, reference, by = name_of(image.file.role), name_of(fixed.file.role), registration.largest_displacement
    places = (*image.file.places, *fixed.file.places)
    if by <= min(voxel_sizes(fixed.affine)):
        problem = (
            f"the {name} is on the {reference}'s grid already, and the registration would move it by {by:.2f} mm at "
            "most, which is less than a voxel: it stays as it is"
        )
        found.warn("SAME_GRID", problem, "No action needed.", *places)
        return True
    problem = (
        f"the {name} is on the {reference}'s grid, but not in its place: the registration moves it by up to {by:.1f} "
        f"mm; the mask is taken as drawn on the {reference}"
    )
    found.warn("SAME_GRID", problem, "Look at the picture; --reference says what the mask was drawn on.", *places)
    return False


def _reject(found: Findings, error: ConversionError, *places: tuple[str, str]) -> NoReturn:
    first = error.findings[0]
    found.reject(first.code, first.problem, first.remedy.rstrip("."), *places)


def _summary(registration: Registration) -> str:
    shift = float(np.linalg.norm(registration.translation))
    return (
        f"moved by {shift:.2f} mm and turned by {registration.rotation:.2f}°, "
        f"at most {registration.largest_displacement:.1f} mm at a corner; mutual information "
        f"{registration.information_before:.4f} before, {registration.information_after:.4f} after"
    )


def _moved(image: Reading, fixed: Reading, registration: Registration | None) -> Reading:
    """Resampled onto the reference's grid; a mask by nearest neighbour."""
    assert image.voxels is not None
    is_mask = image.file.role == "mask"
    transform = registration.transform if registration else None
    voxels = resample(image.voxels, image.affine, _grid(fixed), transform, nearest=is_mask)
    how = "registered rigidly to" if registration else "resampled onto the grid of"
    moved = replace(image, voxels=voxels, shape=fixed.shape, affine=fixed.affine, seen=None)
    return moved.changed(f"{how} the {name_of(fixed.file.role)}")


def _lesion_after(
    found: Findings, mask: Reading, moved: Reading, fixed: Reading, empty_masks: EmptyMasks
) -> Lesion | None:
    """What is left of a mask's lesion on the reference's grid."""
    before, places = mask.lesion, (*mask.file.places, *fixed.file.places)
    if before is None or not before.voxels:
        return before
    assert moved.voxels is not None
    grid = f"on the {name_of(fixed.file.role)}'s grid"
    remedy = "Use the image it was drawn on as --reference"
    voxels = int(np.count_nonzero(moved.voxels))
    if not voxels:
        problem = f"the mask is empty {grid}: nothing is left of its lesion of {before.ml:.3g} ml"
        return no_lesion(found, problem, remedy, empty_masks, *places)
    ml = volume_ml(voxels, moved.affine)
    if ml < (1 - _NOTABLE_LOSS) * before.ml:
        problem = f"of the lesion's {before.ml:.3g} ml only {ml:.3g} ml are left {grid}"
        found.warn("LESION_LOST", problem, f"{remedy}, or look whether a part lies outside it.", *places)
    return replace(before, voxels=voxels, ml=ml)


def _with_voxels(found: Findings, source: Path, image: Reading) -> Reading:
    return image if image.voxels is not None else read_image(found, image.file.role, source)


def _with_changes(
    found: Findings,
    source: Path,
    images: Mapping[str, Reading],
    mask: Reading | None,
    reference: str,
    options: ConvertOptions,
) -> tuple[dict[str, Reading], Reading | None]:
    """Say which files cannot stay as they are; images that must be rewritten are read."""
    reasons = ("header cleaned",) if options.privacy.cleans else ()
    fixed = images[reference].changed(*reasons)
    changed = {}
    for role, image in images.items():
        image = fixed if role == reference else _fitted(found, image, fixed).changed(*reasons)
        changed[role] = _to_rewrite(found, source, image) if image.file.changes else image
    if mask and mask.lesion:
        mask = _fitted(found, mask, fixed).changed(*reasons)
        if mask.header.dtype != np.uint8:
            mask = mask.changed(f"stored as {mask.header.dtype.name}")
        if mask.lesion and mask.lesion.value not in (None, 1):
            mask = mask.changed(f"lesion value {mask.lesion.value:.10g}")
    return changed, mask


def _to_rewrite(found: Findings, source: Path, image: Reading) -> Reading:
    read = _with_voxels(found, source, image)
    return replace(read, file=replace(read.file, changes=image.file.changes))


def _fitted(found: Findings, other: Reading, fixed: Reading) -> Reading:
    """Whether a file on the reference's grid must be rewritten to be on exactly that grid."""
    distance = _distance(fixed, other)
    if distance is not None and SAME_MM < distance <= ROUNDING_MM:
        name, role = name_of(fixed.file.role), other.file.role
        problem = f"{name} and {role} differ by {distance:.3f} mm at a corner, taken as rounding in a header"
        places = (*fixed.file.places, *other.file.places)
        found.warn("GRID_ROUNDED", problem, f"The {role} gets the image's grid.", *places)
    if not other.header.direct:
        return other  # is rewritten in any case
    if fixed.file.changes:
        return other.changed("its image is rewritten")
    if other.seen is not None and fixed.seen is not None and np.array_equal(other.seen, fixed.seen):
        return other
    return other.changed("its grid differs from the image's by rounding")


def _note_lesion_outside(found: Findings, image: Reading, mask: Reading) -> None:
    if image.voxels is None or mask.voxels is None or mask.lesion is None:
        return
    slices = np.flatnonzero(mask.voxels.any(axis=(0, 1)))
    around = np.s_[:, :, slices[0] : slices[-1] + 1]
    blank = np.count_nonzero(np.logical_and(mask.voxels[around], image.voxels[around] == 0))
    if 2 * blank > mask.lesion.voxels:
        problem = (
            f"{100 * blank / mask.lesion.voxels:.0f} % of the lesion lies where the {name_of(image.file.role)} is 0"
        )
        places = (*image.file.places, *mask.file.places)
        found.warn("LESION_OUTSIDE_IMAGE", problem, "Check the overlay of image and mask.", *places)
