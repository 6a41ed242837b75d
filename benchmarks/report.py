"""How long a long report takes to make, and to make again when nothing has changed.

    python benchmarks/report.py [--models 13] [--cases 655] [--sites 33] [--json benchmarks/results/report.json]

The results folder is made up, of the size of a comparison of every network on ATLAS R2.0: trained models of five folds,
their validated segmentations, logs of 1000 epochs, and a case table of sites. A lesion is an ellipsoid in an image of
64 × 72 × 60 voxels of 2.5 mm; a prediction is the same, moved and scaled by what its model and the case make of it.
Two reports are timed, each in a process of its own: the first scores every segmentation, the second finds all of them
scored. --keep DIR makes the folder there, or takes the one that is there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch
from measure import provenance
from tqdm import tqdm

FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
DATASET = "Dataset201_Synthetic"
FOLDS = 5
SHAPE = (60, 72, 64)
SPACING_MM = 2.5
EPOCHS = 1000
NETWORKS = (
    "", "SwinUNETR", "SwinUNETRV2", "UNETR", "UNETRPP", "UTransformer", "NNFormer", "CoTr", "TransBTS", "TransUNet",
    "SwinUnet", "PrimusM", "MedNeXt",
)  # fmt: skip
BYTES_PER_MB = 1_000_000


def ellipsoid(centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """A mask (z, y, x) of what lies within `radii` of `centre`, both in voxels."""
    grid = np.ogrid[tuple(slice(0, size) for size in SHAPE)]
    distance = sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii, strict=True))
    return (distance <= 1).astype(np.uint8)


def write(path: Path, voxels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing([SPACING_MM] * 3)
    sitk.WriteImage(image, str(path))


def make_results(root: Path, models: int, cases: int, sites: int) -> None:
    """nnU-Net's three folders as a comparison of this size leaves them."""
    rng = np.random.default_rng(0)
    raw, preprocessed, results = (root / name / DATASET for name in FOLDERS)
    names = [f"sub-r{number % sites:03d}s{number:04d}_ses-1" for number in range(cases)]
    centres = np.array(SHAPE) * rng.uniform(0.3, 0.7, (cases, 3))
    radii = np.exp(rng.uniform(np.log(1.2), np.log(13), (cases, 1))) * rng.uniform(0.7, 1.3, (cases, 3))
    references = [ellipsoid(centre, radius) for centre, radius in zip(centres, radii, strict=True)]
    for name, reference in zip(names, references, strict=True):
        write(preprocessed / "gt_segmentations" / f"{name}.nii.gz", reference)
        write(raw / "labelsTr" / f"{name}.nii.gz", reference)
        image = 100 + 40 * reference + rng.normal(0, 9, SHAPE)
        write(raw / "imagesTr" / f"{name}_0000.nii.gz", image.astype(np.int16))
    folds = [[name for number, name in enumerate(names) if number % FOLDS == fold] for fold in range(FOLDS)]
    splits = [{"train": [name for name in names if name not in set(fold)], "val": fold} for fold in folds]
    (preprocessed / "splits_final.json").write_text(json.dumps(splits))
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps({"spacings": [[SPACING_MM] * 3] * cases}))
    table = ["case\tsubject\tsite", *(f"{name}\t{name.split('_')[0]}\t{name[4:8].upper()}" for name in names)]
    (raw / "cases.tsv").write_text("\n".join(table) + "\n")
    difficulty = rng.normal(0, 1, cases)
    for number in tqdm(range(models), "models", unit="model", disable=None):
        trainer = f"nnUNetTrainer{NETWORKS[number % len(NETWORKS)]}{'' if number < len(NETWORKS) else number}"
        folder = results / f"{trainer}__nnUNetPlans__3d_fullres"
        write_model(folder, folds, preprocessed, rng)
        skill = 0.05 * number
        entries: list[list[dict[str, Any]]] = [[] for _ in range(FOLDS)]
        for place, (name, reference) in enumerate(zip(names, references, strict=True)):
            off = 0.25 * abs(difficulty[place]) + skill * rng.uniform(0, 1) + 0.1 * rng.uniform(0, 1)
            moved = centres[place] + off * radii[place] * rng.choice([-1, 1], 3) / 2
            prediction = ellipsoid(moved, radii[place] * np.exp(rng.normal(0, 0.1, 3)))
            path = folder / f"fold_{place % FOLDS}" / "validation" / f"{name}.nii.gz"
            write(path, prediction)
            n_reference, n_predicted = int(reference.sum()), int(prediction.sum())
            both = int((reference & prediction).sum())
            metrics = {"Dice": 2 * both / (n_reference + n_predicted), "n_ref": n_reference, "n_pred": n_predicted}
            reference_file = preprocessed / "gt_segmentations" / path.name
            entries[place % FOLDS].append(
                {"reference_file": str(reference_file), "prediction_file": str(path), "metrics": {"1": metrics}}
            )
        for fold, found in enumerate(entries):
            (folder / f"fold_{fold}" / "validation" / "summary.json").write_text(json.dumps({"metric_per_case": found}))


def write_model(folder: Path, folds: list[list[str]], preprocessed: Path, rng: np.random.Generator) -> None:
    """Plans, logs and checkpoints of a trained model."""
    folder.mkdir(parents=True)
    labels = {"background": 0, "lesion": 1}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}))
    configuration = {"patch_size": [64, 64, 64], "spacing": [SPACING_MM] * 3, "batch_size": 2}
    (folder / "plans.json").write_text(json.dumps({"configurations": {"3d_fullres": configuration}}))
    (folder / "dataset_fingerprint.json").write_bytes((preprocessed / "dataset_fingerprint.json").read_bytes())
    for fold in range(len(folds)):
        place = folder / f"fold_{fold}"
        (place / "validation").mkdir(parents=True)
        debug = {"network": "Network", "num_epochs": EPOCHS, "num_iterations_per_epoch": 250, "batch_size": 2}
        (place / "debug.json").write_text(json.dumps({key: str(value) for key, value in debug.items()}))
        torch.save({"network_weights": {"weight": torch.zeros(100, 100)}}, place / "checkpoint_final.pth")
        loss = -0.9 * (1 - np.exp(-np.arange(EPOCHS) / 150)) + rng.normal(0, 0.02, EPOCHS)
        lines = []
        for epoch, value in enumerate(loss):
            stamp = f"2026-01-01 {10 + epoch // 100:02d}:{epoch % 60:02d}:00.000000:"
            lines += [
                f"{stamp} ",
                f"{stamp} Epoch {epoch}",
                f"{stamp} Current learning rate: 0.01",
                f"{stamp} train_loss {value:.4f}",
                f"{stamp} val_loss {value + 0.05:.4f}",
                f"{stamp} Pseudo dice [np.float32({-value:.4f})]",
                f"{stamp} Epoch time: 60.0 s",
            ]
        (place / "training_log_2026_1_1_10_00_00.txt").write_text("\n".join(lines) + "\n")


def timed_report(root: Path, output: Path, jobs: int) -> float:
    """Seconds of `compare report` as a user runs it."""
    environment = os.environ | {name: str(root / name) for name in FOLDERS}
    command = [sys.executable, "-m", "nnunet_transformers.cli", "compare", "report", "--dataset", "201"]
    start = time.perf_counter()
    subprocess.run([*command, "--output", str(output), "--jobs", str(jobs)], check=True, env=environment, stdout=2)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=13, help="trained models (default 13)")
    parser.add_argument("--cases", type=int, default=655, help="cases of the cross-validation (default 655)")
    parser.add_argument("--sites", type=int, default=33, help="sites they are from (default 33)")
    parser.add_argument("--jobs", type=int, default=2, help="cases scored at a time (default 2)")
    parser.add_argument("--keep", type=Path, help="folder of the results and the report, to look at them afterwards")
    parser.add_argument("--json", type=Path, help="write the result here too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.keep or Path(temporary)
        if not (root / "nnUNet_results").is_dir():
            make_results(root, arguments.models, arguments.cases, arguments.sites)
        with tempfile.TemporaryDirectory(dir=root) as output:
            first, again = (timed_report(root, Path(output), arguments.jobs) for _ in range(2))
            size = (Path(output) / "report.html").stat().st_size / BYTES_PER_MB
    origin = provenance(torch.device("cpu"), arguments.jobs)
    origin["versions"] |= {name: version(name) for name in ("numpy", "scipy", "pandas", "SimpleITK")}
    result = origin | {
        "models": arguments.models,
        "cases": arguments.cases,
        "sites": arguments.sites,
        "first report, seconds": round(first, 1),
        "nothing changed, seconds": round(again, 1),
        "report.html, MB": round(size, 2),
    }
    print(f"first report: {first:.1f} s; nothing changed: {again:.1f} s; report.html: {size:.2f} MB")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
