"""Which masks a BIDS folder is trained on, and what the account says of the others."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.atlas_tree import lesion, save, voxels
from helpers.conversion import convert
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from dataset_conversion.errors import ConversionError
from dataset_conversion.job import Conversion
from dataset_conversion.layouts.yaml_file import read_layout
from dataset_conversion.merge import merge
from dataset_conversion.options import Target


def bids(root: Path, masks: dict[str, str]) -> Path:
    """A BIDS folder with one image per subject, and a mask where one is named."""
    for subject, mask in masks.items():
        save(root / f"sub-{subject}/anat/sub-{subject}_T1w.nii.gz", voxels(subject))
        if mask:
            save(root / f"derivatives/x/sub-{subject}/anat/sub-{subject}_{mask}.nii.gz", lesion(subject))
    return root


def test_masks_of_something_else_are_never_trained_on_and_the_account_names_them(tmp_path: Path, raw: Path) -> None:
    masks = {"1": "label-thalamus_roi", **dict.fromkeys("23", "label-lesion_mask")}
    done = convert(bids(tmp_path / "study", masks), "bids")
    assert (done.n_training, done.n_test) == (2, 1)
    assert not (done.folder / "labelsTs").exists()
    account = next(line for line in str(done).splitlines() if "UNLABELLED" in line)
    assert "sub-1_label-thalamus_roi.nii.gz" in account
    assert "--lesion-names thalamus" in account


def test_where_no_training_case_is_left_the_masks_that_are_not_used_are_listed(tmp_path: Path, raw: Path) -> None:
    source = bids(tmp_path / "study", dict.fromkeys("123", "hemi-L_label-V1d_desc-wang_mask"))
    with pytest.raises(ConversionError, match="NO_TRAINING_CASES") as error:
        convert(source, "bids")
    for subject in "123":
        assert f"sub-{subject}_hemi-L_label-V1d_desc-wang_mask.nii.gz" in str(error.value)
    assert "--lesion-names V1d" in str(error.value)


def test_the_first_line_of_the_account_says_that_masks_are_taken_though_no_name_says_lesion(
    tmp_path: Path, raw: Path
) -> None:
    done = convert(bids(tmp_path / "study", dict.fromkeys("123", "FLAIR_roi")), "bids")
    assert done.n_training == 3
    first, *rest = str(done).splitlines()
    assert "PRESUMED_MASK" in first
    assert "sub-1_FLAIR_roi.nii.gz" in first
    assert "PRESUMED_MASK" not in "".join(rest)
    assert "PRESUMED_MASK" in (done.folder / "conversion_report.json").read_text()


def labelled(root: Path) -> Path:
    """Masks with 1 for the core, 2 for its rim and 3 for the ventricles."""
    for subject in "123":
        mask = lesion(subject).astype(np.int16)
        mask[2:4] *= 2
        mask[8:11, 5:9, 3:6] = 3
        save(root / f"sub-{subject}/sub-{subject}_T1w.nii.gz", voxels(subject))
        save(root / f"sub-{subject}/sub-{subject}_label-lesion_mask.nii.gz", mask)
    return root


def label(done: Conversion, subject: str) -> np.ndarray:
    return np.asarray(nib.load(done.folder / f"labelsTr/sub-{subject}.nii.gz").dataobj)


@pytest.mark.parametrize("labels", [("1", "2"), ("1,2",), ("2", "1,")])
def test_the_labels_that_are_lesion_are_chosen_and_the_report_says_how_much_of_the_mask_they_are(
    tmp_path: Path, raw: Path, labels: tuple[str, ...]
) -> None:
    source = labelled(tmp_path / "study")
    with pytest.raises(ConversionError, match="MASK_VALUES") as error:
        convert(source, "bids")
    assert "--mask-labels" in str(error.value)
    assert "--allow" not in str(error.value)  # which would take all of them
    done = convert(source, "bids", labels=labels)
    for subject in "123":
        assert np.array_equal(label(done, subject), lesion(subject))
    said = [each.problem for each in done.warnings if each.code == "MASK_CHOSEN"]
    ml, all_ml = lesion("1").sum() / 1000, (lesion("1").sum() + 36) / 1000
    assert f"{ml:.4g} ml, of {all_ml:.4g} ml that are not 0" in said[0]
    assert '"masks"' in (done.folder / "conversion_report.json").read_text()


def test_a_threshold_makes_lesions_of_probabilities(tmp_path: Path, raw: Path) -> None:
    for subject in "123":
        probabilities = np.random.default_rng(int(subject)).random(lesion(subject).shape).astype(np.float32) * 0.4
        save(tmp_path / f"study/sub-{subject}_T1w.nii.gz", voxels(subject))
        path = tmp_path / f"study/sub-{subject}_label-lesion_probseg.nii.gz"
        save(path, np.where(lesion(subject) > 0, 0.5, probabilities).astype(np.float32))
    with pytest.raises(ConversionError, match="--mask-threshold"):
        convert(tmp_path / "study", "bids")
    done = convert(tmp_path / "study", "bids", threshold=0.5)
    assert all(np.array_equal(label(done, subject), lesion(subject)) for subject in "123")


def test_a_layout_file_says_the_labels_and_the_command_line_says_them_before_it(tmp_path: Path, raw: Path) -> None:
    source = labelled(tmp_path / "study")
    expressions = "images:\n  T1w: '.*/sub-(?P<subject>\\d)_T1w.*'\nmask: '.*/sub-(?P<subject>\\d)_label.*'\n"
    (tmp_path / "k.yaml").write_text(expressions + "mask_labels: [1, 2]\n")
    layout = read_layout(tmp_path / "k.yaml")
    assert np.array_equal(label(convert(source, layout), "1"), lesion("1"))
    done = convert(source, layout, dataset_id=202, labels=("3",))
    assert label(done, "1").sum() == 36
    for wrong in ("mask_labels: [core]\n", "mask_threshold: half\n", "mask_labels: 1\nmask_threshold: 0.5\n"):
        (tmp_path / "k.yaml").write_text(expressions + wrong)
        with pytest.raises(ConversionError, match="LAYOUT_FIELD"):
            read_layout(tmp_path / "k.yaml")


def test_masks_of_0_and_1_stay_as_they_are_whatever_labels_are_chosen(tmp_path: Path, raw: Path) -> None:
    source = bids(tmp_path / "study", dict.fromkeys("123", "label-lesion_mask"))
    plain, chosen = convert(source, "bids"), convert(source, "bids", dataset_id=202, labels=("1",))
    assert [each for each in chosen.warnings if each not in plain.warnings] == []
    assert chosen.unchanged_files == plain.unchanged_files


@pytest.mark.parametrize("options", [{"labels": ("core",)}, {"labels": ("0",)}, {"labels": ("1",), "threshold": 0.5}])
def test_what_says_no_label_is_refused(tmp_path: Path, raw: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConversionError, match="BAD_OPTION"):
        convert(bids(tmp_path / "study", {"1": "label-lesion_mask"}), "bids", **options)


REGIONS = ("lesion=1,2,3", "rim=2 3", "core=3")


def test_labels_are_kept_as_regions_each_inside_the_one_before(tmp_path: Path, raw: Path) -> None:
    source = labelled(tmp_path / "study")
    done = convert(source, "bids", regions=("lesion=2,1,3", "rim=1,3", "core=3"))
    for subject in "123":
        values = np.asarray(nib.load(source / f"sub-{subject}/sub-{subject}_label-lesion_mask.nii.gz").dataobj)
        assert np.array_equal(label(done, subject), np.choose(values, [0, 2, 1, 3]))
    dataset = json.loads((done.folder / "dataset.json").read_text())
    assert dataset["labels"] == {"background": 0, "lesion": [1, 2, 3], "rim": [2, 3], "core": 3}
    assert dataset["regions_class_order"] == [1, 2, 3]
    labels = LabelManager(dataset["labels"], dataset["regions_class_order"])
    assert labels.has_regions
    probabilities = np.zeros((3, 2, 2, 2), np.float32)
    probabilities[:2] = 0.9  # inside lesion and rim, outside core
    assert (np.asarray(labels.convert_probabilities_to_segmentation(probabilities)) == 2).all()


def test_labels_of_no_region_are_background_and_several_labels_of_one_are_one(tmp_path: Path, raw: Path) -> None:
    done = convert(labelled(tmp_path / "study"), "bids", regions=("lesion=1,2",))
    assert np.array_equal(label(done, "1"), lesion("1"))
    assert json.loads((done.folder / "dataset.json").read_text())["labels"] == {"background": 0, "lesion": 1}
    assert "MASK_CHOSEN" in {each.code for each in done.warnings}


def test_regions_are_said_by_a_layout_file_and_follow_images_to_other_grids(tmp_path: Path, raw: Path) -> None:
    source = labelled(tmp_path / "study")
    for subject in "123":
        image = nib.load(source / f"sub-{subject}/sub-{subject}_T1w.nii.gz")
        save(source / f"sub-{subject}/sub-{subject}_FLAIR.nii.gz", np.asarray(image.dataobj)[1:], image.affine)
    expressions = "".join(f"  {name}: '.*/sub-(?P<subject>\\d)_{name}.*'\n" for name in ("FLAIR", "T1w"))
    expressions = f"images:\n{expressions}mask: '.*/sub-(?P<subject>\\d)_label.*'\n"
    (tmp_path / "k.yaml").write_text(expressions + "mask_regions: {lesion: [1, 2, 3], core: [3]}\n")
    layout = read_layout(tmp_path / "k.yaml")
    done = convert(source, layout, reference="FLAIR", align="resample", resample_mask=True)
    assert np.unique(label(done, "1")).tolist() == [0, 1, 2]
    assert (label(done, "1") == 2).sum() == 36
    for wrong in ("{lesion: [core]}", "[1, 2]", "{lesion: [1, 2]}\nmask_labels: 1"):
        (tmp_path / "k.yaml").write_text(f"{expressions}mask_regions: {wrong}\n")
        with pytest.raises(ConversionError, match="LAYOUT_FIELD"):
            read_layout(tmp_path / "k.yaml")


def test_datasets_with_regions_are_merged_where_the_regions_are_the_same(tmp_path: Path, raw: Path) -> None:
    first = labelled(tmp_path / "study")
    second = tmp_path / "other"
    for subject in ("4", "5"):
        save(second / f"sub-{subject}/sub-{subject}_T1w.nii.gz", voxels(subject))
        save(second / f"sub-{subject}/sub-{subject}_label-lesion_mask.nii.gz", lesion(subject).astype(np.int16) * 3)
    convert(first, "bids", regions=REGIONS)
    convert(second, "bids", dataset_id=202, regions=REGIONS)
    convert(second, "bids", dataset_id=203)
    done = merge(201, 202, Target(210))
    assert json.loads((done.folder / "dataset.json").read_text())["labels"]["rim"] == [2, 3]
    assert np.unique(label(done, "1")).tolist() == [0, 1, 2, 3]
    assert np.unique(label(done, "4")).tolist() == [0, 3]
    with pytest.raises(ConversionError, match="LABELS_DIFFER"):
        merge(201, 203, Target(211))


@pytest.mark.parametrize(
    "regions",
    [
        *(("lesion=1,2", "core=3"), ("lesion=1", "core=1"), ("core=1", "lesion=1,2"), ("lesion",), ("lesion=0,1",)),
        *(("lesion=1,2", "lesion=1"), ("background=1,2", "core=1"), ("=1,2",), ("lesion=one",)),
    ],
)
def test_what_says_no_regions_is_refused(tmp_path: Path, raw: Path, regions: tuple[str, ...]) -> None:
    with pytest.raises(ConversionError, match="BAD_OPTION"):
        convert(bids(tmp_path / "study", {"1": "label-lesion_mask"}), "bids", regions=regions)


def test_the_account_lists_twenty_files_and_the_report_all(tmp_path: Path, raw: Path) -> None:
    source = bids(tmp_path / "study", dict.fromkeys("123", "label-lesion_mask"))
    names = [f"derivatives/sub-1/anat/growth {number:02}.nii.gz" for number in range(30)]
    for name in names:
        save(source / name, lesion("1"))
    done = convert(source, "bids")
    account = str(done)
    assert [name in account for name in names] == [True] * 20 + [False] * 10
    assert "… and 10 more (see conversion_report.json)" in account
    report = json.loads((done.folder / "conversion_report.json").read_text())
    (warning,) = [each for each in report["warnings"] if each["code"] == "NAME_NOT_BIDS"]
    assert [path for _, path in warning["files"]] == names
