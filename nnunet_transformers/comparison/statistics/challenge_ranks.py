"""Ranks as challenges have them: models are ranked on each case by each metric, and the ranks are averaged.

"Rank, then aggregate": Maier-Hein et al., "Why rankings of biomedical image analysis competitions should be interpreted
with care", Nature Communications 9:5217 (2018); ISLES'22, Hernandez Petzsche et al., Sci Data 9:762 (2022). How sure a
place is, by resampling: Wiesenfarth et al., Scientific Reports 11:2369 (2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunet_transformers.comparison.metrics.definitions import METRICS
from nnunet_transformers.comparison.statistics.bootstrap import interval, resample_weights
from nnunet_transformers.comparison.statistics.options import Options
from nnunet_transformers.comparison.statistics.paired import DECIMALS
from nnunet_transformers.comparison.statistics.ranks import rank_rows
from nnunet_transformers.comparison.statistics.scores import checked, wide
from nnunet_transformers.comparison.statistics.sites import site_codes


@dataclass(frozen=True)
class Place:
    """Where a model stands.

    Attributes:
        rank: of its mean rank among those of all models, 1 is best; equal ones share the better place.
        mean_rank: over cases and metrics, with the bounds of its interval.
        rank_low, rank_high: bounds of the interval of `rank`.
    """

    rank: int
    mean_rank: float
    mean_rank_low: float
    mean_rank_high: float
    rank_low: float
    rank_high: float


@dataclass(frozen=True)
class ChallengeRanking:
    """Models ranked on each case by each metric.

    Attributes:
        metrics: that count, each as much as any other.
        places: per model, best first.
        ahead: model × model, the share of resamples in which the mean rank of the first is better than that of the
            second; ties count half.
        n_cases, n_subjects: that were ranked: cases that have a value of every model by every metric.
        n_sites: that were resampled, see `sites.RULE`; 0 where subjects were.
        n_left_out: cases that lack one.
    """

    metrics: tuple[str, ...]
    places: dict[str, Place]
    ahead: Mapping[str, Mapping[str, float]]
    n_cases: int
    n_subjects: int
    n_sites: int
    n_left_out: int


def rank_as_challenge(scores: pd.DataFrame, metrics: Sequence[str], options: Options) -> ChallengeRanking | None:
    """Rank all models of one set.

    Args:
        scores: of one set.
        metrics: each with a better direction.
        options: sites or subjects are resampled, each with all of its cases.

    Returns:
        None where no case has a value of every model by every metric.

    Raises:
        ComparisonError: see `scores.checked`.
    """
    tables = {name: wide(checked(scores[scores["metric"] == name])) for name in metrics}
    models = list(dict.fromkeys(scores["model"]))
    together = pd.concat({name: table.reindex(columns=models) for name, table in tables.items()}, axis=1)
    complete = together.dropna()
    if complete.empty:
        return None
    by_metric = [
        rank_rows(complete[name].round(DECIMALS).to_numpy(), higher_is_better=METRICS[name].higher_is_better is True)
        for name in metrics
    ]
    ranks = np.mean(by_metric, axis=0)
    subjects, _ = pd.factorize(complete.index.get_level_values("subject"))
    codes = _sites(scores, complete.index.get_level_values("case"))
    n_sites = 0 if codes is None else int(codes.max()) + 1
    drawn = subjects if codes is None else codes
    number = int(drawn.max()) + 1
    counts = resample_weights(number, options.resamples, options.seed)
    sums = np.stack([np.bincount(drawn, weights=column, minlength=number) for column in ranks.T])
    cases = np.bincount(drawn, minlength=number)
    means = np.round(sums @ counts / (cases @ counts), DECIMALS)  # (models, resamples)
    observed = np.round(ranks.mean(axis=0), DECIMALS)
    places_drawn = _places(means)
    rank_of = _places(observed[:, None])[:, 0]
    places = {}
    for k in np.argsort(observed, kind="stable"):
        low, high = interval(means[k], number, options.confidence)
        rank_low, rank_high = interval(places_drawn[k], number, options.confidence)
        places[models[k]] = Place(int(rank_of[k]), float(observed[k]), low, high, rank_low, rank_high)
    drawn = dict(zip(models, means, strict=True))
    ahead = {
        model: {
            other: float(np.mean((drawn[model] < drawn[other]) + (drawn[model] == drawn[other]) / 2))
            for other in places
        }
        for model in places
    }
    return ChallengeRanking(
        tuple(metrics), places, ahead, len(complete), int(subjects.max()) + 1, n_sites, len(together) - len(complete)
    )


def _sites(scores: pd.DataFrame, cases: pd.Index) -> np.ndarray | None:
    if "site" not in scores:
        return None
    return site_codes(scores.drop_duplicates("case").set_index("case")["site"].reindex(cases).to_numpy())


def _places(mean_ranks: np.ndarray) -> np.ndarray:
    """1 for the best of each column, (models, n) -> (models, n); equal ones share the better place."""
    return 1 + (mean_ranks[None] < mean_ranks[:, None]).sum(axis=1)
