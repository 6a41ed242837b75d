from __future__ import annotations

import pytest

from dataset_conversion.entities import parse


def test_entities_suffix_and_extension_of_a_mask_name() -> None:
    name = parse("sub-r001s001_ses-1_space-MNI152NLin2009aSym_label-L_desc-T1lesion_mask.nii.gz")
    assert name is not None
    assert name.entities == {
        "sub": "r001s001",
        "ses": "1",
        "space": "MNI152NLin2009aSym",
        "label": "L",
        "desc": "T1lesion",
    }
    assert (name.suffix, name.extension, name.is_nifti) == ("mask", ".nii.gz", True)


@pytest.mark.parametrize(
    "name",
    ["MNI152NLin2009aSym.nii.gz", "sub-r001s001.nii.gz", "T1w.nii", "sub-r001s001_ses-1_T1w (1).nii.gz", "", "_"],
)
def test_a_name_that_is_not_entities_and_a_suffix_is_none(name: str) -> None:
    assert parse(name) is None


def test_only_nii_and_nii_gz_are_nifti_in_any_case() -> None:
    extensions = {".nii": True, ".NII.GZ": True, ".mgz": False, ".nii.gz.part": False, ".json": False}
    for extension, expected in extensions.items():
        name = parse(f"sub-a_T1w{extension}")
        assert name is not None
        assert name.is_nifti is expected
