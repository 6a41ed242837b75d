"""All metrics of one case."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_transformers.comparison.metrics.definitions import METRICS
from nnunet_transformers.comparison.metrics.mask_pair import MaskPair


def case_metrics(
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float],
    probability: np.ndarray | None = None,
) -> dict[str, float]:
    """Compare a predicted lesion mask with its reference.

    Args:
        reference, prediction: (i, j, k) of the same shape, boolean or holding only 0 and 1.
        spacing_mm: voxel size along i, j, k.
        probability: (i, j, k) of a lesion, not a number where a voxel does not count; None: it is not known.

    Returns:
        A value for each name in `definitions.METRICS`, defined there, and for each in `definitions.FACTS`.

    Raises:
        ValueError: shapes differ, an array is not binary or does not have three axes, a spacing is not positive.
    """
    return metrics_of(MaskPair(reference, prediction, spacing_mm, probability))


def metrics_of(pair: MaskPair) -> dict[str, float]:
    """`case_metrics` of two masks that are at hand as a pair."""
    facts: dict[str, float] = {
        "reference_ml": pair.millilitres(pair.n_reference),
        "prediction_ml": pair.millilitres(pair.n_predicted),
        "reference_empty": not pair.n_reference,
        "prediction_empty": not pair.n_predicted,
        "both_empty": pair.are_both_empty,
    }
    return facts | {name: metric.compute(pair) for name, metric in METRICS.items()}
