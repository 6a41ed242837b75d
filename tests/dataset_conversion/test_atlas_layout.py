from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from atlas_tree import AtlasTree, save, voxels

from dataset_conversion.convert import scan
from dataset_conversion.errors import ConversionError
from dataset_conversion.layouts import Scan
from dataset_conversion.layouts.walk import walk

LAYOUTS = {
    "distributed": ("Training/{site}", "Testing/{site}"),
    "without site folders": ("Training", "Testing"),
    "challenge": ("train/derivatives/ATLAS", "test/derivatives/ATLAS"),
    "renamed": ("ATLAS_R2.0_training", "ATLAS_R2.0_TESTING"),
}


def codes(found: Scan) -> list[str]:
    return [finding.code for finding in found.findings]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cases_are_found_in_each_layout_with_their_part_and_site(tmp_path: Path, layout: str) -> None:
    tree = AtlasTree(tmp_path / "test" / "données ATLAS", *LAYOUTS[layout]).add("r001s001", "r048s012")
    tree.add_image("r003s002", test=True)
    found = scan(tree.root)
    assert not found.findings
    rows = [(case.case, case.subject, case.session, case.site, case.split) for case in found.cases]
    assert rows == [
        ("sub-r001s001_ses-1", "sub-r001s001", "1", "R001", "train"),
        ("sub-r003s002_ses-1", "sub-r003s002", "1", "R003", "test"),
        ("sub-r048s012_ses-1", "sub-r048s012", "1", "R048", "train"),
    ]
    first = found.cases[0]
    assert tree.root / first.images["T1w"] == tree.image_path("r001s001")
    assert tree.root / first.masks[0] == tree.mask_path("r001s001")


@pytest.mark.parametrize(
    ("source", "layout", "split"),
    [
        (".", "distributed", "train"),
        ("ATLAS_2", "distributed", "train"),
        ("ATLAS_2/Training", "distributed", "train"),
        ("ATLAS_2/Training/R001", "distributed", "train"),
        ("ATLAS_2/Testing", "distributed", "test"),
        ("ATLAS_2/Testing/R003", "distributed", "test"),
        ("ATLAS_2/train/derivatives/ATLAS", "challenge", "train"),
        ("ATLAS_2/test", "challenge", "test"),
        ("ATLAS_2/test/derivatives/ATLAS", "challenge", "test"),
    ],
)
def test_the_source_may_be_any_folder_on_the_way(tmp_path: Path, source: str, layout: str, split: str) -> None:
    tree = AtlasTree(tmp_path / "ATLAS_2", *LAYOUTS[layout]).add("r001s001")
    tree.add_image("r003s002", test=True)
    found = scan(tmp_path / source)
    assert not found.findings
    assert found.cases[0].split == split


def test_a_folder_called_test_above_the_source_does_not_make_test_cases(tmp_path: Path) -> None:
    tree = AtlasTree(tmp_path / "test" / "copy", "", "").add("r001s001")
    assert scan(tree.root).cases[0].split == "train"


def test_the_innermost_folder_that_names_a_part_counts(tmp_path: Path) -> None:
    AtlasTree(tmp_path / "test data" / "ATLAS_2").add("r001s001")
    assert scan(tmp_path).cases[0].split == "train"


def test_droppings_of_operating_systems_are_ignored(tree: AtlasTree) -> None:
    tree.add("r001s001")
    for path in (tree.image_path("r001s001"), tree.mask_path("r001s001")):
        path.with_name("._" + path.name).write_bytes(b"\0\5\x16\7")
    (tree.root / ".DS_Store").write_bytes(b"Bud1")
    shutil.copytree(tree.root / "Training", tree.root / "__MACOSX" / "Training")
    shutil.copytree(tree.root / "Training", tree.root / ".Trash" / "Training")
    found = scan(tree.root)
    assert len(found.cases) == 1
    assert not found.findings
    paths, _ = walk(tree.root)
    assert [path.name for path in paths] == sorted([tree.image_path("r001s001").name, tree.mask_path("r001s001").name])


@pytest.mark.parametrize(
    "name", ["label-L_desc-T1lesion_mask.nii", "label-lesion_desc-T1lesion_mask.nii.gz", "label-L_mask.nii"]
)
def test_spellings_of_the_mask_name_are_understood(tree: AtlasTree, name: str) -> None:
    tree.add_image("r001s001")
    stem = tree.stem("r001s001")
    mask = stem.with_name(f"{stem.name}_{name}")
    mask.touch()
    found = scan(tree.root)
    assert tree.root / found.cases[0].masks[0] == mask


def test_a_brain_mask_is_not_a_lesion_mask(tree: AtlasTree) -> None:
    tree.add("r001s001")
    stem = tree.stem("r001s001")
    stem.with_name(f"{stem.name}_desc-brain_mask.nii.gz").touch()
    found = scan(tree.root)
    assert tree.root / found.cases[0].masks[0] == tree.mask_path("r001s001")
    assert not found.findings


def test_a_training_image_without_mask_is_an_error_and_a_test_image_is_not(tree: AtlasTree) -> None:
    tree.add_image("r001s001")
    tree.add_image("r003s002", test=True)
    found = scan(tree.root)
    assert codes(found) == ["MISSING_MASK"]
    assert found.findings[0].case == "sub-r001s001_ses-1"


def test_a_mask_of_another_format_is_shown_beside_the_missing_one(tree: AtlasTree) -> None:
    tree.add_image("r001s001")
    stem = tree.stem("r001s001")
    stem.with_name(f"{stem.name}_label-L_desc-T1lesion_mask.mgz").touch()
    found = scan(tree.root)
    assert codes(found) == ["MISSING_MASK"]
    assert "T1lesion_mask.mgz" in str(found.findings[0])


def test_a_mask_without_image_is_an_error(tree: AtlasTree) -> None:
    tree.add_mask("r001s001")
    assert codes(scan(tree.root)) == ["MISSING_IMAGE"]


def test_two_candidates_are_an_error_that_lists_both(tree: AtlasTree) -> None:
    tree.add("r001s001")
    stem = tree.stem("r001s001")
    second_image = save(stem.with_name("sub-r001s001_ses-1_desc-brain_T1w.nii.gz"), voxels("second"))
    second_mask = save(stem.with_name("sub-r001s001_ses-1_label-lesion_mask.nii.gz"), voxels("second"))
    found = scan(tree.root)
    assert codes(found) == ["AMBIGUOUS_IMAGE", "AMBIGUOUS_MASK"]
    assert {second_image.name, tree.image_path("r001s001").name} == {
        Path(path).name for _, path in found.findings[0].files
    }
    assert second_mask.name in str(found.findings[1])


def test_one_scan_in_both_parts_is_an_error(tree: AtlasTree) -> None:
    tree.add("r001s001")
    tree.add_image("r001s001", test=True)
    assert codes(scan(tree.root)) == ["SPLIT_CONFLICT", "AMBIGUOUS_IMAGE"]


def test_two_sessions_are_two_cases_of_one_subject(tree: AtlasTree) -> None:
    tree.add("r001s001")
    tree.add_image("r001s001", "2")
    tree.add_mask("r001s001", "2")
    found = scan(tree.root)
    assert [(case.case, case.subject) for case in found.cases] == [
        ("sub-r001s001_ses-1", "sub-r001s001"),
        ("sub-r001s001_ses-2", "sub-r001s001"),
    ]


def test_a_session_named_only_by_its_folder_is_understood(tree: AtlasTree) -> None:
    anat = tree.root / "Training" / "sub-a1" / "ses-3" / "anat"
    save(anat / "sub-a1_T1w.nii.gz", voxels("a1"))
    save(anat / "sub-a1_label-L_desc-T1lesion_mask.nii.gz", voxels("a1"))
    (case,) = scan(tree.root).cases
    assert (case.case, case.session, case.site) == ("sub-a1_ses-3", "3", "")


def test_an_image_that_was_unpacked_to_a_folder_is_listed_so_that_the_checks_can_name_it(tree: AtlasTree) -> None:
    tree.add_mask("r001s001")
    (tree.image_path("r001s001") / "inside").mkdir(parents=True)
    (case,) = scan(tree.root).cases
    assert tree.root / case.images["T1w"] == tree.image_path("r001s001")


def test_linked_folders_are_followed_once(tree: AtlasTree) -> None:
    tree.add("r001s001")
    (tree.root / "Training" / "loop").symlink_to(tree.root)
    elsewhere = AtlasTree(tree.root.parent / "elsewhere", "").add("r002s001")
    (tree.root / "Training" / "R002").symlink_to(elsewhere.root)
    found = scan(tree.root)
    assert [case.subject for case in found.cases] == ["sub-r001s001", "sub-r002s001"]
    assert not found.findings


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_without_permission_is_an_error(tree: AtlasTree) -> None:
    tree.add("r001s001", "r002s001")
    closed = tree.root / "Training" / "R002"
    closed.chmod(0)
    try:
        assert codes(scan(tree.root)) == ["UNREADABLE_FOLDER"]
    finally:
        closed.chmod(0o755)


def test_an_empty_or_missing_source_is_an_error_that_says_what_is_expected(tmp_path: Path) -> None:
    archive = tmp_path / "ATLAS_R2.0.tar.gz"
    archive.touch()
    for source, code in ((tmp_path, "NO_CASES"), (tmp_path / "typo", "NO_SOURCE"), (archive, "NO_SOURCE")):
        with pytest.raises(ConversionError, match=r"derivatives/ATLAS") as caught:
            scan(source)
        assert caught.value.findings[0].code == code


def test_an_unknown_layout_is_an_error_that_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"There is: atlas"):
        scan(tmp_path, layout="brats")
