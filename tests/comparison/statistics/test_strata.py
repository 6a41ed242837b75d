"""Summaries and comparisons by lesion size, site and fold; the text on methods."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from helpers.score_table import score_table

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.metrics.definitions import METRICS
from nnunet_transformers.comparison.statistics import methods
from nnunet_transformers.comparison.statistics.options import Options
from nnunet_transformers.comparison.statistics.pair_tests import holm
from nnunet_transformers.comparison.statistics.paired import comparisons
from nnunet_transformers.comparison.statistics.strata import (
    FOLD,
    LESION_SIZE,
    SITE,
    lesion_size_cuts,
    stratum_comparisons,
    stratum_summaries,
    with_strata,
)
from nnunet_transformers.comparison.statistics.summary import summaries

QUICK = Options(resamples=200)
VOLUMES = [1.0, 2.0, 3.0, 4.0, 5.0, 0.0, math.nan]


def test_cut_points_are_quartiles_of_the_lesions_each_case_once() -> None:
    scores = score_table({"a": [0.5] * 7, "b": [0.5] * 7}, volumes=VOLUMES)
    scores = scores[~((scores["model"] == "b") & (scores["case"] < "c004"))]  # b does not weigh on the large lesions
    assert lesion_size_cuts(scores) == {"cross-validation": (2, 3, 4)}


def test_a_case_on_a_cut_is_in_the_smaller_quarter_and_cases_without_a_lesion_are_apart() -> None:
    table = with_strata(score_table({"a": [0.5] * 7}, volumes=VOLUMES), [LESION_SIZE])
    assert table.groupby("stratum", sort=False)["case"].apply(list).to_dict() == {
        "Q1: up to 2 ml": ["c000", "c001"],
        "Q2: 2 to 3 ml": ["c002"],
        "Q3: 3 to 4 ml": ["c003"],
        "Q4: above 4 ml": ["c004"],
        "no lesion": ["c005"],
        "volume unknown": ["c006"],
    }


def test_a_volume_that_one_model_knows_is_known() -> None:
    scores = score_table({"a": [0.5] * 3, "b": [0.5] * 3}, volumes=[1.0, 2.0, 3.0])
    scores.loc[scores["model"] == "b", "reference_ml"] = math.nan
    assert not with_strata(scores, [LESION_SIZE])["stratum"].str.contains("unknown").any()


def test_two_reference_volumes_of_a_case_are_refused() -> None:
    scores = score_table({"a": [0.5], "b": [0.5]})
    scores.loc[1, "reference_ml"] = 0.0
    with pytest.raises(ComparisonError, match="c000") as caught:
        stratum_summaries(scores, QUICK)
    assert caught.value.code == "REFERENCES_DIFFER"


@pytest.mark.parametrize("volumes", [[0.0, 0.0], [math.nan, 0.0], [2.0, 2.0]])
def test_sets_without_different_lesion_sizes_have_strata_too(volumes: list[float]) -> None:
    table = stratum_summaries(score_table({"a": [0.5, 0.5]}, volumes=volumes), QUICK, [LESION_SIZE])
    assert table["n"].sum() == 2


def test_each_set_has_its_own_quarters() -> None:
    scores = pd.concat(
        [
            score_table({"a": [0.5] * 4}, volumes=[1.0, 2.0, 3.0, 4.0]),
            score_table({"a": [0.5] * 4}, volumes=[10.0, 20.0, 30.0, 40.0], set_="test"),
        ]
    )
    table = stratum_summaries(scores, QUICK, [LESION_SIZE])
    assert table["n"].tolist() == [1] * 8
    assert table["set"].tolist() == ["cross-validation"] * 4 + ["test"] * 4


def test_sites_are_in_order_the_unknown_last_and_test_sets_have_no_folds() -> None:
    scores = score_table({"a": [0.1, 0.2, 0.3]}, sites=["zurich", "", "R1"], folds=[1, 0, 1])
    test = score_table({"a": [0.4]}, folds=[None], set_="test")
    table = stratum_summaries(pd.concat([scores, test]), QUICK, [SITE, FOLD])
    of_cv = table[table["set"] == "cross-validation"]
    assert of_cv["stratum"].tolist() == ["R1", "zurich", "site unknown", "fold 0", "fold 1"]
    assert of_cv["mean"].tolist() == pytest.approx([0.3, 0.1, 0.2, 0.2, 0.2])
    assert table.loc[table["set"] == "test", "stratum"].tolist() == ["site unknown"]


def test_a_stratum_is_summarised_and_compared_as_its_cases_alone_would_be() -> None:
    rng = np.random.default_rng(0)
    sites = ["R1"] * 25 + ["R2"] * 8
    scores = score_table({"base": rng.random(33), "new": rng.random(33)}, sites=sites)
    alone = scores[scores["site"] == "R1"]
    table = stratum_summaries(scores, QUICK, [SITE])
    part = table[table["stratum"] == "R1"].drop(columns=["by", "stratum", "few"]).reset_index(drop=True)
    assert part.equals(summaries(alone, QUICK))
    compared = stratum_comparisons(scores, "base", QUICK, [SITE])
    assert compared["mean_difference"][0] == comparisons(alone, "base", QUICK)["mean_difference"][0]
    assert compared["few"].tolist() == [False, True]


def test_a_baseline_that_was_not_scored_is_refused_for_strata_too() -> None:
    with pytest.raises(ComparisonError) as caught:
        stratum_comparisons(score_table({"a": [0.5]}), "base", QUICK)
    assert caught.value.code == "BASELINE_WITHOUT_SCORES"


def test_few_is_about_subjects_not_cases() -> None:
    scores = score_table({"a": np.linspace(0, 1, 12)}, subjects=[f"s{i // 2}" for i in range(12)])
    assert stratum_summaries(scores, QUICK, [SITE])["few"].all()


def test_holm_is_over_all_models_and_strata_of_one_kind() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(60)
    values = {"base": base, "a": base + rng.normal(0.03, 0.1, 60), "b": base + rng.normal(0, 0.1, 60)}
    scores = score_table(values, sites=["R1", "R2", "R3"] * 20, volumes=rng.lognormal(size=60).tolist())
    table = stratum_comparisons(scores, "base", QUICK)
    assert table.groupby("by", sort=False).size().to_dict() == {LESION_SIZE: 8, SITE: 6, FOLD: 10}
    for _, family in table.groupby("by"):
        assert family["p_holm"].tolist() == holm(family["p"].to_numpy()).tolist()


def test_the_text_says_what_the_options_are() -> None:
    units = {name: metric.unit for name, metric in METRICS.items()}
    options = Options(confidence=0.9, resamples=1234, seed=77, margins={"dice": 0.03, "hd95_mm": 2})
    text = " ".join(methods.methods_text(options, "nnUNetTrainer", units))
    for part in ("90 %", "1,234", "seed 77", "±0.03 for dice", "±2 mm for hd95_mm", "nnUNetTrainer", "level was 0.1"):
        assert part in text
    without = " ".join(methods.methods_text(Options(margins={}), "nnUNetTrainer", units))
    assert "Equivalence was not tested" in without


def test_every_reference_is_cited() -> None:
    text = " ".join(methods.methods_text(Options(), "base", {"dice": ""})) + " " + methods.CAVEAT_CROSS_VALIDATION
    for author in (reference.split()[0] for reference in methods.REFERENCES):
        assert author in text
