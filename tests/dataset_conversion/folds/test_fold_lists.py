from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_conversion.errors import ConversionError
from dataset_conversion.folds.fold_lists import CaseNames, read_fold_list
from dataset_conversion.folds.splits import Member, grouped_folds

SUBJECTS = [f"sub-r00{site}s00{number}" for site in (1, 2) for number in (1, 2, 3)]
MEMBERS = [Member(f"{subject}_ses-1", subject, 1.0) for subject in SUBJECTS]
FOLD_OF = {subject: index % 3 for index, subject in enumerate(SUBJECTS)}
EXPECTED = [sorted(f"{subject}_ses-1" for subject in SUBJECTS if FOLD_OF[subject] == fold) for fold in range(3)]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to(text: str | bytes, name: str = "liste des plis é.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return to


def table(spelling: str = "{}", header: str = "Name,Fold", first_label: int = 0) -> str:
    rows = [f"{spelling.format(subject)},{fold + first_label}" for subject, fold in FOLD_OF.items()]
    return "\n".join([header, *rows]) + "\n"


def validated(path: Path, members: list[Member] = MEMBERS, **options) -> list[list[str]]:
    return [split["val"] for split in read_fold_list(path, members, **options)]


def errors(path: Path, members: list[Member] = MEMBERS, **options) -> list[tuple[str, str]]:
    with pytest.raises(ConversionError) as error:
        read_fold_list(path, members, **options)
    return [(finding.code, str(finding)) for finding in error.value.findings]


@pytest.mark.parametrize(
    "spelling",
    [
        "{}_ses-1_space-MNI152NLin2009aSym_T1w",  # the public list of the 655
        "{}",
        "{}_ses-1",
        "{}_ses-1_0000.nii.gz",
        "{}_ses-1_space-MNI152NLin2009aSym_label-L_desc-T1lesion_mask.nii.gz",
        "ATLAS_2/Training/R001/{}/ses-1/anat/{}_ses-1_T1w.nii.gz",
        r"D:\data\{}_ses-1_space-orig_desc-brain_T1w.nii",
        "{}_ses-1.npz",
    ],
)
@pytest.mark.parametrize("prefix", ["sub-", "", "SUB-"])
def test_cases_are_found_in_all_spellings(write: Write, spelling: str, prefix: str) -> None:
    text = table(spelling.replace("{}", "{0}"))
    assert validated(write(text.replace("sub-", prefix))) == EXPECTED


@pytest.mark.parametrize("column", ["Fold", "fold", "fold_index", "val fold", "Fold ID"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("first_label", [0, 1])
def test_the_fold_column_may_be_called_and_numbered_as_people_do(
    write: Write, column: str, separator: str, first_label: int
) -> None:
    text = table(header=f"case,{column}", first_label=first_label).replace(",", separator)
    assert validated(write(text)) == EXPECTED


def test_what_a_spreadsheet_writes_is_read(write: Write) -> None:
    text = table().replace(",", ";").replace("\n", "\r\n") + ";\r\n"
    assert validated(write(text.encode("utf-8-sig"))) == EXPECTED
    assert validated(write(table().replace(",", "\t").encode("utf-16"))) == EXPECTED


def test_what_pandas_writes_is_read(write: Write) -> None:
    """An index without a name, and folds as floating-point numbers."""
    rows = [f"{index},40,{subject},{fold}.0" for index, (subject, fold) in enumerate(FOLD_OF.items())]
    assert validated(write("\n".join([",age,subject,fold", *rows]))) == EXPECTED
    rows[0] = rows[0].removesuffix(".0")
    assert validated(write("\n".join([",age,subject,fold", *rows]))) == EXPECTED


def test_a_row_number_is_not_taken_for_a_subject(write: Write) -> None:
    members = [Member(str(number), str(number), 1.0) for number in range(1, 5)]
    text = "index,patient,fold\n1,4,0\n2,3,0\n3,2,1\n4,1,1\n"
    assert validated(write(text), members) == [["3", "4"], ["1", "2"]]


def test_folds_are_in_the_natural_order_of_their_labels(write: Write) -> None:
    labels = ["fold10", "fold2", "fold1", "fold2", "fold10", "fold1"]
    text = "case,fold\n" + "".join(f"{subject},{label}\n" for subject, label in zip(SUBJECTS, labels, strict=True))
    cases = [member.case for member in MEMBERS]
    assert validated(write(text)) == [[cases[2], cases[5]], [cases[1], cases[3]], [cases[0], cases[4]]]


def test_training_cases_are_those_of_the_other_folds(write: Write) -> None:
    for split in read_fold_list(write(table()), MEMBERS):
        assert sorted(split["train"] + split["val"]) == [member.case for member in MEMBERS]


@given(st.integers(2, 6), st.integers(0, 100))
def test_nnunets_own_file_is_taken_over_unchanged(tmp_path_factory: pytest.TempPathFactory, n: int, seed: int) -> None:
    path = tmp_path_factory.mktemp("splits") / "splits_final.json"
    splits = grouped_folds(MEMBERS, n, seed)
    path.write_text(json.dumps(splits))
    assert read_fold_list(path, MEMBERS) == splits


def test_training_parts_of_a_json_list_are_kept(write: Write) -> None:
    cases = [member.case for member in MEMBERS]
    splits = [{"train": cases[4:], "val": cases[:3]}, {"train": cases[:2], "val": cases[3:]}]
    assert read_fold_list(write(json.dumps(splits), "splits.json"), MEMBERS) == splits


def test_a_byte_order_mark_before_json_is_skipped(write: Write) -> None:
    splits = grouped_folds(MEMBERS, 2)
    assert read_fold_list(write(json.dumps(splits).encode("utf-8-sig"), "splits.json"), MEMBERS) == splits


def test_which_of_several_columns_is_the_fold_must_be_clear(write: Write) -> None:
    [(code, text)] = errors(
        write(table(header="case,fold 1").replace("\n", ",0\n").replace("fold 1,0", "fold 1,fold 2"))
    )
    assert code == "FOLD_LIST_COLUMNS"
    assert "fold 1, fold 2" in text
    two = table(header="case,fold").replace("\n", ",0\n").replace("fold,0", "fold,old_fold")
    assert validated(write(two)) == EXPECTED


def test_a_subject_stands_for_all_its_sessions(write: Write) -> None:
    members = [*MEMBERS, Member(f"{SUBJECTS[0]}_ses-2", SUBJECTS[0], 1.0)]
    assert validated(write(table()), members)[0] == sorted([*EXPECTED[0], f"{SUBJECTS[0]}_ses-2"])


@pytest.mark.parametrize("name", ["sub-r001s001_ses-2_T1w", "sub-r001s0011", "sub-r001s001_2", "r001", ""])
def test_another_session_or_subject_is_not_taken_for_a_known_one(name: str) -> None:
    assert CaseNames(MEMBERS).find(name) is None


@pytest.mark.parametrize("name", ["Émile", "E\N{COMBINING ACUTE ACCENT}mile", "sub-ÉMILE_T1w.nii.gz"])
def test_accents_are_compared_as_they_look(name: str) -> None:
    assert CaseNames([Member("case1", "sub-Émile", 1.0)]).find(name) == ["case1"]


def test_unknown_names_are_shown_with_their_lines(write: Write) -> None:
    text = table().replace("sub-r001s002,", "sub-r999s002,")
    [(code, text)] = errors(write(text))
    assert code == "FOLD_UNKNOWN"
    assert "line 3" in text
    assert "sub-r999s002" in text


def test_unknown_names_in_a_json_list_are_shown_with_their_fold(write: Write) -> None:
    splits = [{"train": ["sub-x"], "val": []}, {"train": [], "val": ["sub-x"]}]
    [(code, text)] = errors(write(json.dumps(splits), "splits_final.json"))
    assert code == "FOLD_UNKNOWN"
    assert "train of fold 0" in text


def test_what_is_left_out_of_the_dataset_may_be_in_the_list(write: Write) -> None:
    assert validated(write(table()), MEMBERS[1:], left_out=[SUBJECTS[0]])[0] == EXPECTED[0][1:]


@pytest.mark.parametrize("text", [table().replace("sub-r001s002,1\n", ""), table().replace("r001s002,1", "r001s002,")])
def test_a_case_without_a_fold_is_an_error_unless_it_is_to_be_excluded(write: Write, text: str) -> None:
    [(code, shown)] = errors(write(text))
    assert code == "FOLD_MISSING"
    assert "sub-r001s002_ses-1" in shown
    splits = read_fold_list(write(text), MEMBERS, missing="exclude")
    assert {case for split in splits for side in split.values() for case in side} == {
        member.case for member in MEMBERS if member.case != "sub-r001s002_ses-1"
    }


def test_a_case_that_is_never_validated_is_excluded_from_training_too(write: Write) -> None:
    cases = [member.case for member in MEMBERS]
    splits = [{"train": cases[2:], "val": cases[1:2]}, {"train": cases[:2], "val": cases[2:]}]
    path = write(json.dumps(splits), "splits.json")
    assert [code for code, _ in errors(path)] == ["FOLD_MISSING"]
    assert read_fold_list(path, MEMBERS, missing="exclude")[1]["train"] == cases[1:2]


def test_a_subject_in_two_folds_is_leakage(write: Write) -> None:
    members = [*MEMBERS, Member(f"{SUBJECTS[0]}_ses-2", SUBJECTS[0], 1.0)]
    path = write(table("{}_ses-1") + f"{SUBJECTS[0]}_ses-2,2\n")
    [(code, text)] = errors(path, members)
    assert code == "LEAKAGE"
    assert "line 2: fold 0, line 8: fold 2" in text


def test_a_subject_in_two_folds_of_a_json_list_is_leakage(write: Write) -> None:
    members = [Member("a1", "a", 1.0), Member("a2", "a", 1.0)]
    splits = [{"train": ["a1"], "val": ["a2"]}, {"train": ["a2"], "val": ["a1"]}]
    assert [code for code, _ in errors(write(json.dumps(splits), "s.json"), members)] == ["LEAKAGE"] * 2


def test_two_rows_that_agree_about_a_case_are_one(write: Write) -> None:
    assert validated(write(table("{}_T1w") + table("{}_FLAIR").split("\n", 1)[1])) == EXPECTED


@pytest.mark.parametrize(
    ("text", "name", "code"),
    [
        (table(header="Name,Group"), "a.csv", "FOLD_LIST_COLUMNS"),
        (table(header="Fold 1,Fold 2"), "a.csv", "FOLD_LIST_COLUMNS"),
        ("case,fold\nx,1\ny,2\n", "a.csv", "FOLD_LIST_COLUMNS"),
        ("", "a.csv", "FOLD_LIST_COLUMNS"),
        (b"PK\x03\x04\x00\x00", "a.xlsx", "FOLD_LIST_UNREADABLE"),
        (b"\x80\x03]q", "splits_final.pkl", "FOLD_LIST_UNREADABLE"),
        ("[", "a.json", "FOLD_LIST_UNREADABLE"),
        ("[]", "a.json", "FOLD_LIST_UNREADABLE"),
        ('{"train": [], "val": []}', "a.json", "FOLD_LIST_UNREADABLE"),
        ('[{"train": [1], "val": []}]', "a.json", "FOLD_LIST_UNREADABLE"),
        (table().replace(",2", ",0").replace(",1", ",0"), "a.csv", "FOLD_EMPTY"),
    ],
)
def test_a_file_that_is_no_fold_list_is_an_error(write: Write, text: str | bytes, name: str, code: str) -> None:
    [(found, shown)] = errors(write(text, name))
    assert found == code
    assert name in shown


def test_a_list_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    assert [code for code, _ in errors(tmp_path / "no.csv")] == ["FOLD_LIST_UNREADABLE"]
    assert [code for code, _ in errors(tmp_path)] == ["FOLD_LIST_UNREADABLE"]


@pytest.mark.parametrize("fault", ['"open', '"closed" within', "x" * 200_000])
def test_a_table_whose_cells_cannot_be_told_apart_is_an_error_with_the_line(write: Write, fault: str) -> None:
    lines = [f"{line},{'note' if line.startswith('Name') else ''}" for line in table().splitlines()]
    lines[2] += fault
    ((code, text),) = errors(write("\n".join(lines) + "\n"))
    assert code == "FOLD_LIST_UNREADABLE"
    assert "line 3: " in text
