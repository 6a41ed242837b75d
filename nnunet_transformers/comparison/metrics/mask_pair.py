"""Two masks of one case, and what several metrics need of them, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np

from nnunet_transformers.common.volumes.boxes import bounding_box
from nnunet_transformers.comparison.metrics.lesions import Lesions
from nnunet_transformers.comparison.metrics.precision_recall import area_under_precision_recall
from nnunet_transformers.comparison.metrics.surface import SurfaceDistances, surface_distances


class MaskPair:
    """A reference and a prediction, cut to the box that holds all voxels of both.

    Attributes:
        reference, prediction: boolean, of the same shape.
        spacing_mm: (3,) along the axes of the masks.
        diagonal_mm: of the whole image.
    """

    def __init__(
        self,
        reference: np.ndarray,
        prediction: np.ndarray,
        spacing_mm: Sequence[float],
        probability: np.ndarray | None = None,
    ) -> None:
        """
        Args:
            reference, prediction: (i, j, k) of the same shape, boolean or holding only 0 and 1.
            spacing_mm: voxel size along i, j, k.
            probability: (i, j, k) of a lesion, where it is known; not a number where a voxel does not count.

        Raises:
            ValueError: shapes differ, an array is not binary or does not have three axes, a spacing is not positive.
        """
        reference, prediction = _as_mask(reference, "reference"), _as_mask(prediction, "prediction")
        spacing = np.asarray(spacing_mm, float)
        if reference.shape != prediction.shape:
            raise ValueError(f"the reference is {reference.shape} and the prediction {prediction.shape}")
        if spacing.shape != (3,) or not (np.isfinite(spacing).all() and (spacing > 0).all()):
            raise ValueError(f"the spacing must be three positive numbers, not {spacing_mm}")
        self._whole = None if probability is None else (reference, probability)
        box = bounding_box(reference | prediction)
        self.reference, self.prediction = np.ascontiguousarray(reference[box]), np.ascontiguousarray(prediction[box])
        self.spacing_mm = spacing
        self.diagonal_mm = float(np.linalg.norm(spacing * reference.shape))
        self._lesions: dict[int, Lesions] = {}

    @cached_property
    def n_reference(self) -> int:
        """Voxels."""
        return int(np.count_nonzero(self.reference))

    @cached_property
    def n_predicted(self) -> int:
        """Voxels."""
        return int(np.count_nonzero(self.prediction))

    @cached_property
    def n_common(self) -> int:
        """Voxels in both."""
        return int(np.count_nonzero(self.reference & self.prediction))

    @property
    def are_both_empty(self) -> bool:
        return not self.n_reference and not self.n_predicted

    def millilitres(self, voxels: int) -> float:
        """The volume of so many voxels."""
        return voxels * (float(np.prod(self.spacing_mm)) / 1000)

    @cached_property
    def distances(self) -> SurfaceDistances | None:
        """Between the two surfaces; None where a mask is empty."""
        if not self.n_reference or not self.n_predicted:
            return None
        return surface_distances(self.reference, self.prediction, self.spacing_mm)

    @cached_property
    def precision_recall_area(self) -> float:
        """See `precision_recall`; not a number where probabilities are not known."""
        if self._whole is None:
            return float("nan")
        reference, probability = self._whole
        if probability.shape == reference.shape and not (counts := ~np.isnan(probability)).all():
            reference, probability = reference[counts], probability[counts]
        return area_under_precision_recall(reference, probability)

    @property
    def lesions_ml(self) -> list[tuple[float, bool]]:
        """Volume of each lesion of the reference (26-connected), and whether the prediction has a partner for it."""
        return [(self.millilitres(voxels), found) for voxels, found in self.lesions(26).of_reference]

    def lesions(self, connectivity: Literal[6, 26]) -> Lesions:
        """Connected components of both."""
        if connectivity not in self._lesions:
            self._lesions[connectivity] = Lesions(self.reference, self.prediction, connectivity)
        return self._lesions[connectivity]


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
