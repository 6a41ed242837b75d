"""Reports of results made without us, from nothing but nnU-Net's folders."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
from results_folder import DATASET, SWIN, UNET, write_model

from nnunet_transformers.cli import main
from nnunet_transformers.comparison.metrics.scores_table import read_scores

CASES = [f"sub-{number:02d}_ses-1" for number in range(10)]
SHAPE = (14, 12, 10)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / name / DATASET).mkdir(parents=True)
        monkeypatch.setenv(name, str(tmp_path / name))
    splits = [
        {"train": [case for case in CASES if case not in CASES[fold::5]], "val": CASES[fold::5]} for fold in range(5)
    ]
    (tmp_path / "nnUNet_preprocessed" / DATASET / "splits_final.json").write_text(json.dumps(splits))
    rows = ["case\tsubject\tsession\tsite\tsplit\tT1w\tmask"]
    rows += [f"{case}\t{case[:6]}\t1\tR00{number % 2}\ttrain\ta\tb" for number, case in enumerate(CASES)]
    (tmp_path / "nnUNet_raw" / DATASET / "cases.tsv").write_text("\n".join(rows) + "\n")
    return tmp_path


def box(length: int) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[2 : 2 + length, 3:7, 3:6] = 1
    return mask


def write(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(mask)
    image.SetSpacing((1.0, 1.0, 2.0))
    sitk.WriteImage(image, str(path))


def add_model(root: Path, identifier: str, length: int, *, segmentations: bool = True, folds: range = range(5)) -> None:
    """Predictions that are boxes of a length of slices; references are 8 slices long."""
    dice = 2 * min(length, 8) / (length + 8)
    results = root / "nnUNet_results" / DATASET
    write_model(results, identifier, {fold: dict.fromkeys(CASES[fold::5], dice) for fold in folds})
    for number, case in enumerate(CASES):
        if segmentations and number % 5 in folds:
            write(results / identifier / f"fold_{number % 5}" / "validation" / f"{case}.nii.gz", box(length))
            write(root / "nnUNet_preprocessed" / DATASET / "gt_segmentations" / f"{case}.nii.gz", box(8))


def report(root: Path, *options: object) -> Path:
    output = root / "report"
    assert (
        main(["compare", "report", "--dataset", "201", "--output", str(output), "--jobs", "1", *map(str, options)]) == 0
    )
    return output


def shown(report_folder: Path) -> str:
    return (report_folder / "report.md").read_text().replace("\\", "")


def test_numbers_of_stock_results_are_those_one_counts_by_hand(folders: Path) -> None:
    add_model(folders, UNET, 4)
    add_model(folders, SWIN, 6)
    output = report(folders)
    scores = read_scores(output / "metrics.csv")
    dice = scores[scores["metric"] == "dice"].groupby("model")["value"]
    assert dice.mean().to_dict() == pytest.approx({"nnUNetTrainer": 2 / 3, "nnUNetTrainerSwinUNETR": 12 / 14}, abs=1e-9)
    volume = scores[(scores["metric"] == "volume_difference_ml") & (scores["model"] == "nnUNetTrainer")]["value"]
    assert volume.to_numpy() == pytest.approx(-4 * 4 * 3 * 2 / 1000)
    assert scores["reference_ml"].unique() == pytest.approx([8 * 4 * 3 * 2 / 1000])
    assert set(scores["site"]) == {"R000", "R001"}
    assert set(scores["subject"]) == {case[:6] for case in CASES}
    with (output / "tables" / "comparisons.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert any("nnUNetTrainerSwinUNETR" in row.values() for row in rows)
    assert "0.667" in (output / "report.md").read_text()


def test_a_missing_fold_is_named(folders: Path) -> None:
    add_model(folders, UNET, 4)
    add_model(folders, SWIN, 6, folds=range(4))
    text = shown(report(folders))
    missing = text[text.index("## What is not shown") :]
    assert "nnUNetTrainerSwinUNETR" in missing
    assert "fold 4" in missing


def test_without_segmentations_nnunets_own_dice_is_reported_and_the_reader_is_told(folders: Path) -> None:
    add_model(folders, UNET, 4, segmentations=False)
    add_model(folders, SWIN, 6, segmentations=False)
    output = report(folders)
    scores = read_scores(output / "metrics.csv")
    assert set(scores["metric"]) == {"dice"}
    assert scores.groupby("model")["value"].mean()["nnUNetTrainer"] == pytest.approx(2 / 3)
    assert "nnU-Net's own Dice" in (output / "report.md").read_text()


def test_an_undefined_dice_and_an_empty_reference_are_reported(folders: Path) -> None:
    add_model(folders, UNET, 4)
    add_model(folders, SWIN, 6)
    empty = np.zeros(SHAPE, np.uint8)
    write(folders / "nnUNet_preprocessed" / DATASET / "gt_segmentations" / f"{CASES[0]}.nii.gz", empty)
    text = shown(report(folders))
    assert CASES[0] in text[text.index("## What is not shown") :]


def test_folds_that_are_not_those_of_the_splits_are_reported(folders: Path) -> None:
    add_model(folders, UNET, 4)
    add_model(folders, SWIN, 6)
    path = folders / "nnUNet_preprocessed" / DATASET / "splits_final.json"
    splits = json.loads(path.read_text())
    splits[0]["val"], splits[1]["val"] = splits[1]["val"], splits[0]["val"]
    path.write_text(json.dumps(splits))
    text = shown(report(folders))
    assert "splits_final.json" in text[text.index("## What is not shown") :]


def test_the_trainers_to_show_and_the_baseline_can_be_chosen(folders: Path) -> None:
    for number, trainer in enumerate(("nnUNetTrainer", "nnUNetTrainerUNETR", "nnUNetTrainerSwinUNETR")):
        add_model(folders, f"{trainer}__nnUNetPlans__3d_fullres", 4 + number)
    chosen = ("--trainers", "nnUNetTrainerSwinUNETR", "nnUNetTrainerUNETR", "--baseline", "nnUNetTrainerUNETR")
    scores = read_scores(report(folders, *chosen) / "metrics.csv")
    assert set(scores["model"]) == {"nnUNetTrainerUNETR", "nnUNetTrainerSwinUNETR"}


def test_a_second_report_computes_only_what_changed(folders: Path) -> None:
    add_model(folders, UNET, 4)
    add_model(folders, SWIN, 6)
    output = report(folders)
    first = (output / "report.html").read_bytes()
    assert (report(folders) / "report.html").read_bytes() == first
    write(folders / "nnUNet_results" / DATASET / SWIN / "fold_0" / "validation" / f"{CASES[0]}.nii.gz", box(8))
    scores = read_scores(report(folders) / "metrics.csv")
    changed = scores[(scores["case"] == CASES[0]) & (scores["metric"] == "dice")].set_index("model")["value"]
    assert changed["nnUNetTrainerSwinUNETR"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset", "999"], "dataset 999"),
        ([], "--dataset ID"),
        (["--dataset", "201", "--trainers", "nnUNetTrainerNone"], "nnUNetTrainerNone"),
        (["nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_what_cannot_be_reported_is_said(
    folders: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    add_model(folders, UNET, 4, segmentations=False)
    assert main(["compare", "report", "--output", str(folders / "report"), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert not (folders / "report").exists()


def test_a_case_in_two_folds_is_named_and_left_out_for_all_models(folders: Path) -> None:
    add_model(folders, UNET, 4)
    add_model(folders, SWIN, 6)
    summary = folders / "nnUNet_results" / DATASET / SWIN / "fold_1" / "validation" / "summary.json"
    content = json.loads(summary.read_text())
    other = json.loads((summary.parents[2] / "fold_0" / "validation" / "summary.json").read_text())
    content["metric_per_case"].append(other["metric_per_case"][0])
    summary.write_text(json.dumps(content))
    output = report(folders)
    text = shown(output)
    assert f"{CASES[0]} was validated in folds 0 and 1" in text[text.index("## What is not shown") :]
    assert CASES[0] not in set(read_scores(output / "metrics.csv")["case"])


def test_scores_are_a_long_table(folders: Path) -> None:
    add_model(folders, UNET, 4)
    table = pd.read_csv(report(folders) / "metrics.csv")
    assert list(table.columns) == ["model", "set", "fold", "case", "subject", "site", "reference_ml", "metric", "value"]
    assert len(table) == len(CASES) * table["metric"].nunique()
