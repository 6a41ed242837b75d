"""The area under the precision-recall curve of a probability map, as ISLES'26 has it."""

from __future__ import annotations

import numpy as np


def area_under_precision_recall(reference: np.ndarray, probability: np.ndarray) -> float:
    """Trapezoids under precision over recall at every threshold, as scikit-learn's `precision_recall_curve` and `auc`.

    Recall changes only at the scores of lesion voxels, so only how many other voxels lie above each of these has to be
    known, not the order of the others.

    Args:
        reference: boolean, of any shape.
        probability: of the same shape; numbers that rise with the probability of a lesion, compared as float32.

    Returns:
        Without a lesion 1 where the map is constant, and 0 where it is not (github.com/ezequieldlrosa/isles26,
        utils/eval_utils.py).

    Raises:
        ValueError: shapes differ, or a number is not finite.
    """
    if reference.shape != probability.shape:
        raise ValueError(f"the reference is {reference.shape} and the probability map {probability.shape}")
    scores = np.asarray(probability, np.float32)
    lowest, highest = float(scores.min()), float(scores.max())
    if not np.isfinite((lowest, highest)).all():
        raise ValueError("the probability map has numbers that are not finite")
    of_lesion = np.sort(scores[reference])
    if not of_lesion.size:
        return float(lowest == highest)
    others = np.sort(scores[(scores >= of_lesion[0]) & ~reference])
    values, counts = np.unique(of_lesion, return_counts=True)
    found_from = np.cumsum(counts[::-1])[::-1]  # lesion voxels with at least this score
    found_above = found_from - counts
    false_from = others.size - np.searchsorted(others, values, "left")
    false_above = others.size - np.searchsorted(others, values, "right")
    chosen_above = found_above + false_above
    # The curve begins with a precision of 1 where nothing is chosen.
    before = np.where(chosen_above > 0, found_above / np.maximum(chosen_above, 1), 1.0)
    after = found_from / (found_from + false_from)
    return float(np.sum(counts * (before + after)) / (2 * of_lesion.size))
