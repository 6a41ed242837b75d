"""All metrics of one case."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_transformers.comparison.metrics.definitions import CONNECTIVITIES, NSD_TOLERANCES_MM
from nnunet_transformers.comparison.metrics.lesions import count_lesions
from nnunet_transformers.comparison.metrics.surface import surface_distances


def case_metrics(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> dict[str, float]:
    """Compare a predicted lesion mask with its reference.

    Args:
        reference, prediction: (i, j, k) of the same shape, boolean or holding only 0 and 1.
        spacing_mm: voxel size along i, j, k.

    Returns:
        A value for each name in `definitions.METRICS`, defined there, and for each in `definitions.FACTS`.

    Raises:
        ValueError: shapes differ, an array is not binary or does not have three axes, a spacing is not positive.
    """
    reference, prediction = _as_mask(reference, "reference"), _as_mask(prediction, "prediction")
    spacing = np.asarray(spacing_mm, float)
    if reference.shape != prediction.shape:
        raise ValueError(f"the reference is {reference.shape} and the prediction {prediction.shape}")
    if spacing.shape != (3,) or not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise ValueError(f"the spacing must be three positive numbers, not {spacing_mm}")

    diagonal = float(np.linalg.norm(spacing * reference.shape))
    box = bounding_box(reference | prediction)
    reference, prediction = np.ascontiguousarray(reference[box]), np.ascontiguousarray(prediction[box])

    n_reference, n_predicted = int(np.count_nonzero(reference)), int(np.count_nonzero(prediction))
    voxel_ml = float(np.prod(spacing)) / 1000
    difference = (n_predicted - n_reference) * voxel_ml
    values: dict[str, float] = {
        "reference_ml": n_reference * voxel_ml,
        "prediction_ml": n_predicted * voxel_ml,
        "reference_empty": not n_reference,
        "prediction_empty": not n_predicted,
        "both_empty": not n_reference and not n_predicted,
        "dice": dice(n_reference, n_predicted, int(np.count_nonzero(reference & prediction))),
        "volume_difference_ml": difference,
        "absolute_volume_difference_ml": abs(difference),
    }
    if n_reference and n_predicted:
        distances = surface_distances(reference, prediction, spacing)
        values |= {"hd95_mm": distances.hausdorff_95, "assd_mm": distances.average}
        values |= {name: distances.within(tolerance) for name, tolerance in NSD_TOLERANCES_MM.items()}
    else:
        both_empty = values["both_empty"]
        values |= dict.fromkeys(("hd95_mm", "assd_mm"), 0.0 if both_empty else diagonal)
        values |= dict.fromkeys(NSD_TOLERANCES_MM, float(both_empty))
    for challenge, connectivity in CONNECTIVITIES.items():
        lesions = count_lesions(reference, prediction, connectivity)
        values |= {
            f"lesion_f1_{challenge}": lesions.f1,
            f"lesion_precision_{challenge}": lesions.precision,
            f"lesion_recall_{challenge}": lesions.recall,
            f"lesion_count_difference_{challenge}": lesions.count_difference,
        }
    return values


def dice(n_reference: int, n_predicted: int, n_common: int) -> float:
    """Dice of two masks from their numbers of voxels and of voxels in common; 1 for two empty ones."""
    return 2 * n_common / (n_reference + n_predicted) if n_reference or n_predicted else 1.0


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds all voxels of a mask of any rank; of no size for an empty one."""
    box: list[slice] = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        extent = slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 0)
        box.append(extent)
        mask = mask[(slice(None),) * axis + (extent,)]
    return tuple(box)


def _as_mask(array: np.ndarray, role: str) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != 3:
        raise ValueError(f"the {role} has {array.ndim} axes instead of 3")
    if array.dtype == bool:
        return array
    mask = array == 1
    if np.count_nonzero(mask) != np.count_nonzero(array):
        raise ValueError(f"the {role} holds values other than 0 and 1")
    return mask
