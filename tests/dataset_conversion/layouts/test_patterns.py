from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_conversion.errors import ConversionError
from dataset_conversion.layouts import Scan
from dataset_conversion.layouts.no_match import how_far
from dataset_conversion.layouts.participants import Participants
from dataset_conversion.layouts.patterns import Patterns, as_text, layout
from dataset_conversion.tables.case_table import Case
from nnunet_transformers.common.problems import Finding

VISIT = r"(?P<subject>[^/]+)/(?P<session>M\d+)/"
ENDS = {"T1w": r"T1\.nii\.gz", "FLAIR": r"FLAIR\.nii\.gz", "mask": r"lesion\.nii\.gz"}


def patterns(**changes: Any) -> Patterns:
    """T1 and FLAIR of patients at visits, masks on the FLAIR; expressions may be changed by name."""
    fields: dict[str, Any] = {"T1w": VISIT + r"T1\.nii(\.gz)?", "FLAIR": VISIT + r"FLAIR.*\.nii\.gz"}
    fields |= {"mask": VISIT + r"lesion.*\.nii\.gz", **changes}
    for name in {"T1w", "FLAIR", "mask", "test", "ignore"} & set(fields):
        several = [fields[name]] if isinstance(fields[name], str) else fields[name]
        fields[name] = tuple(re.compile(each) for each in several)
    images = {name: fields.pop(name) for name in ("T1w", "FLAIR")}
    return Patterns(images=images, **fields)


def scan(source: Path, **changes: Any) -> Scan:
    return layout(patterns(**changes), "hospital").find(source)


def codes(found: Scan) -> list[str]:
    return [finding.code for finding in found.findings]


def only(found: Scan) -> Finding:
    (finding,) = found.findings
    return finding


def refused(source: Path, **changes: Any) -> Finding:
    with pytest.raises(ConversionError) as caught:
        scan(source, **changes)
    return caught.value.findings[0]


def put(source: Path, *names: str) -> Path:
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    return source


def visit(source: Path, folder: str = "0012/M3") -> Path:
    return put(source, *(f"{folder}/{name}.nii.gz" for name in ("T1", "FLAIR", "lesion")))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "étude AVC"


def test_files_of_one_subject_and_session_are_a_case_with_images_in_the_order_of_the_patterns(source: Path) -> None:
    visit(source, "0012/M3")
    visit(source, "0012/M12")
    found = scan(source)
    assert not found.findings
    assert found.cases == (
        Case(
            *("sub-0012_ses-M12", "sub-0012", "train"),
            {"T1w": "0012/M12/T1.nii.gz", "FLAIR": "0012/M12/FLAIR.nii.gz"},
            *(("0012/M12/lesion.nii.gz",), "M12"),
        ),
        Case(
            *("sub-0012_ses-M3", "sub-0012", "train"),
            {"T1w": "0012/M3/T1.nii.gz", "FLAIR": "0012/M3/FLAIR.nii.gz"},
            *(("0012/M3/lesion.nii.gz",), "M3"),
        ),
    )
    assert list(found.cases[0].images) == ["T1w", "FLAIR"]


def test_prefixes_of_bids_are_not_doubled(source: Path) -> None:
    visit(source, "sub-07/ses-M3")
    visit_of_bids = VISIT.replace("M", "ses-M")
    found = scan(source, **{name: visit_of_bids + end for name, end in ENDS.items()})
    assert found.cases[0].case == "sub-07_ses-M3"


def test_an_expression_has_to_fit_the_whole_path(source: Path) -> None:
    put(visit(source), "0013/M3/T1.nii.gz", "old/0014/M3/T1.nii.gz")
    found = scan(source, T1w=VISIT + "T1.nii", ignore="old/0014")
    assert codes(found) == ["UNUSED_PATTERN", "UNMATCHED_FILES"]
    assert [case.images["T1w"] for case in found.cases] == [""]


def test_masks_in_another_tree_find_their_images(source: Path) -> None:
    put(source, "sub-07/M3/T1.nii.gz", "derivatives/lesion_07_M3.nii.gz")
    found = scan(source, mask=r"derivatives/lesion_(?P<subject>\d+)_(?P<session>M\d)\.nii\.gz")
    assert found.cases[0].masks == ("derivatives/lesion_07_M3.nii.gz",)
    assert codes(found) == ["UNUSED_PATTERN"]


def test_a_missing_image_leaves_its_cell_empty(source: Path) -> None:
    visit(source, "0012/M3")
    put(source, "0013/M3/T1.nii.gz", "0013/M3/lesion.nii.gz")
    found = scan(source)
    assert not found.findings
    assert found.cases[1].images == {"T1w": "0013/M3/T1.nii.gz", "FLAIR": ""}


def test_two_files_for_one_image_are_an_error_that_lists_both(source: Path) -> None:
    put(visit(source), "0012/M3/FLAIR_repeat.nii.gz")
    found = scan(source)
    assert only(found).code == "AMBIGUOUS_IMAGE"
    assert [path for _, path in only(found).files] == ["0012/M3/FLAIR.nii.gz", "0012/M3/FLAIR_repeat.nii.gz"]
    assert found.cases[0].images["FLAIR"] == ""


def test_several_masks_are_an_error_unless_they_are_to_be_united(source: Path) -> None:
    put(visit(source), "0012/M3/lesion_2.nii.gz")
    found = scan(source)
    assert only(found).code == "AMBIGUOUS_MASK"
    assert found.cases[0].masks == ()
    assert found.cases[0].split == "train"
    united = scan(source, masks="union")
    assert not united.findings
    assert united.cases[0].masks == ("0012/M3/lesion.nii.gz", "0012/M3/lesion_2.nii.gz")


def test_a_mask_without_any_image_is_an_error(source: Path) -> None:
    put(visit(source), "0013/M3/lesion.nii.gz")
    assert only(scan(source)).code == "MISSING_IMAGE"
    assert only(scan(source)).case == "sub-0013_ses-M3"


def test_a_mask_of_another_session_than_the_image_is_told_so(source: Path) -> None:
    put(source, "0012/M3/T1.nii.gz", "0012/M3/FLAIR.nii.gz", "0012/lesion.nii.gz")
    found = scan(source, mask=r"(?P<subject>[^/]+)/lesion\.nii\.gz")
    assert codes(found) == ["MISSING_IMAGE", "UNLABELLED"]
    assert "its session is none, its subject's images have M3" in found.findings[0].problem


def test_without_a_rule_cases_without_mask_are_for_testing_with_one_warning(source: Path) -> None:
    visit(source)
    put(source, *(f"{subject}/M3/T1.nii.gz" for subject in range(20, 27)))
    found = scan(source)
    assert [case.split for case in found.cases] == ["train", *["test"] * 7]
    assert only(found).code == "UNLABELLED"
    assert only(found).severity == "warning"
    assert "7 cases without mask" in only(found).problem


def test_with_a_rule_a_training_case_without_mask_is_an_error(source: Path) -> None:
    visit(source)
    put(source, "0013/M3/T1.nii.gz", "test01/M3/T1.nii.gz")
    for rule, split, expected in ((r"test\d+/.*", "test", ["sub-0013_ses-M3"]), ((), "train", None)):
        found = scan(source, test=rule)
        assert {case.case: case.split for case in found.cases}["sub-test01_ses-M3"] == split
        assert set(codes(found)) == {"MISSING_MASK"}
        assert [finding.case for finding in found.findings] == (expected or ["sub-0013_ses-M3", "sub-test01_ses-M3"])


def test_a_test_case_may_have_a_mask(source: Path) -> None:
    visit(source, "0012/M3")
    for rule in (r"0012/.*", r".*/T1.*"):
        found = scan(source, test=rule)
        assert not found.findings
        assert found.cases[0].split == "test"
        assert found.cases[0].masks


@pytest.mark.parametrize(
    ("folder", "split"), [("train", "train"), ("Training", "train"), ("Tr", "train"), ("TEST", "test"), ("ts", "test")]
)
def test_a_group_says_what_is_for_testing(source: Path, folder: str, split: str) -> None:
    put(source, f"{folder}/0012/T1.nii.gz", f"{folder}/0012/lesion.nii.gz")
    start = r"(?P<split>\w+)/(?P<subject>\d+)/"
    found = scan(source, T1w=start + "T1.*", FLAIR=start + "T2.*", mask=start + "lesion.*")
    assert found.cases[0].split == split
    assert codes(found) == ["UNUSED_PATTERN"]


def test_a_split_that_is_unknown_or_contradicts_itself_is_an_error(source: Path) -> None:
    put(source, "val/0012/T1.nii.gz", "train/0013/T1.nii.gz", "test/0013/FLAIR.nii.gz")
    start = r"(?P<split>\w+)/(?P<subject>\d+)/"
    found = scan(source, T1w=start + "T1.*", FLAIR=start + "FLAIR.*", mask=start + "lesion.*")
    assert {"SPLIT_NAME", "SPLIT_CONFLICT"} <= set(codes(found))


def test_unmatched_nifti_files_are_counted_in_one_warning_and_ignored_ones_are_not(source: Path) -> None:
    put(visit(source), *(f"0012/M3/DWI_{i}.nii.gz" for i in range(9)), "0012/M3/old/x.nii", "0012/M3/report.pdf")
    found = scan(source, ignore=".*/old/.*")
    assert only(found).code == "UNMATCHED_FILES"
    assert "9 NIfTI files" in only(found).problem
    assert [path for _, path in only(found).files] == [f"0012/M3/DWI_{i}.nii.gz" for i in range(9)]
    assert not scan(source, ignore=[".*/old/.*", ".*/DWI.*"]).findings


def test_a_file_that_fits_two_images_is_an_error_that_names_both(source: Path) -> None:
    put(visit(source), "0012/M3/FLAIR_lesion.nii.gz")
    found = scan(source, mask=VISIT + r".*lesion.*\.nii\.gz")
    assert only(found).code == "AMBIGUOUS_PATTERN"
    assert "FLAIR or mask" in only(found).problem
    assert found.cases[0].images["FLAIR"] == "0012/M3/FLAIR.nii.gz"


def test_of_several_expressions_for_one_image_the_first_that_fits_counts(source: Path) -> None:
    put(visit(source), "Rennes/0013/M3/T1.nii.gz")
    with_site = r"(?P<site>[A-Z]\w+)/" + VISIT + r"T1\.nii\.gz"
    found = scan(source, T1w=[with_site, r"(?:.*/)?" + VISIT + r"T1\.nii\.gz"], test=())
    assert [case.site for case in found.cases] == ["", "Rennes"]


def test_an_expression_without_any_file_is_a_warning_that_shows_how_far_it_fits(source: Path) -> None:
    put(source, "0012/M3/T1.nii.gz", "0012/M3/masque.nii.gz")
    found = scan(source)
    assert [code for code in codes(found) if code == "UNUSED_PATTERN"] == ["UNUSED_PATTERN"] * 2
    mask = next(finding for finding in found.findings if "of mask" in finding.problem)
    assert "fits '0012/M3/' of 0012/M3/masque.nii.gz, then does not: lesion" in str(mask)


@pytest.mark.parametrize("subject", ["AVC 012", "Hélène", "01(2)"])
def test_a_name_that_files_cannot_carry_is_an_error_with_the_ways_out(source: Path, subject: str) -> None:
    visit(source, f"{subject}/M3")
    found = scan(source)
    assert only(found).code == "CASE_NAME"
    assert repr(subject) in only(found).problem
    assert "subject_name:" in only(found).remedy


def test_a_subject_that_captures_nothing_and_a_session_with_a_blank_are_errors(source: Path) -> None:
    put(source, "012/6 mois/T1.nii.gz", "x/T1.nii.gz")
    t1 = [r"(?P<subject>\d+)/(?P<session>.*)/T1\.nii\.gz", r"x/(?P<subject>\d*)T1\.nii\.gz"]
    problems = [finding.problem for finding in scan(source, T1w=t1).findings if finding.code == "CASE_NAME"]
    assert len(problems) == 2
    assert "the subject is ''" in problems[0]
    assert "the session is '6 mois'" in problems[1]


def test_cases_that_differ_in_upper_and_lower_case_only_are_an_error(source: Path) -> None:
    visit(source, "Dupont_Jean/M3")
    visit(source, "dupont_jean/M3")
    assert only(scan(source)).code == "CASE_NAME"
    assert "sub-Dupont_Jean_ses-M3" in only(scan(source)).problem


def test_a_subject_name_of_several_groups_keeps_centres_apart(source: Path) -> None:
    for site in ("Rennes", "Lorient"):
        put(source, f"{site}/sub-0012/T1.nii.gz", f"{site}/sub-0012/lesion.nii.gz")
    start = r"(?P<site>\w+)/(?P<subject>[^/]+)/"
    expressions = {"T1w": start + "T1.*", "FLAIR": start + "T2.*", "mask": start + "lesion.*"}
    together = scan(source, **expressions)
    assert {"AMBIGUOUS_IMAGE", "SITE_CONFLICT"} <= set(codes(together))
    apart = scan(source, subject_name="{site}{subject}", **expressions)
    assert [(case.case, case.site) for case in apart.cases] == [
        ("sub-Lorient0012", "Lorient"),
        ("sub-Rennes0012", "Rennes"),
    ]
    assert codes(apart) == ["UNUSED_PATTERN"]


def test_excluded_cases_and_subjects_are_left_out_with_their_errors_and_the_reason(source: Path) -> None:
    for folder in ("0012/M3", "0012/M12", "0013/M3", "0014/M3"):
        visit(source, folder)
    put(source, "0013/M3/FLAIR_2.nii.gz")
    found = scan(source, exclude=("0013", "sub-0012_ses-M12"))
    assert [case.case for case in found.cases] == ["sub-0012_ses-M3", "sub-0014_ses-M3"]
    assert not found.findings
    assert [(case.case, code) for case, code, _ in found.left_out] == [
        ("sub-0012_ses-M12", "EXCLUDED"),
        ("sub-0013_ses-M3", "EXCLUDED"),
    ]
    assert codes(scan(source, exclude=("0013", "0031"))) == ["UNKNOWN_EXCLUDE"]


def test_accents_fit_however_the_file_system_writes_them(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        folder = tmp_path / form
        visit(folder, unicodedata.normalize(form, "données/0012/M3"))
        found = scan(folder, **{name: "données/" + VISIT + end for name, end in ENDS.items()})
        assert not found.findings
        assert (folder / found.cases[0].images["T1w"]).exists()


def test_a_path_that_is_not_utf8_fits_as_latin_1_and_is_kept_as_it_is(tmp_path: Path) -> None:
    folder = os.fsdecode(b"donn\xe9es")
    try:
        visit(tmp_path / "src", f"{folder}/0012/M3")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    found = scan(tmp_path / "src", **{name: "données/" + VISIT + end for name, end in ENDS.items()})
    assert not found.findings
    assert (tmp_path / "src" / found.cases[0].masks[0]).exists()


@given(st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1))
def test_the_text_of_a_path_does_not_depend_on_how_accents_are_written(name: str) -> None:
    composed, decomposed = (PurePosixPath(unicodedata.normalize(form, name)) for form in ("NFC", "NFD"))
    assert as_text(composed) == as_text(decomposed)


@given(st.binary(min_size=1).filter(lambda name: b"/" not in name and b"\0" not in name))
def test_the_text_of_any_path_can_be_printed(name: bytes) -> None:
    assert as_text(PurePosixPath(os.fsdecode(name))).encode("utf-8")


def test_no_match_shows_paths_expressions_and_how_far_they_fit(source: Path) -> None:
    put(source, "0012/m3/T1.nii.gz", "notes.txt")
    finding = refused(source)
    assert finding.code == "NO_CASES"
    assert ("found", "0012/m3/T1.nii.gz") in finding.files
    assert "notes.txt" not in str(finding)
    assert finding.remedy.startswith("Mend the expressions")
    assert ("T1w", VISIT + r"T1\.nii(\.gz)?") in finding.files
    assert r"fits '0012/' of 0012/m3/T1.nii.gz, then does not: (?P<session>M\d+)/T1" in str(finding)


def test_a_source_one_folder_off_is_recognised(tmp_path: Path) -> None:
    visit(tmp_path / "data")
    above, below = refused(tmp_path), refused(tmp_path / "data" / "0012")
    # [^/]+ fits "0012" only: the folder "data" is in the way.
    assert "but not the folders above it: data/" in str(above)
    assert f"The expressions fit from {tmp_path / 'data'} on" in below.remedy


@pytest.mark.parametrize("name", ["0012/IM0001.dcm", "0012/1.3.12.2.1107.5", "0012/IM0001", "a.IMA"])
def test_dicom_is_recognised_by_name_or_content(source: Path, name: str) -> None:
    put(source, name)
    if not name.endswith(".dcm"):
        (source / name).write_bytes(bytes(128) + b"DICM")
    assert "dcm2niix" in refused(source).remedy
    (source / name).unlink()
    put(source, "0012/IM0002")
    assert "dcm2niix" not in refused(source).remedy


def test_a_missing_or_empty_source_is_an_error(tmp_path: Path) -> None:
    assert refused(tmp_path / "typo").code == "NO_SOURCE"
    assert refused(tmp_path).code == "NO_CASES"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (r"(?P<a>\d+)/M(\d+)/T1", "fits '0012/M3/T1' of 0012/M3/T1.nii.gz, but the path goes on"),
        (r"M3/T1\.nii\.gz", "fits M3/T1.nii.gz, but not the folders above it: 0012/"),
        (r"(?i)x.*", "does not fit, from the first character on"),
        (r"\d+/M3/(T2|FLAIR)", "fits '0012/M3/' of 0012/M3/T1.nii.gz, then does not: (T2|FLAIR)"),
    ],
)
def test_how_far_an_expression_fits(expression: str, expected: str) -> None:
    assert how_far(re.compile(expression), ["0012/M3/T1.nii.gz"]) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("delimiter", ["\t", ";", ","])
def test_a_sheet_of_participants_becomes_metadata_as_it_is(source: Path, delimiter: str, encoding: str) -> None:
    visit(source, "0012/M3")
    visit(source, "0107/M3")
    rows = ["numéro|centre|délai|note||", "0012|Rennes| -4 |privé|x|y", "sub-0107||n/a", "", "|||total: 2", "|||2026"]
    (source / "participants.csv").write_bytes("\r\n".join(rows).replace("|", delimiter).encode(encoding))
    found = scan(source, participants=Participants(Path("participants.csv"), key="numéro", site="centre"))
    assert not found.findings
    assert [case.site for case in found.cases] == ["Rennes", ""]
    assert found.cases[0].metadata == {"délai": " -4 ", "note": "privé"}
    assert found.cases[1].metadata == {"délai": "n/a", "note": ""}


def test_a_sheet_may_be_a_workbook(source: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    visit(source, "0012/M3")
    book = openpyxl.Workbook()
    book.active.append(["Notes"])
    for row in (["id", "âge", "centre"], [12, 61.0, "Rennes"], [None, None, None]):
        (book["Patients"] if "Patients" in book else book.create_sheet("Patients")).append(row)
    book.save(source / "p.xlsx")
    found = scan(source, participants=Participants(Path("p.xlsx"), key="id", site="centre"))
    assert (found.cases[0].metadata, found.cases[0].site) == ({"âge": "61"}, "Rennes")
    assert only(found).code == "SHEET_ZEROS"


def test_a_site_in_the_path_goes_before_one_in_the_sheet(source: Path) -> None:
    put(source, "Lorient/0012/T1.nii.gz")
    (source / "p.csv").write_text("id,centre\n0012,Rennes\n")
    t1 = r"(?P<site>\w+)/(?P<subject>\d+)/T1.*"
    found = scan(source, T1w=t1, participants=Participants(Path("p.csv"), key="id", site="centre"))
    assert found.cases[0].site == "Lorient"


def test_a_sheet_may_have_a_row_per_visit_and_only_named_columns_are_carried(source: Path) -> None:
    visit(source, "0012/M3")
    visit(source, "0012/M12")
    (source / "p.tsv").write_text("id\tvisit\tdays\tT1w\n0012\tM3\t90\tok\n0012\tM12\t365\tok\n")
    found = scan(source, participants=Participants(Path("p.tsv"), key="id", session="visit", columns=("days",)))
    assert [case.metadata for case in found.cases] == [{"days": "365"}, {"days": "90"}]
    assert "line 3: '0012' is already on line 2" in str(
        refused(source, participants=Participants(Path("p.tsv"), key="id", columns=("days",)))
    )


def test_names_match_across_leading_zeros_where_that_leaves_no_choice_and_it_is_said(source: Path) -> None:
    for number in ("0007", "0012"):
        visit(source, f"{number}/M3")
        visit(source, f"{number}/M12")
    (source / "p.csv").write_text("id,age\n12,61\n0007,50\n7,99\n")
    found = scan(source, participants=Participants(Path("p.csv"), key="id"))
    assert [case.metadata["age"] for case in found.cases] == ["50", "50", "61", "61"]
    assert only(found).code == "SHEET_ZEROS"
    assert "12 for 0012" in only(found).problem


@pytest.mark.parametrize(("subjects", "rows"), [(("0012", "012"), ("12",)), (("0012",), ("12", "012"))])
def test_where_leading_zeros_leave_a_choice_nothing_matches(
    source: Path, subjects: tuple[str, ...], rows: tuple[str, ...]
) -> None:
    for subject in subjects:
        visit(source, f"{subject}/M3")
    (source / "p.csv").write_text("\n".join(["id,age", *(f"{row},61" for row in rows)]))
    found = scan(source, participants=Participants(Path("p.csv"), key="id"))
    assert only(found).code == "SHEET_SUBJECT"
    assert all(case.metadata == {"age": ""} for case in found.cases)


def test_cases_without_a_row_are_named_beside_the_rows_without_a_case(source: Path) -> None:
    visit(source, "0012/M3")
    (source / "p.csv").write_text("id,age\n13,61\n")
    found = scan(source, participants=Participants(Path("p.csv"), key="id"))
    assert only(found).code == "SHEET_SUBJECT"
    assert "sub-0012_ses-M3" in only(found).problem
    assert "Rows without a case: 13" in only(found).remedy
    assert found.cases[0].metadata == {"age": ""}


@pytest.mark.parametrize(
    ("content", "code", "problem"),
    [
        (b"id,age\n", "SHEET_COLUMNS", "no column numero"),
        (b"numero,numero\n", "SHEET_COLUMNS", "more than one column numero"),
        (b"numero,FLAIR\n", "SHEET_COLUMNS", "the column FLAIR would be taken"),
        (b"numero,age\n1,2,3\n", "SHEET_ROW", "line 2: 3 cells for 2 columns"),
        (b"PK\x03\x04...", "SHEET_UNREADABLE", "not an XLSX workbook"),
        (b'numero,age\n1,"70\n2,71\n', "SHEET_UNREADABLE", "line 2: where its cells end is not clear"),
        (None, "SHEET_UNREADABLE", "No such file"),
    ],
)
def test_what_is_wrong_with_a_sheet_is_named(source: Path, content: bytes | None, code: str, problem: str) -> None:
    visit(source)
    if content is not None:
        (source / "p.csv").write_bytes(content)
    finding = refused(source, participants=Participants(Path("p.csv"), key="numero"))
    assert finding.code == code
    assert problem in finding.problem
    assert "p.csv" in finding.problem
