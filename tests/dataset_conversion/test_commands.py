"""The commands convert and scan, as a user types them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.atlas_tree import RAS, AtlasTree, lesion, save, voxels

from dataset_conversion.tables import case_table
from nnunet_transformers.cli import main

SUBJECTS = ("r001s001", "r001s002", "r002s001", "r002s002", "r003s001")


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("command", ["convert", "scan"])
@pytest.mark.parametrize("layout", ["atlas", "bids", "decathlon", "folder", "kerpape"])
def test_every_layout_has_help_with_an_example(command: str, layout: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run(command, layout, "--help")
    assert f"example: nnunet-transformers {command} {layout}" in " ".join(capsys.readouterr().out.split())


def test_a_scan_edited_by_hand_is_converted(
    tree: AtlasTree, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.add(*SUBJECTS)
    assert run("scan", "atlas", tree.root) == 0
    edited = tmp_path / "cases.tsv"
    rows = capsys.readouterr().out.splitlines()
    edited.write_text("\n".join(row.replace("R002", "Lorient") for row in rows if "r003s001" not in row) + "\n")
    assert "Lorient" in edited.read_text()
    # The site is in the paths of ATLAS too.
    (tree.root / "Training/R002").rename(tree.root / "Training/Lorient")
    assert run("convert", "atlas", tree.root, "--table", edited, "--dataset-id", 201) == 0
    cases = case_table.read(raw / "Dataset201_ATLAS" / "cases.tsv")
    assert [case.case for case in cases] == [f"sub-{subject}_ses-1" for subject in SUBJECTS[:-1]]
    assert [case.site for case in cases] == ["R001", "R001", "Lorient", "Lorient"]


@pytest.mark.parametrize("command", ["folder", "kerpape"])
def test_the_example_layout_file_can_be_printed_and_is_one(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], raw: Path
) -> None:
    with pytest.raises(SystemExit, match="0"):
        run("convert", command, "--example")
    layout = tmp_path / "kerpape.yaml"
    layout.write_text(capsys.readouterr().out)
    assert run("scan", command, tmp_path, "--layout", layout) == 2
    assert "NO_CASES" in capsys.readouterr().err


def test_nothing_is_assumed_about_a_folder_without_a_layout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], raw: Path
) -> None:
    assert run("convert", "folder", tmp_path, "--dataset-id", 301) == 2
    assert "convert folder --example" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "called"), [("folder", "Folder"), ("kerpape", "Kerpape")])
def test_a_hospitals_export_is_converted_by_a_table_with_spaces_and_accents(
    command: str, called: str, tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = tmp_path / "Export du 3 mars"
    rows = ["subject;T1w;FLAIR;mask"]
    for number in range(1, 6):
        folder = f"Patient n°{number}"
        for name, data in (
            ("T1 3D", voxels(f"{number}")),
            ("flair", voxels(f"f{number}")),
            ("Lésion", lesion(f"{number}")),
        ):
            save(export / folder / f"{name}.nii.gz", data)
        rows.append(f"AVC{number:03d};{folder}/T1 3D.nii.gz;{folder}/flair.nii.gz;{folder}/Lésion.nii.gz")
    table = tmp_path / "cas.csv"
    table.write_text("\n".join(rows), encoding="utf-8-sig")
    arguments = ("convert", command, export, "--table", table, "--dataset-id", 301, "--folds", 3)
    assert run(*arguments, "--dry-run") == 0
    assert not any(raw.iterdir())
    assert run(*arguments) == 0
    folder = raw / f"Dataset301_{called}"
    assert capsys.readouterr().out.rstrip().endswith(str(folder))
    assert len(list((folder / "imagesTr").iterdir())) == 10
    assert "AVC003" in (folder / "qc.html").read_text()


def test_known_issues_are_listed_by_release(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run("convert", "atlas", "--known-issues")
    printed = capsys.readouterr().out
    assert "sub-r009s003" in printed
    assert "R2.0" in printed


def test_an_error_can_be_allowed_by_its_code_only_if_something_can_be_written_then(
    tree: AtlasTree, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.add(*SUBJECTS).add_mask("r001s001", data=lesion("r001s001") + lesion("r001s001") * lesion("other"))
    command = ("convert", "atlas", tree.root, "--dataset-id", 201)
    assert run(*command) == 2
    assert "--mask-labels" in capsys.readouterr().err
    assert run(*command, "--allow", "UNREADABLE") == 2
    assert "cannot be allowed" in capsys.readouterr().err
    assert run(*command, "--allow", "MASK_VALUES") == 0
    assert "Allowed: all but 0 are lesion. [MASK_VALUES]" in capsys.readouterr().out


def test_the_conversion_is_a_program_of_its_own_without_pytorch(tree: AtlasTree, raw: Path) -> None:
    tree.add(*SUBJECTS)
    command = [sys.executable, "-X", "importtime", "-m", "dataset_conversion", "convert", "atlas", str(tree.root)]
    done = subprocess.run([*command, "--dataset-id", "201"], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith(str(raw / "Dataset201_ATLAS"))
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "nibabel" in loaded
    assert not loaded & {"torch", "nnunetv2", "pandas"}


def test_what_is_left_out_can_be_said_more_than_once(tree: AtlasTree, raw: Path) -> None:
    tree.add(*SUBJECTS)
    out = ("--exclude", "sub-r001s001", "sub-r001s002", "--exclude", "sub-r003s001")
    assert run("convert", "atlas", tree.root, "--dataset-id", 201, *out) == 0
    kept = [case.subject for case in case_table.read(raw / "Dataset201_ATLAS" / "cases.tsv")]
    assert kept == ["sub-r002s001", "sub-r002s002"]


def test_merge_is_a_command(tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, subjects in ((201, SUBJECTS[:3]), (202, SUBJECTS[2:])):
        tree = AtlasTree(tmp_path / str(number)).add(*subjects)
        assert run("convert", "atlas", tree.root, "--dataset-id", number, "--name", f"Part{number}") == 0
    assert run("convert", "merge", 201, 202, "--dataset-id", 210) == 2
    assert "OVERLAP" in capsys.readouterr().err
    assert run("convert", "merge", 201, 202, "--dataset-id", 210, "--overlap", "first") == 0
    assert (raw / "Dataset210_Part201_Part202" / "qc.html").exists()


def test_what_itk_thinks_of_a_header_is_not_printed_beside_what_the_checks_say(
    tree: AtlasTree, raw: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tree.add(*SUBJECTS)
    image = nib.load(tree.image_path("r001s001"))
    affine = image.affine.copy()
    affine[0, 1] = 0.3
    image = nib.Nifti1Image(np.asarray(image.dataobj), affine)
    image.header.set_qform(RAS, 1)
    nib.save(image, tree.image_path("r001s001"))
    assert run("convert", "atlas", tree.root, "--dataset-id", 201) == 2
    printed = capfd.readouterr().err
    assert "itk" not in printed.lower()
    assert "NOT_ORTHONORMAL" in printed


@pytest.mark.parametrize(("unit", "size"), [("micron", 1e3), ("meter", 1e-3)])
def test_headers_in_other_units_than_mm_are_rewritten(tree: AtlasTree, raw: Path, unit: str, size: float) -> None:
    tree.add(*SUBJECTS)
    for path in (tree.image_path("r001s001"), tree.mask_path("r001s001")):
        image = nib.load(path)
        image = nib.Nifti1Image(np.asarray(image.dataobj), np.diag([size, size, size, 1]) @ image.affine)
        image.header.set_xyzt_units(unit)
        nib.save(image, path)
    assert run("convert", "atlas", tree.root, "--dataset-id", 201) == 0
    for name in ("imagesTr/sub-r001s001_ses-1_0000", "labelsTr/sub-r001s001_ses-1"):
        written = nib.load(raw / f"Dataset201_ATLAS/{name}.nii.gz")
        assert np.allclose(written.affine, RAS, atol=1e-3)
        assert written.header.get_xyzt_units()[0] == "mm"
