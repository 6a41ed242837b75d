"""Reports of results folders as they are found: short of files, with trials among the trainings, with old labels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.box_results import CASES, SHAPE, add_model, box, report, shown, write
from helpers.report_example import write_log
from helpers.results_folder import DATASET, SWIN, UNET, write_checkpoint, write_ensemble, write_selection

from nnunet_transformers.cli import main

SWIN_TRAINER = "nnUNetTrainerSwinUNETR"
STOCK, SWIN_UNETR = "nnUNetTrainer__nnUNetPlans__3d_fullres", "nnUNetTrainerSwinUNETR__nnUNetPlans__3d_fullres"


def said(report_folder: Path) -> str:
    """What the report says before it shows anything."""
    text = shown(report_folder)
    return text[: text.index("## Scores")]


def not_shown(report_folder: Path) -> str:
    text = shown(report_folder)
    return text[text.index("## What is not shown") :]


def write_experiment(root: Path, *lines: str) -> Path:
    path = root / "e.yaml"
    trainers = f"trainers: [{UNET.split('__')[0]}, {SWIN.split('__')[0]}]"
    path.write_text("\n".join(["dataset: 201", f"output: {root / 'out'}", trainers, *lines]) + "\n")
    return path


@pytest.fixture
def finished(folders: Path) -> Path:
    """An experiment with every file that nnU-Net leaves, and a test set."""
    results = folders / "nnUNet_results" / DATASET
    test = folders / "out" / "predictions" / DATASET / "Kerpape"
    for model, length in ((UNET, 4), (SWIN, 6)):
        add_model(folders, model, length)
        for fold in range(5):
            write_checkpoint(results / model / f"fold_{fold}" / "checkpoint_final.pth")
            (results / model / f"fold_{fold}" / "debug.json").write_text(json.dumps({"num_epochs": "1000"}))
        write_log(results / model / "fold_0")
        write(test / model / "t1.nii.gz", box(length))
        write(test / model / "t2.nii.gz", box(length))
    ensemble = write_ensemble(results, (UNET, SWIN), dict.fromkeys(CASES, 2 / 3))
    for case in CASES:
        write(ensemble / f"{case}.nii.gz", box(4))
    (results / UNET / "crossval_results_folds_0_1_2_3_4").mkdir()
    write_selection(results, UNET, SWIN)
    for name in ("t1", "t2"):
        write(folders / "references" / f"{name}.nii.gz", box(8))
        write(folders / "images" / f"{name}_0000.nii.gz", box(8))
    return write_experiment(folders, "test_sets: [{name: Kerpape, images: images, references: references}]")


@pytest.mark.parametrize(
    "pattern",
    [
        "nnUNet_results/*/*/fold_0",
        "nnUNet_results/*/*/fold_0/checkpoint_final.pth",
        "nnUNet_results/*/*/fold_0/debug.json",
        "nnUNet_results/*/*/*/validation/summary.json",
        "nnUNet_results/*/*/*/validation/sub-00_ses-1.nii.gz",
        "nnUNet_results/*/*/plans.json",
        "nnUNet_results/*/*/dataset.json",
        "nnUNet_results/*/inference_information.json",
        "nnUNet_results/*/ensembles/*/summary.json",
        "nnUNet_results/*/ensembles/*/sub-00_ses-1.nii.gz",
        "nnUNet_results/*/nnUNetTrainerSwin*",
        "nnUNet_preprocessed/*",
        "nnUNet_preprocessed/*/gt_segmentations/sub-00_ses-1.nii.gz",
        "nnUNet_preprocessed/*/splits_final.json",
        "nnUNet_raw/*",
        "references/t1.nii.gz",
        "out/predictions/*/Kerpape/nnUNetTrainer_*/t1.nii.gz",
        "out/predictions/*/Kerpape/nnUNetTrainerSwin*",
    ],
)  # fmt: skip
def test_what_is_not_there_is_not_there(finished: Path, pattern: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = list(finished.parent.glob(pattern))
    assert found
    for path in found:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    code = main(["compare", "report", str(finished), "--jobs", "1"])
    error = capsys.readouterr().err
    assert code == (2 if pattern.endswith("validation/summary.json") else 0), error
    assert "Traceback" not in error


def test_what_is_there_is_evaluated(finished: Path) -> None:
    (finished.parent / "references" / "t1.nii.gz").unlink()
    (finished.parent / "nnUNet_results" / DATASET / UNET / "fold_0" / "validation" / f"{CASES[0]}.nii.gz").unlink()
    assert main(["compare", "evaluate", str(finished), "--jobs", "1"]) == 0
    scores = pd.read_csv(finished.parent / "out" / "metrics.csv")
    counts = scores[scores["metric"] == "dice"].groupby(["set", "model"]).size()
    assert counts["Kerpape"].tolist() == [1, 1]
    assert counts["cross-validation"].to_dict()[UNET.split("__")[0]] == 9


def test_one_missing_segmentation_leaves_the_rest_standing(folders: Path) -> None:
    for model, length in ((UNET, 4), (SWIN, 6)):
        add_model(folders, model, length)
    (folders / "nnUNet_results" / DATASET / SWIN / "fold_3" / "validation" / f"{CASES[3]}.nii.gz").unlink()
    output = report(folders)
    scores = pd.read_csv(output / "metrics.csv")
    assert scores["metric"].nunique() > 10
    counts = scores[scores["metric"] == "dice"]["model"].value_counts().to_dict()
    assert counts == {"nnUNetTrainer": 10, "nnUNetTrainerSwinUNETR": 9}
    assert f"{CASES[3]} of nnUNetTrainerSwinUNETR. 1 segmentation is not where nnU-Net recorded it" in not_shown(output)


def test_one_unreadable_segmentation_leaves_the_rest_standing(folders: Path) -> None:
    for model, length in ((UNET, 4), (SWIN, 6)):
        add_model(folders, model, length)
    path = folders / "nnUNet_results" / DATASET / SWIN / "fold_3" / "validation" / f"{CASES[3]}.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])
    output = report(folders)
    assert len(pd.read_csv(output / "metrics.csv").query("metric == 'dice'")) == 19
    assert (
        f"{CASES[3]} of nnUNetTrainerSwinUNETR (cross-validation): a segmentation cannot be read: {path}"
        in not_shown(output)
    )


def test_a_reference_that_no_model_predicted_is_mentioned(finished: Path) -> None:
    write(finished.parent / "references" / "t3.nii.gz", box(8))
    assert main(["compare", "report", str(finished), "--jobs", "1"]) == 0
    assert "Not scored (Kerpape): no model has predicted 1 case of which there is a reference: t3." in not_shown(
        finished.parent / "out"
    )


def test_labels_that_were_corrected_after_preprocessing_are_mentioned(folders: Path) -> None:
    add_model(folders, UNET, 4)
    labels = folders / "nnUNet_raw" / DATASET / "labelsTr"
    for case in CASES:
        write(labels / f"{case}.nii.gz", box(8))
    assert "have changed since the dataset was preprocessed" not in said(report(folders))
    write(labels / f"{CASES[2]}.nii.gz", box(7))
    assert f"The labels of 1 case in labelsTr have changed since the dataset was preprocessed: {CASES[2]}." in said(
        report(folders)
    )


def test_of_references_without_any_lesion_nothing_is_told(folders: Path) -> None:
    for model, length in ((STOCK, 4), (SWIN_UNETR, 6)):
        add_model(folders, model, length)
    empty = np.zeros(SHAPE, np.uint8)
    for number, case in enumerate(CASES):
        write(folders / "nnUNet_preprocessed" / DATASET / "gt_segmentations" / f"{case}.nii.gz", empty)
        if number:
            validation = folders / "nnUNet_results" / DATASET / SWIN_UNETR / f"fold_{number % 5}" / "validation"
            write(validation / f"{case}.nii.gz", empty)
    output = report(folders)
    assert "segments better" not in shown(output)
    assert "It cannot be told which model segments lesions better: no reference of cross-validation holds a lesion" in (
        shown(output)
    )
    assert set(pd.read_csv(output / "tables" / "comparisons.csv")["verdict"]) == {"undecided"}


@pytest.mark.parametrize(
    ("models", "chosen", "why"),
    [
        ({"nnUNetTrainer_1epoch": [0], "nnUNetTrainer": 5, SWIN_TRAINER: 5}, "nnUNetTrainer", "nnU-Net's own"),
        ({"nnUNetTrainer_1epoch": 5, SWIN_TRAINER: [0, 1, 2, 3]}, SWIN_TRAINER, "the most folds"),
        ({"nnUNetTrainer": [0, 1], SWIN_TRAINER: 5}, SWIN_TRAINER, "all folds"),
        ({"nnUNetTrainer_250epochs": 5, SWIN_TRAINER: 5}, SWIN_TRAINER, "the longest training"),
    ],
)  # fmt: skip
def test_the_baseline_is_complete_and_trained_longest(
    folders: Path, models: dict[str, int | list[int]], chosen: str, why: str
) -> None:
    for trainer, folds in models.items():
        add_model(folders, f"{trainer}__nnUNetPlans__3d_fullres", 4, folds=range(5) if folds == 5 else folds)
    output = report(folders)
    main_table = shown(output)[shown(output).index("## Scores") :]
    assert f"{chosen} (baseline)" in main_table
    assert f"Baseline: {chosen}; " in said(output)
    assert why in said(output)


def test_short_trainings_are_known_by_their_names(folders: Path) -> None:
    for trainer in ("nnUNetTrainer_5epochs_100iterations", "nnUNetTrainerSwinUNETR_5epochs_100iterations"):
        add_model(folders, f"{trainer}__nnUNetPlans__3d_fullres", 4)
    text = said(report(folders))
    assert "2 models were trained only briefly (5 epochs of 100 iterations;" in text
    assert "all trainers have the same recipe, loss, augmentation and length, which is left out" in text
    assert "out of them: 5 epochs of 100 iterations." in text
    assert "nnUNetTrainerSwinUNETR_5epochs_100iterations" in text


def test_a_short_training_is_known_by_its_log(folders: Path) -> None:
    add_model(folders, STOCK, 4)
    write_log(folders / "nnUNet_results" / DATASET / STOCK / "fold_0", epochs=12)
    assert "1 model was trained only briefly (12 epochs;" in said(report(folders))


@pytest.mark.parametrize("change", [shutil.rmtree, lambda path: None], ids=["two folds", "a third one too"])
def test_an_experiment_of_two_folds_is_not_told_to_train_five(folders: Path, change: Callable[[Path], None]) -> None:
    for model, length in ((UNET, 4), (SWIN, 6)):
        add_model(folders, model, length, folds=range(3))
        change(folders / "nnUNet_results" / DATASET / model / "fold_2")
    assert main(["compare", "report", str(write_experiment(folders, "folds: [0, 1]")), "--jobs", "1"]) == 0
    text = shown(folders / "out")
    assert "nnUNetv2_train 201 3d_fullres 4" not in text
    assert "missing" not in text
    assert "expected but not validated" not in text
    assert set(pd.read_csv(folders / "out" / "metrics.csv")["fold"]) == {0, 1}
