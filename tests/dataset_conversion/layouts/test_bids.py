from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_conversion.errors import ConversionError
from dataset_conversion.layouts import Scan
from dataset_conversion.layouts.bids import find
from dataset_conversion.layouts.entities import BidsName
from dataset_conversion.layouts.named_files import NamedFile, choose, image_name
from dataset_conversion.layouts.walk import walk
from dataset_conversion.selection import select

TREES = {
    "BIDS": (
        "rawdata/sub-01/anat/sub-01_T1w.nii.gz",
        "rawdata/sub-01/anat/sub-01_FLAIR.nii.gz",
        "rawdata/derivatives/lesions/sub-01/anat/sub-01_label-lesion_mask.nii.gz",
    ),
    "core_convertToBIDS": (
        "rawdata/sub-01/anat/sub-01_acq-T1w.nii.gz",
        "rawdata/sub-01/anat/sub-01_acq-FLAIR.nii.gz",
        "derivatives/sub-01/seg/sub-01_acq-FLAIR_seg.nii.gz",
    ),
    "StrokeSeg-Toolkit": (
        "preprocessed/sub-01/anat/sub-01_T1w.nii.gz",
        "preprocessed/sub-01/anat/sub-01_FLAIR.nii.gz",
        "derivatives/sub-01/seg/sub-01_seg.nii.gz",
    ),
    "words without a key": (
        "sub-01/anat/sub-01_t1.nii",
        "sub-01/anat/sub-01_flair.nii",
        "sub-01/anat/sub-01_T1w_label-lesion_roi.nii",
    ),
}


def make(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def codes(found: Scan) -> list[str]:
    return [finding.code for finding in found.findings]


@pytest.mark.parametrize("tree", TREES)
def test_image_and_mask_are_found_in_each_kind_of_tree(tmp_path: Path, tree: str) -> None:
    found = find(make(tmp_path / "étude AVC", *TREES[tree]))
    assert not found.findings
    (case,) = found.cases
    assert (case.case, case.subject, case.session, case.split) == ("sub-01", "sub-01", "", "train")
    t1w, flair, mask = TREES[tree]
    assert list(case.images.items()) == [("T1w", t1w), ("FLAIR", flair)]
    assert case.masks == (mask,)


def test_channels_are_t1w_then_flair_then_the_others_and_every_case_has_all_of_them(tmp_path: Path) -> None:
    make(tmp_path, "sub-1/sub-1_DWI.nii", "sub-1/sub-1_flair.nii", "sub-1/sub-1_ADC.nii", "sub-1/sub-1_seg.nii")
    make(tmp_path, "sub-2/sub-2_T1W.nii", "sub-2/sub-2_seg.nii")
    first, second = find(tmp_path).cases
    assert list(first.images) == list(second.images) == ["T1w", "FLAIR", "ADC", "DWI"]
    assert second.images["FLAIR"] == ""


@pytest.mark.parametrize(
    "name",
    [
        *("seg", "lesion", "label-lesion_mask", "desc-lesion_probseg", "label-stroke_dseg", "label-L_mask"),
        *("acq-T1w_seg", "desc-rater1_seg", "FLAIR_seg", "lesion_mask", "label-lesion_desc-brain_mask"),
        *("space-orig_label-L_desc-T1lesion_mask", "desc-leftThalamusLesion_mask", "label-ischemicLesion_mask"),
        *("label-R_desc-T1lesion_mask", "label-left_desc-lesion_mask"),
        *("desc-cortexLesion_mask", "desc-poststroke_mask", "desc-lesioncore_mask", "desc-chroniclesion_mask"),
        *("msk", "lesion-msk", "T1w_lesion-manual", "T1w_lesion-manual_seg"),  # ISLES 2022 and 2024, ivadomed
    ],
)
def test_these_are_lesion_masks(tmp_path: Path, name: str) -> None:
    found = find(make(tmp_path, "sub-1_T1w.nii.gz", f"sub-1_{name}.nii.gz"))
    assert not found.findings
    assert found.cases[0].masks == (f"sub-1_{name}.nii.gz",)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "desc-brain_mask",
            "label-brain_seg",
            "label-GM_probseg",
            "label-WM_mask",
            "desc-aseg_dseg",
            "label-WMH_mask",
        ),
        *("T1w_brain_mask", "desc-brainmask_mask", "label-CSF_dseg", "bold", "desc-ventricles_mask"),
        *("space-individual_hemi-L_label-V1d_desc-wang_mask", "label-CST_mask", "desc-cerebellum_mask", "label-R_mask"),
        *(
            "desc-perilesional_mask",
            "desc-brainNoLesion_mask",
            "no_lesion_mask",
            "label-nonlesion_mask",
            "lesionFree_roi",
        ),
        *("label-lesion_desc-contralesional_mask", "desc-lesionTissue_mask", "atlas-stroke_label-lesion_mask"),
        *("hemi-L_label-L_mask", "label-thalamus_roi", "acq-brain_mask", "dseg", "probseg", "desc-manual_dseg"),
        *("desc-strokeTerritory_mask", "desc-CSFlesion_mask", "desc-lesionhemisphere_mask", "desc-unlesioned_mask"),
        *("desc-withoutlesion_mask", "sanslesion_roi", "label-invertedLesion_mask", "desc-controllesion_mask"),
        *("desc-lesionBorder_mask", "lesionhalo", "desc-lesiondilated_mask", "label-lesion_desc-bbox-lesion_mask"),
        *("desc-prestroke_mask", "desc-lesionuncertainty_mask", "desc-lesionside_mask", "desc-WMlesion_mask"),
    ],
)
def test_these_are_not_lesion_masks_and_named_where_there_is_no_other(tmp_path: Path, name: str) -> None:
    make(tmp_path, "sub-1_T1w.nii.gz", "sub-1_label-lesion_mask.nii.gz", f"sub-1_{name}.nii.gz")
    found = find(tmp_path)
    assert found.cases[0].masks == ("sub-1_label-lesion_mask.nii.gz",)
    assert codes(found) in ([], ["NAME_NOT_BIDS"])
    (tmp_path / "sub-1_label-lesion_mask.nii.gz").unlink()
    for folder in (
        tmp_path,
        make(tmp_path / "lesions", "sub-1_T1w.nii.gz", f"derivatives/lesions/sub-1_{name}.nii.gz"),
    ):
        found = find(folder)
        assert found.cases[0].masks == ()
        assert "UNLABELLED" in codes(found)
        assert name in str(found.findings) or name == "bold"


@pytest.mark.parametrize("name", ["mask", "roi", "FLAIR_roi", "desc-T1_mask", "acq-tse_mask"])
def test_a_mask_whose_name_says_nothing_is_taken_where_no_name_says_lesion_and_that_is_said(
    tmp_path: Path, name: str
) -> None:
    make(tmp_path, "sub-1_FLAIR.nii.gz", f"sub-1_{name}.nii.gz", "sub-1_desc-brain_mask.nii.gz")
    found = find(tmp_path)
    assert found.cases[0].masks == (f"sub-1_{name}.nii.gz",)
    (finding,) = found.findings
    assert (finding.code, finding.severity) == ("PRESUMED_MASK", "warning")
    (word,) = re.findall(r"--lesion-names (\S+)", finding.remedy)
    asked = find(tmp_path, lesion_names=[word])
    assert (asked.cases, asked.findings) == (found.cases, ())
    make(tmp_path, "sub-2_FLAIR.nii.gz", "sub-2_label-lesion_mask.nii.gz")
    found = find(tmp_path)
    assert [case.masks for case in found.cases] == [(), ("sub-2_label-lesion_mask.nii.gz",)]
    assert codes(found) == ["UNLABELLED"]
    assert ("not used", f"sub-1_{name}.nii.gz") in found.findings[0].files


@pytest.mark.parametrize(("name", "word"), [("label-thalamus_roi", "Thalamus"), ("desc-T1Tumor_seg", "tumor")])
@pytest.mark.parametrize("suffix", ["", "dseg"])
def test_what_the_user_calls_a_lesion_is_one(tmp_path: Path, name: str, word: str, suffix: str) -> None:
    name = f"{name.rpartition('_')[0]}_{suffix}" if suffix else name
    found = find(make(tmp_path, "sub-1_T1w.nii.gz", f"sub-1_{name}.nii.gz"), lesion_names=[word])
    assert not found.findings
    assert found.cases[0].masks == (f"sub-1_{name}.nii.gz",)


@pytest.mark.parametrize("suffix", ["dseg", "probseg", "mask"])
@pytest.mark.parametrize(("kind", "taken"), [("Lesion", True), ("Brain", False)])
def test_a_sidecar_says_what_a_segmentation_is_of(tmp_path: Path, suffix: str, kind: str, taken: bool) -> None:
    make(tmp_path, "sub-1_T1w.nii.gz", f"sub-1_{suffix}.nii.gz")
    (tmp_path / f"sub-1_{suffix}.json").write_text(f'{{"Type": "{kind}"}}')
    found = find(tmp_path)
    assert found.cases[0].masks == ((f"sub-1_{suffix}.nii.gz",) if taken else ())
    assert codes(found) == ([] if taken else ["UNLABELLED"])


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff", '{"Type": 3}'])
def test_a_sidecar_that_says_nothing_is_none(tmp_path: Path, text: str) -> None:
    make(tmp_path, "sub-1_T1w.nii.gz", "sub-1_dseg.nii.gz")
    (tmp_path / "sub-1_dseg.json").write_bytes(text.encode("latin-1"))
    assert codes(find(tmp_path)) == ["UNLABELLED"]


def test_an_image_with_its_lesion_filled_is_an_image(tmp_path: Path) -> None:
    make(tmp_path, "sub-1_T1w.nii.gz", "sub-1_desc-lesionfilled_T1w.nii.gz", "sub-1_label-lesion_mask.nii.gz")
    found = find(tmp_path, {"desc": ""})
    assert not found.findings
    assert found.cases[0].images == {"T1w": "sub-1_T1w.nii.gz"}
    assert found.cases[0].masks == ("sub-1_label-lesion_mask.nii.gz",)
    assert codes(find(tmp_path)) == ["AMBIGUOUS_IMAGE"]


def test_a_segmentation_that_may_be_of_tissue_yields_to_a_lesion_mask(tmp_path: Path) -> None:
    make(tmp_path, "sub-1_T1w.nii.gz", "derivatives/fmriprep/sub-1_dseg.nii.gz", "sub-1_label-lesion_mask.nii.gz")
    assert find(tmp_path).cases[0].masks == ("sub-1_label-lesion_mask.nii.gz",)


def test_cases_without_a_mask_are_for_test_with_one_warning_for_all(tmp_path: Path) -> None:
    make(tmp_path, "sub-1_T1w.nii", "sub-1_seg.nii", *(f"sub-{i}_T1w.nii" for i in range(2, 7)))
    found = find(tmp_path)
    assert [case.split for case in found.cases] == ["train", *["test"] * 5]
    (finding,) = found.findings
    assert (finding.code, finding.severity) == ("UNLABELLED", "warning")
    assert finding.problem.startswith("5 cases")
    assert "sub-2, sub-3, sub-4, …" in finding.problem


def test_folders_and_participants_say_the_part_before_a_missing_mask_does(tmp_path: Path) -> None:
    make(tmp_path, "train/sub-1/sub-1_T1w.nii", "test/sub-2/sub-2_T1w.nii", "test/sub-2/sub-2_seg.nii")
    make(tmp_path, "sub-3/sub-3_T1w.nii", "sub-4/sub-4_T1w.nii", "sub-4/sub-4_seg.nii")
    (tmp_path / "participants.tsv").write_text("participant_id\tsplit\nsub-3\ttrain\nsub-4\tTest\n")
    found = find(tmp_path)
    assert [case.split for case in found.cases] == ["train", "test", "train", "test"]
    assert [(finding.code, finding.case) for finding in found.findings] == [
        ("MISSING_MASK", "sub-1"),
        ("MISSING_MASK", "sub-3"),
        ("SPLIT_COLUMN", ""),
        ("SPLIT_FOLDERS", ""),
    ]
    assert all("1 for train and 1 for test" in finding.problem for finding in found.findings[-2:])


def test_participants_give_the_site_and_what_else_they_say(tmp_path: Path) -> None:
    make(tmp_path, "sub-01_T1w.nii", "sub-01_seg.nii", "sub-02_T1w.nii", "sub-02_seg.nii")
    (tmp_path / "participants.tsv").write_text("participant_id\tage\tsite\nsub-01\t071\tLorient\nsub-02\tn/a\tn/a\n")
    first, second = find(tmp_path).cases
    assert (first.site, first.metadata) == ("Lorient", {"age": "071"})
    assert (second.site, second.metadata) == ("", {"age": "n/a"})


@pytest.mark.parametrize(("key", "values"), [("run", ("1", "2")), ("acq", ("mprage", "tse")), ("rec", ("a", "b"))])
def test_two_images_of_one_kind_are_an_error_until_one_is_chosen(
    tmp_path: Path, key: str, values: tuple[str, str]
) -> None:
    one, other = values
    make(tmp_path, f"sub-1_{key}-{one}_T1w.nii", f"sub-1_{key}-{other}_T1w.nii", "sub-1_FLAIR.nii", "sub-1_seg.nii")
    make(tmp_path, "sub-2_T1w.nii", "sub-2_FLAIR.nii", "sub-2_seg.nii")
    found = find(tmp_path)
    assert [(finding.code, finding.case) for finding in found.findings] == [("AMBIGUOUS_IMAGE", "sub-1")]
    assert f"--entity {key}-{one} or --entity {key}-{other}" in found.findings[0].remedy
    assert [path for _, path in found.findings[0].files] == [f"sub-1_{key}-{value}_T1w.nii" for value in values]
    chosen = find(tmp_path, {key: other})
    assert not chosen.findings
    assert chosen.cases[0].images == {"T1w": f"sub-1_{key}-{other}_T1w.nii", "FLAIR": "sub-1_FLAIR.nii"}
    assert chosen.cases[1].images == {"T1w": "sub-2_T1w.nii", "FLAIR": "sub-2_FLAIR.nii"}


def test_a_case_that_has_only_another_run_than_the_one_asked_for_is_an_error(tmp_path: Path) -> None:
    make(tmp_path, "sub-1_run-1_T1w.nii", "sub-1_seg.nii", "sub-2_run-2_T1w.nii", "sub-2_seg.nii")
    found = find(tmp_path, {"run": "1"})
    assert [(finding.code, finding.case) for finding in found.findings] == [("MISSING_IMAGE", "sub-2")]


def test_masks_on_two_images_are_an_error_until_one_is_chosen(tmp_path: Path) -> None:
    make(tmp_path, *(f"sub-1_acq-{name}.nii" for name in ("T1w", "FLAIR", "T1w_seg", "FLAIR_seg")))
    found = find(tmp_path)
    assert codes(found) == ["AMBIGUOUS_MASK"]
    assert found.cases[0].masks == ()
    assert "--entity acq-FLAIR or --entity acq-T1w" in found.findings[0].remedy
    chosen = find(tmp_path, {"acq": "flair"})
    assert not chosen.findings
    assert chosen.cases[0].masks == ("sub-1_acq-FLAIR_seg.nii",)
    assert chosen.cases[0].images == {"T1w": "sub-1_acq-T1w.nii", "FLAIR": "sub-1_acq-FLAIR.nii"}


def test_two_copies_that_no_entity_tells_apart_are_an_error(tmp_path: Path) -> None:
    make(tmp_path, "a/sub-1_T1w.nii.gz", "b/sub-1_T1w.nii.gz", "sub-1_seg.nii.gz")
    (finding,) = find(tmp_path).findings
    assert finding.code == "AMBIGUOUS_IMAGE"
    assert finding.remedy.startswith("Leave one of them in the folder")


def test_derivatives_in_template_space_are_not_taken_for_raw_images(tmp_path: Path) -> None:
    make(tmp_path, "sub-1/sub-1_T1w.nii", "derivatives/sub-1/sub-1_space-MNI152NLin6Asym_T1w.nii")
    make(tmp_path, "derivatives/sub-1/sub-1_label-lesion_mask.nii")
    found = find(tmp_path)
    assert not found.findings
    assert found.cases[0].images == {"T1w": "sub-1/sub-1_T1w.nii"}
    with pytest.raises(ConversionError, match="UNKNOWN_ENTITY"):
        find(tmp_path, {"space": "Talairach"})
    assert codes(find(tmp_path, {"space": "MNI152NLin6Asym"})) == ["MISSING_MASK"]


def test_a_mask_in_another_format_is_missing_and_shown(tmp_path: Path) -> None:
    make(tmp_path, "sub-1_T1w.nii.gz", "sub-1_seg.mgz", "sub-1_seg.json")
    (finding,) = find(tmp_path).findings
    assert (finding.code, finding.files[-1]) == ("MISSING_MASK", ("not used", "sub-1_seg.mgz"))


def test_what_lies_there_without_use_is_listed_where_the_mask_is_missing(tmp_path: Path) -> None:
    make(tmp_path, "sub-1/anat/sub-1_T1w.nii", "sub-1/anat/sub-1_growth.nii", "sub-1/anat/AVC é.nii")
    make(tmp_path, "sub-1/func/sub-1_task-rest_bold.nii", "sub-2/anat/sub-2_T1w.nii", "sub-2/anat/sub-2_seg.nii")
    *_, finding = find(tmp_path).findings
    assert finding.code == "UNLABELLED"
    assert finding.files == (
        ("not used", "sub-1/anat/AVC é.nii"),
        ("not used", "sub-1/anat/sub-1_growth.nii"),
        ("no mask", "sub-1/anat/sub-1_T1w.nii"),
    )
    assert "2 files of unknown use: AVC é.nii, sub-1_growth.nii" in finding.problem
    assert "--lesion-names WORD" in finding.remedy
    assert find(tmp_path, lesion_names=("growth",)).cases[0].masks == ("sub-1/anat/sub-1_growth.nii",)

    (tmp_path / "participants.tsv").write_text("participant_id\tsplit\nsub-1\ttrain\n")
    missing = next(each for each in find(tmp_path).findings if each.code == "MISSING_MASK")
    assert [path for role, path in missing.files if role == "not used"] == [path for _, path in finding.files[:2]]
    assert "--lesion-names WORD" in missing.remedy


def test_files_of_other_sessions_are_not_listed(tmp_path: Path) -> None:
    make(tmp_path, *(f"sub-1/ses-{i}/anat/sub-1_ses-{i}_{what}.nii" for i in (1, 2) for what in ("T1w", "growth")))
    make(tmp_path, "sub-1/ses-2/anat/sub-1_ses-2_seg.nii")
    (finding,) = find(tmp_path).findings
    assert [path for role, path in finding.files if role == "not used"] == ["sub-1/ses-1/anat/sub-1_ses-1_growth.nii"]


def test_numbers_of_a_sheet_are_those_of_subjects_but_for_zeros(tmp_path: Path) -> None:
    make(tmp_path, *(f"sub-{name}_{what}.nii" for name in ("001", "02", "2", "x7") for what in ("T1w", "seg")))
    rows = ["participant_id\tage", "sub-1\t61", "sub-2\t62", "sub-x07\t63"]
    (tmp_path / "participants.tsv").write_text("\n".join(rows))
    found = find(tmp_path)
    assert {case.case: case.metadata.get("age", "") for case in found.cases} == {
        "sub-001": "61",
        "sub-02": "",  # sub-2 is there
        "sub-2": "62",
        "sub-x7": "63",
    }
    (zeros,) = [finding for finding in found.findings if finding.code == "SHEET_ZEROS"]
    assert [pair for _, pair in zeros.files] == ["sub-1 for sub-001", "sub-x07 for sub-x7"]


@pytest.mark.parametrize(
    ("folder", "split"), [("Test", "test"), ("Test_Set", "test"), ("stroke_test", "train"), ("test-retest", "train")]
)
def test_only_a_folder_that_is_called_after_a_part_says_the_part(tmp_path: Path, folder: str, split: str) -> None:
    make(tmp_path / folder, "sub-1_T1w.nii", "sub-1_seg.nii")
    make(tmp_path / "others", "sub-2_T1w.nii", "sub-2_seg.nii")
    found = find(tmp_path)
    assert [case.split for case in found.cases] == [split, "train"]
    assert codes(found) == (["SPLIT_FOLDERS"] if split == "test" else [])


@pytest.mark.parametrize("folder", ["test", "Training"])
def test_a_folder_of_all_images_says_no_part(tmp_path: Path, folder: str) -> None:
    make(tmp_path / folder, "sub-1_T1w.nii", "sub-2_T1w.nii")
    make(tmp_path / "derivatives", "sub-1_label-lesion_mask.nii")
    found = find(tmp_path)
    assert [case.split for case in found.cases] == ["train", "test"]
    assert codes(found) == ["UNLABELLED"]


@pytest.mark.parametrize("name", ["test", "Training"])
def test_what_the_folder_given_is_called_means_nothing(tmp_path: Path, name: str) -> None:
    make(tmp_path / name, "sub-1_T1w.nii", "sub-1_label-lesion_mask.nii", "sub-2_T1w.nii")
    found = find(tmp_path / name)
    assert [case.split for case in found.cases] == ["train", "test"]
    assert codes(found) == ["UNLABELLED"]


FORMS = {"mgz": "mri_convert", "dcm": "dcm2niix -z y", "img": "fslchfiletype", "hdr": "fslchfiletype", "mnc": "mnc2nii"}


@pytest.mark.parametrize("ending", ["json", "tsv", *FORMS])
def test_a_folder_without_nifti_has_no_case_and_the_command_that_makes_nifti_is_given(
    tmp_path: Path, ending: str
) -> None:
    make(tmp_path, *(f"sub-{i}/anat/sub-{i}_{name}.{ending}" for i in (1, 2) for name in ("T1w", "label-lesion_mask")))
    with pytest.raises(ConversionError, match="NO_CASES") as error:
        find(tmp_path)
    assert FORMS.get(ending, "Give the folder") in str(error.value)


def test_masks_without_any_image_are_no_case(tmp_path: Path) -> None:
    make(tmp_path, "sub-1_label-lesion_mask.nii.gz", "sub-2_label-lesion_mask.nii.gz")
    with pytest.raises(ConversionError, match="NO_CASES"):
        find(tmp_path)


def test_without_a_mask_images_in_two_spaces_are_an_error(tmp_path: Path) -> None:
    make(tmp_path, "sub-1_T1w.nii", "sub-1_space-MNI152NLin6Asym_T1w.nii")
    assert codes(find(tmp_path)) == ["AMBIGUOUS_IMAGE", "UNLABELLED"]


def test_an_image_registered_to_the_t1w_goes_with_a_mask_in_its_space(tmp_path: Path) -> None:
    make(tmp_path, "sub-1_T1w.nii", "sub-1_FLAIR.nii", "sub-1_space-T1w_FLAIR.nii", "sub-1_space-T1w_lesion.nii")
    found = find(tmp_path)
    assert not found.findings
    assert found.cases[0].images == {"T1w": "sub-1_T1w.nii", "FLAIR": "sub-1_space-T1w_FLAIR.nii"}


def test_an_image_registered_away_does_not_take_the_place_of_the_raw_one(tmp_path: Path) -> None:
    make(tmp_path, "sub-1_T1w.nii", "sub-1_space-FLAIR_T1w.nii", "sub-1_space-T1w_lesion.nii")
    found = find(tmp_path)
    assert not found.findings
    assert found.cases[0].images == {"T1w": "sub-1_T1w.nii"}


def test_an_image_that_is_not_in_the_space_of_the_mask_counts_as_missing_with_a_warning(tmp_path: Path) -> None:
    make(tmp_path, "sub-1_space-MNI152_T1w.nii", "sub-1_FLAIR.nii", "sub-1_space-MNI152_seg.nii")
    found = find(tmp_path)
    assert found.cases[0].images == {"T1w": "sub-1_space-MNI152_T1w.nii", "FLAIR": ""}
    assert [(finding.code, finding.severity) for finding in found.findings] == [("PAIR_MISMATCH", "warning")]


def test_a_mask_of_another_run_than_the_image_is_an_error(tmp_path: Path) -> None:
    make(tmp_path, "sub-1_run-2_T1w.nii", "sub-1_run-1_seg.nii")
    assert codes(find(tmp_path)) == ["PAIR_MISMATCH"]


def test_subjects_with_and_without_sessions_keep_their_names(tmp_path: Path) -> None:
    make(tmp_path, "sub-1/ses-M3/sub-1_ses-M3_T1w.nii", "sub-1/ses-M3/sub-1_ses-M3_seg.nii")
    make(tmp_path, "sub-CHU-2/sub-CHU-2_T1w.nii", "sub-CHU-2/sub-CHU-2_seg.nii")
    assert [case.case for case in find(tmp_path).cases] == ["sub-1_ses-M3", "sub-CHU-2"]


def test_a_subject_s_name_is_never_cut_at_an_underscore(tmp_path: Path) -> None:
    make(tmp_path, *(f"sub-AVC_{i}_{suffix}.nii" for i in ("011", "012") for suffix in ("T1w", "seg")))
    make(tmp_path, "sub-1_T1w.nii", "sub-1_seg.nii")
    found = find(tmp_path)
    assert [case.case for case in found.cases] == ["sub-1"]
    assert codes(found) == ["NAME_NOT_BIDS"]
    assert found.findings[0].problem.startswith("4 ")


def test_files_of_a_subject_without_its_name_are_named_in_one_warning(tmp_path: Path) -> None:
    make(tmp_path, "sub-1/anat/sub-1_T1w.nii", "sub-1/anat/FLAIR.nii", "derivatives/sub-1/sub-1_seg.nii")
    make(tmp_path, "derivatives/fsl/sub-1_ses-2/T1.nii.gz", "sub-1/func/mean.nii", "templates/MNI152_T1.nii.gz")
    found = find(tmp_path)
    (finding,) = found.findings
    assert (finding.code, finding.severity) == ("NAME_NOT_BIDS", "warning")
    assert [path for _, path in finding.files] == ["derivatives/fsl/sub-1_ses-2/T1.nii.gz", "sub-1/anat/FLAIR.nii"]
    assert [case.case for case in found.cases] == ["sub-1"]


@pytest.mark.parametrize(
    "path",
    [
        "sub-2/anat/T1w.nii.gz",
        "sub-2/ses-1/anat/sub_2_T1w.nii",
        "sub-2/anat/sub-2_MPRAGE.nii",
        "sub-2/sub-2_T1w (1).nii",
    ],
)
def test_a_subject_whose_images_are_called_otherwise_is_an_error_until_excluded(tmp_path: Path, path: str) -> None:
    make(tmp_path, "sub-1/anat/sub-1_T1w.nii", "derivatives/sub-1/sub-1_seg.nii", path)
    found = find(tmp_path)
    (error,) = [finding for finding in found.findings if finding.severity == "error"]
    assert (error.code, error.case, error.files) == ("MISSING_IMAGE", "sub-2", (("not used", path),))
    chosen = select(found, (), ("sub-2",))
    assert [case.case for case in chosen.cases] == ["sub-1"]
    assert not [finding for finding in chosen.findings if finding.severity == "error"]
    assert [case.case for case in find(tmp_path, {"sub": "1"}).cases] == ["sub-1"]


def test_a_subject_with_other_data_only_is_no_finding(tmp_path: Path) -> None:
    make(tmp_path, "sub-1/anat/sub-1_T1w.nii", "derivatives/sub-1/sub-1_seg.nii", "sub-2/func/sub-2_task-rest_bold.nii")
    make(tmp_path, "sub-2/fmap/magnitude.nii", "derivatives/fmriprep/sub-3/anat/sub-3_label-GM_probseg.nii.gz")
    make(tmp_path, "sourcedata/sub-4/anat/T1.nii.gz")
    found = find(tmp_path)
    assert [case.case for case in found.cases] == ["sub-1"]
    assert not found.findings


def test_a_mask_that_lost_its_session_is_an_error_and_never_paired_by_chance(tmp_path: Path) -> None:
    make(tmp_path, "sub-1_ses-1_T1w.nii", "sub-1_ses-2_T1w.nii", "derivatives/sub-1_seg.nii")
    found = find(tmp_path)
    assert ("MISSING_IMAGE", "sub-1") in [(finding.code, finding.case) for finding in found.findings]
    assert all(not (case.masks and any(case.images.values())) for case in found.cases)


def test_a_folder_of_dicom_files_is_sent_to_dcm2niix(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="dcm2niix"):
        find(make(tmp_path, "sub-01/scan1/IM0001.dcm"))


def test_the_source_is_only_read(tmp_path: Path) -> None:
    make(tmp_path, *TREES["BIDS"])
    before = walk(tmp_path)
    folders = [path for path in (tmp_path, *tmp_path.rglob("*")) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert not find(tmp_path).findings
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert walk(tmp_path) == before


@given(st.sampled_from(["t1", "T1", "t1W", "T1w", "flair", "FLAIR", "Flair", "dwi", "swi", "ct"]))
def test_spellings_of_an_image_have_one_name(text: str) -> None:
    assert image_name(image_name(text)) == image_name(text) != ""
    assert image_name(text.upper()) == image_name(text.lower())


ENTITIES = st.dictionaries(st.sampled_from(["run", "desc", "space"]), st.sampled_from(["1", "2", "orig"]))


@given(st.lists(ENTITIES, max_size=6), ENTITIES)
def test_choosing_keeps_order_adds_nothing_and_takes_no_file_with_another_value_beside_a_right_one(
    names: list[dict[str, str]], wanted: dict[str, str]
) -> None:
    files = [NamedFile(PurePosixPath(str(i)), BidsName(name, "T1w", ".nii"), "T1w") for i, name in enumerate(names)]
    chosen = choose(files, wanted, files)
    assert [file for file in files if file in chosen] == chosen
    for key, value in wanted.items():
        if any(file.value(key) == value for file in chosen):
            assert all(file.value(key) == value for file in chosen)
    assert choose(chosen, wanted, files) == chosen


def test_a_folder_without_cases_lists_all_that_was_found(tmp_path: Path) -> None:
    masks = [f"sub-{number}/sub-{number}_label-lesion_mask.nii.gz" for number in range(10, 16)]
    with pytest.raises(ConversionError) as caught:
        find(make(tmp_path, *masks, "README"))
    assert caught.value.findings[0].files == tuple(("found", mask) for mask in masks)


def test_a_case_that_is_left_out_for_an_image_has_the_files_that_may_be_it_in_the_reason(tmp_path: Path) -> None:
    make(tmp_path, *TREES["BIDS"], *(path.replace("01", "02") for path in TREES["BIDS"]))
    flair = tmp_path / TREES["BIDS"][1]
    flair.rename(flair.with_name("sub-01_FLAIR.mgz"))
    (left_out,) = select(find(tmp_path), (), ()).exclusions
    assert left_out.reason == "no FLAIR; without use: rawdata/sub-01/anat/sub-01_FLAIR.mgz"


def test_a_word_for_lesions_that_no_name_has_is_said(tmp_path: Path) -> None:
    make(tmp_path, "sub-1_T1w.nii.gz", "sub-1_label-lesion_mask.nii.gz", "sub-2_T1w.nii.gz", "sub-2_tumour_mask.nii.gz")
    assert codes(find(tmp_path, lesion_names=["Tumour"])) == []
    found = find(tmp_path, lesion_names=["tumour", "tumuor"])
    assert codes(found) == ["UNKNOWN_WORD"]
    assert "no file has tumuor in" in found.findings[0].problem


def test_images_with_hidden_names_are_told_and_not_taken(tmp_path: Path) -> None:
    make(tmp_path, "sub-1_T1w.nii", "sub-1_seg.nii", "sub-2/.sub-2_T1w.nii.gz", "sub-2/._sub-2_T1w.nii.gz", ".x")
    found = find(tmp_path)
    assert [case.case for case in found.cases] == ["sub-1"]
    (hidden,) = found.findings
    assert (hidden.code, hidden.severity) == ("HIDDEN_FILES", "warning")
    assert hidden.files == (("not used", "sub-2/.sub-2_T1w.nii.gz"),)
