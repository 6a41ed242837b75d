"""A results folder as nnU-Net writes it, with Dice values chosen by the test and, if wanted, images behind them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

DATASET = "Dataset201_Lesions"
UNET = "nnUNetTrainer_5epochs__nnUNetPlans__3d_fullres"
SWIN = "nnUNetTrainerSwinUNETR_5epochs__nnUNetPlans__3d_fullres"
NAN = float("nan")


def write_summary(path: Path, dice: Mapping[str, float], *, voxels: int = 8, label: str = "1") -> Path:
    """summary.json with these Dice values; NaN means reference and prediction are empty."""
    cases = [
        {
            "reference_file": f"/elsewhere/labelsTr/{case}.nii.gz",
            "prediction_file": f"/elsewhere/{case}.nii.gz",
            "metrics": {label: {"Dice": d, "n_ref": 0 if d != d else voxels, "n_pred": 0 if d != d else voxels}},
        }
        for case, d in dice.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"metric_per_case": cases}))
    return path


def write_model(
    results: Path, identifier: str, folds: Mapping[int, Mapping[str, float]], *, merged: bool = False
) -> Path:
    """A trained model: validations of the folds and, if `merged`, the cross-validation of all of them."""
    model = results / identifier
    model.mkdir(parents=True)
    for fold, dice in folds.items():
        write_summary(model / f"fold_{fold}" / "validation" / "summary.json", dice)
    if merged:
        every = {case: value for dice in folds.values() for case, value in dice.items()}
        name = "crossval_results_folds_" + "_".join(map(str, folds))
        write_summary(model / name / "summary.json", every)
    (model / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "lesion": 1}}))
    configurations = {
        "3d_lowres": {"patch_size": [32, 32, 32], "spacing": [2.0, 2.0, 2.0]},
        "3d_fullres": {"inherits_from": "3d_lowres", "spacing": [1.0, 1.0, 1.0]},
    }
    (model / "plans.json").write_text(json.dumps({"configurations": configurations}))
    return model


def write_ensemble(results: Path, members: tuple[str, str], dice: Mapping[str, float]) -> Path:
    folder = results / "ensembles" / f"ensemble___{members[0]}___{members[1]}___0_1_2_3_4"
    write_summary(folder / "summary.json", dice)
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "lesion": 1}}))
    return folder


def write_selection(results: Path, *models: str, dice: float = 0.5) -> Path:
    source = results / models[0] / "crossval_results_folds_0_1_2_3_4"
    names = [dict(zip(("trainer", "plans_identifier", "configuration"), m.split("__"), strict=True)) for m in models]
    path = results / "inference_information.json"
    content = {
        "folds": [0, 1, 2, 3, 4],
        "best_model_or_ensemble": {
            "selected_model_or_models": names,
            "result_on_crossval_pre_pp": dice,
            "result_on_crossval_post_pp": dice,
            "postprocessing_file": f"/elsewhere/{DATASET}/{source.relative_to(results)}/postprocessing.pkl",
        },
    }
    path.write_text(json.dumps(content))
    return path


def write_volume(path: Path, voxels: np.ndarray, spacing: float = 2.0) -> Path:
    """A NIfTI file from voxels (z, y, x)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing([spacing] * 3)
    sitk.WriteImage(image, str(path))
    return path


def write_images(raw: Path, case: str, part: str = "Tr") -> None:
    """An image and a mask with a cube of 8 voxels as lesion."""
    rng = np.random.default_rng(0)
    mask = np.zeros((10, 12, 14), np.uint8)
    mask[4:6, 5:7, 6:8] = 1
    write_volume(raw / f"images{part}" / f"{case}_0000.nii.gz", rng.normal(100, 5, mask.shape).astype(np.float32))
    write_volume(raw / f"labels{part}" / f"{case}.nii.gz", mask)


def write_checkpoint(path: Path) -> Path:
    """What is_checkpoint takes for a complete checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", "weights")
    return path


FOLDS = {0: {"a": 0.9, "b": 0.1}, 1: {"c": 0.8}, 2: {"d": 0.4}, 3: {"e": 0.0}, 4: {"f": 0.5}}
SWIN_FOLDS = {0: {"a": 0.7, "b": 0.3}, 1: {"c": 0.6}, 2: {"d": 0.8}, 3: {"e": 0.2}, 4: {"f": 0.7}}
