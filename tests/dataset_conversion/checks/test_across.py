"""One file, or the same voxels, for two images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.atlas_tree import lesion, save, voxels
from helpers.conversion import convert

from dataset_conversion.errors import ConversionError
from dataset_conversion.job import Conversion
from dataset_conversion.layouts import table
from dataset_conversion.tables.case_table import Case, write
from nnunet_transformers.common.problems import Finding


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "étude"
    for number in (1, 2, 3):
        save(folder / f"t{number}.nii.gz", voxels(f"t{number}"))
        save(folder / f"f{number}.nii.gz", voxels(f"f{number}"))
        save(folder / f"m{number}.nii.gz", lesion(f"m{number}"))
    return folder


def case(name: str, t1w: str, flair: str, mask: str, **more: str) -> Case:
    return Case(name, images={"T1w": f"{t1w}.nii.gz", "FLAIR": f"{flair}.nii.gz"}, masks=(f"{mask}.nii.gz",), **more)


SOUND = case("AVC1", "t1", "f1", "m1", subject="AVC1")


def converted(source: Path, raw: Path, *cases: Case, **options: object) -> Conversion:
    write(cases, source / "cases.tsv")
    found = table.layout(source / "cases.tsv")
    return convert(source, layout=found, dataset_id=1, raw_folder=raw, pictures=False, **options)  # type: ignore[arg-type]


def refused(source: Path, raw: Path, *cases: Case, **options: object) -> tuple[Finding, ...]:
    with pytest.raises(ConversionError) as caught:
        converted(source, raw, *cases, **options)
    assert not list(raw.iterdir())
    return caught.value.findings


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize(
    ("t1w", "flair", "mask", "roles"),
    [
        ("t2", "t2", "m2", "T1w and FLAIR"),
        ("t2", "../étude/t2", "m2", "T1w and FLAIR"),
        ("m2", "f2", "m2", "T1w and mask"),
    ],
)
def test_one_file_for_two_images_of_a_case_or_for_its_mask_is_an_error(
    source: Path, raw: Path, t1w: str, flair: str, mask: str, roles: str, quick: bool
) -> None:
    findings = refused(source, raw, SOUND, case("AVC2", t1w, flair, mask, subject="AVC2"), quick=quick)
    assert ("SAME_FILE", "AVC2", f"{roles} are one file") in [(each.code, each.case, each.problem) for each in findings]


def test_a_t1_that_was_copied_as_flair_is_an_error_unless_allowed(source: Path, raw: Path) -> None:
    save(source / "copy.nii.gz", voxels("t2").astype(np.float64))
    cases = (SOUND, case("AVC2", "t2", "copy", "m2", subject="AVC2"))
    (finding,) = refused(source, raw, *cases)
    assert finding.code == "DUPLICATE_VOXELS"
    assert finding.problem == "AVC2: the same T1w and FLAIR voxels under 2 names"
    assert "DUPLICATE_VOXELS" in [each.code for each in converted(source, raw, *cases, allow=[finding.code]).warnings]


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize(("t1w", "mask", "role"), [("t1", "m2", "T1w"), ("t2", "m1", "mask")])
def test_one_file_for_two_subjects_is_an_error(
    source: Path, raw: Path, t1w: str, mask: str, role: str, quick: bool
) -> None:
    (finding,) = refused(source, raw, SOUND, case("AVC2", t1w, "f2", mask, subject="AVC2"), quick=quick)
    assert finding.code == "DUPLICATE_VOXELS"
    assert finding.problem == f"AVC1, AVC2: the same {role} voxels under 2 names"


@pytest.mark.parametrize("quick", [False, True])
def test_a_mask_for_two_sessions_of_a_subject_is_a_warning(source: Path, raw: Path, quick: bool) -> None:
    second = case("AVC1_ses-2", "t2", "f2", "m1", subject="AVC1")
    warnings = converted(source, raw, SOUND, second, quick=quick).warnings
    assert [each.problem for each in warnings if each.code == "DUPLICATE_VOXELS"] == [
        "AVC1, AVC1_ses-2: the same mask voxels under 2 names"
    ]


@pytest.mark.parametrize("quick", [False, True])
def test_equal_masks_of_two_subjects_are_an_error_unless_allowed(source: Path, raw: Path, quick: bool) -> None:
    save(source / "copy.nii.gz", lesion("m1").astype(np.float32))
    cases = (SOUND, case("AVC2", "t2", "f2", "copy", subject="AVC2"))
    (finding,) = refused(source, raw, *cases, quick=quick)
    assert (finding.code, finding.problem) == ("DUPLICATE_VOXELS", "AVC1, AVC2: the same mask voxels under 2 names")
    assert "--allow DUPLICATE_VOXELS" in finding.remedy
    assert converted(source, raw, *cases, quick=quick, allow=[finding.code]).n_training == 2


def test_equal_masks_of_several_parts_are_found_as_those_of_one(source: Path, raw: Path) -> None:
    mask, half = lesion("m1"), np.zeros_like(lesion("m1"))
    half[:, :, :9] = mask[:, :, :9]
    save(source / "a.nii.gz", half)
    save(source / "b.nii.gz", mask - half)
    parts = Case("AVC2", "AVC2", images={"T1w": "t2.nii.gz", "FLAIR": "f2.nii.gz"}, masks=("a.nii.gz", "b.nii.gz"))
    (finding,) = refused(source, raw, SOUND, parts)
    assert finding.problem == "AVC1, AVC2: the same mask voxels under 2 names"


def test_masks_of_a_few_voxels_may_be_equal(source: Path, raw: Path) -> None:
    mask = np.zeros_like(lesion("m1"))
    mask[4:6, 4:6, 8:10] = 1
    for number in (1, 2):
        save(source / f"small{number}.nii.gz", mask)
    cases = (case(f"AVC{n}", f"t{n}", f"f{n}", f"small{n}", subject=f"AVC{n}") for n in (1, 2))
    assert "DUPLICATE_VOXELS" in [each.code for each in converted(source, raw, *cases).warnings]


NORMALISED = {
    "z-scores": lambda voxels: (voxels - voxels.mean()) / voxels.std(),
    "256 grey levels": lambda voxels: np.round((voxels - voxels.min()) / np.ptp(voxels) * 255).astype(np.uint8),
    "inverted": lambda voxels: 1000 - voxels,
    "millionths": lambda voxels: voxels * 1e-6,
}


@pytest.mark.parametrize("how", NORMALISED)
def test_an_image_that_was_normalised_under_another_name_is_an_error_unless_allowed(
    source: Path, raw: Path, how: str
) -> None:
    save(source / "copy.nii.gz", NORMALISED[how](voxels("t1").astype(np.float64)))
    cases = (SOUND, case("AVC2", "copy", "f2", "m2", subject="AVC2"))
    (finding,) = refused(source, raw, *cases)
    assert (finding.code, finding.problem) == (
        "DUPLICATE_VOXELS",
        "AVC1, AVC2: the same T1w voxels up to scale and shift",
    )
    assert [path for _, path in finding.files] == ["t1.nii.gz", "copy.nii.gz"]
    assert converted(source, raw, *cases, allow=[finding.code]).n_training == 2


def test_two_scans_of_one_head_with_other_noise_are_no_duplicates(source: Path, raw: Path) -> None:
    head, noise = voxels("t1").astype(np.float64), voxels("noise")
    save(source / "again.nii.gz", head + 0.03 * noise)
    done = converted(source, raw, SOUND, case("AVC2", "again", "f2", "m2", subject="AVC2"))
    assert "DUPLICATE_VOXELS" not in [each.code for each in done.warnings]


def test_a_t1_that_was_copied_as_flair_with_other_values_is_an_error_unless_allowed(source: Path, raw: Path) -> None:
    save(source / "copy.nii.gz", voxels("t2") * 2 + 1)
    cases = (SOUND, case("AVC2", "t2", "copy", "m2", subject="AVC2"))
    (finding,) = refused(source, raw, *cases)
    assert (finding.code, finding.problem) == (
        "DUPLICATE_VOXELS",
        "AVC2: the same T1w and FLAIR voxels up to scale and shift",
    )
    assert converted(source, raw, *cases, allow=[finding.code]).n_training == 2


def test_one_scan_with_other_values_in_two_sessions_is_a_warning(source: Path, raw: Path) -> None:
    save(source / "copy.nii.gz", voxels("t1") * 2 + 1)
    done = converted(source, raw, SOUND, case("AVC1_2", "copy", "f2", "m2", subject="AVC1"))
    assert "AVC1, AVC1_2: the same T1w voxels up to scale and shift" in [each.problem for each in done.warnings]
