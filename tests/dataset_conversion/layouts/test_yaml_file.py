from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path

import pytest
from helpers.atlas_tree import lesion, save, voxels
from helpers.conversion import convert
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_conversion.errors import ConversionError
from dataset_conversion.layouts import Layout
from dataset_conversion.layouts.yaml_file import example, read_layout

T1W = r"images: {T1w: '(?P<subject>\d+)/T1\.nii'}" + "\n"
MASK = r"mask: '(?P<subject>\d+)/mask\.nii'" + "\n"
# A commented-out field of the example: #name: value
OPTIONAL = re.compile(r"^#(?=(\w+): )", re.MULTILINE)
OPTIONAL_FIELDS = [match[1] for match in OPTIONAL.finditer(example())]


def read(folder: Path, text: str | bytes) -> Layout:
    path = folder / "kerpape.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_layout(path)


def problems(folder: Path, text: str | bytes) -> str:
    with pytest.raises(ConversionError) as caught:
        read(folder, text)
    return str(caught.value)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """The tree that the comments of the example describe."""
    root = tmp_path / "export clinique"
    for visit in ("patients/0012/M3", "patients/0012/M12", "patients/0107/M3", "controle/0201/M3"):
        save(root / visit / "IRM_T1_3D.nii.gz", voxels(visit))
        if "0107" not in visit:
            save(root / visit / "FLAIR_axial.nii.gz", voxels(visit + "FLAIR"))
        if "patients" in visit:
            save(root / visit / "lesion_FLAIR.nii.gz", lesion(visit))
    save(root / "rebut" / "0012" / "IRM_T1_3D.nii.gz", voxels("rebut"))
    (root / "participants.csv").write_text("numero;centre;delai_jours\n0012;Lorient;95\n0107;Rennes;\n0201;;n/a\n")
    return root


def test_the_example_finds_the_cases_of_the_tree_that_it_describes(tmp_path: Path, export: Path) -> None:
    layout = read(tmp_path, example())
    found = layout.find(export)
    assert not found.findings
    assert (layout.name, layout.drawn_on) == ("kerpape", "FLAIR")
    assert [(case.case, case.subject, case.split, len(case.masks)) for case in found.cases] == [
        ("sub-0012_ses-M12", "sub-0012", "train", 1),
        ("sub-0012_ses-M3", "sub-0012", "train", 1),
        ("sub-0107_ses-M3", "sub-0107", "train", 1),
        ("sub-0201_ses-M3", "sub-0201", "test", 0),
    ]
    assert [list(case.images) for case in found.cases] == [["T1w", "FLAIR"]] * 4
    assert found.cases[2].images["FLAIR"] == ""


def test_the_tree_of_the_example_is_converted(tmp_path: Path, export: Path, raw: Path) -> None:
    layout = read(tmp_path, example())
    convert(export, layout=layout, dataset_id=300, name="Export", exclude=["sub-0107"], jobs=1)
    written = {path.relative_to(raw / "Dataset300_Export").as_posix() for path in raw.rglob("*.nii.gz")}
    assert written == {
        *(f"imagesTr/sub-0012_ses-{visit}_000{i}.nii.gz" for visit in ("M3", "M12") for i in (0, 1)),
        *(f"labelsTr/sub-0012_ses-{visit}.nii.gz" for visit in ("M3", "M12")),
        *(f"imagesTs/sub-0201_ses-M3_000{i}.nii.gz" for i in (0, 1)),
    }
    flair = next((raw / "Dataset300_Export" / "imagesTr").glob("*M3_0001.nii.gz"))
    assert flair.read_bytes() == (export / "patients/0012/M3/FLAIR_axial.nii.gz").read_bytes()


def test_the_example_says_that_its_tree_is_invented() -> None:
    assert "INVENTED" in example()


@pytest.mark.parametrize("field", OPTIONAL_FIELDS)
def test_each_commented_field_of_the_example_can_be_used_as_it_stands(tmp_path: Path, export: Path, field: str) -> None:
    text = OPTIONAL.sub(lambda match: "" if match[1] == field else "#", example())
    layout = read(tmp_path, text)
    found = layout.find(export)
    assert [finding.code for finding in found.findings] == (["UNKNOWN_EXCLUDE"] if field == "exclude" else [])
    if field == "subject_name":
        assert found.cases[0].subject == "sub-K0012"
    if field == "table":
        assert [case.metadata["delai_jours"] for case in found.cases] == ["95", "95", "", "n/a"]
        assert [case.site for case in found.cases] == ["Lorient", "Lorient", "Rennes", ""]
    if field in ("description", "reference", "licence"):
        assert layout.about[field]


def test_every_field_is_in_the_example(tmp_path: Path) -> None:
    known = re.search(r"There is (.*) and (\w+)\.", problems(tmp_path, T1W + MASK + "no_such_field: 1\n"))
    assert known
    for name in (*known[1].split(", "), known[2]):
        assert re.search(rf"^#?{name}:", example(), re.MULTILINE), name


def test_values_stay_the_text_that_stands_in_the_file(tmp_path: Path) -> None:
    for subject in ("0012", "1e3"):
        for name in ("T1", "mask"):
            path = tmp_path / subject / f"{name}.nii"
            path.parent.mkdir(exist_ok=True)
            path.touch()
    text = (T1W + MASK).replace(r"\d+", ".*") + "exclude: [0012]\n"
    found = read(tmp_path, text).find(tmp_path)
    assert [case.case for case in found.cases] == ["sub-1e3"]


def test_the_sheet_is_taken_from_beside_the_layout_file_before_the_source(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "01").mkdir(parents=True)
    for name in ("T1", "mask"):
        (source / "01" / f"{name}.nii").touch()
    layout_text = T1W + MASK + "table: {file: p.csv, key: id}\n"
    (source / "p.csv").write_text("id,age\n01,50\n")
    assert read(tmp_path, layout_text).find(source).cases[0].metadata == {"age": "50"}
    (tmp_path / "p.csv").write_text("id,age\n01,61\n")
    assert read(tmp_path, layout_text).find(source).cases[0].metadata == {"age": "61"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (T1W + MASK + "drawn_no: T1w\n", "line 3: drawn_no: there is no such field; did you mean drawn_on?"),
        (T1W + MASK + "drawn_on: t1w\n", "line 3: drawn_on: is 't1w'; did you mean T1w?"),
        (T1W + MASK + "masks: all\n", "line 3: masks: is 'all'"),
        (T1W + MASK + "masks: [one]\n", "line 3: masks: has to be one piece of text"),
        (T1W + MASK + "ignore:\n", "line 3: ignore: is empty"),
        (T1W + MASK + MASK, "line 3: mask: is there twice"),
        (MASK, "line 1: images: is missing"),
        (T1W, "line 1: mask: is missing"),
        (T1W + "mask: []\n", "line 2: mask: is an empty list"),
        ("images: T1.nii\n" + MASK, "line 1: images: has to hold fields of its own"),
        ("images: {}\n" + MASK + "drawn_on: T1w\n", "line 1: images: names no image"),
        (T1W.replace("T1w", "mask") + MASK, "line 1: images.mask: the case table has a column of this name"),
        (T1W.replace("T1w", "T1 3D") + MASK, "line 1: images.T1 3D: the name of an image is"),
        (T1W + MASK + "test: 'T.*'\n" + "table: {file: a.csv}\n", "line 4: table.key: is missing"),
        (T1W + MASK + "table: {file: a, key: b, sit: c}\n", "line 3: sit: there is no such field; did you mean site?"),
        (T1W + MASK + "subject_name: '{centre}{subject}'\n", "line 1: images.T1w: has no group centre, which"),
        (T1W + MASK + "subject_name: 'K{subject'\n", "line 3: subject_name: 'K{subject': expected '}'"),
        (T1W + MASK + "subject_name: '{subject.x}'\n", "line 3: subject_name: '{subject.x}' is not made of"),
        (T1W + MASK + "subject_name: K\n", "line 3: subject_name: 'K' is not made of text and groups"),
        (T1W.replace(r"\d+)", r"\d+)(?P<split>x)") + MASK + "test: []\n", "line 3: test: there is a group split"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    found = problems(tmp_path, text)
    assert f"kerpape.yaml, {expected}" in found
    assert "[LAYOUT_FIELD]" in found or "[LAYOUT_REGEX]" in found


@pytest.mark.parametrize(
    ("expression", "problem", "shown"),
    [
        (r"'(?P<subject>\d+/T1'", "missing ), unterminated subpattern at position 0", "\n              ^\n"),
        ("'*.nii'", "nothing to repeat at position 0", "not wildcards"),
        (r"'(?P<subject>\d+)/[z-a]'", "bad character range z-a at position 18", f"\n{' ' * 32}^\n"),
        ("'(?P<subject>a{99999999999})'", "the repetition number is too large", "a{99999999999}"),
        (r"'(\d+)/T1\.nii'", "has no group subject", "Write (?P<subject>…)"),
        (r"'(?P<sujet>\d+)/T1\.nii'", "there is no group 'sujet'; did you mean subject?", "(?:…)"),
        (r'"(?P<subject>\\d+)/\bT1"', "has a control character", "use single quotes"),
    ],
)
def test_a_wrong_expression_is_shown_where_it_breaks(tmp_path: Path, expression: str, problem: str, shown: str) -> None:
    found = problems(tmp_path, T1W + f"mask:\n  - {expression}\n")
    assert f"kerpape.yaml, line 3: mask: {problem}" in found.replace("is not an expression: ", "")
    assert shown in found
    assert "[LAYOUT_REGEX]" in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("- a\n", "does not consist of fields"),
        ("images:\n\tT1w: 'x'\n", "line 2, column 1: found character '\\t'"),
        ('images: {T1w: "\\d+"}\n', "line 1, column 17: found unknown escape character 'd'"),
        ("images: {T1w: 'a'\n", "line 2, column 1: expected ',' or '}'"),
        ("mask: a\n---\nmask: b\n", "line 2, column 1: but found another document"),
        ("mask: a\nimages: \x07\n", "line 2: a character that no text has"),
        ("mask: *none\n", "line 1, column 7: found undefined alias"),
        ("mask: 'é'\n".encode("latin-1"), "is not UTF-8 text"),
    ],
)
def test_a_file_that_is_not_yaml_is_one_sentence(tmp_path: Path, text: str | bytes, expected: str) -> None:
    found = problems(tmp_path, text)
    assert expected in found
    assert found.count("[LAYOUT_FILE]") == 1


def test_a_layout_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "typo.yaml", tmp_path):
        with pytest.raises(ConversionError, match=re.escape(f"cannot read the layout file {path}")):
            read_layout(path)


def test_everything_that_is_wrong_is_said_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = problems(tmp_path, "images: {T1w: '(x'}\nmask: 'y'\nmasc: z\ndrawn_on: FLAIR\ntest:\n")
    assert [int(line) for line in re.findall(r"yaml, line (\d+)", found)] == [1, 2, 3, 4, 5]


def test_accents_in_an_expression_fit_composed_or_not(tmp_path: Path) -> None:
    path = tmp_path / "données" / "01" / "T1.nii"
    path.parent.mkdir(parents=True)
    path.touch()
    text = T1W.replace("'(", "'donne\u0301es/(") + MASK
    assert read(tmp_path, text).find(tmp_path).cases[0].images == {"T1w": "données/01/T1.nii"}


def test_what_windows_editors_write_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, (T1W + MASK).replace("\n", "\r\n").encode("utf-8-sig")).name == "kerpape"


@settings(max_examples=30)
@given(
    st.recursive(st.text(max_size=8) | st.none() | st.integers(), lambda leaf: st.lists(leaf, max_size=3), max_leaves=5)
)
def test_no_value_of_any_field_ends_in_a_traceback(value: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for field in ("images", "mask", "masks", "drawn_on", "subject_name", "test", "ignore", "exclude", "table"):
            lines = {"images": T1W, "mask": MASK, field: f"{field}: {value!r}\n"}
            with contextlib.suppress(ConversionError):
                read(Path(folder), "".join(lines.values()))
