"""How many lesions a model finds, by their size."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pandas as pd

from nnunet_transformers.comparison.statistics.bootstrap import bootstrap_means, interval, resample_weights
from nnunet_transformers.comparison.statistics.options import Options
from nnunet_transformers.comparison.statistics.pair_tests import wilson_interval
from nnunet_transformers.comparison.statistics.sites import site_level

SIZES_ML = (0.0, 0.1, 1.0, 10.0, 100.0, math.inf)
"""Bounds of the classes of size; a lesion on a bound is in the smaller class."""


def detection_by_size(lesions: pd.DataFrame, options: Options) -> pd.DataFrame:
    """The share of the lesions of the references that were found.

    Args:
        lesions: see `metrics.lesions_table`.
        options: subjects or sites are resampled, each with all of its lesions.

    Returns:
        A row per set, model and class of size that has a lesion: low_ml, high_ml, lesions, found, subjects, and the
        sensitivity with its interval, not a number for a single subject. Also for all sizes, from 0 to infinity.
    """
    rows = []
    for (set_, model), own in lesions.groupby(["set", "model"], sort=False):
        for low, high in [*pairwise(SIZES_ML), (0.0, math.inf)]:
            here = own[(own["lesion_ml"] > low) & (own["lesion_ml"] <= high)]
            if here.empty:
                continue
            subjects, codes = np.unique(here["subject"].to_numpy(), return_inverse=True)
            found = here["found"].to_numpy(dtype=float)
            bounds = _interval(found, codes, here["site"].to_numpy(), options)
            rows.append(
                {
                    "set": set_,
                    "model": model,
                    "low_ml": low,
                    "high_ml": high,
                    "lesions": len(here),
                    "found": int(found.sum()),
                    "subjects": len(subjects),
                    "sensitivity": float(found.mean()),
                    "sensitivity_low": max(0.0, bounds[0]),
                    "sensitivity_high": min(1.0, bounds[1]),
                }
            )
    columns = ["set", "model", "low_ml", "high_ml", "lesions", "found", "subjects"]
    columns += ["sensitivity", "sensitivity_low", "sensitivity_high"]
    return pd.DataFrame(rows, columns=columns)


def _interval(found: np.ndarray, subjects: np.ndarray, sites: np.ndarray, options: Options) -> tuple[float, float]:
    if found.all() or not found.any():  # resamples all agree; as if the lesions of a subject were one
        return wilson_interval(float(found[0]), int(subjects.max()) + 1, options.confidence)
    if level := site_level(found, sites):
        return level.interval(options.confidence)
    number = int(subjects.max()) + 1
    means = bootstrap_means(found, subjects, resample_weights(number, options.resamples, options.seed))
    return interval(means, number, options.confidence)
