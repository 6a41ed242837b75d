"""What a pseudonymised dataset must not tell."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import pytest
from atlas_tree import RAS, lesion, voxels

from dataset_conversion import case_table
from dataset_conversion.case_table import Case
from dataset_conversion.convert import Conversion, convert
from dataset_conversion.errors import ConversionError
from dataset_conversion.layouts import table

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


def run(root: Path, key: Path, **options: object) -> Conversion:
    layout = table.layout(root / "cases.tsv")
    return convert(root, layout=layout, dataset_id=401, name="Lab", jobs=2, pseudonyms=key, **options)  # type: ignore[arg-type]


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


def test_a_dry_run_writes_no_key(tmp_path: Path, raw: Path) -> None:
    root = export(tmp_path / "export")
    run(root, tmp_path / "key.tsv", dry_run=True)
    assert not (tmp_path / "key.tsv").exists()


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
