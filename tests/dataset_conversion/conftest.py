"""Fixtures: an ATLAS-like tree to plant faults in, and an nnU-Net raw folder to convert to."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.atlas_tree import AtlasTree


@pytest.fixture
def tree(tmp_path: Path) -> AtlasTree:
    return AtlasTree(tmp_path / "ATLAS_2")


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty nnU-Net raw folder, named by the environment, with no other nnU-Net folder set."""
    folder = tmp_path / "nnUNet_raw"
    folder.mkdir()
    monkeypatch.setenv("nnUNet_raw", str(folder))
    for name in ("nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(name, raising=False)
    return folder
