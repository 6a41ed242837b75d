"""Names of any bytes, and what lies in the place of a file, convert or are refused by name."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from helpers.atlas_tree import lesion, save, voxels
from helpers.conversion import convert

from dataset_conversion.errors import ConversionError
from dataset_conversion.layouts import table
from dataset_conversion.layouts.yaml_file import read_layout

LAYOUT = """
images:
  T1w: 'Patient_(?P<subject>[^/]+)/T1.*'
mask: 'Patient_(?P<subject>[^/]+)/roi.*'
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems take names as text")


def export(folder: Path, names: list[bytes]) -> Path:
    """A folder per patient, called by these bytes."""
    for number, name in enumerate(names):
        patient = Path(os.fsdecode(os.fsencode(folder) + b"/Patient_" + name))
        # nibabel is not asked to write under such a name.
        image, mask = (save(folder.parent / f"{role}.nii.gz", make(str(number))) for role, make in _FILES)
        patient.mkdir(parents=True)
        image.rename(patient / "T1.nii.gz")
        mask.rename(patient / "roi.nii.gz")
    return folder


_FILES = (("image", voxels), ("mask", lesion))


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    texts = [os.fsencode(str(each)) for each in arguments]
    return subprocess.run(
        [sys.executable, "-m", "dataset_conversion", *texts], capture_output=True, text=True, errors="backslashreplace"
    )


@linux
def test_folders_with_names_that_are_not_utf_8_convert(tmp_path: Path, raw: Path) -> None:
    source = export(tmp_path / "src", [b"\xe9t\xe9_%d" % number for number in range(3)])
    (tmp_path / "k.yaml").write_text(LAYOUT.replace("Patient_", "Patient_été_"), encoding="utf-8")
    done = command("convert", "folder", source, "--layout", tmp_path / "k.yaml", "--dataset-id", 1)
    assert done.returncode == 0, done.stderr
    assert len(list((raw / "Dataset001_Folder/labelsTr").iterdir())) == 3
    (source / os.fsdecode(b"Patient_\xe9t\xe9_1/roi.nii.gz")).write_bytes(b"")
    refused = command("convert", "folder", source, "--layout", tmp_path / "k.yaml", "--dataset-id", 2)
    assert refused.returncode == 2
    assert "Patient_\\udce9t\\udce9_1/roi.nii.gz" in refused.stderr
    assert "Traceback" not in refused.stderr


@linux
@pytest.mark.parametrize("name", [b"\xe9t\xe9", b"a\tb", b"a'b\"c", "Été Dupont".encode(), b"x" * 240, b"a b"])
def test_no_name_limits_a_case_that_gets_another(tmp_path: Path, raw: Path, name: bytes) -> None:
    (tmp_path / "k.yaml").write_text(LAYOUT)
    source, layout = export(tmp_path / "src", [name, b"2", b"3"]), read_layout(tmp_path / "k.yaml")
    with pytest.raises(ConversionError, match="CASE_NAME"):
        convert(source, layout)
    done = convert(source, layout, pseudonyms=tmp_path / "key")
    assert done.n_training == 3


@pytest.mark.parametrize("name", ["Été Dupont", "a b", "x/y", "n°1"])
def test_no_name_in_a_case_table_limits_a_case_that_gets_another(tmp_path: Path, raw: Path, name: str) -> None:
    source = study(tmp_path / "study")
    files = [[f"sub-{i}/sub-{i}_{what}.nii.gz" for what in ("T1w", "label-lesion_mask")] for i in (1, 2, 3)]
    rows = ["\t".join([who, *paths]) for who, paths in zip((name, "b", "c"), files, strict=True)]
    (tmp_path / "cases.tsv").write_text("\n".join(["subject\tT1w\tmask", *rows]), encoding="utf-8")
    layout = table.layout(tmp_path / "cases.tsv")
    with pytest.raises(ConversionError, match="CASE_NAME"):
        convert(source, layout)
    assert convert(source, layout, pseudonyms=tmp_path / "key").n_training == 3


def test_two_forms_of_one_accent_are_one_person_even_with_other_names(tmp_path: Path, raw: Path) -> None:
    names = [unicodedata.normalize(form, "été") for form in ("NFC", "NFD")]
    if sys.platform == "darwin":
        pytest.skip("one folder there")
    (tmp_path / "k.yaml").write_text(LAYOUT)
    source = export(tmp_path / "src", [*map(str.encode, names), b"2"])
    with pytest.raises(ConversionError, match="AMBIGUOUS_IMAGE") as error:
        convert(source, read_layout(tmp_path / "k.yaml"), pseudonyms=tmp_path / "key")
    assert all(f"Patient_{name}/T1.nii.gz" in str(error.value) for name in names)


def study(root: Path) -> Path:
    for subject in "123":
        save(root / f"sub-{subject}/sub-{subject}_T1w.nii.gz", voxels(subject))
        save(root / f"sub-{subject}/sub-{subject}_label-lesion_mask.nii.gz", lesion(subject))
    return root


NOTES = {
    "annex": ("/annex/objects/MD5E-s100--abc.nii.gz\n", "datalad get"),
    "lfs": ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
}


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", NOTES)
def test_what_stands_for_a_file_that_was_not_fetched_is_told(tmp_path: Path, raw: Path, kind: str, ending: str) -> None:
    source, (text, remedy) = study(tmp_path / "study"), NOTES[kind]
    (source / "sub-1/sub-1_T1w.nii.gz").unlink()
    (source / f"sub-1/sub-1_T1w{ending}").write_text(text)
    with pytest.raises(ConversionError, match=remedy):
        convert(source, "bids")


@linux
def test_a_fifo_or_socket_where_a_table_or_a_sidecar_should_be_is_not_waited_for(tmp_path: Path, raw: Path) -> None:
    source = study(tmp_path / "study")
    os.mkfifo(source / "participants.tsv")
    os.mkfifo(source / "sub-1/sub-1_dseg.json")
    save(source / "sub-1/sub-1_dseg.nii.gz", lesion("tissue"))
    with socket.socket(socket.AF_UNIX) as plug:
        here = Path.cwd()
        os.chdir(source)  # a socket's path may have 108 bytes
        plug.bind("sub-3_T1w.nii.gz")
        os.chdir(here)
        (source / "sub-3/sub-3_T1w.nii.gz").unlink()
        with pytest.raises(ConversionError, match="not a regular file"):
            convert(source, "bids")
        done = convert(source, "bids", skip_bad=True)
    assert done.n_training == 2
    assert "METADATA_UNREAD" in str(done)
