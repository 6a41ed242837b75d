"""Which masks a BIDS folder is trained on, and what the account says of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.atlas_tree import lesion, save, voxels
from helpers.conversion import convert

from dataset_conversion.errors import ConversionError


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
