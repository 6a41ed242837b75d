"""Reading nnU-Net's results folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from helpers.results_folder import (
    DATASET,
    FOLDS,
    NAN,
    SWIN,
    SWIN_FOLDS,
    UNET,
    write_model,
    write_selection,
    write_summary,
)

from nnunet_transformers.comparison.errors import ComparisonError
from nnunet_transformers.comparison.metrics.labels import Labels, read_labels
from nnunet_transformers.comparison.nnunet.results import case_name, read_results


def test_every_case_has_the_dice_and_the_fold_nnunet_wrote(results: Path) -> None:
    model = read_results(results).models[0]
    read = {row.case: (row.fold, row.dice) for row in model.scores.itertuples()}
    assert read == {case: (fold, dice) for fold, cases in FOLDS.items() for case, dice in cases.items()}
    assert set(model.scores["label"]) == {"lesion"}


@pytest.mark.parametrize("merged", [True, False])
def test_folds_alone_give_the_same_scores_as_the_merged_cross_validation(empty: Path, merged: bool) -> None:
    write_model(empty, UNET, FOLDS, merged=merged)
    (model,) = read_results(empty).models
    assert dict(zip(model.scores["case"], model.scores["dice"], strict=True)) == {
        case: dice for cases in FOLDS.values() for case, dice in cases.items()
    }
    assert model.missing_folds == ()


def test_merged_scores_without_folds_are_enough(empty: Path) -> None:
    model = empty / UNET
    write_summary(model / "crossval_results_folds_0_1_2_3_4" / "summary.json", {"a": 0.5})
    (read,) = read_results(empty).models
    assert list(read.scores["dice"]) == [0.5]
    assert read.missing_folds == ()


def test_a_missing_fold_is_named(empty: Path) -> None:
    write_model(empty, UNET, {fold: FOLDS[fold] for fold in (0, 1, 4)})
    assert read_results(empty).models[0].missing_folds == (2, 3)


def test_the_splits_file_tells_how_many_folds_there_are(empty: Path, tmp_path: Path) -> None:
    write_model(empty, UNET, {0: {"a": 0.9}, 1: {"b": 0.8}})
    splits = tmp_path / "splits_final.json"
    splits.write_text(json.dumps([{"train": ["b"], "val": ["a"]}, {"train": ["a"], "val": ["b"]}]))
    assert read_results(empty, splits).models[0].missing_folds == ()


def test_stale_merged_scores_give_way_to_the_folds_with_a_note(empty: Path) -> None:
    model = write_model(empty, UNET, FOLDS, merged=True)
    write_summary(model / "fold_3" / "validation" / "summary.json", {"e": 0.35})
    (read,) = read_results(empty).models
    assert read.scores.set_index("case").loc["e", "dice"] == 0.35
    assert "fold 3" in read.notes[0]


def test_undefined_dice_stays_undefined_and_is_not_stale(empty: Path) -> None:
    write_model(empty, UNET, {0: {"a": NAN, "b": 0.5}}, merged=True)
    (read,) = read_results(empty).models
    assert read.scores.set_index("case")["dice"].isna().to_dict() == {"a": True, "b": False}
    assert read.notes == ()


def test_a_case_in_two_folds_is_named_and_left_out_for_all_models(empty: Path) -> None:
    write_model(empty, UNET, {0: {"a": 0.9}, 1: {"a": 0.8, "b": 0.7}})
    write_model(empty, SWIN, {0: {"a": 0.9}, 1: {"b": 0.7}})
    unet, swin = read_results(empty).models
    assert "a was validated in folds 0 and 1" in unet.notes[0]
    assert (list(unet.scores["case"]), list(swin.scores["case"])) == (["b"], ["b"])


def test_training_on_all_cases_is_not_scored(empty: Path) -> None:
    model = write_model(empty, UNET, {0: {"a": 0.9}})
    write_summary(model / "fold_all" / "validation" / "summary.json", {"a": 1.0})
    (read,) = read_results(empty).models
    assert list(read.scores["dice"]) == [0.9]
    assert "fold_all" in read.notes[0]


def test_a_copy_of_a_fold_is_not_a_fold(empty: Path) -> None:
    model = write_model(empty, UNET, {0: {"a": 0.9}})
    write_summary(model / "fold_0_before" / "validation" / "summary.json", {"a": 0.1})
    assert list(read_results(empty).first.scores["dice"]) == [0.9]


def test_the_stock_unet_comes_first(results: Path) -> None:
    write_model(results, "nnUNetTrainerA_5epochs__nnUNetPlans__3d_fullres", SWIN_FOLDS)
    assert read_results(results).first.identifier == UNET


def test_ensemble_and_selection_are_read(results: Path) -> None:
    read = read_results(results)
    assert read.ensembles[0].members == (UNET, SWIN)
    assert read.ensembles[0].scores["dice"].mean() == pytest.approx(0.55)
    assert read.selection is not None
    assert read.selection.models == (UNET, SWIN)
    # The recorded path is of another machine; here it is looked for in the same place of the dataset's folder.
    merged = "crossval_results_folds_0_1_2_3_4"
    assert read.selection.postprocessing == results / UNET / merged / "postprocessing.pkl"


def test_regions_have_their_names(empty: Path) -> None:
    model = write_model(empty, UNET, {})
    write_summary(model / "fold_0" / "validation" / "summary.json", {"a": 0.5}, label="(1, 2)")
    (model / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "whole lesion": [1, 2], "core": 2}}))
    assert list(read_results(empty).models[0].scores["label"]) == ["whole lesion"]


def test_an_untrained_dataset_is_an_error_that_tells_what_to_run(empty: Path) -> None:
    (empty / UNET / "fold_0").mkdir(parents=True)
    with pytest.raises(ComparisonError, match=r"nnUNetv2_train 201 .*NO_RESULTS") as error:
        read_results(empty)
    assert str(empty) in str(error.value)
    assert UNET in str(error.value)


def test_a_folder_of_something_else_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match="NO_RESULTS_FOLDER"):
        read_results(tmp_path)
    with pytest.raises(ComparisonError, match="NO_RESULTS_FOLDER"):
        read_results(tmp_path / DATASET)


@pytest.mark.parametrize("content", ['{"metric_per_case": [', "{}", '{"metric_per_case": [{"metrics": {}}]}', "[]"])
def test_a_broken_summary_is_named(results: Path, content: str) -> None:
    path = results / UNET / "fold_2" / "validation" / "summary.json"
    path.write_text(content)
    with pytest.raises(ComparisonError) as error:
        read_results(results)
    assert str(path) in str(error.value)


def test_a_broken_selection_is_named(results: Path) -> None:
    path = write_selection(results, UNET)
    path.write_text("{}")
    with pytest.raises(ComparisonError, match="BAD_SELECTION"):
        read_results(results)


@pytest.mark.parametrize("name", ["sub-1_ses-1.nii.gz", "sub-1_ses-1.nii", "sub-1_ses-1.mha", "sub-1_ses-1.png"])
def test_a_case_is_its_file_name_without_the_ending(name: str) -> None:
    assert case_name(name) == "sub-1_ses-1"


def test_an_ensemble_of_older_predictions_is_left_out_and_the_selection_is_called_old(results: Path) -> None:
    assert (read_results(results).notes, len(read_results(results).ensembles)) == ((), 1)
    write_summary(results / SWIN / "fold_1" / "validation" / "summary.json", {"c": 0.9, "d": 0.9})
    os.utime(results / SWIN / "fold_1" / "validation" / "summary.json", (2e9, 2e9))
    read = read_results(results)
    assert read.ensembles == ()
    assert "was made before the present validation of" in read.notes[0]
    assert "nnU-Net's own selection is older" in read.notes[1]


def test_a_model_without_a_validated_fold_is_known(results: Path) -> None:
    name = "nnUNetTrainerUNETR__nnUNetPlans__3d_fullres"
    write_summary(results / name / "fold_all" / "validation" / "summary.json", {"a": 0.9})
    assert read_results(results).not_validated == (name,)


def test_of_two_stock_unets_the_one_at_full_resolution_is_the_baseline(empty: Path) -> None:
    for configuration in ("2d", "3d_fullres", "3d_lowres"):
        write_model(empty, f"nnUNetTrainer__nnUNetPlans__{configuration}", FOLDS)
    assert read_results(empty).first.configuration == "3d_fullres"


def test_a_dataset_json_without_labels_names_none(results: Path) -> None:
    (results / UNET / "dataset.json").write_text("{}")
    assert set(read_results(results).first.scores["label"]) == {"label 1"}
    assert read_labels(results / UNET / "dataset.json") == Labels()
