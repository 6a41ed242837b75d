"""Models ranked by several metrics on each case."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nnunet_transformers.comparison.metrics.definitions import METRICS, SCORINGS
from nnunet_transformers.comparison.statistics.challenge_ranks import ChallengeRanking, rank_as_challenge
from nnunet_transformers.comparison.statistics.options import Options

OPTIONS = Options(resamples=2000)
TWO = ("dice", "absolute_volume_difference_ml")


def table(values: dict[str, dict[str, list[float]]], subjects: list[str] | None = None) -> pd.DataFrame:
    """Scores of metric → model → one value per case."""
    rows = [
        (model, "cross-validation", f"case_{n}", subjects[n] if subjects else f"sub-{n}", metric, value)
        for metric, models in values.items()
        for model, column in models.items()
        for n, value in enumerate(column)
    ]
    return pd.DataFrame(rows, columns=["model", "set", "case", "subject", "metric", "value"])


def ranked(scores: pd.DataFrame, metrics: tuple[str, ...] = TWO) -> ChallengeRanking:
    ranking = rank_as_challenge(scores, metrics, OPTIONS)
    assert ranking
    return ranking


def made_up(seed: int, n: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    models = ("a", "b", "c", "d")
    return table(
        {
            "dice": {model: np.round(rng.random(n) + 0.05 * k, 2).tolist() for k, model in enumerate(models)},
            TWO[1]: {model: np.round(rng.random(n) * 9).tolist() for model in models},
        },
        [f"sub-{k // 2}" for k in range(n)],
    )


def test_ranks_are_averaged_over_metrics_and_cases() -> None:
    scores = table(
        {
            "dice": {"unet": [0.9, 0.5], "swin": [0.8, 0.5], "unetr": [0.1, 0.7]},
            "absolute_volume_difference_ml": {"unet": [1, 2], "swin": [3, 2], "unetr": [5, 2]},
        }
    )
    places = ranked(scores).places
    # Dice: 1, 2, 3 and 2.5, 2.5, 1; volumes: 1, 2, 3 and 2, 2, 2.
    assert {model: place.mean_rank for model, place in places.items()} == pytest.approx(
        {"unet": 6.5 / 4, "swin": 8.5 / 4, "unetr": 9 / 4}
    )
    assert [place.rank for place in places.values()] == [1, 2, 3]


@pytest.mark.parametrize("seed", range(3))
def test_mean_ranks_are_those_of_one_case_after_the_other(seed: int) -> None:
    scores = made_up(seed)
    expected: dict[str, list[float]] = {}
    for (_, metric), rows in scores.groupby(["case", "metric"]):
        sign = -1 if METRICS[str(metric)].higher_is_better else 1
        for model, rank in zip(rows["model"], stats.rankdata(sign * rows["value"]), strict=True):
            expected.setdefault(model, []).append(float(rank))
    places = ranked(scores).places
    assert {model: place.mean_rank for model, place in places.items()} == pytest.approx(
        {model: np.mean(ranks) for model, ranks in expected.items()}
    )
    assert list(places) == sorted(expected, key=lambda model: np.mean(expected[model]))


def test_intervals_hold_the_mean_and_shares_of_two_models_are_one_together() -> None:
    ranking = ranked(made_up(0))
    for model, place in ranking.places.items():
        assert place.mean_rank_low <= place.mean_rank <= place.mean_rank_high
        assert 1 <= place.rank_low <= place.rank <= place.rank_high <= 4
        for other in ranking.places:
            assert ranking.ahead[model][other] + ranking.ahead[other][model] == pytest.approx(1)
    assert (ranking.n_cases, ranking.n_subjects, ranking.n_left_out) == (40, 20, 0)


def test_a_model_that_is_always_better_is_always_ahead_and_equal_ones_are_half_the_time() -> None:
    better, worse = np.linspace(0.5, 0.9, 12).tolist(), np.linspace(0.4, 0.8, 12).tolist()
    ranking = ranked(table({"dice": {"worse": worse, "better": better, "same": better}}), ("dice",))
    assert ranking.ahead["better"]["worse"] == 1
    assert ranking.ahead["better"]["same"] == 0.5
    assert [(model, place.rank) for model, place in ranking.places.items()] == [
        ("better", 1),
        ("same", 1),
        ("worse", 3),
    ]
    assert ranking.places["worse"].rank_low == 3


def test_cases_that_lack_a_value_are_left_out_for_all() -> None:
    scores = table({"dice": {"unet": [0.9, 0.2, float("nan")], "swin": [0.8, 0.5, 0.9]}})
    ranking = ranked(scores, ("dice",))
    assert (ranking.n_cases, ranking.n_left_out) == (2, 1)
    assert rank_as_challenge(table({"dice": {"unet": [float("nan")], "swin": [0.8]}}), ("dice",), OPTIONS) is None


def test_the_metrics_of_every_scoring_are_defined_and_have_a_better_direction() -> None:
    for names in SCORINGS.values():
        assert all(METRICS[name].higher_is_better is not None for name in names)


def test_sites_are_resampled_where_there_are_enough() -> None:
    scores = made_up(1)
    number = scores["case"].str.removeprefix("case_").astype(int)
    of_sites, of_few = (ranked(scores.assign(site=[f"site{n % k}" for n in number])) for k in (8, 3))
    assert (of_sites.n_sites, of_few.n_sites) == (8, 0)
    assert {model: place.mean_rank for model, place in of_sites.places.items()} == {
        model: place.mean_rank for model, place in of_few.places.items()
    }
    assert of_sites.places["a"].mean_rank_low != of_few.places["a"].mean_rank_low
    assert ranked(scores).places == of_few.places
