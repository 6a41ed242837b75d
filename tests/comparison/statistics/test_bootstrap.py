"""Resampling of subjects, and the summaries that use it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from helpers.score_table import score_table
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.statistics.bootstrap import (
    bootstrap_means,
    bootstrap_quantiles,
    interval,
    resample_counts,
    tail_probability,
)
from nnunet_transformers.comparison.statistics.options import Options
from nnunet_transformers.comparison.statistics.summary import summaries, summarise

QUICK = Options(resamples=500)
LEVELS = (0.0, 0.25, 0.5, 0.9, 1.0)
NAN = math.nan

values_and_subjects = st.integers(1, 15).flatmap(
    lambda n: st.tuples(
        arrays(float, n, elements=st.floats(-1, 1).map(lambda x: round(x, 2))),
        arrays(int, n, elements=st.integers(0, 5)),
    )
)


@settings(deadline=None)
@given(values_and_subjects)
def test_a_resample_is_the_cases_of_the_drawn_subjects(data: tuple[np.ndarray, np.ndarray]) -> None:
    values, subjects = data
    codes = np.unique(subjects, return_inverse=True)[1]
    counts = resample_counts(codes.max() + 1, 100, 1)
    means, quantiles = bootstrap_means(values, codes, counts), bootstrap_quantiles(values, codes, counts, LEVELS)
    for b in range(0, 100, 17):
        drawn = np.repeat(values, counts[codes, b])
        assert means[b] == pytest.approx(drawn.mean(), abs=1e-12)
        assert quantiles[:, b] == pytest.approx(np.quantile(drawn, LEVELS), abs=1e-12)


def test_each_resample_draws_as_many_subjects_as_there_are_and_each_equally_often() -> None:
    counts = resample_counts(7, 5000, 3)
    assert (counts.sum(axis=0) == 7).all()
    assert counts.mean(axis=1) == pytest.approx(np.ones(7), abs=0.06)
    assert counts.var() == pytest.approx(6 / 7, abs=0.03)  # of a binomial of 7 draws with chance 1/7


def test_the_interval_is_scipys_percentile_interval_at_the_expanded_level() -> None:
    values = np.random.default_rng(0).beta(4, 2, 40)
    subjects = np.arange(40)
    result = summarise(values, subjects, Options(resamples=20_000))
    level = 1 - 2 * stats.norm.cdf(stats.t.ppf(0.025, 39) * math.sqrt(40 / 39))
    for statistic, low, high in ((np.mean, "mean_low", "mean_high"), (np.median, "median_low", "median_high")):
        theirs = stats.bootstrap(
            (values,), statistic, method="percentile", confidence_level=level, n_resamples=20_000, rng=1
        ).confidence_interval
        assert (getattr(result, low), getattr(result, high)) == pytest.approx(tuple(theirs), abs=4e-3)


def test_the_interval_of_a_mean_of_normal_values_is_the_t_interval() -> None:
    values = stats.norm.ppf((np.arange(12) + 0.5) / 12)
    result = summarise(values, np.arange(12), Options(resamples=20_000))
    half = stats.t.ppf(0.975, 11) * values.std(ddof=1) / math.sqrt(12)
    assert result.mean_high == pytest.approx(half, rel=0.03)
    assert result.mean_low == pytest.approx(-half, rel=0.03)


def test_repeating_every_session_of_a_subject_adds_cases_and_no_certainty() -> None:
    values, subjects = np.random.default_rng(1).random(30), np.arange(30)
    once, thrice = (summarise(np.repeat(values, k), np.repeat(subjects, k), QUICK) for k in (1, 3))
    assert (thrice.n, thrice.n_subjects) == (90, 30)
    assert (thrice.mean_low, thrice.mean_high) == pytest.approx((once.mean_low, once.mean_high))


def test_the_one_sided_p_value_belongs_to_the_interval() -> None:
    means = np.random.default_rng(2).normal(0.3, 0.1, 20_000)
    for limit in (0.05, 0.15, 0.25):
        p = tail_probability(means, limit, 9)
        assert interval(means, 9, 1 - 2 * p)[0] == pytest.approx(limit, abs=2e-3)


@settings(deadline=None)
@given(arrays(float, st.integers(2, 12), elements=st.floats(0, 1)))
def test_the_interval_of_symmetric_values_contains_their_mean_and_median(half: np.ndarray) -> None:
    values = np.concatenate([half, -half])
    result = summarise(values, np.arange(len(values)), QUICK)
    assert result.mean_low <= 0.0 + 1e-12
    assert result.mean_high >= 0.0 - 1e-12
    assert result.median_low <= result.median + 1e-12
    assert result.median_high >= result.median - 1e-12


@settings(max_examples=30, deadline=None)
@given(values_and_subjects, st.randoms(use_true_random=False))
def test_summaries_do_not_depend_on_the_order_of_the_cases(data: tuple[np.ndarray, np.ndarray], random) -> None:
    scores = score_table({"A": data[0]}, subjects=[f"s{i}" for i in data[1]])
    order = list(range(len(scores)))
    random.shuffle(order)
    assert summaries(scores, QUICK).equals(summaries(scores.iloc[order], QUICK))


def test_equal_seeds_give_equal_numbers_and_others_do_not() -> None:
    scores = score_table({"A": np.random.default_rng(0).random(20)})
    one, again, other = (summaries(scores, Options(resamples=200, seed=seed)) for seed in (1, 1, 2))
    assert one.equals(again)
    assert one["mean"].equals(other["mean"])
    assert not one["mean_low"].equals(other["mean_low"])


def test_summaries_are_of_the_defined_values_and_count_the_others() -> None:
    (row,) = summaries(score_table({"A": [0.2, NAN, 0.6, 1.0]}), QUICK).itertuples()
    assert (row.n, row.n_subjects, row.undefined) == (3, 3, 1)
    assert (row.mean, row.median) == (pytest.approx(0.6), 0.6)
    assert (row.lower_quartile, row.upper_quartile) == (pytest.approx(0.4), pytest.approx(0.8))


@pytest.mark.parametrize("values", [[NAN, NAN], []])
def test_nothing_defined_gives_no_numbers(values: list[float]) -> None:
    result = summarise(np.array(values), np.arange(len(values)), QUICK)
    assert (result.n, result.undefined) == (0, len(values))
    assert math.isnan(result.mean)
    assert math.isnan(result.upper_quartile_high)


def test_a_single_subject_has_a_mean_and_no_interval() -> None:
    result = summarise(np.array([0.5, 0.7]), np.array(["s", "s"]), QUICK)
    assert (result.n, result.n_subjects, result.mean) == (2, 1, pytest.approx(0.6))
    assert math.isnan(result.mean_low)
    assert math.isnan(result.median_high)


def test_equal_values_have_an_interval_of_width_zero() -> None:
    result = summarise(np.full(9, 0.1), np.arange(9), QUICK)
    assert (result.mean_low, result.mean_high) == (result.mean, result.mean)
    assert (result.median_low, result.median_high) == (0.1, 0.1)


@pytest.mark.parametrize("unknown", ["", None])
def test_a_case_without_a_subject_is_its_own_subject(unknown: str | None) -> None:
    scores = score_table({"A": [0.1, 0.2, 0.3]}).assign(subject=unknown)
    assert summaries(scores, QUICK)["n_subjects"].tolist() == [3]


def test_a_case_scored_twice_an_infinite_value_and_an_unknown_metric_are_refused() -> None:
    scores = score_table({"A": [0.1, 0.2]})
    for broken, code in (
        (scores.assign(case="c"), "CASE_SCORED_TWICE"),
        (scores.assign(value=math.inf), "INFINITE_SCORE"),
        (scores.assign(metric="dize"), "UNKNOWN_METRIC"),
        (scores.drop(columns="subject"), "SCORES_WITHOUT_COLUMN"),
    ):
        with pytest.raises(ComparisonError) as caught:
            summaries(broken, QUICK)
        assert caught.value.code == code


def test_sets_metrics_and_models_keep_their_order() -> None:
    scores = pd.concat([score_table({"Z": [0.1], "A": [0.2]}, metric=m) for m in ("nsd_1mm", "dice")])
    table = summaries(scores, QUICK)
    assert table[["metric", "model"]].values.tolist() == [
        ["nsd_1mm", "Z"],
        ["nsd_1mm", "A"],
        ["dice", "Z"],
        ["dice", "A"],
    ]


@pytest.mark.parametrize("wrong", [{"confidence": 95}, {"resamples": 10}, {"margins": {"dice": 0.0}}])
def test_options_that_mean_nothing_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"must be|needed"):
        Options(**wrong)
