from __future__ import annotations

import os
import re
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_conversion.errors import ConversionError
from dataset_conversion.layouts.table import layout
from dataset_conversion.tables import case_table
from dataset_conversion.tables.case_table import Case

HEADER = "case\tsubject\tsession\tsite\tsplit\tT1w\tmask\n"

# Cells are stripped on reading; a path with a leading or trailing blank is not worth a quoting rule.
paths = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=20).map(str.strip)
cases = st.lists(
    st.builds(
        Case,
        case=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,20}", fullmatch=True),
        subject=st.from_regex(r"sub-[a-z0-9]+", fullmatch=True),
        split=st.sampled_from(["train", "test"]),
        images=st.fixed_dictionaries({"T1w": paths, "FLAIR": paths}),
        masks=st.lists(paths.filter(bool), max_size=3).map(tuple),
        metadata=st.fixed_dictionaries({"days": paths, "scanner": paths}),
        session=st.from_regex(r"[0-9]*", fullmatch=True).map(str.strip),
        site=st.just("R001"),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda case: case.case.casefold(),
)


@settings(max_examples=60, deadline=None)
@given(cases)
def test_a_table_read_back_is_the_table_written(table: list[Case]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cases.tsv"
        case_table.write(table, path)
        assert case_table.read(path) == table


def test_a_path_that_is_not_utf8_survives(tmp_path: Path) -> None:
    table = [Case("a", "s", "train", {"T1w": os.fsdecode(b"donn\xe9es/T1.nii.gz")})]
    case_table.write(table, tmp_path / "cases.tsv")
    assert case_table.read(tmp_path / "cases.tsv") == table


def test_a_table_that_went_through_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cases.tsv"
    row = 'a_ses-1\ta\t1\t\ttrain\t"dossier privé/T1.nii.gz"\tm.nii.gz\r\n'
    path.write_bytes(("\ufeff" + HEADER.strip() + "\r\n\r\n" + row + "\t\t\t\t\t\t\r\n").encode())
    (case,) = case_table.read(path)
    assert case == Case("a_ses-1", "a", "train", {"T1w": "dossier privé/T1.nii.gz"}, ("m.nii.gz",), "1", "")


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("case\tsession\tT1w\tmask", "no column subject; found case, session, T1w, mask"),
        ("", "no column subject; found none"),
        ("subject\tmask\tT1w", "no image column before mask"),
        ("subject\tT1w\tT1w\tmask", "column T1w appears twice"),
        ("subject\tT1w\t\tmask\na\tt.nii\tf.nii\tm.nii", "column 3 has no name, but cells, such as f.nii"),
    ],
)
def test_what_is_wrong_with_the_columns_is_named(tmp_path: Path, header: str, problem: str) -> None:
    path = tmp_path / "cases.tsv"
    path.write_text(header + "\n")
    with pytest.raises(ConversionError, match=re.escape(f"line 1: {problem}")) as caught:
        case_table.read(path)
    assert {finding.code for finding in caught.value.findings} == {"TABLE_COLUMNS"}


@pytest.mark.parametrize("delimiter", "\t;,")
def test_a_table_by_hand_needs_only_subjects_images_and_masks(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "cases.csv"
    rows = ["subject T1w FLAIR mask mask_2 scanner", "Dupont a.nii f.nii m.nii m2.nii Prisma", "Martin b.nii"]
    path.write_text("\n".join(rows).replace(" ", delimiter) + "\n")
    assert case_table.read(path) == [
        Case(
            *("Dupont", "Dupont", "train", {"T1w": "a.nii", "FLAIR": "f.nii"}, ("m.nii", "m2.nii")),
            metadata={"scanner": "Prisma"},
        ),
        Case("Martin", "Martin", "test", {"T1w": "b.nii", "FLAIR": ""}, metadata={"scanner": ""}),
    ]


def test_every_faulty_row_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "cases.tsv"
    rows = ["ok\ts\t\t\ttrain\ti\tm", "OK\ts\t\t\ttrain\ti\tm", "b/c\ts\t\t\ttrain\ti\tm", "d\t\t\t\tvalid\ti\tm"]
    path.write_text(HEADER + "\n".join(rows) + "\ne\ts\t\t\ttrain\ti\tm\textra\n")
    with pytest.raises(ConversionError) as caught:
        case_table.read(path)
    found = str(caught.value)
    assert "line 3: case OK is already on line 2" in found
    assert "line 4: 'b/c' cannot be a case" in found
    assert "line 5: the subject is empty" in found
    assert "line 5: the split is 'valid'" in found
    assert "line 6: 8 cells for 7 columns" in found


@pytest.mark.parametrize(
    ("comments", "line"),
    [
        (["ok", '"left', "ok", "ok"], 3),
        (["ok", '"left', '"see, below"', "ok"], 3),
        (["ok", '"left', "ok", 'right"'], 3),
        (["ok", "ok", '"left" side', "ok"], 4),
        (["ok", "ok", "ok", "x" * 140_000], 5),
    ],
)
@pytest.mark.parametrize("delimiter", "\t;")
def test_a_cell_that_swallows_the_rows_below_is_an_error_with_its_line(
    tmp_path: Path, comments: list[str], line: int, delimiter: str
) -> None:
    path = tmp_path / "cases.tsv"
    rows = [f"P{i}\ta{i}.nii\tm{i}.nii\t{comment}" for i, comment in enumerate(comments)]
    path.write_text("\n".join(["subject\tT1w\tmask\tcomment", *rows]).replace("\t", delimiter) + "\n")
    with pytest.raises(ConversionError, match=rf"cases\.tsv, line {line}: ") as caught:
        case_table.read(path)
    assert {finding.code for finding in caught.value.findings} == {"TABLE_ROW"}


def test_a_comment_of_several_lines_is_one_cell_and_lines_are_counted_on(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    rows = ['P1,a.nii,m.nii,"left,\nold, ""lacunar""\n\n5"" nail"', "P2,b.nii,n.nii,5 o'clock"]
    path.write_text("\n".join(["subject,T1w,mask,comment", *rows]) + "\n")
    assert [case.metadata["comment"] for case in case_table.read(path)] == [
        'left,\nold, "lacunar"\n\n5" nail',
        "5 o'clock",
    ]
    path.write_text("\n".join(["subject,T1w,mask,comment", *rows, "P2,c.nii,o.nii,"]) + "\n")
    with pytest.raises(ConversionError, match="line 7: case P2 is already on line 6"):
        case_table.read(path)


def test_the_index_that_pandas_writes_needs_no_name(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    path.write_text(",subject,T1w,mask,\n0,P1,a.nii,m.nii,\n1,P2,b.nii,n.nii,\n")
    assert [case.subject for case in case_table.read(path)] == ["P1", "P2"]


def test_images_behind_mask_are_an_error_and_other_words_are_not(tmp_path: Path) -> None:
    for name in ("a.nii", "f.nii", "m.nii"):
        (tmp_path / name).touch()
    table = tmp_path / "cases.tsv"
    table.write_text("subject\tT1w\tmask\tFLAIR\tfirst_name_of_file\nP1\ta.nii\tm.nii\tf.nii\tIM0001.nii\n")
    with pytest.raises(
        ConversionError, match="images in columns behind mask, which are no channels: FLAIR\n"
    ) as caught:
        layout(table).find(tmp_path)
    assert [finding.code for finding in caught.value.findings] == ["TABLE_COLUMNS"]
    table.write_text(table.read_text().replace("f.nii", "was not acquired"))
    assert layout(table).find(tmp_path).cases


@pytest.mark.parametrize("name", ["cases.xlsx", "cases.tsv"])
def test_a_workbook_is_read_as_the_text_that_it_shows(tmp_path: Path, name: str) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["Notes"])
    sheet = book.create_sheet("Cases")
    for row in ([None] * 4, ["Subject", "T1w", "Mask", "age"], ["0012", "été/t1.nii", "m.nii", 61.0], ["13", "t.nii"]):
        sheet.append(row)
    book.save(tmp_path / "cases.xlsx")
    (tmp_path / "cases.xlsx").rename(tmp_path / name)
    assert case_table.read(tmp_path / name) == [
        Case("0012", "0012", "train", {"T1w": "été/t1.nii"}, ("m.nii",), metadata={"age": "61"}),
        Case("13", "13", "test", {"T1w": "t.nii"}, metadata={"age": ""}),
    ]
    sheet["A4"] = "0012"
    book.save(tmp_path / name)
    with pytest.raises(ConversionError, match=rf"{name}, line 4: case 0012 is already on line 3"):
        case_table.read(tmp_path / name)


def test_a_damaged_or_empty_workbook_is_not_taken_for_text(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    path = tmp_path / "cases.xlsx"
    openpyxl.Workbook().save(path)
    for content in (path.read_bytes(), b"PK\x03\x04" + bytes(range(256))):
        path.write_bytes(content)
        with pytest.raises(ConversionError, match="cannot read the case table") as caught:
            case_table.read(path)
        assert [finding.code for finding in caught.value.findings] == ["TABLE_UNREADABLE"]


def test_a_table_that_is_not_there_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"cannot read .*cases\.tsv"):
        case_table.read(tmp_path / "cases.tsv")


@pytest.mark.parametrize(
    ("encoding", "first_line"), [("utf-8", ""), ("utf-8-sig", "sep=;\n"), ("utf-16", ""), ("cp1252", "")]
)
def test_what_spreadsheets_make_of_a_table_is_found_on_disk(tmp_path: Path, encoding: str, first_line: str) -> None:
    folder = tmp_path / "Hôpital" / unicodedata.normalize("NFD", "Lésions")
    folder.mkdir(parents=True)
    for name in ("t1.nii.gz", "masque.nii.gz"):
        (folder / name).touch()
    table = tmp_path / "cas.csv"
    rows = ["Subject;Site;T1w;Mask", "AVC1;Orléans;Lésions\\t1.nii.gz;Lésions/masque.nii.gz"]
    table.write_bytes((first_line + "\n".join(rows)).encode(encoding))
    (case,) = layout(table).find(tmp_path / "Hôpital").cases
    assert case.site == "Orléans"
    for path in (case.images["T1w"], *case.masks):
        assert (tmp_path / "Hôpital" / path).is_file()


def test_a_table_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "cases.tsv"
    path.write_bytes("subject\tT1w\n".encode("utf-16")[:-1])
    with pytest.raises(ConversionError, match="cut off"):
        case_table.read(path)
