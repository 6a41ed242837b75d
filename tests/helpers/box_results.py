"""nnU-Net's folders of models whose predictions are boxes, so that scores are counted by hand; and reports of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from helpers.results_folder import DATASET, write_model

from nnunet_transformers.cli import main

CASES = [f"sub-{number:02d}_ses-1" for number in range(10)]
SHAPE = (14, 12, 10)


def write_folders(root: Path) -> None:
    """nnU-Net's three folders with splits and a case table, without a model."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (root / name / DATASET).mkdir(parents=True)
    splits = [
        {"train": [case for case in CASES if case not in CASES[fold::5]], "val": CASES[fold::5]} for fold in range(5)
    ]
    (root / "nnUNet_preprocessed" / DATASET / "splits_final.json").write_text(json.dumps(splits))
    rows = ["case\tsubject\tsession\tsite\tsplit\tT1w\tmask"]
    rows += [f"{case}\t{case[:6]}\t1\tR00{number % 2}\ttrain\ta\tb" for number, case in enumerate(CASES)]
    (root / "nnUNet_raw" / DATASET / "cases.tsv").write_text("\n".join(rows) + "\n")


def box(length: int) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[2 : 2 + length, 3:7, 3:6] = 1
    return mask


def write(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(mask)
    image.SetSpacing((1.0, 1.0, 2.0))
    sitk.WriteImage(image, str(path))


def add_model(
    root: Path, identifier: str, length: int, *, segmentations: bool = True, folds: Sequence[int] = range(5)
) -> None:
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
