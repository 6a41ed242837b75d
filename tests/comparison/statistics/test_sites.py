"""Intervals and tests over sites."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nnunet_transformers.comparison.statistics.options import Options
from nnunet_transformers.comparison.statistics.paired import PairedComparison, compare_pairs, comparisons
from nnunet_transformers.comparison.statistics.sites import (
    FEWEST_SITES,
    heterogeneity,
    site_agreement,
    site_level,
)
from nnunet_transformers.comparison.statistics.summary import summarise
from nnunet_transformers.comparison.statistics.verdict import Verdict

OPTIONS = Options(resamples=1000)


def names(codes: np.ndarray) -> np.ndarray:
    return np.array([f"site{code:02d}" for code in codes], dtype=object)


def compared(differences: np.ndarray, sites: np.ndarray | None, margin: float | None = 0.02) -> PairedComparison:
    subjects = np.arange(len(differences))
    zeros = np.zeros(len(differences))
    return compare_pairs(differences, zeros, subjects, sites, higher_is_better=True, margin=margin, options=OPTIONS)


def drawn(rng: np.random.Generator, n: int, n_sites: int, between: float) -> tuple[np.ndarray, np.ndarray]:
    """Differences whose true mean is 0, with heavy tails, at sites of uneven sizes."""
    sizes = rng.lognormal(2.5, 0.9, n_sites)
    codes = rng.choice(n_sites, n, p=sizes / sizes.sum())
    return rng.normal(0, between, n_sites)[codes] + rng.standard_t(4, n) * 0.08, codes


@pytest.mark.parametrize(("n", "n_sites", "lowest"), [(655, 33, 0.925), (200, 10, 0.9)])
@pytest.mark.parametrize("between", [0.0, 0.02, 0.04])
def test_intervals_hold_the_true_mean_as_often_as_they_say(n: int, n_sites: int, lowest: float, between: float) -> None:
    rng = np.random.default_rng(5)
    covered = found = 0
    repeats = 500  # a coverage of 0.95 has a standard error of 0.01
    for _ in range(repeats):
        differences, codes = drawn(rng, n, n_sites, between)
        level = site_level(differences, names(codes))
        assert level
        low, high = level.interval(0.95)
        covered += low <= 0 <= high
        found += level.p < 0.05
    assert lowest <= covered / repeats <= 0.985
    assert found / repeats <= 1 - lowest


def test_subjects_alone_would_promise_too_much_where_sites_differ() -> None:
    rng = np.random.default_rng(1)
    differences, codes = drawn(rng, 655, 33, 0.04)
    result = compared(differences, names(codes))
    assert result.n_sites == 33
    width, of_subjects = result.mean_high - result.mean_low, result.mean_high_subjects - result.mean_low_subjects
    assert width > 1.5 * of_subjects
    alone = compared(differences, None)
    assert (alone.mean_low, alone.mean_high) == (result.mean_low_subjects, result.mean_high_subjects)
    assert (alone.p, alone.n_sites) == (result.p_subjects, 0)


def test_sites_of_one_subject_each_give_the_t_interval() -> None:
    values = np.random.default_rng(2).normal(0.03, 0.1, 40)
    level = site_level(values, names(np.arange(40)))
    assert level
    assert level.degrees == pytest.approx(39)
    expected = stats.ttest_1samp(values, 0)
    assert level.interval(0.95) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert level.p == pytest.approx(expected.pvalue)
    one_sided = [
        stats.ttest_1samp(values, -0.05, alternative="greater"),
        stats.ttest_1samp(values, 0.05, alternative="less"),
    ]
    assert level.p_equivalence(0.05) == pytest.approx(max(each.pvalue for each in one_sided))


def test_equal_sites_give_the_t_interval_of_their_means() -> None:
    values = np.random.default_rng(3).normal(0, 0.1, 80) + np.repeat(np.linspace(-0.2, 0.3, 8), 10)
    level = site_level(values, names(np.repeat(np.arange(8), 10)))
    assert level
    means = values.reshape(8, 10).mean(axis=1)
    assert level.interval(0.95) == pytest.approx(tuple(stats.ttest_1samp(means, 0).confidence_interval(0.95)))
    assert level.degrees == pytest.approx(7)


@pytest.mark.parametrize("case", ["few", "unknown", "missing", "none"])
def test_subjects_are_resampled_where_sites_are_few_or_not_all_known(case: str) -> None:
    differences = np.random.default_rng(4).normal(0, 0.1, 60)
    sites = names(np.arange(60) % (FEWEST_SITES - 1 if case == "few" else FEWEST_SITES))
    if case == "unknown":
        sites[7] = ""
    if case == "missing":
        sites[7] = float("nan")
    result = compared(differences, None if case == "none" else sites)
    assert result.n_sites == 0
    assert (result.mean_low, result.p) == (result.mean_low_subjects, result.p_subjects)
    assert compared(differences, names(np.arange(60) % FEWEST_SITES)).n_sites == FEWEST_SITES


def test_a_difference_that_one_site_makes_is_not_decided() -> None:
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(10), 20)
    differences = rng.normal(0, 0.02, 200) + (codes == 0) * 0.3
    scores = pd.DataFrame(
        [
            (model, "cross-validation", f"case{n}", f"case{n}", f"site{code}", "dice", value)
            for model, values in (("unet", np.full(200, 0.5)), ("swin", 0.5 + differences))
            for n, (code, value) in enumerate(zip(codes, values, strict=True))
        ],
        columns=["model", "set", "case", "subject", "site", "metric", "value"],
    )
    (row,) = comparisons(scores, "unet", OPTIONS).to_dict("records")
    assert row["n_sites"] == 10
    assert row["verdict"] is Verdict.UNDECIDED
    assert row["mean_low"] < 0 < row["mean_low_subjects"]
    everywhere = scores.assign(value=scores["value"] + (scores["model"] == "swin") * 0.1)
    (row,) = comparisons(everywhere, "unet", OPTIONS).to_dict("records")
    assert row["verdict"] is Verdict.BETTER
    assert row["reason"] == "the test over sites shows a difference"


def test_a_summary_says_at_which_level_its_intervals_are() -> None:
    rng = np.random.default_rng(6)
    differences, codes = drawn(rng, 300, 12, 0.04)
    summary = summarise(0.6 + differences, np.arange(300), OPTIONS, names(codes))
    assert summary.n_sites == len(set(codes))
    assert summary.mean_low < summary.mean_low_subjects < summary.mean < summary.mean_high_subjects < summary.mean_high
    assert summary.median_low < summary.median < summary.median_high
    assert summary.lower_quartile_low < summary.lower_quartile < summary.lower_quartile_high


def test_the_variation_between_sites_is_told_from_that_within() -> None:
    rng = np.random.default_rng(7)
    codes = np.repeat(np.arange(40), 30)
    none = heterogeneity(rng.normal(0.01, 0.1, 1200), names(codes))
    much = heterogeneity(rng.normal(0.01, 0.1, 1200) + rng.normal(0, 0.05, 40)[codes], names(codes))
    assert none
    assert much
    assert none.p > 0.05 > much.p
    assert much.between_sd == pytest.approx(0.05, abs=0.015)
    assert none.between_sd < 0.02
    assert none.i_squared < 0.3 < much.i_squared
    assert heterogeneity(np.ones(5), names(np.zeros(5, int))) is None


def test_agreement_counts_the_sites_with_the_sign_of_the_whole() -> None:
    rows = [
        (model, f"case{n}", f"site{n % 3}", 0.5 + gain * (-1 if n % 3 == 2 else 2))
        for model, gain in (("unet", 0.0), ("swin", 0.1), ("lost", 0.1))
        for n in range(9)
        if model != "lost" or n % 3 == 0
    ]
    found = site_agreement(pd.DataFrame(rows, columns=["model", "case", "site", "value"]), "unet")
    assert (found["swin"].agreeing, found["swin"].n_sites) == (2, 3)
    assert "lost" not in found  # at one site
    assert (found["swin"].p, found["swin"].i_squared) == (0, 1)  # nothing varies within a site
