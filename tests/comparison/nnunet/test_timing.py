"""Times and sizes from the records nnU-Net leaves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.results_folder import FOLDS, UNET, write_model

from nnunet_transformers.comparison.nnunet.results import read_results
from nnunet_transformers.comparison.nnunet.timing import count_parameters, read_training

FIRST = """2026-01-01 10:00:00.000000: Epoch 0
2026-01-01 10:00:05.000000: Epoch time: 5.0 s
2026-01-01 10:00:05.000000: Epoch 1
2026-01-01 10:00:12.000000: Epoch time: 7.0 s
"""


def test_sums_and_medians_are_over_all_folds(empty: Path) -> None:
    model = write_model(empty, UNET, FOLDS)
    for fold in (0, 1):
        (model / f"fold_{fold}" / "training_log_2026_1_1_9_00_00.txt").write_text(FIRST)
        machine = {"hostname": "node1", "device": "cpu", "torch_version": "2.8"}
        (model / f"fold_{fold}" / "debug.json").write_text(json.dumps(machine))
    training = read_training(read_results(empty).models[0])
    assert training.seconds_per_epoch == 6.0
    assert training.training_seconds == 24.0
    assert training.validation_seconds is None
    assert training.machines == ("node1, cpu, torch 2.8",)


@pytest.mark.parametrize("debug", [None, "", '{"num_epochs": "1000'], ids=["missing", "empty", "cut off"])
def test_without_debug_json_the_length_is_that_of_the_name_and_else_of_the_log(empty: Path, debug: str | None) -> None:
    for name in (UNET, "nnUNetTrainer__nnUNetPlans__3d_fullres"):
        model = write_model(empty, name, FOLDS)
        (model / "fold_0" / "training_log_2026_1_1_9_00_00.txt").write_text(FIRST)
        if debug is not None:
            (model / "fold_0" / "debug.json").write_text(debug)
    by_name, by_log = (read_training(model) for model in read_results(empty).models)
    assert (by_log.epochs, by_name.epochs) == (2, 5)
    assert by_log.is_short
    assert by_name.length == "5 epochs"


@pytest.mark.skipif(not hasattr(torch.serialization, "safe_globals"), reason="needs torch 2.5")
def test_parameters_stored_under_two_names_count_once(tmp_path: Path) -> None:
    weight = torch.zeros(3, 4)
    weights = {"encoder.weight": weight, "decoder.encoder.weight": weight, "bias": torch.zeros(3)}
    weights["index"] = torch.zeros(100, dtype=torch.long)
    logged = {"losses": [np.float32(0.5), np.float64(0.5)]}
    torch.save({"network_weights": weights, "logging": logged}, tmp_path / "checkpoint_final.pth")
    assert count_parameters(tmp_path / "checkpoint_final.pth") == 15


def test_a_checkpoint_that_would_run_code_is_not_opened(tmp_path: Path) -> None:
    class Danger:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"network_weights": {}, "danger": Danger()}, tmp_path / "checkpoint_final.pth")
    assert count_parameters(tmp_path / "checkpoint_final.pth") is None
    assert not (tmp_path / "ran").exists()
