"""The numbers of the score tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_folder import DATASET, FOLDS, NAN, SWIN, UNET, write_model

from nnunet_transformers.comparison.results import read_results
from nnunet_transformers.comparison.tables import score_rows, short_names, wide_table


def test_mean_median_and_quartiles_are_those_of_the_cases(results: Path) -> None:
    unet, swin, ensemble = score_rows(read_results(results))
    assert unet.mean == pytest.approx((0.9 + 0.1 + 0.8 + 0.4 + 0.0 + 0.5) / 6)
    assert (unet.median, unet.n, unet.zeros) == (pytest.approx(0.45), 6, 1)
    assert (unet.lower_quartile, unet.upper_quartile) == (pytest.approx(0.175), pytest.approx(0.725))
    assert (swin.mean, ensemble.mean) == (pytest.approx(0.55), pytest.approx(0.55))


def test_the_highest_mean_is_marked_and_a_tie_marks_both(results: Path) -> None:
    assert [row.best for row in score_rows(read_results(results))] == [False, True, True]


def test_an_undefined_dice_is_named_and_not_averaged(empty: Path) -> None:
    write_model(empty, UNET, {0: {"a": 0.4, "b": NAN}})
    write_model(empty, SWIN, {0: {"a": 0.6, "b": 0.0}})
    unet, swin = score_rows(read_results(empty))
    assert (unet.n, unet.mean, unet.undefined) == (1, 0.4, ("b",))
    assert (swin.n, swin.mean, swin.undefined) == (2, pytest.approx(0.3), ())


def test_a_model_that_lacks_cases_is_not_ranked(empty: Path) -> None:
    write_model(empty, UNET, FOLDS)
    write_model(empty, SWIN, {0: {"a": 1.0, "b": 1.0}})
    unet, swin = score_rows(read_results(empty))
    assert swin.missing == ("c", "d", "e", "f")
    assert not swin.best
    assert not unet.best  # alone on its cases, there is nothing to be better than


def test_only_undefined_scores_give_a_row_without_numbers(empty: Path) -> None:
    write_model(empty, UNET, {0: {"a": NAN}})
    (row,) = score_rows(read_results(empty))
    assert row.n == 0
    assert row.mean != row.mean


def test_names_leave_out_what_all_have_in_common(results: Path) -> None:
    assert list(short_names(read_results(results)).values()) == [
        "nnUNetTrainer",
        "nnUNetTrainerSwinUNETR",
        "ensemble of nnUNetTrainer + nnUNetTrainerSwinUNETR",
    ]


def test_names_tell_apart_what_differs(empty: Path) -> None:
    for name in ("nnUNetTrainer__nnUNetPlans__2d", "nnUNetTrainer__nnUNetPlans__3d_fullres", SWIN):
        write_model(empty, name, FOLDS)
    names = short_names(read_results(empty))
    assert len(set(names.values())) == 3
    assert names["nnUNetTrainer__nnUNetPlans__2d"] == "nnUNetTrainer · 2d"


def test_cases_are_paired_in_the_wide_table(results: Path) -> None:
    table = wide_table(read_results(results), "lesion")
    assert table.loc["d"].tolist() == pytest.approx([0.4, 0.8, 0.6])
    assert len(table) == 6


@given(st.lists(st.one_of(st.floats(0, 1), st.just(NAN)), min_size=1, max_size=20))
def test_defined_and_undefined_cases_are_all_cases(tmp_path_factory: pytest.TempPathFactory, dice: list[float]) -> None:
    folder = tmp_path_factory.mktemp("results") / DATASET
    write_model(folder, UNET, {0: {f"case{i}": d for i, d in enumerate(dice)}})
    (row,) = score_rows(read_results(folder))
    assert row.n + len(row.undefined) == len(dice)
    if row.n:
        assert min(d for d in dice if d == d) <= row.lower_quartile <= row.median <= row.upper_quartile
