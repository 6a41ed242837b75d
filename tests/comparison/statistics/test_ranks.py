"""Ranks of all models, Friedman's test, and the groups of a critical-difference diagram."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.score_table import score_table
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.statistics.options import Options
from nnunet_transformers.comparison.statistics.ranks import (
    critical_difference,
    friedman_test,
    groups,
    iman_davenport,
    rank_models,
    rank_rows,
)

OPTIONS = Options()

# Demšar, JMLR 7 (2006), table 6: AUC of four algorithms on 14 data sets. The two values of the thirteenth that
# are equal as printed are ranked apart there, hence 0.9751.
DEMSAR = {
    "C4.5": [
        0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.000, 0.940, 0.619, 0.972, 0.957,
    ],
    "C4.5+m": [
        0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.000, 0.962, 0.666, 0.981, 0.978,
    ],
    "C4.5+cf": [
        0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.000, 0.965, 0.614, 0.9751, 0.946,
    ],
    "C4.5+m+cf": [
        0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.000, 0.962, 0.669, 0.975, 0.970,
    ],
}  # fmt: skip


def test_demsars_average_ranks() -> None:
    ranking = rank_models(score_table(DEMSAR), OPTIONS)
    assert list(ranking.average_ranks) == ["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]
    assert list(ranking.average_ranks.values()) == pytest.approx([1.964, 2.000, 2.893, 3.143], abs=5e-4)
    assert (ranking.n_cases, ranking.n_subjects) == (14, 14)


def test_demsars_friedman_statistics() -> None:
    # He does not correct for ties: 9.28 from the average ranks, and F 3.69.
    average = np.array([1.964, 2.000, 2.893, 3.143])
    uncorrected = 12 * 14 / (4 * 5) * ((average**2).sum() - 4 * 25 / 4)
    assert uncorrected == pytest.approx(9.28, abs=0.01)
    assert iman_davenport(9.28, 14, 4)[0] == pytest.approx(3.69, abs=0.005)
    ranking = rank_models(score_table(DEMSAR), OPTIONS)
    assert ranking.friedman.chi_squared == pytest.approx(stats.friedmanchisquare(*DEMSAR.values()).statistic)
    assert ranking.friedman.chi_squared > uncorrected


def test_demsars_critical_differences() -> None:
    assert critical_difference(4, 14, 0.05) == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    assert critical_difference(4, 14, 0.10) == pytest.approx(2.291 * math.sqrt(4 * 5 / (6 * 14)), abs=1e-3)


@pytest.mark.parametrize(("models", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_the_studentised_range_is_that_of_demsars_table_5(models: int, q: float) -> None:
    n = 50
    assert critical_difference(models, n, 0.05) / math.sqrt(models * (models + 1) / (6 * n)) == pytest.approx(
        q, abs=1e-3
    )


@settings(deadline=None)
@given(arrays(float, st.tuples(st.integers(2, 12), st.integers(3, 6)), elements=st.integers(0, 3).map(float)))
def test_friedmans_test_is_scipys(values: np.ndarray) -> None:
    ours = friedman_test(rank_rows(values, higher_is_better=True))
    if (values == values[:, :1]).all():
        assert (ours.chi_squared, ours.p) == (0, 1)
    else:
        theirs = stats.friedmanchisquare(*values.T)
        assert ours.chi_squared == pytest.approx(theirs.statistic, abs=1e-9)
        assert ours.p == pytest.approx(theirs.pvalue, abs=1e-9)


def test_rank_1_is_best_whichever_way_the_metric_goes() -> None:
    values = {"low": [1.0, 2.0, 3.0], "high": [4.0, 5.0, 6.0]}
    assert rank_models(score_table(values, metric="dice"), OPTIONS).average_ranks == {"high": 1, "low": 2}
    assert rank_models(score_table(values, metric="hd95_mm"), OPTIONS).average_ranks == {"low": 1, "high": 2}


def test_a_subjects_sessions_are_averaged_before_they_are_ranked() -> None:
    scores = score_table({"a": [0.9, 0.1, 0.5], "b": [0.2, 0.2, 0.6]}, subjects=["x", "x", "y"])
    ranking = rank_models(scores, OPTIONS)
    assert ranking.average_ranks == {"a": 1.5, "b": 1.5}  # a wins x by 0.5 to 0.2, b wins y
    assert (ranking.n_cases, ranking.n_subjects) == (3, 2)


def test_cases_that_a_model_lacks_are_left_out_for_all_and_counted() -> None:
    scores = score_table({"a": [0.1, 0.2, 0.3], "b": [0.5, math.nan, 0.5], "c": [0.4, 0.6, 0.6]})
    scores = scores[~((scores["model"] == "c") & (scores["case"] == "c000"))]
    ranking = rank_models(scores, OPTIONS)
    assert ranking.n_cases == 1
    assert ranking.lacking == {"a": 0, "b": 1, "c": 1}
    assert list(ranking.average_ranks) == ["c", "b", "a"]


def test_models_without_a_common_case_are_refused_by_name() -> None:
    scores = score_table({"a": [0.1, math.nan], "b": [math.nan, 0.1]})
    with pytest.raises(ComparisonError, match="a 1, b 1") as caught:
        rank_models(scores, OPTIONS)
    assert caught.value.code == "NOTHING_TO_RANK"


def test_a_metric_without_a_better_direction_is_not_ranked() -> None:
    with pytest.raises(ValueError, match="neither higher nor lower"):
        rank_models(score_table({"a": [0.1]}, metric="volume_difference_ml"), OPTIONS)


def test_equal_models_are_one_group_and_far_apart_ones_are_none() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(60)
    values = {"best": base + 1, "twin": base + rng.normal(0, 0.01, 60), "sister": base + rng.normal(0, 0.01, 60)}
    ranking = rank_models(score_table(values), OPTIONS)
    assert [set(group) for group in ranking.wilcoxon_groups] == [{"twin", "sister"}]
    assert [set(group) for group in ranking.nemenyi_groups] == [{"twin", "sister"}]
    assert ranking.pairwise_p.loc["best", "twin"] < 1e-6
    assert (ranking.pairwise_p.to_numpy() == ranking.pairwise_p.to_numpy().T).all()


def test_one_model_is_ranked_first_without_a_test() -> None:
    ranking = rank_models(score_table({"a": [0.1, 0.2]}), OPTIONS)
    assert ranking.average_ranks == {"a": 1}
    assert math.isnan(ranking.critical_difference)
    assert math.isnan(ranking.friedman.p)
    assert ranking.wilcoxon_groups == ()


@settings(deadline=None)
@given(st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6)).filter(lambda pair: pair[0] < pair[1])))
def test_groups_are_the_largest_sets_without_a_difference(alike: set[tuple[int, int]]) -> None:
    names = [str(i) for i in range(7)]
    pairs = {frozenset(map(str, pair)) for pair in alike}
    subsets = [{n for i, n in enumerate(names) if mask >> i & 1} for mask in range(128)]
    cliques = [s for s in subsets if len(s) > 1 and all(frozenset((a, b)) in pairs for a in s for b in s if a < b)]
    largest = {frozenset(s) for s in cliques if not any(s < other for other in cliques)}
    found = groups(names, lambda a, b: frozenset((a, b)) in pairs)
    assert {frozenset(group) for group in found} == largest
    assert len(found) == len(largest)
    assert list(found) == sorted(found)
