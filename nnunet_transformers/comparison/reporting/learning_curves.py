"""Learning curves of several folds as the one that is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

_MOST_POINTS = 150


def mean_curve(folds: Sequence[Mapping[int, float]]) -> list[tuple[float, float]]:
    """Mean over folds of the epochs that all of them have a finite value for, thinned out to what a chart can show."""
    common = set.intersection(*(set(fold) for fold in folds)) if folds else set()
    means = [(epoch, sum(fold[epoch] for fold in folds) / len(folds)) for epoch in sorted(common)]
    finite = [(float(epoch), value) for epoch, value in means if math.isfinite(value)]
    size = math.ceil(len(finite) / _MOST_POINTS)
    bins = [finite[start : start + size] for start in range(0, len(finite), size)] if size else []
    return [(sum(e for e, _ in part) / len(part), sum(v for _, v in part) / len(part)) for part in bins]
