"""One file of a case on right-anterior-superior axes, with what is wrong with it or odd about it.

What stands here needs one file only; `checks` compares the files of a case.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np

from dataset_conversion.checks.alike import thumbnail
from dataset_conversion.options import Masks
from dataset_conversion.tables.case_table import Case
from nnunet_transformers.common.problems import Finding
from nnunet_transformers.common.volumes import nifti
from nnunet_transformers.common.volumes.geometry import (
    Affine,
    corner_distance,
    orientation,
    orthonormal,
    ras_grid,
    to_ras,
    voxel_sizes,
)
from nnunet_transformers.common.volumes.names import is_mask_form
from nnunet_transformers.common.volumes.reading import read, read_header
from nnunet_transformers.common.volumes.stored import BadFileError

SAME_MM = 1e-3
"""Grids whose corners lie this close are the same."""
ROUNDING_MM = 0.05
"""Up to here a difference is put down to rounding in a header, mended and reported; beyond, it is an error."""
_FORMS_MM = 1.0  # a qform's quaternion, in float32, is off by up to 0.5 mm at a head's corner when it turns by 180°
UNITED = "united from several masks"
_MAX_VALUES_SHOWN = 8
_MAX_FLOAT32 = float(np.finfo(np.float32).max)
_SAMPLE = (slice(None, None, 5),) * 3  # every 125th voxel: enough for shares and numbers of values
_FEW_VALUES = 16
_SAME_VALUE = 1e-3  # ATLAS has 0.9999999776 for 1
_SLAB = 8


class RejectedError(Exception):
    """The file or the case cannot be used; the error is among the findings."""


class Findings:
    """Collects what is found about one case.

    Args:
        case: the case.
        allow: codes of errors that the user takes responsibility for; they become warnings.
    """

    def __init__(self, case: Case, allow: Collection[str] = ()) -> None:
        self.case = case
        self.allow = allow
        self.all: list[Finding] = []

    @property
    def has_errors(self) -> bool:
        return any(finding.severity == "error" for finding in self.all)

    @property
    def distinct(self) -> tuple[Finding, ...]:
        return tuple(dict.fromkeys(self.all))

    def reject(self, code: str, problem: str, remedy: str, *files: tuple[str, str]) -> NoReturn:
        """Note an error after which nothing more can be said about the file."""
        remedy = f"{remedy}, or exclude the case (--exclude {self.case.case})."
        self.all.append(Finding(code, problem, remedy, self.case.case, files))
        raise RejectedError

    def refuse(self, code: str, problem: str, remedy: str, *files: tuple[str, str]) -> None:
        """Note an error that `allow` may turn into a warning."""
        if code not in self.allow:
            self.reject(code, problem, f"{remedy}, or accept it (--allow {code})", *files)
        self.warn(code, problem, "Allowed.", *files)

    def warn(self, code: str, problem: str, remedy: str, *files: tuple[str, str]) -> None:
        self.all.append(Finding(code, problem, remedy, self.case.case, files, severity="warning"))


@dataclass(frozen=True)
class CheckedFile:
    """A file that can be used; `changes` says why it must be rewritten, and is empty where it can stay as it is.

    `sources` are (path, SHA-256) of what it is made of; the hash is empty where the file was not read to its end.
    """

    role: str
    sources: tuple[tuple[str, str], ...]
    changes: tuple[str, ...]

    @property
    def places(self) -> tuple[tuple[str, str], ...]:
        return tuple((self.role, path) for path, _ in self.sources)


@dataclass(frozen=True)
class Statistics:
    """Of an image's voxels: extremes, how many lie in the upper half between them, and the share of those that are 0.

    The first three are the same for the same voxels in whatever order; for `thumbnail` see `alike`.
    """

    lowest: float
    highest: float
    upper: int
    zeros: float
    thumbnail: str = ""


@dataclass(frozen=True)
class Lesion:
    """What a mask says: the one non-zero value found in it (None: it is empty), and how much of it there is."""

    value: float | None
    voxels: int
    ml: float


@dataclass(frozen=True)
class Reading:
    """A file's grid and voxels, axes right, anterior, superior.

    `seen` is the affine that nnU-Net's default reader takes from the file. `voxels` is None where only the header
    was read.

    Attributes:
        labels: the voxels of a mask are labels to be kept, not just 0 and something else.
    """

    file: CheckedFile
    shape: tuple[int, ...]
    affine: Affine
    header: nifti.Header
    seen: Affine | None
    voxels: np.ndarray | None
    statistics: Statistics | None = None
    lesion: Lesion | None = None
    labels: bool = False

    def changed(self, *reasons: str) -> Reading:
        """The same, to be rewritten for these reasons too."""
        return replace(self, file=replace(self.file, changes=(*self.file.changes, *reasons)))


def name_of(role: str) -> str:
    return role if role == "mask" else f"{role} image"


def read_image(found: Findings, role: str, source: Path, *, voxels: bool = True) -> Reading:
    """Read and check one image of a case.

    Raises:
        RejectedError: with the reason among the findings.
    """
    reading = _read(found, role, source, found.case.images[role], voxels)
    if reading.voxels is None:
        return reading
    values, place, name = reading.voxels, reading.file.places[0], name_of(role)
    lowest, highest = _extremes(values)
    # NaN and infinity show in the extremes; what overflows float32, nnU-Net's type, is not finite to it.
    if not max(abs(lowest), abs(highest)) <= _MAX_FLOAT32:
        sound = np.isfinite(values) & (np.abs(values) <= _MAX_FLOAT32)
        what = f"{np.count_nonzero(~sound)} of {values.size} voxels are not finite (NaN, infinite or above 3e38)"
        found.refuse("NOT_FINITE", f"the {name}: {what}", "Replace them by a sensible value", place)
        values = np.where(sound, values, 0)
        reading = replace(reading, voxels=values).changed("voxels that are not finite become 0")
        lowest, highest = _extremes(values)
    if lowest == highest:
        problem = f"the {name}: all voxels have the value {lowest:g}"
        found.refuse("BLANK_IMAGE", problem, "Export the image again", place)
    sample = values[_SAMPLE]
    zeros = np.count_nonzero(sample == 0) / sample.size
    _note_odd_intensities(found, name, place, lowest, zeros, sample)
    middle = values.dtype.type(lowest / 2 + highest / 2)  # of the voxels' type, or all of them would be cast
    upper = sum(int(np.count_nonzero(slab > middle)) for slab in _slabs(values))
    return replace(reading, statistics=Statistics(lowest, highest, upper, round(zeros, 4), thumbnail(values)))


def read_masks(found: Findings, source: Path, masks: Masks, empty_masks: str) -> Reading:
    """Read and check the masks of a case and unite them where there are several.

    Args:
        found: of the case.
        source: the folder of the data.
        masks: what of them is lesion.
        empty_masks: what becomes of one without a lesion.

    Raises:
        RejectedError: with the reason among the findings.
    """
    parts = [_read_mask(found, source, path, masks) for path in found.case.masks]
    first, *others = parts
    reading = first
    if others:
        for other in others:
            places = (*first.file.places, *other.file.places)
            if other.shape != first.shape or corner_distance(other.affine, first.affine, first.shape) > ROUNDING_MM:
                remedy = "Export all of them on the image's grid"
                found.reject("GRID_MISMATCH", "the masks of the case are not on one grid", remedy, *places)
        # Of regions the one within the others has the highest label.
        united = np.maximum.reduce([_voxels(part) if masks.regions else _voxels(part) != 0 for part in parts])
        sources = tuple(source for part in parts for source in part.file.sources)
        reading = replace(
            first, voxels=united.astype(np.uint8), file=CheckedFile("mask", sources, (*first.file.changes, UNITED))
        )
    return replace(reading, lesion=_lesion(found, reading, empty_masks))


def _read(found: Findings, role: str, source: Path, path: str, voxels: bool) -> Reading:
    """One file on RAS axes."""
    place, name = (role, path), name_of(role)
    if role != "mask" and is_mask_form(path):
        remedy = "Convert it (3D Slicer, or ReadImage and WriteImage of SimpleITK)"
        found.reject("UNREADABLE", f"the {name} is not NIfTI: only masks are read from NRRD and MHA", remedy, place)
    try:
        volume = read(source / path) if voxels else None
        header = volume.header if volume else read_header(source / path)
    except BadFileError as bad:
        found.reject(bad.code, f"the {name}: {bad.problem}", bad.remedy, place)
    straight = orthonormal(header.affine)
    skew = corner_distance(header.affine, straight, header.shape)
    if skew > ROUNDING_MM:
        problem = f"the axes of the {name} are not perpendicular: a corner is {skew:.2f} mm off a rectangular grid"
        found.refuse("NOT_ORTHONORMAL", problem, "Resample it to a rectangular grid", place)
    elif skew > SAME_MM:
        problem = f"the {name}: its axes are not quite perpendicular; corners move by {skew:.3f} mm"
        found.warn("AXES_ROUNDED", problem, "No action needed.", place)
    changes = list(header.oddities)
    seen = nifti.seen_by_simpleitk(source / path, header)
    if seen is None:
        changes.append("SimpleITK refuses its header")
    elif corner_distance(seen, header.affine, header.shape) > SAME_MM:
        changes.append("SimpleITK takes another grid from its header")
    apart = nifti.forms_distance(header)
    if apart > _FORMS_MM:
        forms = f"two positions (qform and sform), {apart:.3g} mm apart at a corner"
        problem = f"the {name}: its header holds {forms}; the sform is taken"
        found.warn("FORMS_DISAGREE", problem, "Check the overlay of image and mask.", place)
    axes = orientation(straight)
    if axes != "RAS":
        changes.append(f"orientation {axes}")
    shape, affine = ras_grid(header.shape, straight)
    file = CheckedFile(role, ((path, volume.sha256 if volume else ""),), tuple(changes))
    data = to_ras(volume.data, straight)[0] if volume else None
    return Reading(file, shape, affine, header, seen, data)


def _slabs(values: np.ndarray) -> Iterator[np.ndarray]:
    """A few slices at a time, which fit into the processor's cache; the whole volume goes through memory each time."""
    for start in range(0, values.shape[2], _SLAB):
        yield values[:, :, start : start + _SLAB]


def _extremes(values: np.ndarray) -> tuple[float, float]:
    """Lowest and highest; both are NaN where there is one."""
    extremes = [(slab.min(), slab.max()) for slab in _slabs(values)]
    return float(np.min(extremes)), float(np.max(extremes))


def _note_odd_intensities(
    found: Findings, name: str, place: tuple[str, str], lowest: float, zeros: float, sample: np.ndarray
) -> None:
    remedy = "Look at it; nothing was changed."
    if lowest < 0:
        problem = f"the {name} has negative values, down to {lowest:g}"
        found.warn("SUSPICIOUS_INTENSITY", problem, remedy, place)
    if zeros > 0.99:
        found.warn("SUSPICIOUS_INTENSITY", f"{100 * zeros:.1f} % of the {name} is 0", remedy, place)
    # A few rows first: an image has many values there already, and sorting all of the sample takes longer.
    elif (
        sample.size > 1000 and len(np.unique(sample[:, :, ::8])) < _FEW_VALUES and len(np.unique(sample)) < _FEW_VALUES
    ):
        problem = f"the {name} has few different values: is it a mask or a label map?"
        found.warn("SUSPICIOUS_INTENSITY", problem, remedy, place)


def _read_mask(found: Findings, source: Path, path: str, masks: Masks) -> Reading:
    """One mask whose lesion has one value."""
    reading = _read(found, "mask", source, path, voxels=True)
    values, place = _voxels(reading), ("mask", path)
    lowest, highest = float(values.min()), float(values.max())
    remedy = "Re-export it with 0 for background and 1 for lesion"
    if not np.isfinite((lowest, highest)).all():
        bad = int(values.size - np.isfinite(values).sum())
        found.reject("NOT_FINITE", f"the mask: {bad} voxels are NaN or infinite", "Redraw or re-export it", place)
    if masks.chosen:
        return _chosen(found, reading, masks)
    if lowest < 0:
        problem = f"the mask has negative values, down to {lowest:.10g}"
        found.refuse("MASK_NEGATIVE", problem, remedy, place)
    value = highest or lowest
    two_values = values.dtype.kind in "iu" and highest - lowest <= 1
    if value and not two_values and np.count_nonzero(values == value) != np.count_nonzero(values):
        distinct = np.unique(values[values != 0])
        # Names go into an error only, which is not kept: in a dataset of pseudonyms nothing of the source may stand.
        allowed = "MASK_VALUES" in found.allow
        names = {} if allowed else dict((*found.case.label_names, *reading.header.label_names))
        shown = ", ".join(_named(value, names) for value in distinct[:_MAX_VALUES_SHOWN])
        more = f" … {distinct[-1]:.10g}" if len(distinct) > _MAX_VALUES_SHOWN else ""
        problem = f"the mask has {len(distinct)} non-zero values ({shown}{more}), so what is lesion is not clear"
        if not allowed:
            remedy = (
                "Say which are lesion (--mask-labels 1 2), for probabilities from which value on (--mask-threshold 0.5)"
            )
            found.reject("MASK_VALUES", problem, remedy, place)
        found.warn("MASK_VALUES", problem, "Allowed: all but 0 are lesion.", place)
        return replace(reading, voxels=(values != 0).astype(np.uint8)).changed("all values but 0 become 1")
    return reading


def _named(value: float, names: Mapping[float, str]) -> str:
    return f"{value:.10g} = {names[value]}" if names.get(value) else f"{value:.10g}"


def _chosen(found: Findings, reading: Reading, masks: Masks) -> Reading:
    """The mask with 1 where its values are those of a lesion, and how much that is of what is not 0.

    With regions it has 1 in the first region, 2 in the second, which is inside the first, and so on.
    """
    values = _voxels(reading)
    reading = replace(reading, labels=bool(masks.regions))
    if masks.threshold is not None:
        lesion = values >= masks.threshold
    elif masks.regions:
        lesion = np.zeros(values.shape, np.uint8)
        for label, own in enumerate(masks.values_of_regions.values(), 1):
            lesion[_has_one_of(values, own)] = label
    else:
        lesion = _has_one_of(values, masks.values)
    if values.dtype.kind in "iu" and np.array_equal(lesion, values):
        return reading
    before, after = (volume_ml(int(np.count_nonzero(each)), reading.affine) for each in (values, lesion))
    problem = f"lesion is where the mask is {masks}: {after:.4g} ml, of {before:.4g} ml that are not 0"
    found.warn("MASK_CHOSEN", problem, "As asked for.", *reading.file.places)
    return replace(reading, voxels=lesion.astype(np.uint8)).changed(f"lesion is where the mask is {masks}")


def _has_one_of(values: np.ndarray, wanted: Collection[float]) -> np.ndarray:
    return np.logical_or.reduce([np.abs(values - value) < _SAME_VALUE for value in wanted])


def no_lesion(found: Findings, problem: str, remedy: str, empty_masks: str, *places: tuple[str, str]) -> Lesion:
    """What an empty mask says, where it may be empty."""
    if empty_masks == "error" and "EMPTY_MASK" not in found.allow:
        found.reject("EMPTY_MASK", problem, f"{remedy}, choose --empty-masks keep or skip", *places)
    found.warn("EMPTY_MASK", problem, "Its Dice is undefined in nnU-Net's summary.", *places)
    return Lesion(None, 0, 0.0)


def _lesion(found: Findings, mask: Reading, empty_masks: str) -> Lesion:
    values, places = _voxels(mask), mask.file.places
    voxels = int(np.count_nonzero(values))
    if not voxels:
        return no_lesion(found, "the mask is empty", "Get the mask again", empty_masks, *places)
    if voxels == values.size:
        remedy = "Re-export it with 0 for background and 1 for lesion"
        found.refuse("MASK_FULL", "the mask has no background: every voxel is lesion", remedy, *places)
    value = 1.0 if mask.labels else float(values.max()) or float(values.min())
    if value != 1:
        found.warn("MASK_VALUE", f"the lesion has the value {value:.10g} in the mask", "It is written as 1.", *places)
    if 2 * voxels > values.size:
        problem = f"the lesion fills {100 * voxels / values.size:.0f} % of the volume"
        found.warn("LESION_TOO_LARGE", problem, "Check that lesion and background are not swapped.", *places)
    return Lesion(value, voxels, volume_ml(voxels, mask.affine))


def volume_ml(voxels: int, affine: Affine) -> float:
    return round(float(voxels * np.prod(voxel_sizes(affine)) / 1000), 6)


def _voxels(reading: Reading) -> np.ndarray:
    assert reading.voxels is not None
    return reading.voxels


def sorted_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Equal for the same volume stored along other axes."""
    return tuple(sorted(shape))
