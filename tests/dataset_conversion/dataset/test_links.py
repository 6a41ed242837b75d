"""How unchanged files get into the dataset."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from helpers.atlas_tree import RAS, AtlasTree, lesion, voxels
from helpers.conversion import convert

from dataset_conversion.errors import ConversionError
from dataset_conversion.job import Conversion

SUBJECTS = ("r001s001", "r001s002", "r002s001", "r002s002", "r003s001")
IMAGE = "imagesTr/sub-r001s001_ses-1_0000.nii.gz"


def run(tree: AtlasTree, **options: Any) -> Conversion:
    return convert(tree.root, **{"dataset_id": 201, "jobs": 2, **options})


@pytest.fixture
def no_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for a source on another file system."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("no_hard_links")
def test_on_another_file_system_files_are_linked_symbolically_and_not_copied(tree: AtlasTree, raw: Path) -> None:
    folder = run(tree.add(*SUBJECTS)).folder
    assert (folder / IMAGE).is_symlink()
    assert (folder / IMAGE).samefile(tree.image_path("r001s001"))


@pytest.mark.usefixtures("no_hard_links")
def test_a_hard_link_that_is_asked_for_and_impossible_is_an_error(tree: AtlasTree, raw: Path) -> None:
    with pytest.raises(ConversionError, match="cross-device") as caught:
        run(tree.add(*SUBJECTS), link="hard")
    assert caught.value.findings[0].code == "CANNOT_WRITE"
    assert os.listdir(raw) == []


def test_symbolic_links_lead_to_the_file_itself(tree: AtlasTree, raw: Path) -> None:
    tree.add(*SUBJECTS)
    stored = tree.root.parent / "annex" / "object.nii.gz"
    stored.parent.mkdir()
    tree.image_path("r001s001").rename(stored)
    tree.image_path("r001s001").symlink_to(stored)
    folder = run(tree, link="symlink").folder
    assert os.readlink(folder / IMAGE) == str(stored.resolve())


def test_referenced_files_stay_where_they_are_and_nnunet_finds_them(tree: AtlasTree, raw: Path) -> None:
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    tree.add(*SUBJECTS).add_mask("r002s001", data=lesion("r002s001") * 255)
    tree.add_image("r009s001", test=True)
    folder = run(tree, link="reference").folder
    assert sorted(path.name for path in (folder / "imagesTr").iterdir()) == []
    assert [path.name for path in (folder / "labelsTr").iterdir()] == ["sub-r002s001_ses-1.nii.gz"]
    assert len(list((folder / "imagesTs").iterdir())) == 1
    found = get_filenames_of_train_images_and_targets(str(folder))
    assert len(found) == len(SUBJECTS)
    assert Path(found["sub-r001s001_ses-1"]["images"][0]).samefile(tree.image_path("r001s001"))
    assert Path(found["sub-r002s001_ses-1"]["label"]).parent.samefile(folder / "labelsTr")
    report = json.loads((folder / "conversion_report.json").read_text())
    assert report["cases"][0]["files"][0]["written"] is None


def test_a_quick_conversion_writes_what_a_thorough_one_does(tree: AtlasTree, raw: Path) -> None:
    tree.add(*SUBJECTS).add_mask("r002s001", data=lesion("r002s001") * 255)
    tree.add_image("r001s002", data=voxels("r001s0021")[..., None])
    thorough = run(tree).folder
    quick = run(tree, quick=True, dataset_id=202).folder
    for path in sorted(thorough.rglob("*.nii.gz")):
        assert (quick / path.relative_to(thorough)).read_bytes() == path.read_bytes()
    files = json.loads((quick / "conversion_report.json").read_text())["cases"][0]["files"]
    assert [bool(file["sources"][0]["sha256"]) for file in files] == [False, True]


def test_a_quick_conversion_still_reads_every_mask_and_header(tree: AtlasTree, raw: Path) -> None:
    tree.add(*SUBJECTS)
    tree.image_path("r001s001").write_bytes(b"<html>")
    tree.mask_path("r001s002").write_bytes(tree.mask_path("r001s002").read_bytes()[:-9])
    moved = RAS.copy()
    moved[0, 3] += 2
    tree.add_mask("r002s001", affine=moved)
    with pytest.raises(ConversionError) as caught:
        run(tree, quick=True)
    assert [finding.code for finding in caught.value.findings] == ["UNREADABLE", "TRUNCATED", "GRID_MISMATCH"]
