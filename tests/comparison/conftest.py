from __future__ import annotations

from pathlib import Path

import pytest
from helpers.box_results import write_folders
from helpers.results_folder import DATASET, FOLDS, SWIN, SWIN_FOLDS, UNET, write_ensemble, write_model, write_selection


@pytest.fixture(autouse=True)
def no_nnunet_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "nnUNet_results" / DATASET
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def results(empty: Path) -> Path:
    """Two models of five folds and six cases, their ensemble, and the selection of it."""
    write_model(empty, UNET, FOLDS, merged=True)
    write_model(empty, SWIN, SWIN_FOLDS, merged=True)
    write_ensemble(empty, (UNET, SWIN), {"a": 0.8, "b": 0.2, "c": 0.7, "d": 0.6, "e": 0.1, "f": 0.9})
    write_selection(empty, UNET, SWIN)
    return empty


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnU-Net's three folders, known to its environment variables, with splits and a case table."""
    write_folders(tmp_path)
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path
