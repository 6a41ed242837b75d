"""Tests on paired differences, and each model against the baseline."""

from __future__ import annotations

import itertools
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
from nnunet_transformers.comparison.statistics.options import Options
from nnunet_transformers.comparison.statistics.pair_tests import (
    holm,
    signed_rank_test,
    t_equivalence,
    wilson_interval,
)
from nnunet_transformers.comparison.statistics.paired import PairedComparison, compare_pairs, comparisons
from nnunet_transformers.comparison.statistics.verdict import verdict

QUICK = Options(resamples=500)
NAN = math.nan

# Demšar, JMLR 7 (2006), table 2: AUC of C4.5 with m tuned minus C4.5, 14 data sets.
DEMSAR_DIFFERENCES = np.array(
    [0.005, -0.008, 0.017, 0.033, 0.006, -0.005, 0.007, 0.0, 0.063, 0.0, 0.022, 0.047, 0.009, 0.021]
)

some_differences = arrays(float, st.integers(1, 9), elements=st.integers(-4, 4).map(float))
scores_of_pairs = st.integers(1, 14).flatmap(
    lambda n: st.tuples(
        *[arrays(float, n, elements=st.integers(0, 20).map(lambda x: x / 20)) for _ in range(2)],
        arrays(int, n, elements=st.integers(0, 6)),
    )
)


def compare(
    model: np.ndarray, baseline: np.ndarray, subjects: np.ndarray | None = None, higher_is_better: bool | None = True
) -> PairedComparison:
    subjects = np.arange(len(model)) if subjects is None else subjects
    return compare_pairs(model, baseline, subjects, higher_is_better=higher_is_better, margin=0.05, options=QUICK)


@pytest.mark.parametrize("n", [6, 20, 50, 51, 400])
def test_signed_ranks_are_scipys_without_ties_and_zeros(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.2, 1, n)
    assert signed_rank_test(differences).p == pytest.approx(stats.wilcoxon(differences).pvalue, abs=1e-12)


def test_signed_ranks_are_scipys_pratt_with_ties_and_zeros() -> None:
    differences = np.random.default_rng(0).integers(-3, 5, 300).astype(float)
    theirs = stats.wilcoxon(differences, zero_method="pratt").pvalue
    assert signed_rank_test(differences).p == pytest.approx(theirs, rel=1e-9)


@settings(deadline=None)
@given(some_differences)
def test_the_exact_p_value_counts_all_signs_of_the_ranks(differences: np.ndarray) -> None:
    ranks = stats.rankdata(np.abs(differences))[differences != 0]
    sums = [abs(np.dot(signs, ranks)) for signs in itertools.product((-1, 1), repeat=len(ranks))]
    observed = abs(np.dot(np.sign(differences[differences != 0]), ranks))
    assert signed_rank_test(differences).p == pytest.approx(np.mean(np.array(sums) >= observed - 1e-9))


def test_demsars_example_of_signed_ranks() -> None:
    # He splits the ranks of the two zeros: R+ 93, R- 12, so the difference of the shares is 81 / 105 either way.
    result = signed_rank_test(DEMSAR_DIFFERENCES)
    assert result.rank_biserial == pytest.approx((93 - 12) / 105)
    assert result.p < 0.05  # as he concludes


def test_all_zero_differences_have_p_1_and_no_effect() -> None:
    result = signed_rank_test(np.zeros(20))
    assert (result.p, result.rank_biserial) == (1.0, 0.0)


def test_one_difference_has_p_1_and_none_has_no_p() -> None:
    assert signed_rank_test(np.array([0.3])).p == 1.0
    assert math.isnan(signed_rank_test(np.array([])).p)


def test_a_rank_biserial_of_1_is_all_differences_positive_and_zeros_lessen_it() -> None:
    assert signed_rank_test(np.array([0.1, 0.4, 0.2])).rank_biserial == 1
    assert signed_rank_test(np.array([0.0] * 97 + [0.1, 0.4, 0.2])).rank_biserial == pytest.approx(297 / 5050)


def test_demsars_example_of_holm() -> None:
    # Section 3.2.2: of 0.016, 0.019, 0.607 the first two are rejected, at 0.05/3 and 0.05/2.
    assert holm([0.607, 0.016, 0.019]) == pytest.approx([0.607, 0.048, 0.048])


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(0, 1), st.just(NAN)), max_size=12))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(p_values: list[float]) -> None:
    p = np.array(p_values)
    adjusted = holm(p)
    tested = ~np.isnan(p)
    assert (np.isnan(adjusted) == ~tested).all()
    order = np.argsort(p[tested])
    assert (np.diff(adjusted[tested][order]) >= 0).all()
    assert (adjusted[tested] >= p[tested]).all()
    assert (adjusted[tested] <= np.minimum(1, p[tested] * tested.sum()) + 1e-12).all()


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.01, 0.5))
def test_holm_rejects_what_the_step_down_procedure_rejects(p: list[float], alpha: float) -> None:
    rejected = set()
    for step, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if p[i] * (len(p) - step) >= alpha:
            break
        rejected.add(i)
    assert rejected == set(np.flatnonzero(holm(p) < alpha))


def test_two_one_sided_t_tests_of_lakens() -> None:
    # The example of TOSTpaired in Lakens' R package TOSTER (Soc Psychol Personal Sci 8, 2017): 65 pairs,
    # means 5.83 and 5.75, SDs 1.17 and 1.29, correlation 0.75, bounds of ±0.4 SD of the difference. The test nearer to
    # its bound, by the formula of Mara and Cribbie (2012) that it cites: t = (0.08 - 0.4 SD) sqrt(65) / SD, df 64.
    sd = math.sqrt(1.17**2 + 1.29**2 - 2 * 0.75 * 1.17 * 1.29)
    x = np.random.default_rng(0).normal(size=65)
    differences = 0.08 + sd * (x - x.mean()) / x.std(ddof=1)
    assert t_equivalence(differences, 0.4 * sd) == pytest.approx(stats.t.cdf((0.08 / sd - 0.4) * math.sqrt(65), 64))
    assert t_equivalence(differences, 0.4 * sd) == pytest.approx(0.0077, abs=5e-5)


@settings(deadline=None)
@given(arrays(float, st.integers(3, 20), elements=st.floats(-1, 1)), st.floats(0.05, 1))
def test_the_t_version_is_scipys_larger_one_sided_p_value(differences: np.ndarray, margin: float) -> None:
    if differences.std() > 1e-3:
        lower = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
        upper = stats.ttest_1samp(differences, margin, alternative="less").pvalue
        assert t_equivalence(differences, margin) == pytest.approx(max(lower, upper), abs=1e-9)


def test_equivalence_by_bootstrap_and_by_t_agree_on_many_subjects() -> None:
    rng = np.random.default_rng(0)
    difference = rng.normal(0.01, 0.2, 200)
    result = compare_pairs(
        0.5 + difference,
        np.full(200, 0.5),
        np.arange(200),
        higher_is_better=True,
        margin=0.03,
        options=Options(resamples=20_000),
    )
    assert 0.01 < result.p_equivalence_t < 0.2
    assert result.p_equivalence == pytest.approx(result.p_equivalence_t, abs=0.01)


@pytest.mark.parametrize(("mean", "expected"), [(0.01, 0.0), (0.05, 1.0), (0.2, 1.0)])
def test_equal_differences_are_within_the_margin_or_not(mean: float, expected: float) -> None:
    assert t_equivalence(np.full(5, mean), 0.05) == expected


def test_the_wilson_interval_of_a_published_example() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    published = ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718))
    for wins, n, low, high in published:
        assert wilson_interval(wins / n, n, 0.95) == pytest.approx((low, high), abs=5e-5)


@settings(deadline=None)
@given(scores_of_pairs)
def test_exchanging_model_and_baseline_exchanges_the_signs(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    model, baseline, subjects = data
    ab, ba = compare(model, baseline, subjects), compare(baseline, model, subjects)
    for name in ("mean_difference", "median_difference", "rank_biserial"):
        assert getattr(ab, name) == pytest.approx(-getattr(ba, name), abs=1e-12)
    assert (ab.mean_low, ab.median_high) == pytest.approx((-ba.mean_high, -ba.median_low), abs=1e-9, nan_ok=True)
    assert (ab.wins, ab.ties, ab.losses) == (ba.losses, ba.ties, ba.wins)
    assert (ab.p, ab.p_equivalence) == pytest.approx((ba.p, ba.p_equivalence), abs=1e-9, nan_ok=True)
    assert (ab.probability_better, ab.probability_low) == pytest.approx(
        (1 - ba.probability_better, 1 - ba.probability_high)
    )


@settings(deadline=None)
@given(scores_of_pairs)
def test_a_metric_where_lower_is_better_exchanges_wins_and_losses_only(
    data: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    up, down = (compare(*data, higher_is_better=higher) for higher in (True, False))
    assert (up.wins, up.losses) == (down.losses, down.wins)
    assert (up.mean_difference, up.p, up.rank_biserial) == (down.mean_difference, down.p, down.rank_biserial)


def test_a_metric_without_a_better_direction_has_no_wins_and_no_probability() -> None:
    result = compare(np.array([0.3, 0.4]), np.array([0.1, 0.5]), higher_is_better=None)
    assert (result.wins, result.ties, result.losses) == (None, None, None)
    assert np.isnan([result.probability_better, result.probability_low, result.probability_high]).all()


def test_differences_that_are_equal_but_for_rounding_are_ties() -> None:
    result = compare(np.array([0.9, 0.3 + 0.6, 0.4]), np.array([0.8, 0.8, 0.3]))
    assert result.rank_biserial == 1
    assert result.p == 0.25  # 2 / 2^3
    assert compare(np.array([0.3]), np.array([0.1 + 0.2])).ties == 1


def test_sessions_of_a_subject_are_one_observation_for_the_tests_and_cases_for_the_estimates() -> None:
    model, baseline = np.array([0.9, 0.7, 0.2, 0.5]), np.array([0.5, 0.5, 0.3, 0.5])
    result = compare(model, baseline, np.array(["a", "a", "b", "c"]))
    assert (result.n, result.n_subjects) == (4, 3)
    assert result.mean_difference == pytest.approx(0.125)  # of 0.4, 0.2, -0.1, 0
    assert result.rank_biserial == pytest.approx((3 - 2) / 6)  # of 0.3, -0.1, 0
    assert result.p_equivalence_t == t_equivalence(np.array([0.3, -0.1, 0.0]), 0.05)
    assert (result.wins, result.ties, result.losses, result.probability_better) == (2, 1, 1, 0.625)
    n_effective = 4**2 / (2**2 + 1 + 1)
    assert (result.probability_low, result.probability_high) == wilson_interval(0.625, n_effective, 0.95)


def test_models_are_compared_on_common_cases_and_the_others_are_counted() -> None:
    scores = score_table({"base": [0.5, 0.5, NAN, 0.5], "new": [0.6, 0.7, 0.8, 0.9]})
    scores = scores[~((scores["model"] == "new") & (scores["case"] == "c000"))]
    (row,) = comparisons(scores, "base", QUICK).itertuples()
    assert (row.n, row.undefined, row.only_baseline, row.only_model) == (2, 1, 1, 0)
    assert row.mean_difference == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("base", "new"), [([0.5], [0.7]), ([0.5] * 12, [0.5] * 12), ([NAN] * 3, [0.1] * 3), ([0.5, NAN], [NAN, 0.5])]
)
def test_too_little_to_compare_is_undecided_or_equivalent_and_never_better(base: list[float], new: list[float]) -> None:
    (row,) = comparisons(score_table({"base": base, "new": new}), "base", QUICK).itertuples()
    assert row.verdict == ("equivalent" if len(base) == 12 else "undecided")
    if row.n_subjects < 2:
        assert math.isnan(row.mean_low)
        assert math.isnan(row.p_equivalence)


def test_a_set_without_the_baseline_is_undecided_and_says_so() -> None:
    both = score_table({"base": [0.5, 0.6], "new": [0.6, 0.7]})
    alone = score_table({"new": [0.6, 0.7]}, set_="test")
    table = comparisons(pd.concat([both, alone]), "base", QUICK).set_index("set")
    assert table.loc["test", ["n", "only_model", "verdict", "reason"]].tolist() == [
        0,
        2,
        "undecided",
        "no subject to compare on",
    ]


def test_only_the_baseline_gives_an_empty_table_and_an_unknown_baseline_is_refused() -> None:
    scores = score_table({"base": [0.5, 0.6]})
    assert comparisons(scores, "base", QUICK).empty
    with pytest.raises(ComparisonError) as caught:
        comparisons(scores, "other", QUICK)
    assert caught.value.code == "BASELINE_WITHOUT_SCORES"


def test_holm_is_over_the_models_of_one_metric() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(30)
    values = {"base": base, **{f"m{i}": base + rng.normal(0.02 * i, 0.1, 30) for i in range(3)}}
    scores = pd.concat([score_table(values), score_table(values, metric="nsd_1mm")])
    table = comparisons(scores, "base", QUICK)
    for _, family in table.groupby("metric"):
        assert family["p_holm"].tolist() == holm(family["p"].to_numpy()).tolist()
        assert len(family) == 3


@pytest.mark.parametrize(
    ("metric", "shift", "noise", "expected"),
    [
        ("dice", 0.1, 0.05, "better"),
        ("dice", -0.1, 0.05, "worse"),
        ("hd95_mm", -0.1, 0.05, "better"),
        ("volume_difference_ml", 0.1, 0.05, "different"),
        ("dice", 0.0, 0.01, "equivalent"),
        ("dice", 0.0, 0.3, "undecided"),
        ("hd95_mm", 0.0, 0.01, "undecided"),  # no margin is stated for it
    ],
)
def test_the_verdict_is_that_of_the_data(metric: str, shift: float, noise: float, expected: str) -> None:
    rng = np.random.default_rng(0)
    base, noise_ = rng.random(40), rng.normal(0, noise, 40)
    scores = score_table({"base": base, "new": base + shift + noise_ - noise_.mean()}, metric=metric)
    assert comparisons(scores, "base", QUICK)["verdict"].tolist() == [expected]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "better"),
        ({"p": 0.2}, "undecided"),
        ({"rank_biserial": -0.5}, "undecided"),  # the ranks say worse, the mean better
        ({"higher_is_better": False}, "worse"),
        ({"p_equivalence": 0.01}, "equivalent"),
        ({"p_equivalence": 0.01, "n_subjects": 9}, "better"),
        ({"p_equivalence": 0.01, "n_subjects": 9, "p": 0.2}, "undecided"),
        ({"n_subjects": 1}, "undecided"),
        ({"p": NAN, "p_equivalence": NAN, "margin": NAN}, "undecided"),
    ],
)
def test_the_rules_of_the_verdict(changed: dict, expected: str) -> None:
    numbers = {
        "n_subjects": 30,
        "mean_difference": 0.05,
        "rank_biserial": 0.5,
        "p": 0.01,
        "p_equivalence": 0.2,
        "margin": 0.1,
        "higher_is_better": True,
        "alpha": 0.05,
    }
    assert verdict(**{**numbers, **changed})[0] == expected


@settings(max_examples=25, deadline=None)
@given(scores_of_pairs, st.randoms(use_true_random=False))
def test_comparisons_do_not_depend_on_the_order_of_the_cases(
    data: tuple[np.ndarray, np.ndarray, np.ndarray],
    random,
) -> None:
    model, baseline, subjects = data
    scores = score_table({"base": baseline, "new": model}, subjects=[f"s{i}" for i in subjects])
    order = list(range(len(scores)))
    random.shuffle(order)
    assert comparisons(scores, "base", QUICK).equals(comparisons(scores.iloc[order], "base", QUICK))
