"""Read a reference and a prediction as lesion masks on one grid."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from nnunet_transformers.comparison.metrics.images import UnreadableImageError, read_image
from nnunet_transformers.comparison.metrics.labels import NAME_THEM, ONE_LABEL, Labels

_GRID_TOLERANCE = 0.1  # of a voxel's shortest edge: headers round, a shift that matters is a voxel or more


class UnusableMasksError(Exception):
    """Why two files cannot be compared, in the words of a ComparisonError. It survives the way between processes."""

    def __init__(self, problem: str, remedy: str, code: str) -> None:
        super().__init__(problem, remedy, code)
        self.problem, self.remedy, self.code = problem, remedy, code


def read_masks(
    reference: Path, prediction: Path, labels: Labels = ONE_LABEL
) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Read two segmentations of one image.

    Args:
        reference, prediction: any format SimpleITK reads.

    Returns:
        Masks of the reference and of the prediction (z, y, x), and their spacing in mm in that order. Voxels that the
        reference says to ignore are in neither.

    Raises:
        UnusableMasksError: a file cannot be read or is not a 3D segmentation, the grids differ, or the files hold
            several labels and `labels` does not say which are lesion.
    """
    images = {reference: _read_again(reference), prediction: _read(prediction)}
    _refuse_other_grid(reference, images[reference], prediction, images[prediction])
    arrays = {path: sitk.GetArrayViewFromImage(image) for path, image in images.items()}
    found = {label for path, array in arrays.items() for label in _foreground_labels(path, array)} - {labels.ignore}
    if len(found) > 1 and not labels.lesion:
        raise UnusableMasksError(
            f"there are several labels, {', '.join(map(str, sorted(found)))}, and it is not said which are lesion"
            + _both(reference, prediction),
            NAME_THEM,
            "SEVERAL_LABELS",
        )
    lesion = list(labels.lesion or found)
    of_reference, of_prediction = (np.isin(arrays[path], lesion) for path in (reference, prediction))
    if labels.ignore is not None:
        of_prediction &= arrays[reference] != labels.ignore
    return of_reference, of_prediction, images[reference].GetSpacing()[::-1]


def ignored_voxels(reference: Path, labels: Labels) -> np.ndarray | None:
    """The voxels (z, y, x) that a reference says to ignore; None where the dataset has no such label."""
    if labels.ignore is None:
        return None
    return sitk.GetArrayViewFromImage(_read_again(reference)) == labels.ignore


def _read_again(path: Path) -> sitk.Image:
    """A file that is asked for once per model, as it is now."""
    try:
        stamp = path.stat()
    except OSError:
        return _read(path)  # says what is wrong
    return _read_stamped(path, stamp.st_size, stamp.st_mtime_ns)


@lru_cache(maxsize=2)
def _read_stamped(path: Path, size: int, changed: int) -> sitk.Image:
    return _read(path)


def _read(path: Path) -> sitk.Image:
    if not path.is_file():
        raise UnusableMasksError(
            f"a segmentation is missing: {path}",
            "Predict the case, or put the file there; unpack it if it is in an archive.",
            "MISSING_SEGMENTATION",
        )
    try:
        image = read_image(path)
    except UnreadableImageError as error:
        raise UnusableMasksError(
            f"a segmentation cannot be read: {error}",
            "It was cut off or is not an image: write it again.",
            "UNREADABLE_SEGMENTATION",
        ) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise UnusableMasksError(
            f"a segmentation has {image.GetDimension()} axes and {image.GetNumberOfComponentsPerPixel()} values per "
            f"voxel: {path}",
            "Give a 3D image with one label per voxel.",
            "NOT_A_SEGMENTATION",
        )
    return image


def _foreground_labels(path: Path, array: np.ndarray) -> list[int]:
    values = array[array != 0]
    if values.size and values.min() == values.max():
        values = values[:1]
    values = np.unique(values)
    if not np.array_equal(values, np.rint(values)) or not np.isfinite(values).all():
        broken = values[~np.isfinite(values) | (values != np.rint(values))]
        raise UnusableMasksError(
            f"a segmentation holds {broken[0]:g}, which is not a label: {path}",
            "Give labels, not probabilities.",
            "NOT_A_SEGMENTATION",
        )
    return [int(value) for value in values]


def _refuse_other_grid(reference: Path, of_reference: sitk.Image, prediction: Path, of_prediction: sitk.Image) -> None:
    if of_reference.GetSize() != of_prediction.GetSize():
        difference = f"{_size(of_reference)} and {_size(of_prediction)} voxels"
    else:
        apart = _corners_apart(of_reference, of_prediction)
        if apart <= _GRID_TOLERANCE * min(of_reference.GetSpacing()):
            return
        difference = f"a corner of one lies {apart:.3g} mm from that of the other"
    raise UnusableMasksError(
        f"reference and prediction are not on the same grid: {difference}{_both(reference, prediction)}",
        "Predict the image that belongs to this reference, or write one of them on the other's grid.",
        "GRID_MISMATCH",
    )


def _corners_apart(first: sitk.Image, second: sitk.Image) -> float:
    """Largest distance in mm between where two images of one size place their eight corner voxels."""
    corners = product(*((0, size - 1) for size in first.GetSize()))
    points = [
        np.subtract(first.TransformIndexToPhysicalPoint(corner), second.TransformIndexToPhysicalPoint(corner))
        for corner in corners
    ]
    return float(np.linalg.norm(points, axis=1).max())


def _size(image: sitk.Image) -> str:
    return " × ".join(map(str, image.GetSize()))


def _both(reference: Path, prediction: Path) -> str:
    return f"\n  reference   {reference}\n  prediction  {prediction}"
