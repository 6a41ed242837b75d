from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from helpers import permissions
from helpers.atlas_tree import AtlasTree, save, voxels

from dataset_conversion import convert
from dataset_conversion.errors import ConversionError
from dataset_conversion.layouts import Scan
from dataset_conversion.layouts.atlas import LAYOUT
from dataset_conversion.layouts.atlas import find as scan
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
    paths = walk(tree.root).files
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


def test_a_folder_without_permission_is_an_error(tree: AtlasTree) -> None:
    tree.add("r001s001", "r002s001")
    closed = tree.root / "Training" / "R002"
    closed.chmod(0)
    try:
        with permissions.obeyed():
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


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def add_r2_native(root: Path, subject: str) -> None:
    stem = f"sub-{subject}_ses-1"
    anat = root / "Training" / subject[:4].upper() / f"sub-{subject}" / "ses-1" / "anat"
    touch(anat, f"{stem}_T1w.nii.gz", f"{stem}_space-orig_label-L_desc-T1lesion_mask.nii.gz")


def add_r3(root: Path, site: str, subject: str, metadata: str = "") -> Path:
    """A case of R2.1 or R3.0, with its row of metadata (columns in the order of SOOP)."""
    stem = f"sub-{subject}_ses-1"
    anat = touch(
        root / site / f"sub-{subject}" / "ses-1" / "anat",
        f"{stem}_space-orig_desc-brain_T1w.nii.gz",
        f"{stem}_space-orig_label-lesion_desc-T1lesion_mask.nii.gz",
    )
    text = "ATLAS2_DATASET,SESSION_ID,DAYS_POST_STROKE,CHRONICITY,SITE\n" + metadata
    (anat / f"{stem}_metadata.csv").write_text(text)
    return anat


def test_an_image_without_a_space_and_a_mask_in_the_original_one_are_a_pair(tmp_path: Path) -> None:
    add_r2_native(tmp_path, "r001s001")
    found = scan(tmp_path)
    assert not found.findings
    (case,) = found.cases
    assert case.images["T1w"].endswith("sub-r001s001_ses-1_T1w.nii.gz")
    assert case.masks[0].endswith("sub-r001s001_ses-1_space-orig_label-L_desc-T1lesion_mask.nii.gz")


def test_r3_cases_have_the_site_of_the_metadata_else_of_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "ATLAS3_Training_Raw"
    add_r3(root, "R001", "r001s001", "Training,sub-r001s001_ses-1,182.5,1,R001\n")
    add_r3(root, "SOOP", "soop0910")
    add_r3(root, "R002", "r002s001", "Training,sub-r002s001_ses-1,40,,R002b\n")
    found = scan(tmp_path)
    assert [(case.case, case.site, case.split) for case in found.cases] == [
        ("sub-r001s001_ses-1", "R001", "train"),
        ("sub-r002s001_ses-1", "R002b", "train"),
        ("sub-soop0910_ses-1", "SOOP", "train"),
    ]
    assert found.cases[0].metadata == {
        "atlas2_dataset": "Training",
        "days_post_stroke": "182.5",
        "chronicity": "1",
    }
    assert codes(found) == ["METADATA_MISSING"]
    assert "1 of 3 cases: sub-soop0910_ses-1" in found.findings[0].problem


def test_a_soop_subject_outside_a_site_folder_is_of_that_site(tmp_path: Path) -> None:
    touch(tmp_path, "sub-soop0003_ses-1_desc-brain_T1w.nii.gz", "sub-soop0003_ses-1_label-lesion_mask.nii.gz")
    assert scan(tmp_path).cases[0].site == "SOOP"


def test_native_and_template_files_in_one_tree_are_an_error_that_names_the_option(tree: AtlasTree) -> None:
    tree.add("r001s001")
    add_r2_native(tree.root, "r001s001")
    found = scan(tree.root)
    assert codes(found) == ["AMBIGUOUS_IMAGE", "AMBIGUOUS_MASK"]
    for finding in found.findings:
        assert "--entity space-MNI152NLin2009aSym or --entity space-orig" in finding.remedy
    assert found.cases[0].images == {"T1w": ""}
    assert found.cases[0].masks == ()


@pytest.mark.parametrize("space", ["orig", "MNI152NLin2009aSym", "mni152nlin2009asym"])
def test_the_space_asked_for_is_that_of_image_and_mask(tree: AtlasTree, space: str) -> None:
    tree.add("r001s001")
    add_r2_native(tree.root, "r001s001")
    found = scan(tree.root, {"space": space})
    assert not found.findings
    (case,) = found.cases
    for path in (case.images["T1w"], *case.masks):
        assert ("MNI" in path) == (space != "orig")


def test_a_case_without_files_in_the_space_asked_for_is_an_error(tree: AtlasTree) -> None:
    tree.add("r001s001", "r002s001")
    add_r2_native(tree.root, "r001s001")
    found = scan(tree.root, {"space": "orig"})
    assert [(finding.code, finding.case) for finding in found.findings] == [("MISSING_IMAGE", "sub-r002s001_ses-1")]
    assert "space-orig" in found.findings[0].problem


def test_the_mask_tells_in_which_of_two_spaces_the_image_is_meant(tree: AtlasTree) -> None:
    tree.add("r001s001")
    touch(tree.stem("r001s001").parent, "sub-r001s001_ses-1_T1w.nii.gz")
    found = scan(tree.root)
    assert not found.findings
    assert tree.root / found.cases[0].images["T1w"] == tree.image_path("r001s001")


def test_an_image_and_a_mask_in_different_spaces_are_no_pair(tree: AtlasTree) -> None:
    tree.add_image("r001s001")
    touch(tree.stem("r001s001").parent, "sub-r001s001_ses-1_space-orig_label-L_desc-T1lesion_mask.nii.gz")
    found = scan(tree.root)
    assert codes(found) == ["PAIR_MISMATCH"]
    assert found.cases[0].images == {"T1w": ""}


def test_the_whole_and_the_stripped_head_are_chosen_by_entity(tmp_path: Path) -> None:
    anat = add_r3(tmp_path, "R001", "r001s001")
    touch(anat, "sub-r001s001_ses-1_space-orig_T1w.nii.gz")
    found = scan(tmp_path)
    assert codes(found)[0] == "AMBIGUOUS_IMAGE"
    assert "--entity desc- or --entity desc-brain" in found.findings[0].remedy
    for value in ("brain", ""):
        (case,) = scan(tmp_path, {"desc": value}).cases
        assert ("desc-brain" in case.images["T1w"]) == bool(value)
        assert "label-lesion_desc-T1lesion" in case.masks[0]


def test_an_entity_that_no_file_has_is_an_error_that_lists_what_there_is(tree: AtlasTree) -> None:
    tree.add("r001s001")
    with pytest.raises(ConversionError, match=r"There is: space-MNI152NLin2009aSym") as caught:
        scan(tree.root, {"space": "orig"})
    assert caught.value.findings[0].code == "UNKNOWN_ENTITY"
    with pytest.raises(ConversionError, match=r"No name has run-"):
        scan(tree.root, {"run": "1"})


def test_a_session_can_be_asked_for_and_others_are_left_out(tree: AtlasTree) -> None:
    tree.add("r001s001")
    tree.add_image("r001s001", "2")
    tree.add_mask("r001s001", "2")
    found = scan(tree.root, {"ses": "2"})
    assert [case.case for case in found.cases] == ["sub-r001s001_ses-2"]
    assert not found.findings


@pytest.mark.parametrize("entities", [{}, {"space": "orig"}])
def test_one_case_in_two_releases_is_an_error_and_never_a_pick(tmp_path: Path, entities: dict[str, str]) -> None:
    add_r3(tmp_path / "Training_Raw", "R001", "r001s001")
    add_r3(tmp_path / "ATLAS3_Training_Raw", "R001", "r001s001")
    add_r3(tmp_path / "ATLAS3_Training_Raw", "R001", "r001s002")
    found = scan(tmp_path, entities)
    errors = [finding for finding in found.findings if finding.severity == "error"]
    assert [(error.code, error.case) for error in errors] == [("MIXED_RELEASES", "sub-r001s001_ses-1")]
    assert "(ATLAS3_Training_Raw, Training_Raw)" in errors[0].problem
    assert len(errors[0].files) == 4


def test_a_former_test_image_beside_its_later_release_is_an_error(tree: AtlasTree) -> None:
    tree.add_image("r003s002", test=True)
    add_r3(tree.root.parent / "Training_Raw", "R003", "r003s002")
    assert codes(scan(tree.root.parent))[0] == "MIXED_RELEASES"
    chosen = scan(tree.root.parent, {"space": "orig"})
    assert codes(chosen) == []
    assert chosen.cases[0].split == "train"


def test_cases_of_two_releases_side_by_side_are_a_warning_that_counts_them(tree: AtlasTree) -> None:
    tree.add("r001s001", "r001s002")
    add_r3(tree.root / "ATLAS3_Training_Raw", "SOOP", "soop0910")
    (finding,) = [finding for finding in scan(tree.root).findings if finding.code == "MIXED_IMAGES"]
    assert finding.severity == "warning"
    assert "2 space-mni152nlin2009asym" in finding.problem
    assert "1 space-orig_desc-brain" in finding.problem


def test_a_file_in_the_folder_of_another_subject_is_an_error(tree: AtlasTree) -> None:
    tree.add("r001s001")
    tree.mask_path("r001s001").rename(tree.mask_path("r001s001").parent / "sub-r001s002_ses-1_label-L_mask.nii.gz")
    found = scan(tree.root)
    assert ("WRONG_FOLDER", "sub-r001s002_ses-1") in [(finding.code, finding.case) for finding in found.findings]


def test_a_subject_s_image_with_a_name_that_cannot_be_understood_is_a_warning(tree: AtlasTree) -> None:
    tree.add("r001s001")
    touch(tree.root, "sub-r001s002_ses-1_T1w (1).nii.gz", "sub-Zoé_T1w.nii.gz", "sub-AVC_012_T1w.nii.gz", "c0001.nii")
    (finding,) = scan(tree.root).findings
    assert (finding.code, finding.severity) == ("NAME_NOT_BIDS", "warning")
    assert finding.problem.startswith("3 NIfTI files")


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="file names are Unicode there")
def test_a_name_that_is_not_utf_8_is_a_warning_and_not_a_crash(tree: AtlasTree) -> None:
    tree.add("r001s001")
    (tree.root / os.fsdecode(b"sub-caf\xe9_T1w.nii.gz")).touch()
    assert codes(scan(tree.root)) == ["NAME_NOT_BIDS"]


def test_the_names_of_r1_are_found_where_there_are_no_others(tmp_path: Path) -> None:
    touch(tmp_path / "Site1" / "031768" / "t01", "031768_t1w_deface_stx.nii.gz", "031768_LesionSmooth_stx.nii.gz")
    (case,) = scan(tmp_path).cases
    assert case.split == "train"
    assert case.masks


@pytest.mark.parametrize("name", ["IM000001.dcm", "IM000001", "1.3.12.2.1107"])
def test_a_folder_of_dicom_files_is_sent_to_dcm2niix(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM")
    with pytest.raises(ConversionError, match="dcm2niix") as caught:
        scan(tmp_path)
    assert caught.value.findings[0].code == "NO_CASES"


def test_a_folder_without_dicom_files_is_not_sent_to_dcm2niix(tmp_path: Path) -> None:
    (tmp_path / "notes").write_bytes(b"\0" * 132)
    with pytest.raises(ConversionError) as caught:
        scan(tmp_path)
    assert "dcm2niix" not in str(caught.value)


def test_what_is_reported_of_published_files_names_its_release_and_where_it_was_reported() -> None:
    issues = {(issue.release, issue.subject): issue for issue in LAYOUT.known_issues}
    assert len(issues) == len(LAYOUT.known_issues)
    assert {release for release, _ in issues} == {"R2.0", "R2.1", "R3.0"}
    assert all(issue.source for issue in LAYOUT.known_issues)
    assert issues["R3.0", "sub-soop0910"].problem == "the mask is reported to be empty"
    assert "R2.0" not in " ".join(LAYOUT.about.values())


def test_an_unknown_layout_is_an_error_that_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"There is: atlas, bids"):
        convert.scan(tmp_path, layout="brats")


def test_r1_beside_a_later_release_is_an_error(tree: AtlasTree) -> None:
    tree.add("r001s001")
    folder = tree.root.parent / "ATLAS_R1.1" / "Site1" / "031768" / "t01"
    for name in ("t1w_deface_stx", "LesionSmooth_stx"):
        save(folder / f"031768_{name}.nii.gz", voxels(name))
    found = scan(tree.root.parent)
    assert codes(found) == ["MIXED_RELEASES"]
    assert "sub-031768_ses-t01" in found.findings[0].problem
    assert not scan(tree.root).findings


def test_a_subject_whose_files_are_misspelt_is_an_error(tree: AtlasTree) -> None:
    tree.add("r001s001", "r001s005")
    for path in (tree.image_path("r001s005"), tree.mask_path("r001s005")):
        path.rename(path.with_name(path.name.replace("sub-", "sub_")))
    found = scan(tree.root)
    assert codes(found) == ["NAME_NOT_BIDS", "MISSING_IMAGE"]
    assert [case.case for case in found.cases] == ["sub-r001s001_ses-1", "sub-r001s005"]


def test_a_case_whose_folder_is_empty_or_a_dead_link_does_not_vanish_without_a_word(tree: AtlasTree) -> None:
    tree.add("r001s001", "r001s002", "r001s003")
    shutil.rmtree(tree.stem("r001s002").parent)
    tree.stem("r001s002").parent.mkdir()
    shutil.rmtree(tree.stem("r001s003").parent)
    tree.stem("r001s003").parent.symlink_to("nowhere")
    (tree.root / "LICENSE").symlink_to(".git/annex/objects/x")
    found = {each.code: (each.severity, [path for _, path in each.files]) for each in scan(tree.root).findings}
    assert found == {
        code: ("warning", [tree.stem(subject).parent.relative_to(tree.root).as_posix()])
        for code, subject in (("EMPTY_FOLDER", "r001s002"), ("UNREADABLE_FOLDER", "r001s003"))
    }


@pytest.mark.parametrize("source", ["x" * 300, "loop"])
def test_a_source_that_cannot_be_looked_at_is_an_error(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    with pytest.raises(ConversionError, match="cannot be opened"):
        scan(Path(source))


def test_a_split_that_the_metadata_say_against_the_folder_is_told_apart(tree: AtlasTree) -> None:
    tree.add("r001s001")
    (tree.root / "sheet.csv").write_text("Subject ID,split\nr001s001,test\n")
    conflict, _ = scan(tree.root).findings
    assert conflict.problem == "its folder says train, the column split of the metadata test"


def test_a_misnamed_test_image_of_the_challenges_copy_does_not_vanish(tmp_path: Path) -> None:
    tree = AtlasTree(tmp_path, "data/train/derivatives/ATLAS", "data/test/derivatives/ATLAS").add("r001s001")
    image = tree.add_image("r003s002", test=True)
    image.rename(image.with_name(image.name.replace("T1w", "T1wx")))
    (finding,) = scan(tree.root).findings
    assert (finding.code, finding.case) == ("MISSING_IMAGE", "sub-r003s002")
