"""Lesions as connected components: how many there are, found, missed and invented.

Both stroke challenges count alike and differ in what touches: the scorer of ATLAS R2.0 (npnl/atlas2_grand_challenge and
npnl/atlas2_type2_eval, isles/scoring.py, since 22 June 2022; for two weeks before it had 26) joins voxels across faces
only, that of ISLES'22 (ezequieldlrosa/isles22, utils/eval_utils.py) across edges and corners too.

Neither scorer can be used as it is. ATLAS: overlap is looked for as a sum above 1, which boolean arrays never reach, so
every lesion then counts as missed; and `volume_difference` of atlas2_grand_challenge is always 0 unless batchwise, as
it subtracts the prediction from itself (mended in atlas2_type2_eval). ISLES'22: `np.bool` and `np.float` are gone since
NumPy 1.24.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cc3d
import numpy as np


@dataclass(frozen=True)
class LesionCounts:
    """Lesions of a reference and of a prediction.

    Attributes:
        reference, predicted: numbers of components.
        found: components of the reference with at least one predicted voxel (TP).
        false: components of the prediction without a voxel of the reference (FP).
    """

    reference: int
    predicted: int
    found: int
    false: int

    @property
    def missed(self) -> int:
        """FN."""
        return self.reference - self.found

    @property
    def f1(self) -> float:
        """TP / (TP + (FP + FN) / 2); 1 without any lesion."""
        if not self.reference and not self.predicted:
            return 1.0
        return self.found / (self.found + (self.false + self.missed) / 2)

    @property
    def precision(self) -> float:
        """TP / (TP + FP); where nothing is predicted, 1 if there is no lesion and 0 if there is one."""
        if not self.predicted:
            return float(not self.reference)
        return self.found / (self.found + self.false)

    @property
    def recall(self) -> float:
        """TP / (TP + FN); not a number without a lesion in the reference."""
        return self.found / self.reference if self.reference else float("nan")

    @property
    def count_difference(self) -> int:
        """Absolute difference between the numbers of lesions."""
        return abs(self.predicted - self.reference)


def count_lesions(reference: np.ndarray, prediction: np.ndarray, connectivity: Literal[6, 26]) -> LesionCounts:
    """Count the lesions of two boolean masks (i, j, k) of the same shape."""
    of_reference, n_reference = _components(reference, connectivity)
    of_prediction, n_predicted = _components(prediction, connectivity)
    overlap = reference & prediction
    found = _distinct(of_reference[overlap], n_reference)
    hitting = _distinct(of_prediction[overlap], n_predicted)
    return LesionCounts(n_reference, n_predicted, found, n_predicted - hitting)


def _components(mask: np.ndarray, connectivity: Literal[6, 26]) -> tuple[np.ndarray, int]:
    # As integers: for some thin boolean arrays cc3d 4.1 reserves too few labels and raises "maximum length exception".
    return cc3d.connected_components(mask.view(np.uint8), connectivity=connectivity, return_N=True)


def _distinct(labels: np.ndarray, n: int) -> int:
    """How many of the labels 1 to n occur."""
    occurs = np.zeros(n + 1, bool)
    occurs[labels] = True
    return int(np.count_nonzero(occurs))
