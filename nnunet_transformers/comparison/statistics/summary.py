"""Mean, median and quartiles of each model, with intervals that resample sites or subjects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from nnunet_transformers.comparison.statistics.bootstrap import (
    bootstrap_means,
    bootstrap_quantiles,
    interval,
    resample_counts,
    resample_weights,
)
from nnunet_transformers.comparison.statistics.options import Options
from nnunet_transformers.comparison.statistics.scores import checked, metric_definition
from nnunet_transformers.comparison.statistics.sites import site_level


@dataclass(frozen=True)
class Summary:
    """One metric of one model over its cases; not a number where there are none, bounds also with a single subject.

    Attributes:
        n: cases with a defined value: all numbers are over these.
        n_subjects: their subjects.
        n_sites: that were resampled, see `sites.RULE`; 0 where subjects were.
        undefined: cases whose value is not a number.
        …_low, …_high: bounds of the interval.
        mean_low_subjects, mean_high_subjects: those of the mean that resample subjects.
    """

    n: int
    n_subjects: int
    n_sites: int
    undefined: int
    mean: float
    mean_low: float
    mean_high: float
    median: float
    median_low: float
    median_high: float
    lower_quartile: float
    lower_quartile_low: float
    lower_quartile_high: float
    upper_quartile: float
    upper_quartile_low: float
    upper_quartile_high: float
    mean_low_subjects: float
    mean_high_subjects: float


def summarise(values: np.ndarray, subjects: np.ndarray, options: Options, sites: np.ndarray | None = None) -> Summary:
    """Describe the values of one model.

    Args:
        values: (n,), one per case, NaN where undefined.
        subjects: (n,), a name or number per case.
        options: see there.
        sites: (n,), the name of a site per case, "" where it is not known; None: of none.
    """
    defined = ~np.isnan(values)
    kept = values[defined]
    names, codes = np.unique(subjects[defined], return_inverse=True)
    if not len(kept):
        return Summary(0, 0, 0, len(values), *[math.nan] * 14)
    level = site_level(kept, None if sites is None else sites[defined])
    drawn, number = (level.codes, level.n_sites) if level else (codes, len(names))
    counts = resample_counts(number, options.resamples, options.seed)
    means = bootstrap_means(kept, drawn, resample_weights(number, options.resamples, options.seed))
    levels = (0.5, 0.25, 0.75)
    mean = level.interval(options.confidence) if level else interval(means, number, options.confidence)
    numbers = [float(kept.mean()), *mean]
    quantiles = bootstrap_quantiles(kept, drawn, counts, levels)
    for estimate, distribution in zip(np.quantile(kept, levels).tolist(), quantiles, strict=True):
        if level:
            numbers += [estimate, *level.interval_of(estimate, distribution, means, options.confidence)]
        else:
            numbers += [estimate, *interval(distribution, number, options.confidence)]
    of_subjects = mean
    if level:
        weights = resample_weights(len(names), options.resamples, options.seed)
        of_subjects = interval(bootstrap_means(kept, codes, weights), len(names), options.confidence)
    numbers += of_subjects
    return Summary(len(kept), len(names), level.n_sites if level else 0, int((~defined).sum()), *numbers)


def summaries(scores: pd.DataFrame, options: Options) -> pd.DataFrame:
    """A row per set, metric and model: these three columns, then the fields of `Summary`.

    Sets, metrics and models are in the order of their first appearance in the scores.
    """
    return summaries_by(checked(scores), ["set", "metric", "model"], scores, options)


def summaries_by(table: pd.DataFrame, by: list[str], order: pd.DataFrame, options: Options) -> pd.DataFrame:
    """`summaries` of a checked table by other columns, whose values come in the order they have in `order`."""
    for metric in table["metric"].unique():
        metric_definition(metric)
    rows = [
        {
            **dict(zip(by, key, strict=True)),
            **asdict(
                summarise(
                    group["value"].to_numpy(),
                    group["subject"].to_numpy(),
                    options,
                    group["site"].to_numpy() if "site" in group else None,
                )
            ),
        }
        for key, group in table.groupby(by, sort=False, observed=True)
    ]
    fields = [*by, *Summary.__dataclass_fields__]
    return in_order_of(pd.DataFrame(rows, columns=fields), by, order)


def in_order_of(frame: pd.DataFrame, by: Sequence[str], order: pd.DataFrame) -> pd.DataFrame:
    """Rows sorted by columns whose values come in the order of their first appearance in another frame."""
    places = {column: {value: i for i, value in enumerate(order[column].dropna().unique())} for column in by}

    def place(column: pd.Series) -> pd.Series:
        return column.map(places[str(column.name)])

    return frame.sort_values(list(by), key=place, kind="stable", ignore_index=True)
