"""What a pseudonymised dataset must not tell."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from helpers.atlas_tree import RAS, lesion, save, voxels
from helpers.conversion import convert

import dataset_conversion.job as job
from dataset_conversion.checks.case import check_case
from dataset_conversion.dataset.records import Record, Records
from dataset_conversion.errors import ConversionError
from dataset_conversion.job import Conversion
from dataset_conversion.layouts import table
from dataset_conversion.tables import case_table
from dataset_conversion.tables.case_table import Case

PEOPLE = ("Dupont_Jean", "Martin_Anne", "Kergoat_Yann", "LeGall_Soizic", "Moal_Erwan")


def export(root: Path) -> Path:
    """A hospital's export: names in paths, headers, sessions and remarks."""
    rows = []
    for person in PEOPLE:
        folder = root / person / "2019-03-12"
        folder.mkdir(parents=True)
        for name, data in (("T1", voxels(person)), ("lesion", lesion(person))):
            image = nib.Nifti1Image(data, RAS)
            image.header["descrip"] = f"{person} 2019".encode()
            image.header["db_name"] = b"Dupont"
            image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", person.encode()))
            nib.save(image, folder / f"{name}.nii.gz")
        place = f"{person}/2019-03-12"
        rows.append(
            Case(
                *(f"{person}_1", person, "train", {"T1w": f"{place}/T1.nii.gz"}, (f"{place}/lesion.nii.gz",)),
                session="2019-03-12",
                site="Lorient",
                metadata={"days_post_stroke": "400", "remark": f"brother of {person}"},
            )
        )
    case_table.write(rows, root / "cases.tsv")
    return root


def run(root: Path, key: Path, **options: Any) -> Conversion:
    layout = table.layout(root / "cases.tsv")
    return convert(
        root, **{"layout": layout, "dataset_id": 401, "name": "Lab", "jobs": 2, "pseudonyms": key, **options}
    )


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def write_folds(path: Path, folds: Iterable[tuple[str, int]]) -> None:
    path.write_text("\n".join(["case,fold", *(f"{name},{fold}" for name, fold in folds)]))


def splits_of(folder: Path) -> Any:
    return json.loads((folder / "splits_final.json").read_text())


def test_nothing_in_the_dataset_names_a_person_a_date_a_place_or_a_source(tmp_path: Path, raw: Path) -> None:
    root = export(tmp_path / "Centre de Lorient")
    folder = run(root, tmp_path / "key.tsv").folder
    told = re.compile("|".join([*PEOPLE, "Dupont", "2019", "Lorient", "brother", re.escape(str(tmp_path))]))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 2 * len(PEOPLE) + 5
    for path in files:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("latin-1")
        assert not told.search(f"{path.relative_to(folder)}\n{text}"), path
        assert not path.is_symlink()
        assert path.stat().st_nlink == 1


def test_the_same_key_gives_the_same_names_and_another_key_others(tmp_path: Path, raw: Path) -> None:
    root = export(tmp_path / "export")
    names = []
    for key, place in (("a.tsv", "one"), ("a.tsv", "two"), ("b.tsv", "three")):
        names.append({case.subject for case in run(root, tmp_path / key, raw_folder=tmp_path / place).cases})
    assert names[0] == names[1]
    assert not names[0] & names[2]
    assert (tmp_path / "a.tsv").stat().st_mode & 0o077 == 0


def test_the_key_may_not_lie_with_the_data(tmp_path: Path, raw: Path) -> None:
    root = export(tmp_path / "export")
    with pytest.raises(ConversionError) as caught:
        run(root, raw / "key.tsv")
    assert caught.value.findings[0].code == "KEY_INSIDE"


def test_cases_left_out_are_not_named_either(tmp_path: Path, raw: Path) -> None:
    root = export(tmp_path / "export")
    (root / PEOPLE[0] / "2019-03-12" / "lesion.nii.gz").write_bytes(b"")
    result = run(root, tmp_path / "key.tsv", skip_bad=True, exclude=[PEOPLE[1]])
    assert {one.code for one in result.excluded} == {"UNREADABLE", "EXCLUDED"}
    for name in ("conversion_report.json", "qc.html", "cases.tsv"):
        text = (result.folder / name).read_text()
        assert not re.search("|".join(PEOPLE), text)


def test_no_list_has_the_order_of_the_old_names(tmp_path: Path, raw: Path) -> None:
    root = export(tmp_path / "export")
    rows = case_table.read(root / "cases.tsv")
    more = []
    for row in rows:
        save(root / row.masks[0], lesion(row.case) * np.uint8(255))  # each case gets a warning
        for session in ("2020-01-01", "2021-01-01"):
            case = replace(row, case=f"{row.subject}_{session}", session=session)
            images = {"T1w": f"{case.case}/T1.nii.gz"}
            save(root / images["T1w"], voxels(case.case))
            more.append(replace(case, images=images))
    case_table.write([*rows, *more], root / "cases.tsv")
    result = run(root, tmp_path / "key.tsv", exclude=[case.case for case in more if case.session[:4] == "2020"])
    report = json.loads((result.folder / "conversion_report.json").read_text())
    lists = {
        "cases.tsv": [case.case for case in case_table.read(result.folder / "cases.tsv")],
        "cases": [one["case"] for one in report["cases"]],
        "excluded": [one["case"] for one in report["excluded"]],
        "warnings": [one["case"] for one in report["warnings"] if one["code"] == "MASK_VALUE"],
        "page": re.findall(r"<td>(sub-[a-z2-7]{8}_ses-2)", (result.folder / "qc.html").read_text()),
    }
    assert [len(names) for names in lists.values()] == [10, 10, 5, 10, 5]
    for name, names in lists.items():
        assert names == sorted(names), name


def test_what_a_stopped_run_leaves_names_nobody_and_the_next_run_goes_on_from_it(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = export(tmp_path / "export")
    for person in PEOPLE:
        save(root / person / "2019-03-12" / "lesion.nii.gz", lesion(person) * np.uint8(255))  # findings name files
    whole = content(run(root, tmp_path / "key.tsv", raw_folder=tmp_path / "elsewhere").folder)
    real_write, real_check = job.write_case, job.check_case
    written, checked = [], []

    def stopped_at_the_last(*arguments: Any) -> None:
        if len(written) == len(PEOPLE) - 1:
            raise KeyboardInterrupt
        real_write(*arguments)
        written.append(arguments[0].case.case)

    with monkeypatch.context() as patch:
        patch.setattr(job, "write_case", stopped_at_the_last)
        with pytest.raises(KeyboardInterrupt):
            run(root, tmp_path / "key.tsv", jobs=1)
    told = re.compile("|".join([*PEOPLE, "2019", "Lorient", "brother", r"\.nii", re.escape(str(tmp_path))]))
    records = list(raw.glob(".*.partial/.records/*"))
    assert len(records) == len(PEOPLE) - 1
    for path in records:
        kept = {key: value for key, value in json.loads(path.read_text()).items() if key not in ("sizes", "picture")}
        assert not told.search(f"{path.relative_to(raw)}\n{kept}")
    monkeypatch.setattr(job, "check_case", lambda case, *rest: checked.append(case.case) or real_check(case, *rest))
    assert content(run(root, tmp_path / "key.tsv").folder) == whole
    assert not set(checked) & set(written)


def test_no_digest_in_a_record_can_be_computed_without_the_key(tmp_path: Path) -> None:
    root = export(tmp_path / "export")
    case = case_table.read(root / "cases.tsv")[0]
    checked, _ = check_case(case, root)
    Records(tmp_path, root, {}, b"one").save(Record(checked), [])
    [path] = tmp_path.glob(".records/*")
    assert hashlib.sha256((root / case.masks[0]).read_bytes()).hexdigest() not in path.read_text()
    loaded = Records(tmp_path, root, {}, b"one").load(case)
    assert loaded is not None
    assert loaded.checked.findings == checked.findings
    for secret in (b"", b"another"):
        assert Records(tmp_path, root, {}, secret).load(case) is None


def test_without_pseudonyms_a_record_holds_all_that_was_found(tmp_path: Path) -> None:
    root = export(tmp_path / "export")
    case = case_table.read(root / "cases.tsv")[0]
    save(root / case.masks[0], lesion("255") * np.uint8(255))
    checked, _ = check_case(case, root)
    assert checked.findings[0].files
    Records(tmp_path, root, {}).save(Record(checked, b"picture"), [])
    assert Records(tmp_path, root, {}).load(case) == Record(checked, b"picture")


def test_cases_are_excluded_by_their_old_names_and_by_the_new_ones_that_errors_tell(tmp_path: Path, raw: Path) -> None:
    root, key = export(tmp_path / "export"), tmp_path / "key.tsv"
    (root / PEOPLE[0] / "2019-03-12" / "lesion.nii.gz").write_bytes(b"")
    with pytest.raises(ConversionError) as caught:
        run(root, key)
    [finding] = caught.value.findings
    assert f"--exclude {finding.case}" in finding.remedy
    names = (finding.case, finding.case.partition("_")[0], PEOPLE[0], f"{PEOPLE[0]}_1")
    results = [content(run(root, key, exclude=[name], raw_folder=tmp_path / name).folder) for name in names]
    assert results == [results[0]] * len(names)
    with pytest.raises(ConversionError, match="UNKNOWN_EXCLUDE"):
        run(root, key, exclude=["sub-aaaaaaaa"])


def test_a_fold_list_may_have_the_old_names_or_the_new(tmp_path: Path, raw: Path) -> None:
    root, key, folds = export(tmp_path / "export"), tmp_path / "key.tsv", tmp_path / "folds.csv"
    old = [(PEOPLE[0], 0), (f"{PEOPLE[1]}_1", 0), (PEOPLE[2], 1), (f"{PEOPLE[3]}_1_0000.nii.gz", 1), (PEOPLE[4], 1)]
    write_folds(folds, old)
    validated = [split["val"] for split in splits_of(run(root, key, exclude=[PEOPLE[4]], fold_list=folds).folder)]
    people = json.loads(key.read_text())["subjects"]
    expected = [[people[person]["pseudonym"] + "_ses-1" for person in pair] for pair in (PEOPLE[:2], PEOPLE[2:4])]
    assert validated == [sorted(cases) for cases in expected]
    write_folds(folds, [(case, fold) for fold, cases in enumerate(validated) for case in cases])
    again = run(root, key, exclude=[PEOPLE[4]], fold_list=folds, raw_folder=tmp_path / "again")
    assert [split["val"] for split in splits_of(again.folder)] == validated


def test_a_dry_run_writes_no_key_and_nothing_beside_it(tmp_path: Path, raw: Path) -> None:
    root = export(tmp_path / "export")
    folder = tmp_path / "keys"
    with pytest.raises(ConversionError, match="KEY_UNUSABLE"):
        run(root, folder / "key.tsv", dry_run=True)
    folder.mkdir()
    run(root, folder / "key.tsv", dry_run=True)
    assert not list(folder.iterdir())


def test_cases_that_lack_an_image_make_a_dataset_of_their_own_under_pseudonyms_too(tmp_path: Path, raw: Path) -> None:
    root = export(tmp_path / "export")
    cases = case_table.read(root / "cases.tsv")
    flair = [case.images["T1w"].replace("T1.nii", "FLAIR.nii") if i else "" for i, case in enumerate(cases)]
    for path in filter(None, flair):
        nib.save(nib.Nifti1Image(voxels(path), RAS), root / path)
    rows = [replace(case, images={**case.images, "FLAIR": path}) for case, path in zip(cases, flair, strict=True)]
    case_table.write(rows, root / "cases.tsv")
    result = run(root, tmp_path / "key.tsv", incomplete_dataset_id=402)
    assert result.incomplete is not None
    assert (result.n_training, result.incomplete.n_training) == (len(PEOPLE) - 1, 1)
    assert not {case.subject for case in result.cases} & {case.subject for case in result.incomplete.cases}


def test_the_report_says_which_metadata_were_left_out(tmp_path: Path, raw: Path) -> None:
    folder = run(export(tmp_path / "export"), tmp_path / "key.tsv").folder
    warnings = json.loads((folder / "conversion_report.json").read_text())["warnings"]
    assert any(each["code"] == "METADATA_DROPPED" and "remark" in each["problem"] for each in warnings)
