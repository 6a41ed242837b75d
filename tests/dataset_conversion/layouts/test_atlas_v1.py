from __future__ import annotations

from pathlib import Path

import pytest

from dataset_conversion.errors import ConversionError
from dataset_conversion.layouts import Scan
from dataset_conversion.layouts.atlas_v1 import LAYOUT


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def indi(root: Path, site: str, subject: str, session: str, n_masks: int = 1) -> Path:
    folder = f"{site}/{subject}/{session}/{subject}"
    masks = [f"{folder}_LesionSmooth{f'_{i}' if i else ''}_stx.nii.gz" for i in range(n_masks)]
    return put(root, f"{folder}_t1w_deface_stx.nii.gz", *masks)


def codes(found: Scan) -> list[str]:
    return [finding.code for finding in found.findings]


def test_indi_cases_are_found_with_site_session_and_every_mask(tmp_path: Path) -> None:
    indi(tmp_path, "Site1", "031768", "t01", n_masks=3)
    indi(tmp_path, "Site9", "003200", "t01")
    found = LAYOUT.find(tmp_path)
    assert not found.findings
    rows = [(case.case, case.subject, case.session, case.site, case.split) for case in found.cases]
    assert rows == [
        ("sub-003200_ses-t01", "sub-003200", "t01", "Site9", "train"),
        ("sub-031768_ses-t01", "sub-031768", "t01", "Site1", "train"),
    ]
    folder = "Site1/031768/t01/031768_"
    assert found.cases[1].images == {"T1w": folder + "t1w_deface_stx.nii.gz"}
    assert set(found.cases[1].masks) == {
        folder + name for name in ("LesionSmooth_stx.nii.gz", "LesionSmooth_1_stx.nii.gz", "LesionSmooth_2_stx.nii.gz")
    }


@pytest.mark.parametrize("ending", [".nrrd", ".seg.nrrd", ".mha"])
def test_masks_in_other_forms_are_taken_where_there_is_none_as_nifti(tmp_path: Path, ending: str) -> None:
    indi(tmp_path, "Site1", "031768", "t01", n_masks=0)
    put(tmp_path, f"Site1/031768/t01/031768_LesionSmooth_stx{ending}")
    indi(tmp_path, "Site1", "031769", "t01", n_masks=1)
    put(tmp_path, f"Site1/031769/t01/031769_LesionSmooth_stx{ending}")
    found = LAYOUT.find(tmp_path)
    assert not found.findings
    folder = "Site1/031768/t01/031768_LesionSmooth_stx"
    assert [case.masks for case in found.cases] == [
        (folder + ending,),
        (folder.replace("031768", "031769") + ".nii.gz",),
    ]


def test_masks_of_one_time_point_stay_with_the_image_of_that_time_point(tmp_path: Path) -> None:
    indi(tmp_path, "Site1", "031768", "t01", n_masks=2)
    indi(tmp_path, "Site1", "031768", "t02", n_masks=1)
    put(tmp_path, *(f"c0003s0002{t}_{end}_stx.nii.gz" for t in ("t01", "t02") for end in ("t1w", "LesionSmooth")))
    found = LAYOUT.find(tmp_path)
    assert not found.findings
    assert [(case.subject, case.session, len(case.masks)) for case in found.cases] == [
        ("sub-031768", "t01", 2),
        ("sub-031768", "t02", 1),
        ("sub-c0003s0002", "t01", 1),
        ("sub-c0003s0002", "t02", 1),
    ]
    for case in found.cases:
        assert all(case.session in path for path in (*case.images.values(), *case.masks))


@pytest.mark.parametrize(
    "folder", ["", "c0003/c0003s0002t01/", "native part 2/c0003/c0003s0002t01/", "ATLAS/c0003/t01/"]
)
@pytest.mark.parametrize("ending", ["_stx.nii.gz", ".nii.gz", ".nii"])
def test_icpsr_cases_are_found_in_whatever_folder(tmp_path: Path, folder: str, ending: str) -> None:
    put(tmp_path, f"{folder}c0003s0002t01_t1w{ending}", f"{folder}c0003s0002t01_LesionSmooth{ending}")
    found = LAYOUT.find(tmp_path)
    assert not found.findings
    (case,) = found.cases
    assert (case.case, case.site) == ("sub-c0003s0002_ses-t01", "c0003")
    assert len(case.masks) == 1


@pytest.mark.parametrize(
    ("source", "site"),
    [(".", "Site2"), ("ATLAS_R1.1", "Site2"), ("ATLAS_R1.1/Site2", "Site2"), ("ATLAS_R1.1/Site2/031768", "")],
)
def test_the_source_may_be_any_folder_on_the_way(tmp_path: Path, source: str, site: str) -> None:
    indi(tmp_path / "ATLAS_R1.1", "Site2", "031768", "t02")
    found = LAYOUT.find(tmp_path / source)
    assert not found.findings
    assert [(case.case, case.site) for case in found.cases] == [("sub-031768_ses-t02", site)]


def test_an_image_without_mask_is_an_error_and_not_a_test_case(tmp_path: Path) -> None:
    indi(tmp_path, "Site1", "031768", "t01", n_masks=0)
    found = LAYOUT.find(indi(tmp_path, "Site1", "031769", "t01"))
    assert codes(found) == ["MISSING_MASK"]
    assert {case.split for case in found.cases} == {"train"}


def test_native_and_mni_files_of_one_scan_are_not_mixed(tmp_path: Path) -> None:
    put(
        tmp_path,
        *(
            f"{end[1:4]}/c0003s0002t01_{role}{end}"
            for role in ("t1w", "LesionSmooth")
            for end in (".nii.gz", "_stx.nii.gz")
        ),
    )
    found = LAYOUT.find(tmp_path)
    assert codes(found) == ["AMBIGUOUS_IMAGE"]
    assert found.cases[0].images == {"T1w": ""}


@pytest.mark.parametrize("ending", [".nii.gz", "_stx.nii.gz"])
def test_a_mask_in_another_space_than_the_image_is_not_united_with_its_own(tmp_path: Path, ending: str) -> None:
    masks = ("c0003s0002t01_LesionSmooth.nii.gz", "c0003s0002t01_LesionSmooth_stx.nii.gz")
    put(tmp_path, f"c0003s0002t01_t1w{ending}", *masks)
    found = LAYOUT.find(tmp_path)
    assert found.cases[0].masks == (f"c0003s0002t01_LesionSmooth{ending}",)
    assert [(finding.code, finding.severity) for finding in found.findings] == [("PAIR_MISMATCH", "warning")]
    (tmp_path / f"c0003s0002t01_LesionSmooth{ending}").unlink()
    assert [(finding.code, finding.severity) for finding in LAYOUT.find(tmp_path).findings] == [
        ("PAIR_MISMATCH", "error")
    ]


def test_a_folder_without_such_files_is_an_error_that_says_what_is_expected(tmp_path: Path) -> None:
    put(tmp_path, "Training/R001/sub-r001s001_ses-1_T1w.nii.gz")
    with pytest.raises(ConversionError, match=r"031768_t1w_deface_stx") as caught:
        LAYOUT.find(tmp_path)
    assert caught.value.findings[0].code == "NO_CASES"
    assert "(?P<" not in str(caught.value)
