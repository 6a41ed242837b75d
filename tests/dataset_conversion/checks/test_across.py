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
