"""What stock nnU-Net says about a converted dataset."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.atlas_tree import RAS, SHAPE, AtlasTree, lesion, save, voxels
from helpers.conversion import convert

SUBJECTS = ("r001s001", "r001s002", "r002s001", "r002s002", "r003s001")


@pytest.fixture
def dataset(tree: AtlasTree, raw: Path) -> Path:
    """Cases stored in all the ways that nnU-Net would trip or warn over if they were taken as they are."""
    tree.add(*SUBJECTS)
    tree.add_mask("r001s001", data=lesion("r001s001").astype(np.float64) * 0.01)
    noisy = RAS.copy()
    noisy[:3] += np.random.default_rng(0).normal(0, 1e-4, (3, 4))
    tree.add_mask("r001s002", data=lesion("r001s002"), affine=noisy)
    las = RAS.copy()
    las[0, 0], las[0, 3] = -1, RAS[0, 3] + SHAPE[0] - 1
    tree.add_mask("r002s001", data=lesion("r002s001")[::-1].copy(), affine=las)
    oblique = np.eye(4)
    oblique[:3, :3] = np.round([[0.98, -0.199, 0], [0.199, 0.98, 0], [0, 0, 1]], 3) * (0.6875, 0.6875, 3)
    oblique[:3, 3] = (30.1, -20.2, 7.7)
    save(tree.image_path("r002s002"), voxels("r002s002")[..., None], oblique)
    save(tree.mask_path("r002s002"), lesion("r002s002"), oblique)
    return convert(tree.root, dataset_id=201, jobs=1).folder


def test_nnunet_finds_nothing_wrong_and_warns_of_nothing(dataset: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

    verify_dataset_integrity(str(dataset), num_processes=1)
    printed = "".join(capfd.readouterr()).lower()
    assert "verify_dataset_integrity done" in printed
    # The closing banner is the only place that may say "error".
    assert "error" not in printed.replace("didn't see any error messages", "")
    assert "warning" not in printed
    assert "traceback" not in printed


def test_nnunets_planner_takes_over_our_folds(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

    preprocessed = dataset.parent.parent / "nnUNet_preprocessed"
    monkeypatch.setenv("nnUNet_preprocessed", str(preprocessed))
    (preprocessed / dataset.name).mkdir(parents=True)
    fingerprint = {
        "spacings": [[1.0, 1.0, 1.0]] * len(SUBJECTS),
        "shapes_after_crop": [SHAPE] * len(SUBJECTS),
        "foreground_intensity_properties_per_channel": {"0": {}},
        "median_relative_size_after_cropping": 1.0,
    }
    (preprocessed / dataset.name / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    ExperimentPlanner(201)
    copied = preprocessed / dataset.name / "splits_final.json"
    assert copied.read_bytes() == (dataset / "splits_final.json").read_bytes()
