"""scan --write: the proposed layout file, read again, finds the cases that were planted."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Iterable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.atlas_tree import RAS
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dataset_conversion.errors import ConversionError
from dataset_conversion.layouts.yaml_file import read_layout
from dataset_conversion.proposal.expressions import Proposal, propose
from dataset_conversion.proposal.roles import BARE_MASK, OTHER, name_files
from dataset_conversion.proposal.writing import Written, write_layout
from nnunet_transformers.cli import main

ROLES = ("T1", "FLAIR", "lesion")


def put(source: Path, *names: str) -> Path:
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    return source


def each(template: str, **values: Iterable[object]) -> list[str]:
    """The template with every combination of values, and with `{role}` a T1, a FLAIR and a lesion."""
    names = [template]
    for key, those in {"role": ROLES, **values}.items():
        names = [name.replace(f"{{{key}}}", str(value)) for name in names for value in those]
    return list(dict.fromkeys(names))


def written(source: Path) -> Written:
    return write_layout(source, source.parent / "layout.yaml")


def cases(source: Path) -> list[str]:
    """Names of the cases that the written file finds, all of them with both images and a mask."""
    found = written(source).found
    assert not [finding for finding in found.findings if finding.severity == "error"]
    assert all(case.masks and len(case.images) == 2 and all(case.images.values()) for case in found.cases)
    return [case.case for case in found.cases]


def proposed(names: Sequence[str]) -> Proposal:
    found = propose(name_files(names))
    assert found
    return found


def refused(source: Path) -> ConversionError:
    with pytest.raises(ConversionError) as caught:
        written(source)
    assert not (source.parent / "layout.yaml").exists()
    return caught.value


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "étude AVC"


@pytest.mark.parametrize(
    ("name", "role"),
    [
        *((name, "T1w") for name in ("IRM_T1_3D", "3DT1", "T13D", "0003_T1_MPRAGE_SAG", "EG3D", "AX_SPGR", "BRAVO")),
        *((name, "T1w") for name in ("sag_FSPGR", "T1_FLAIR_sag", "AVC012_T1", "Stroke_4_t1w", "T1_in_T2")),
        *((name, "FLAIR") for name in ("FLAIR_3D_s009", "t2_flair", "FLAIR_T1space", "3DFLAIR", "T2_space_dark-fluid")),
        *((name, role) for name, role in (("T2_AX", "T2w"), ("DIFF_b1000", "DWI"), ("DWI_ADC", "ADC"), ("CT", "CT"))),
        *((name, role) for name, role in (("SWI", "SWI"), ("T2_EG", "T2starw"), ("T1_gado", "T1ce"))),
        *((name, "mask") for name in ("ROI_lesion-T1", "Lésion", "lesion_chronique", "infarctus", "masque_AVC", "AVC")),
        *((name, BARE_MASK) for name in ("mask", "012_ROI_aigu", "masque_final", "T1_mask")),
        *((name, OTHER) for name in ("ep2d_bold_s004", "brain_mask", "T1_brain_mask", "ROI_sain", "masque_LCR_csf")),
        *((name, OTHER) for name in ("sans_lésion", "perilesion_mask", "thalamus_roi", "localizer", "T1_lesionfilled")),
        *((name, "") for name in ("brain", "0012", "image", "T123", "effect")),
    ],
)
def test_a_name_says_what_its_image_is(name: str, role: str) -> None:
    (file,) = name_files([f"0012/{name}.nii.gz"])
    assert file.role == role


def test_a_folder_of_masks_says_more_than_the_image_they_were_drawn_on() -> None:
    names = each("{role}/0012_T1.nii", role=("images", "masques", "Lesions FLAIR"))
    assert [file.role for file in name_files(names)] == ["T1w", BARE_MASK, "mask"]


def test_a_folder_of_a_patient_with_a_stroke_makes_no_mask_of_a_name_that_says_nothing() -> None:
    assert [file.role for file in name_files(["Stroke 12/brain.nii", "AVC_12/brain.nii", "12/3_T1_SAG/im.nii"])] == [
        *("", "", "T1w")
    ]


def test_a_folder_of_patients_with_lesions_is_no_folder_of_masks() -> None:
    names = each("{group}/{id}/{role}.nii", group=("lesions", "temoins"), id=("01", "02"))
    assert {file.name: file.role for file in name_files(names)} == {
        **{"T1.nii": "T1w", "FLAIR.nii": "FLAIR", "lesion.nii": "mask"}
    }


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        ("patients/{id}/M{m}/IRM_{role}_3D.nii.gz", {"id": ("0012", "0107"), "m": (3, 12)}, "0012_ses-M12"),
        ("P{id}_V{v}_{role}.nii.gz", {"id": ("01", "02", "03"), "v": (1, 2)}, "P01_ses-V1"),
        ("CHU_{site}/pat{id}/{role}.nii", {"site": ("Rennes", "Brest"), "id": ("03", "04")}, "CHU_Brest-pat03"),
        ("{site}/pat{id}/{role}.nii", {"site": ("Rennes",), "id": ("03", "04")}, "pat03"),
        ("{role}/{id}.nii.gz", {"id": ("001", "002")}, "001"),
        ("{id}/{id}_{role}.nii", {"id": ("DUPONT", "MARTIN", "Durand")}, "DUPONT"),
        ("{role}_P{id}.nii", {"id": ("01", "12")}, "P01"),
        ("V{v}/S{id}/{role}.nii", {"v": (1, 2), "id": ("01", "02", "03")}, "S01_ses-V1"),
        ("{id}/{day}/{role}.nii", {"id": (12, 7), "day": ("20230314", "20240109")}, "12_ses-20230314"),
        ("{id}/{day}/{role}.nii", {"id": (12, 7), "day": ("14-03-2023", "09-01-2024")}, "12_ses-09-01-2024"),
        ("pat{id}_{day}/{role}.nii", {"id": (12, 7), "day": ("2023_03_14", "2024_01_09")}, "pat12_ses-2023_03_14"),
        ("{id}/{m} mois/{role}.nii", {"id": ("012", "013"), "m": (3, 12)}, "012_ses-12"),
        ("AVC {id}/{role}.nii", {"id": ("012", "013")}, "012"),
        ("{id} É. (x+y) 5% d'été [b] {2}$^/{role} .+*?.nii", {"id": ("P.01", "P.02")}, "01"),
        ("{id}/M3/{n}_{role}_s{n}/IM-0001.nii.gz", {"id": ("0012", "0107"), "n": ("4",)}, "0012_ses-M3"),
        ("patients/DUPONT/{role}.nii", {}, "DUPONT"),
        ("DUPONT/{day}/{role}.nii", {"day": ("2023-03-14", "2024-01-09")}, "DUPONT_ses-2023-03-14"),
        ("PAT_S{id}/{role}.nii", {"id": (1, 2, 3)}, "PAT_S1"),
        ("0012/M3/{role}.nii.gz", {}, "0012_ses-M3"),
        ("{id}/{v}/{role}.nii", {"id": (1, 2, 3), "v": (1, 2)}, "1_ses-1"),
        ("CHU {site}/A{id}/J{j}/{role}.nii", {"site": ("X", "Y"), "id": (1, 2), "j": (7, 90)}, "X-A1_ses-J7"),
        ("{id} Marie/IRM {day}/{role}.nii", {"id": ("DUPONT", "LEE"), "day": ("12-03-2019",)}, "DUPONT_ses-12-03-2019"),
        ("P01_{role}.nii.gz", {}, "P01"),
        ("P{id}_V1_IRM_{role}_3D.nii.gz", {"id": ("01", "02")}, "P01_ses-V1"),
    ],
)
def test_the_file_finds_every_case_of_a_tree(
    source: Path, template: str, values: dict[str, Sequence[object]], expected: str
) -> None:
    count = int(np.prod([len(those) for those in values.values()]))
    found = cases(put(source, *each(template, **values)))
    assert len(found) == count
    assert found[0] == f"sub-{expected}"


def test_words_before_the_role_that_only_some_names_have_are_no_part_of_the_subject(source: Path) -> None:
    put(source, *each("P{id}_{role}.nii", id=("01", "02"), role=("brut_T1", "FLAIR", "lesion")))
    assert cases(source) == ["sub-P01", "sub-P02"]


def test_sites_are_told_by_a_folder_above_the_subjects(source: Path) -> None:
    put(source, *each("Rennes/{id}/{role}.nii", id=("S1", "S2")), *each("Brest/{id}/{role}.nii", id=("S3", "S4")))
    assert [case.site for case in written(source).found.cases] == ["Rennes", "Rennes", "Brest", "Brest"]


def test_folders_of_patients_and_controls_are_no_sites_and_training_and_test_are_parts(source: Path) -> None:
    put(source, *each("patients/{id}/{role}.nii", id=("01", "02")), *each("controles/{id}/{role}.nii", id=("03", "04")))
    assert {case.site for case in written(source).found.cases} == {""}
    other = put(source.parent / "b" / "c", *each("train/{id}/{role}.nii", id=("01", "02")))
    put(other, *each("test/{id}/{role}.nii", id=("03",)))
    assert [case.split for case in written(other).found.cases] == ["train", "train", "test"]


@pytest.mark.parametrize("mask", ["AVC{id}_lesion", "lesion_AVC{id}", "{id}", "lesion-{id}", "AVC{id}/roi"])
def test_masks_in_a_tree_of_their_own_find_their_images(source: Path, mask: str) -> None:
    ids = ("012", "013", "107")
    put(source, *each("images/AVC{id}/{role}.nii.gz", id=ids, role=("t1", "flair")))
    put(source, *each(f"masks/{mask}.nii.gz", id=ids))
    assert len(cases(source)) == 3


def test_names_of_people_behind_the_role_are_left_open(source: Path) -> None:
    people = ("DUPONT", "Le Goff", "MARTIN", "X", "Zoé")
    put(source, *(f"{i:02}/{role}_{who}.nii" for i, who in enumerate(people) for role in ROLES))
    assert len(cases(source)) == 5
    assert "'(?P<subject>\\d{2})/T1_[^/]*\\.nii'" in (source.parent / "layout.yaml").read_text()


def test_a_folder_of_other_things_is_no_subject(source: Path) -> None:
    put(source, *each("patients/{id}/{role}.nii", id=("01", "02")), "rebut/T1.nii")
    assert cases(source) == ["sub-01", "sub-02"]


def test_numbers_that_two_subjects_share_join_no_masks_to_images(source: Path) -> None:
    put(source, *each("images/{id}/{role}.nii", id=("A012", "B012", "A013"), role=("T1", "FLAIR")))
    put(source, *each("masks/{id}_lesion.nii", id=("012", "013")))
    found = written(source).found
    assert [case.case for case in found.cases if not case.masks] == ["sub-A012", "sub-A013", "sub-B012"]


def test_masks_one_folder_deeper_find_their_images(source: Path) -> None:
    put(source, *each("{id}/M{m}/{role}.nii", id=("01", "02"), m=(3, 6), role=("T1", "FLAIR", "seg/lesion")))
    assert len(cases(source)) == 4


def test_masks_without_a_visit_are_those_of_a_subject_with_one(source: Path) -> None:
    put(source, *each("images/{id}/M3/{role}.nii", id=("01", "02"), role=("T1", "FLAIR")))
    put(source, *each("masks/{id}_lesion.nii", id=("01", "02")))
    assert cases(source) == ["sub-01", "sub-02"]


def test_of_two_kinds_of_t1_the_file_takes_the_one_of_most_cases_and_names_the_other(source: Path) -> None:
    put(source, *each("{id}/{role}.nii", id=range(10, 16)), "12/T1_Eq_1.nii", "13/fMRI_bold_T1.nii")
    assert len(cases(source)) == 6
    text = (source.parent / "layout.yaml").read_text()
    assert "#   - '(?P<subject>\\d{2})/T1_Eq_\\d+\\.nii'" in text
    assert "2 of 20 NIfTI files are not used" in text


def test_a_kind_that_most_cases_need_is_taken_and_its_single_twins_are_passed_over(source: Path) -> None:
    put(source, *each("{id}/{role}.nii", id=range(10, 15)), "10/SPGR.nii")
    put(source, *each("{id}/{role}.nii", id=range(15, 18), role=("SPGR", "FLAIR", "lesion")))
    assert len(cases(source)) == 8
    assert "\nignore:\n  - '10/SPGR\\.nii'\n" in (source.parent / "layout.yaml").read_text()


def test_of_two_masks_none_gives_way_unseen(source: Path) -> None:
    put(source, *each("{id}/{role}.nii", id=range(10, 15)))
    put(source, *each("{id}/{role}.nii", id=range(15, 18), role=("T1", "FLAIR", "lesion_FLAIR")), "14/lesion_FLAIR.nii")
    result = written(source)
    assert [finding.code for finding in result.found.findings] == ["AMBIGUOUS_MASK"]
    assert "\n#ignore:\n#  - '14/lesion\\.nii'\n" in result.path.read_text()


def test_masks_that_are_second_ones_may_be_parts(source: Path) -> None:
    put(source, *each("{id}/{role}.nii", id=range(10, 15), role=("T1", "FLAIR", "lesion_a", "lesion_b")))
    assert len(cases(source)) == 5
    assert "masks: union" in (source.parent / "layout.yaml").read_text()


def test_an_open_name_takes_no_file_of_another_role(source: Path) -> None:
    people = ("DUPONT", "Le Goff", "MARTIN", "X", "Zoé")
    put(source, *(f"{i:02}/{who}_{role}.nii" for i, who in enumerate(people) for role in ("T1", "lesion_T1", "FLAIR")))
    assert len(cases(source)) == 5


def test_several_files_of_one_name_are_left_to_the_user_with_lines_to_uncomment(source: Path) -> None:
    put(source, *each("{id}/{role}.nii", id=range(10, 15), role=("T1", "lesion")))
    put(source, *(f"{i}/FLAIR+s{i * 3}.nii" for i in range(10, 15)), "10/FLAIR+s7.nii")
    result = written(source)
    assert "2 files could be the FLAIR image" in str(result)
    assert "--skip-bad" in result.commands[1]
    assert not any("lack" in line for line in result.commands)
    text = result.path.read_text()
    result.path.write_text(text.replace("#ignore:", "ignore:").replace("#  - '10/FLAIR\\+s7", "  - '10/FLAIR\\+s7"))
    assert not read_layout(result.path).find(source).findings


def test_a_bare_mask_beside_one_that_says_lesion_is_of_something_else(source: Path) -> None:
    put(source, *each("{id}/{role}.nii", id=("01", "02"), role=("T1", "FLAIR", "lesion", "mask")))
    assert len(cases(source)) == 2
    assert (
        "could be mask too, but some lie beside a mask that says lesion" in (source.parent / "layout.yaml").read_text()
    )


def test_bare_masks_are_taken_where_nothing_says_lesion_with_a_word_of_doubt(source: Path) -> None:
    put(source, *each("{id}/{role}.nii", id=("01", "02"), role=("T1", "FLAIR", "mask")))
    assert len(cases(source)) == 2
    assert "do not say lesion: look" in (source.parent / "layout.yaml").read_text()


def test_without_any_mask_the_file_says_so_and_holds_a_place_for_it(source: Path) -> None:
    put(source, *each("{id}/{role}.nii", id=("01", "02"), role=("T1", "FLAIR")))
    result = written(source)
    assert "NO NAME SAYS LESION" in result.path.read_text()
    assert [case.split for case in result.found.cases] == ["test", "test"]
    assert "No mask: 2 cases: sub-01, sub-02." in str(result)
    assert "nnunet-transformers scan folder" in result.commands[-1]
    put(source, "01/lesion.nii", "02/my_lesion_T1.nii.gz")
    assert [case.split for case in read_layout(result.path).find(source).cases] == ["train", "train"]


def test_names_that_say_nothing_are_listed_with_counts(source: Path) -> None:
    error = refused(put(source, *(f"{i:03}/brain_{i}.nii.gz" for i in range(12)), "001/lesion.nii"))
    assert error.code == "NO_IMAGE_NAME"
    assert ("12 files", "brain_#.nii.gz") in error.findings[0].files


def test_images_that_lie_in_the_folder_itself_say_no_subject(source: Path) -> None:
    assert refused(put(source, "T1.nii.gz", "FLAIR.nii.gz", "lesion.nii.gz")).code == "NO_SUBJECT"


def test_dicom_no_nifti_and_no_folder_are_the_errors_of_any_scan(source: Path) -> None:
    assert refused(source).code == "NO_SOURCE"
    assert "dcm2niix" in str(refused(put(source, "0012/IM001.dcm")))


@pytest.mark.parametrize(
    ("names", "command"),
    [
        (("sub-01/anat/sub-01_T1w.nii.gz", "derivatives/sub-01/sub-01_label-lesion_mask.nii.gz"), "convert bids"),
        (("R001/sub-r001s001/sub-r001s001_ses-1_T1w.nii.gz",), "convert atlas"),
        (("Site1/031768/t01/031768_t1w.nii.gz", "Site1/031768/t01/031768_LesionSmooth.nii.gz"), "convert atlas"),
    ],
)
def test_bids_and_atlas_are_told_by_their_names(source: Path, names: tuple[str, ...], command: str) -> None:
    error = refused(put(source, *names))
    assert error.code == "KNOWN_LAYOUT"
    assert f"nnunet-transformers {command} '{source}'" in str(error)


def test_an_existing_file_is_never_overwritten(source: Path) -> None:
    put(source, *each("{id}/{role}.nii", id=("01", "02")))
    (source.parent / "layout.yaml").write_text("mine")
    with pytest.raises(ConversionError, match="exists already") as caught:
        written(source)
    assert caught.value.code == "TARGET_EXISTS"
    assert (source.parent / "layout.yaml").read_text() == "mine"


def test_a_file_in_no_folder_cannot_be_written(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(source, *each("{id}/{role}.nii", id=("01", "02")))
    assert main(["scan", "folder", str(source), "--write", str(source.parent / "no" / "layout.yaml")]) == 2
    assert "CANNOT_WRITE" in capsys.readouterr().err


def test_bytes_that_are_not_utf8_and_unprintable_names_can_be_proposed(source: Path) -> None:
    folder = os.fsdecode(b"donn\xe9es\x85\x0a")
    try:
        put(source, *each(folder + "/{id}/{role}.nii", id=("01", "02")))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert cases(source) == ["sub-01", "sub-02"]


def test_names_that_no_case_can_have_ask_for_pseudonyms(source: Path) -> None:
    result = written(put(source, *each("{id}/{role}.nii", id=("Hélène", "Zoë Ü"))))
    assert "--pseudonymise key.json" in result.commands[-1]
    assert "… and 1 more [CASE_NAME]" in result.account


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_a_sheet_with_the_subjects_in_a_column_is_proposed(source: Path, ending: str, inside: bool) -> None:
    put(source, *each("{id}_A.B/{role}.nii", id=("0003", "0012", "0107")))
    rows = [["Rang", "Numéro", "Nom", "Centre", "Délai (jours)"], [3, 3, "Ü", "Brest", 90], [12, 12, "V", "Vannes", 80]]
    path = (source if inside else source.parent) / f"Liste d'été.{ending}"
    if ending == "csv":
        path.write_bytes("\r\n".join(";".join(map(str, row)) for row in rows).encode("cp1252"))
    else:
        book = pytest.importorskip("openpyxl").Workbook()
        for row in rows:
            book.active.append(row)
        book.save(path)
    found = written(source).found
    assert [case.site for case in found.cases] == ["Brest", "Vannes", ""]
    assert [dict(case.metadata) for case in found.cases][:2] == [
        {"Rang": "3", "Délai (jours)": "90"},
        {"Rang": "12", "Délai (jours)": "80"},
    ]


def test_columns_whose_names_no_layout_file_can_hold_are_passed_over(source: Path) -> None:
    put(source, *each("{id}/{role}.nii", id=("01", "02")))
    (source / "p.csv").write_text('id;"délai\n(jours)";âge\n1;3;50\n2;4;60\n')
    assert [dict(case.metadata) for case in written(source).found.cases] == [{"âge": "50"}, {"âge": "60"}]


def test_a_sheet_of_visits_has_a_row_for_each(source: Path) -> None:
    put(source, *each("{id}/M{m}/{role}.nii", id=("01", "02"), m=(3, 6)))
    rows = [f"{i};M{m};{i * m}" for i in (1, 2) for m in (3, 6)]
    (source / "p.csv").write_text("\n".join(["id;visite;score", *rows]))
    assert [case.metadata["score"] for case in written(source).found.cases] == ["3", "6", "6", "12"]


def test_a_sheet_that_cannot_be_read_that_way_is_left_out_with_the_reason(source: Path) -> None:
    put(source, *each("{id}/{role}.nii", id=("01", "02")))
    (source / "p.csv").write_text("id,centre\n1,a\n2,b\n2,b,c\n")
    (source / "q.csv").write_text("id,centre\n1,a\n2,b,c\n")
    assert len(cases(source)) == 2
    assert "q.csv has their names, but" in (source.parent / "layout.yaml").read_text()


def save(path: Path, shape: tuple[int, ...] = (4, 4, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ones(shape, np.uint8), RAS), path)


def test_a_kind_of_several_volumes_gives_way_to_one_that_has_one(source: Path) -> None:
    for i in range(10, 15):
        save(source / f"{i}/DWI.nii", (4, 4, 4, 7))
        for name in ("T1", "lesion", "DWI_b1000_mean"):
            save(source / f"{i}/{name}.nii")
    result = written(source)
    assert "several volumes" in result.path.read_text()
    assert {case.images["DWI"].rpartition("/")[2] for case in result.found.cases} == {"DWI_b1000_mean.nii"}


def test_options_follow_from_the_grids(source: Path) -> None:
    for i in range(10, 15):
        for name, shape in (("T1", (4, 4, 4)), ("FLAIR", (5, 5, 5)), ("lesion", (4, 4, 4) if i == 10 else (5, 5, 5))):
            if (i, name) != (11, "FLAIR"):
                save(source / f"{i}/{name}.nii", shape)
    options = [line.partition("301")[2].strip() for line in written(source).commands if line.startswith("nnunet")]
    assert options == [
        "--register rigid --resample-mask",
        "--resample --resample-mask",
        "--register rigid --resample-mask --incomplete-dataset-id 302",
        "--channels T1w --resample --resample-mask",
    ]


def test_images_that_few_cases_with_a_mask_have_are_no_channels(source: Path) -> None:
    put(source, *each("{id}/{role}.nii", id=range(10, 15)), *each("{id}/{role}.nii", id=(20,), role=("T1", "DWI")))
    assert written(source).commands[-1].endswith("--dataset-id 301 --channels T1w FLAIR")


def test_images_on_one_grid_need_no_option(source: Path) -> None:
    for i in range(10, 15):
        for name in ROLES:
            save(source / f"{i}/{name}.nii")
    assert written(source).commands[-1].endswith("--dataset-id 301")


def test_three_commands_convert_a_folder(
    source: Path, raw: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for i in range(10, 16):
        for name in ("T1 3D", "FLAIR"):
            path = source / f"{i}_É" / "2023-03-14" / f"{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(rng.normal(100, 9, (9, 9, 9)).astype(np.float32), RAS), path)
        mask = rng.random((9, 9, 9)) > 0.8
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), RAS), path.with_name("Lésion.nii.gz"))
    monkeypatch.chdir(source.parent)
    assert main(["scan", "folder", source.name, "--write", "layout.yaml"]) == 0
    printed = capsys.readouterr().out
    assert "6 subjects, 6 cases (subject and session): 6 T1w, 6 FLAIR, 6 masks." in printed
    command = printed.rstrip().splitlines()[-1]
    assert command == "nnunet-transformers convert folder 'étude AVC' --layout layout.yaml --dataset-id 301"
    assert main(["convert", "folder", source.name, "--layout", "layout.yaml", "--dataset-id", "301"]) == 0
    assert len(list((raw / "Dataset301_Folder" / "imagesTr").iterdir())) == 12


def test_write_and_layout_exclude_one_another(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(source, *each("{id}/{role}.nii", id=("01", "02")))
    out = source.parent / "new.yaml"
    assert main(["scan", "kerpape", str(source), "--layout", str(out), "--write", str(out)]) == 2
    assert "BAD_OPTION" in capsys.readouterr().err
    assert not out.exists()


NAME = st.text(string.ascii_letters + string.digits + " .+-_()[]'%é", min_size=1, max_size=8)
CORES = {"T1w": ("T1", "t1_mprage", "IRM_T1_3D"), "FLAIR": ("FLAIR", "t2_flair_s4"), "mask": ("lesion", "ROI_lésion")}


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[str], set[tuple[str, str]]]:
    """Names of files, and the (subject, session) planted in them."""
    numbers = draw(st.lists(st.integers(1, 9999), min_size=2, max_size=7, unique=True))
    prefix = draw(st.sampled_from(("", "P", "AVC", "pat-", "CHU_")))
    subjects = [f"{prefix}{number:04}" for number in numbers]
    visits = draw(st.sampled_from(((), ("M3", "M12"), ("V1", "V2"), ("2023-03-14", "2024-01-09"), ("20230314",))))
    top = draw(st.sampled_from(("", "Export é/", "a (b)+[c]/")))
    sites = draw(st.sampled_from(((), ("Rennes", "Lorient"))))
    cores = {role: draw(st.sampled_from(those)) for role, those in CORES.items()}
    flat = draw(st.booleans())
    ending = draw(st.sampled_from((".nii", ".nii.gz")))
    names, planted = [], set()
    for i, subject in enumerate(subjects):
        site = f"{sites[i % 2]}/" if sites else ""
        for visit in visits or ("",):
            whose = "".join(f"{each}{'_' if flat else '/'}" for each in (subject, visit) if each)
            names += [f"{top}{site}{whose}{core}{ending}" for core in cores.values()]
            planted.add((subject, visit))
    return [*names, f"{top}notes/report 1.nii", f"{top}notes/bold_rest.nii"], planted


@settings(max_examples=150, deadline=None)
@given(trees())
def test_the_proposal_finds_exactly_the_cases_planted(tree: tuple[list[str], set[tuple[str, str]]]) -> None:
    names, planted = tree
    found = proposed(names)
    assert not found.others
    for kinds in (*found.images.values(), found.masks):
        fitting = {name: match for name in names for kind in kinds if (match := re.fullmatch(kind.expression, name))}
        assert len(fitting) == len(planted)
        assert {(match["subject"], match.groupdict().get("session") or "") for match in fitting.values()} == planted


@settings(max_examples=100, deadline=None)
@given(st.lists(NAME, min_size=2, max_size=5, unique_by=str.casefold), NAME)
def test_every_expression_fits_its_files_whatever_the_names_of_folders(people: list[str], group: str) -> None:
    assume(not {".", ".."} & {*people, group})
    names = [f"{group}/{person}/{core}.nii" for person in people for core in ("T1", "FLAIR", "lesion")]
    found = propose(name_files(names))
    for role, kinds in ({**found.images, "mask": found.masks} if found else {}).items():
        for kind in kinds:
            core = {"T1w": "T1", "FLAIR": "FLAIR", "mask": "lesion"}[role]
            assert {name for name in names if re.fullmatch(kind.expression, name)} >= set(kind.files)
            assert all(name.endswith(f"/{core}.nii") for name in names if re.fullmatch(kind.expression, name))
