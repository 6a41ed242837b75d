"""All models at once: average ranks over subjects, Friedman's test, and the groups of a critical-difference diagram.

Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006, with subjects in the place of
data sets. Groups are given by Nemenyi's critical difference and, preferably, by pairwise signed-rank tests with Holm's
correction: whether two models differ by mean ranks depends on which others are ranked with them (Benavoli, Corani and
Mangili, JMLR 17, 2016).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.statistics.options import Options
from nnunet_transformers.comparison.statistics.pair_tests import holm, signed_rank_test
from nnunet_transformers.comparison.statistics.paired import DECIMALS
from nnunet_transformers.comparison.statistics.scores import checked, metric_definition, wide


@dataclass(frozen=True)
class Friedman:
    """Friedman's test, corrected for ties, and its F version (Iman and Davenport 1980), which is less conservative."""

    chi_squared: float
    p: float
    f: float
    p_f: float


@dataclass(frozen=True)
class Ranking:
    """Models ranked on each subject, 1 is best, on the cases that all of them have a value for.

    Attributes:
        average_ranks: per model, best first.
        n_cases, n_subjects: that were ranked.
        lacking: cases, of those any model was scored on, that a model has no value for; they were left out for all.
        critical_difference: Nemenyi's; average ranks that differ by less are not told apart.
        nemenyi_groups: models not told apart by it: the largest such sets, of two or more, best first.
        pairwise_p: model × model, signed-rank tests corrected by Holm over all pairs.
        wilcoxon_groups: the largest sets in which no pair differs by these. A set need not be consecutive in rank: draw
            its bar with a mark on each member. Models without a common group were told apart.
    """

    average_ranks: dict[str, float]
    n_cases: int
    n_subjects: int
    lacking: dict[str, int]
    friedman: Friedman
    critical_difference: float
    nemenyi_groups: tuple[tuple[str, ...], ...]
    pairwise_p: pd.DataFrame
    wilcoxon_groups: tuple[tuple[str, ...], ...]


def rank_models(scores: pd.DataFrame, options: Options) -> Ranking:
    """Rank all models of one set by one metric.

    A subject's value is the mean over its cases. A model that lacks many cases costs all others these cases: leave it
    out of the scores if the ranking is to be on more.

    Raises:
        ValueError: more than one set or metric, or a metric without a better direction.
        ComparisonError: see `scores.checked`; or no case has a value of every model.
    """
    if scores["set"].nunique() != 1 or scores["metric"].nunique() != 1:
        raise ValueError("models are ranked on one set by one metric")
    metric = scores["metric"].iloc[0]
    higher_is_better = metric_definition(metric).higher_is_better
    if higher_is_better is None:
        raise ValueError(f"models cannot be ranked by {metric}: neither higher nor lower is better")
    values = wide(checked(scores))
    complete = values.dropna()
    if complete.empty:
        lacks = ", ".join(f"{model} {count}" for model, count in values.isna().sum().items() if count)
        raise ComparisonError(
            f"no case has a {metric} of every model; of {len(values)} cases are missing: {lacks}",
            "Rank only models that were scored on the same cases, or run the missing folds. Nothing was written.",
            "NOTHING_TO_RANK",
        )
    per_subject = complete.groupby(level="subject").mean().round(DECIMALS)
    ranks = rank_rows(per_subject.to_numpy(), higher_is_better=higher_is_better)
    average = dict(sorted(zip(per_subject, ranks.mean(axis=0).tolist(), strict=True), key=lambda item: item[1]))
    pairwise = pairwise_signed_ranks(per_subject[list(average)])
    p_of = pairwise.to_dict()
    difference = critical_difference(len(average), len(ranks), options.alpha)
    order = list(average)
    return Ranking(
        average_ranks=average,
        n_cases=len(complete),
        n_subjects=len(per_subject),
        lacking={model: int(count) for model, count in values.isna().sum().items()},
        friedman=friedman_test(ranks),
        critical_difference=difference,
        nemenyi_groups=groups(order, lambda a, b: abs(average[a] - average[b]) < difference),
        pairwise_p=pairwise,
        wilcoxon_groups=groups(order, lambda a, b: bool(p_of[a][b] >= options.alpha)),
    )


def rank_rows(values: np.ndarray, *, higher_is_better: bool) -> np.ndarray:
    """Ranks within each row, 1 is best, ties share their mean rank: (n, models) -> (n, models)."""
    return stats.rankdata(-values if higher_is_better else values, axis=1)


def friedman_test(ranks: np.ndarray) -> Friedman:
    """Friedman's test of equal ranks.

    Args:
        ranks: (n, models), see `rank_rows`.

    Returns:
        Not numbers for one model or no row; p of 1 if all ranks are tied.
    """
    n, k = ranks.shape
    if n == 0 or k < 2:
        return Friedman(math.nan, math.nan, math.nan, math.nan)
    expected = (k + 1) / 2
    between = n * ((ranks.mean(axis=0) - expected) ** 2).sum()
    within = ((ranks - expected) ** 2).sum() / (n * (k - 1))
    chi_squared = float(between / within) if within > 0 else 0.0
    f, p_f = iman_davenport(chi_squared, n, k)
    return Friedman(chi_squared, float(stats.chi2.sf(chi_squared, k - 1)), f, p_f)


def iman_davenport(chi_squared: float, n: int, models: int) -> tuple[float, float]:
    """F statistic and its p-value from Friedman's; not numbers for a single row."""
    if n < 2:
        return math.nan, math.nan
    rest = n * (models - 1) - chi_squared
    f = math.inf if rest <= 1e-9 * n else (n - 1) * chi_squared / rest
    return f, float(stats.f.sf(f, models - 1, (models - 1) * (n - 1)))


def critical_difference(models: int, n: int, alpha: float) -> float:
    """Nemenyi's critical difference of average ranks; not a number for one model or no row."""
    if n == 0 or models < 2:
        return math.nan
    q = stats.studentized_range.ppf(1 - alpha, models, math.inf) / math.sqrt(2)
    return float(q * math.sqrt(models * (models + 1) / (6 * n)))


def pairwise_signed_ranks(per_subject: pd.DataFrame) -> pd.DataFrame:
    """Signed-rank p-values of all pairs of columns, corrected by Holm over the pairs; 1 on the diagonal."""
    models = list(per_subject)
    pairs = list(combinations(models, 2))
    p = holm([signed_rank_test((per_subject[a] - per_subject[b]).round(DECIMALS).to_numpy()).p for a, b in pairs])
    table = pd.DataFrame(1.0, index=models, columns=models)
    for (a, b), value in zip(pairs, p, strict=True):
        table.loc[a, b] = table.loc[b, a] = value
    return table


def groups(order: Sequence[str], alike: Callable[[str, str], bool]) -> tuple[tuple[str, ...], ...]:
    """The largest sets of two or more in which all pairs are alike (maximal cliques), members and sets in order.

    Bron and Kerbosch, Communications of the ACM 16, 1973, with pivoting.
    """
    place = {name: i for i, name in enumerate(order)}
    neighbours: dict[str, set[str]] = {name: set() for name in order}
    for a, b in combinations(order, 2):
        if alike(a, b):
            neighbours[a].add(b)
            neighbours[b].add(a)
    found: list[tuple[str, ...]] = []

    def extend(clique: set[str], candidates: set[str], excluded: set[str]) -> None:
        if not candidates and not excluded:
            if len(clique) > 1:
                found.append(tuple(sorted(clique, key=place.__getitem__)))
            return
        pivot = max(candidates | excluded, key=lambda name: len(neighbours[name] & candidates))
        for name in sorted(candidates - neighbours[pivot], key=place.__getitem__):
            extend(clique | {name}, candidates & neighbours[name], excluded & neighbours[name])
            candidates = candidates - {name}
            excluded = excluded | {name}

    extend(set(), set(order), set())
    return tuple(sorted(found, key=lambda group: [place[name] for name in group]))
