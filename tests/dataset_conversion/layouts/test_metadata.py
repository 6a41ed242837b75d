from __future__ import annotations

import json
import string
import sys
from pathlib import Path, PurePosixPath

import pytest
from helpers import permissions
from hypothesis import given
from hypothesis import strategies as st

from dataset_conversion.layouts.metadata import Metadata, case_key, column_name, for_table, read, review
from dataset_conversion.layouts.walk import walk
from dataset_conversion.tables.case_table import Case, to_tsv
from dataset_conversion.tables.case_table import read as read_table

R2_HEADER = (
    *("Subject ID", "Session", "# Lesions LH Subcortical", "Scanner Strength", "Scanner Brand", "ATLAS 1.2 Subject ID"),
    *("INDI Subject ID", "Days Post Stroke", "Chronicity"),
)
R2_COLUMNS = (
    *("lesions_lh_subcortical", "scanner_strength", "scanner_brand", "atlas_1_2_subject_id", "indi_subject_id"),
    *("days_post_stroke", "chronicity"),
)


def read_all(source: Path) -> Metadata:
    return read(source, walk(source).files)


def case(subject: str, session: str = "1", **metadata: str) -> Case:
    return Case(f"{subject}_ses-{session}", subject, session=session, metadata=metadata)


def codes(metadata: Metadata) -> list[str]:
    return [finding.code for finding in metadata.findings]


def write_session(source: Path, subject: str, text: str) -> None:
    anat = source / f"sub-{subject}" / "ses-1" / "anat"
    anat.mkdir(parents=True)
    (anat / f"sub-{subject}_ses-1_metadata.csv").write_text(text)


def write_book(path: Path, *rows: tuple[object, ...]) -> None:
    book = pytest.importorskip("openpyxl").Workbook()
    book.active.append(["ATLAS R2.0", "see the paper"])
    sheet = book.create_sheet("MetaData")
    for row in rows:
        sheet.append(row)
    book.save(path)


@given(st.text(max_size=30))
def test_a_column_name_is_snake_case_and_stays_it(header: str) -> None:
    name = column_name(header)
    assert set(name) <= set(string.ascii_lowercase + string.digits + "_")
    assert column_name(name) == name


def test_column_names_of_the_releases() -> None:
    headers = ["DAYS_POST_STROKE", "ATLAS 1.2 Subject ID", " Scanner Brand ", "Côté lésé"]
    assert [column_name(header) for header in headers] == [
        *("days_post_stroke", "atlas_1_2_subject_id", "scanner_brand", "cote_lese")
    ]


@pytest.mark.parametrize("session", ["1", "01", "ses-1", "SES-01", "sub-r001s001_ses-1"])
@pytest.mark.parametrize("subject", ["sub-r001s001", "r001s001", " SUB-R001s001 "])
def test_spellings_of_a_case_have_one_key(subject: str, session: str) -> None:
    assert case_key(subject, session) == ("sub-r001s001", "1")


def test_a_session_file_is_read_by_column_name_in_any_order_and_its_text_is_kept(tmp_path: Path) -> None:
    write_session(
        tmp_path,
        "r001s001",
        "SESSION_ID,ATLAS2_DATASET,DAYS_POST_STROKE,CHRONICITY,SITE\nsub-r001s001_ses-1,Training,182.50,1.0,R001\n",
    )
    write_session(tmp_path, "soop0910", "ATLAS2_DATASET,SESSION_ID,DAYS_POST_STROKE,CHRONICITY,SITE\n")
    metadata = read_all(tmp_path)
    assert metadata.rows == {
        ("sub-r001s001", "1"): {
            "atlas2_dataset": "Training",
            "days_post_stroke": "182.50",
            "chronicity": "1.0",
            "site": "R001",
        }
    }
    assert metadata.of("sub-soop0910", "1") == {}


@pytest.mark.parametrize(("delimiter", "name"), [(",", "MetaData.csv"), (";", "Métadonnées 2.csv"), ("\t", "m.tsv")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_a_sheet_of_the_release_is_read_from_text(tmp_path: Path, delimiter: str, name: str, encoding: str) -> None:
    cells = ("r001s001", "1", "0", "3", "Siemens, modèle été", "", "0031768", "30.0", "1")
    quoted = (f'"{cell}"' if "," in cell else cell for cell in cells)
    text = f"{delimiter.join(R2_HEADER)}\r\n{delimiter.join(quoted)}\r\n\r\n"
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert read_all(tmp_path).rows == {("sub-r001s001", "1"): dict(zip(R2_COLUMNS, cells[2:], strict=True))}


def test_a_sheet_of_the_release_is_read_from_a_workbook_whatever_its_place_in_it(tmp_path: Path) -> None:
    row = ("sub-r001s001", "ses-1", 2, 1.5, "GE", None, "0031768", 30.0, 1)
    (tmp_path / "docs").mkdir()
    write_book(tmp_path / "docs" / "20220425_ATLAS_2.0_MetaData.xlsx", ("from 2022-04-25",), R2_HEADER, row)
    metadata = read_all(tmp_path)
    texts = ("2", "1.5", "GE", "", "0031768", "30", "1")
    assert metadata.rows == {("sub-r001s001", "1"): dict(zip(R2_COLUMNS, texts, strict=True))}
    assert not metadata.findings


def test_without_openpyxl_a_workbook_is_a_warning_that_says_how_to_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "MetaData.xlsx").touch()
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    metadata = read_all(tmp_path)
    (finding,) = metadata.findings
    assert (finding.code, finding.severity, metadata.rows) == ("METADATA_UNREAD", "warning", {})
    assert "pip install openpyxl" in finding.remedy


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("MetaData.xlsx", b"not a zip"),
        ("MetaData.xlsx", b""),
        ("participants.tsv", b"\xff\xfeodd"),
        ("participants.tsv", b"participant_id\tage\n" + b"sub-1\t" + b"x" * 200_000),
        ("participants.tsv", b'participant_id\tnote\nsub-1\t"left\nsub-2\tright\n'),
    ],
)
def test_a_broken_file_is_a_warning_that_names_it(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    (finding,) = read_all(tmp_path).findings
    assert (finding.code, finding.severity) == ("METADATA_UNREAD", "warning")
    assert name in finding.problem


def test_a_broken_file_about_something_else_is_none_of_our_business(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("\n".join(["day,note"] * 10 + ['1,"left" side', '2,"open']))
    assert not read_all(tmp_path).findings


def test_a_file_without_permission_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "participants.tsv").write_text("participant_id\n")
    (tmp_path / "participants.tsv").chmod(0)
    with permissions.obeyed():
        assert codes(read_all(tmp_path)) == ["METADATA_UNREAD"]


@given(content=st.binary(max_size=200))
@pytest.mark.parametrize("name", ["participants.tsv", "sub-1_ses-1_metadata.csv"])
def test_no_content_of_a_text_file_stops_the_reading(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / name).write_bytes(content)
    assert set(codes(read_all(folder))) <= {"METADATA_UNREAD", "METADATA_CONFLICT"}


def test_participants_hold_for_every_session_and_sessions_say_more(tmp_path: Path) -> None:
    (tmp_path / "participants.tsv").write_text("participant_id\tage\tdays_post_stroke\nsub-01\t71\t5\n")
    (tmp_path / "sub-01").mkdir()
    (tmp_path / "sub-01" / "sub-01_sessions.tsv").write_text(
        "session_id\tdays_post_stroke\tnihss\nses-1\t\t3\nses-2\t190\t\n", encoding="utf-8"
    )
    metadata = read_all(tmp_path)
    assert metadata.of("sub-01", "1") == {"age": "71", "days_post_stroke": "5", "nihss": "3"}
    assert metadata.of("sub-01", "02") == {"age": "71", "days_post_stroke": "190", "nihss": ""}
    assert metadata.of("sub-01", "3") == {"age": "71", "days_post_stroke": "5"}
    assert metadata.of("sub-02", "1") == {}


def test_other_tables_are_not_metadata(tmp_path: Path) -> None:
    (tmp_path / "sub-01_task-rest_events.tsv").write_text("subject_id\tonset\n01\t2\n")
    (tmp_path / "cases.tsv").write_text("case\tsubject\tT1w\n01\t01\tx.nii\n")
    (tmp_path / "iq.tsv").write_text("participant_id\tiq\nsub-01\t100\n")
    (tmp_path / "~$MetaData.xlsx").write_bytes(b"lock")
    assert read_all(tmp_path) == Metadata({}, {})


def test_contradictions_are_one_warning_per_column_and_the_first_value_is_kept(tmp_path: Path) -> None:
    write_session(tmp_path, "1", "DAYS_POST_STROKE\n10\n")
    write_session(tmp_path, "2", "DAYS_POST_STROKE\n10\n")
    (tmp_path / "sheet.csv").write_text("Subject ID,Session,Days Post Stroke\n1,1,12\n2,1,10\n")
    metadata = read_all(tmp_path)
    assert metadata.of("sub-1", "1") == {"days_post_stroke": "10"}
    (finding,) = metadata.findings
    assert (finding.code, finding.severity) == ("METADATA_CONFLICT", "warning")
    assert "sheet.csv for sub-1;" in finding.problem


@pytest.mark.parametrize(
    ("days", "odd"), [("-4", True), ("12 days", True), ("inf", True), ("0", False), ("5.0", False)]
)
def test_odd_days_are_flagged_and_kept(days: str, odd: bool) -> None:
    cases = [case("sub-r049s018", days_post_stroke=days)]
    found = review(Metadata({}, {}), cases)
    assert [(finding.code, finding.case, finding.severity) for finding in found] == odd * [
        ("METADATA_ODD", "sub-r049s018_ses-1", "warning")
    ]
    assert cases[0].metadata["days_post_stroke"] == days


def test_missing_days_are_one_warning_where_the_release_tells_days_at_all() -> None:
    cases = [case("sub-1", days_post_stroke="5"), case("sub-2", days_post_stroke="n/a"), case("sub-3")]
    rows = {("sub-1", "1"): {"days_post_stroke": "5"}, ("sub-2", "1"): {"days_post_stroke": "n/a"}}
    (finding,) = review(Metadata(rows, {}), cases)
    assert finding.code == "METADATA_MISSING"
    assert "2 of 3 cases: sub-2_ses-1, sub-3_ses-1" in finding.problem
    assert not review(Metadata({("sub-1", "1"): {"age": "5"}}, {}), cases[2:])


def test_rows_without_a_case_are_one_warning_per_file(tmp_path: Path) -> None:
    lines = "".join(f"sub-{i}\t70\n" for i in range(1, 7))
    (tmp_path / "participants.tsv").write_text("participant_id\tage\n" + lines)
    (finding,) = review(read_all(tmp_path), [case("sub-1"), case("sub-2")])
    assert finding.code == "METADATA_UNMATCHED"
    assert "participants.tsv tells of sub-3, sub-4, sub-5 and 1 more" in finding.problem


def test_metadata_fit_into_a_case_table_whatever_their_columns_are_called(tmp_path: Path) -> None:
    row = {
        "case": "a",
        "subject": "b",
        "split": "val",
        "mask": "c",
        "mask_2": "d",
        "site": "R001",
        "t1w": "e",
        "age": "7",
    }
    kept = for_table(row)
    assert list(kept.values()) == ["a", "b", "val", "c", "d", "e", "7"]
    one = Case("sub-1", "sub-1", "train", {"T1w": "x.nii"}, ("m.nii",), metadata=kept)
    path = tmp_path / "cases.tsv"
    path.write_text(to_tsv([one]), encoding="utf-8")
    assert read_table(path) == [one]


def test_paths_that_are_not_files_any_more_are_a_warning(tmp_path: Path) -> None:
    (finding,) = read(tmp_path, [PurePosixPath("participants.tsv")]).findings
    assert finding.code == "METADATA_UNREAD"


def test_covariates_of_a_session_are_read_from_json(tmp_path: Path) -> None:
    content = {"DAYS_POST_STROKE": 121.0, "CHRONICITY": 1, "CENTER": "R064", "AGE": None, "MORE": {"a": 1}}
    (tmp_path / "sub-r064s001_ses-1_metadata.json").write_text(json.dumps(content))
    (tmp_path / "sub-r064s001_ses-1_T1w.json").write_text('{"EchoTime": 0.003}')
    (tmp_path / "dataset_description.json").write_text('{"Name": "ATLAS"}')
    metadata = read_all(tmp_path)
    row = {"days_post_stroke": "121", "chronicity": "1", "site": "R064", "age": "", "more": ""}
    assert metadata.rows == {("sub-r064s001", "1"): row}
    assert not metadata.findings


@pytest.mark.parametrize("content", ["", "{", '["DAYS_POST_STROKE", 3]', '"é'.encode("latin-1")])
def test_json_that_is_no_object_is_a_warning_that_names_it(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "sub-r064s001_ses-1_metadata.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    (finding,) = read_all(tmp_path).findings
    assert (finding.code, finding.severity) == ("METADATA_UNREAD", "warning")
    assert path.name in finding.problem


def test_a_table_in_a_folder_that_may_not_be_entered_is_a_warning(tmp_path: Path) -> None:
    sheet = tmp_path / "closed" / "sub-1_ses-1_metadata.csv"
    sheet.parent.mkdir()
    sheet.write_text("SITE\nR001\n")
    sheet.parent.chmod(0o600)
    with permissions.obeyed():
        found = read_all(tmp_path).findings
    sheet.parent.chmod(0o700)
    assert [finding.code for finding in found] == ["METADATA_UNREAD"]
