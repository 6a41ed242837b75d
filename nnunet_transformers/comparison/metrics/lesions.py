"""Lesions as connected components: how many there are, found, missed and invented.

Two ways to find a lesion. By touch: a voxel of it is predicted, and one predicted lesion may find many. One to one: a
lesion and a predicted one are partners where they overlap enough (ISLES'26).

The two older challenges count by touch and differ in what is connected: the scorer of ATLAS R2.0
(npnl/atlas2_grand_challenge and npnl/atlas2_type2_eval, isles/scoring.py, since 22 June 2022; for two weeks before it
had 26) joins voxels across faces only, that of ISLES'22 (ezequieldlrosa/isles22, utils/eval_utils.py) across edges and
corners too, as that of ISLES'26 does.

Neither of the older scorers can be used as it is. ATLAS: overlap is looked for as a sum above 1, which boolean arrays
never reach, so every lesion then counts as missed; and `volume_difference` of atlas2_grand_challenge is always 0 unless
batchwise, as it subtracts the prediction from itself (mended in atlas2_type2_eval). ISLES'22: `np.bool` and `np.float`
are gone since NumPy 1.24.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import cc3d
import numpy as np

PARTNERS_IOU = 0.25
"""Intersection over union from which on a lesion and a predicted one are partners."""


@dataclass(frozen=True)
class LesionCounts:
    """Lesions of a reference and of a prediction.

    Attributes:
        reference, predicted: numbers of components.
        found: components of the reference with at least one predicted voxel, or with a partner (TP).
        false: components of the prediction without a voxel of the reference, or without a partner (FP).
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


class Lesions:
    """The lesions of two masks, numbered once for all ways to count them.

    Args:
        reference, prediction: boolean (i, j, k) of the same shape.
        connectivity: 6 joins voxels that share a face, 26 those that share an edge or a corner too.
    """

    def __init__(self, reference: np.ndarray, prediction: np.ndarray, connectivity: Literal[6, 26]) -> None:
        of_reference, self._n_reference = _components(reference, connectivity)
        of_prediction, self._n_predicted = _components(prediction, connectivity)
        overlap = reference & prediction
        self._reference_there, self._prediction_there = of_reference[overlap], of_prediction[overlap]
        self._of_reference, self._of_prediction = of_reference, of_prediction

    @cached_property
    def by_touch(self) -> LesionCounts:
        """Of ATLAS R2.0 and ISLES'22: a lesion is found if a voxel of it is predicted."""
        found = _distinct(self._reference_there, self._n_reference)
        hitting = _distinct(self._prediction_there, self._n_predicted)
        return LesionCounts(self._n_reference, self._n_predicted, found, self._n_predicted - hitting)

    @cached_property
    def one_to_one(self) -> LesionCounts:
        """Of ISLES'26: a lesion is found if it has a partner, with which it shares `PARTNERS_IOU` of their union.

        That version of panoptica (see `_partners`) numbers lesions in 8 bits and miscounts more than 255 of them; here
        they are counted.
        """
        found = len(self._partners)
        return LesionCounts(self._n_reference, self._n_predicted, found, self._n_predicted - found)

    @property
    def of_reference(self) -> list[tuple[int, bool]]:
        """Voxels of each lesion of the reference, and whether it has a partner."""
        sizes = np.bincount(self._of_reference.ravel(), minlength=self._n_reference + 1)[1:].tolist()
        return [(size, number in self._partners) for number, size in enumerate(sizes, 1)]

    @cached_property
    def _partners(self) -> dict[int, int]:
        """Number of a lesion → that of its partner.

        The pair that shares most comes first; of equal ones that of the lower number, as panoptica 1.0.1 has it
        (`NaiveThresholdMatching`; its README cites Kofler et al., arXiv:2312.02608).
        """
        n = self._n_reference + 1
        pairs, common = np.unique(self._prediction_there * np.int64(n) + self._reference_there, return_counts=True)
        predicted, true = pairs // n, pairs % n
        sizes = np.bincount(self._of_prediction.ravel())[predicted], np.bincount(self._of_reference.ravel())[true]
        iou = common / (sizes[0] + sizes[1] - common)
        partner_of: dict[int, int] = {}
        taken: set[int] = set()
        for k in np.argsort(-iou, kind="stable"):
            if iou[k] >= PARTNERS_IOU and predicted[k] not in taken and true[k] not in partner_of:
                taken.add(predicted[k])
                partner_of[int(true[k])] = int(predicted[k])
        return partner_of


def _components(mask: np.ndarray, connectivity: Literal[6, 26]) -> tuple[np.ndarray, int]:
    # As integers: for some thin boolean arrays cc3d 4.1 reserves too few labels and raises "maximum length exception".
    return cc3d.connected_components(mask.view(np.uint8), connectivity=connectivity, return_N=True)


def _distinct(labels: np.ndarray, n: int) -> int:
    """How many of the labels 1 to n occur."""
    occurs = np.zeros(n + 1, bool)
    occurs[labels] = True
    return int(np.count_nonzero(occurs))
