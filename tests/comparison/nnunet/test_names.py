from __future__ import annotations

from pathlib import Path

from helpers.results_folder import FOLDS, SWIN, write_model

from nnunet_transformers.comparison.nnunet.names import short_names
from nnunet_transformers.comparison.nnunet.results import read_results


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
