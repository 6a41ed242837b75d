"""Tasks of the Medical Segmentation Decathlon: found by dataset.json, and converted with each modality a channel."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from helpers.atlas_tree import RAS, SHAPE, lesion, save, voxels
from helpers.conversion import convert
from helpers.itk_masks import turned

from dataset_conversion.errors import ConversionError
from dataset_conversion.job import Conversion
from dataset_conversion.layouts import Scan
from dataset_conversion.layouts.decathlon import find
from dataset_conversion.layouts.table import layout as table_layout
from dataset_conversion.tables import case_table
from nnunet_transformers.cli import main
from nnunet_transformers.common.volumes import nifti

MODALITY = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2"}
CHANNELS = ["FLAIR", "T1w", "t1gd", "T2w"]
LABELS = {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}
NAMES = [f"BRATS_{number:03d}" for number in (1, 2, 3, 4, 6)]


def four(name: str) -> np.ndarray:
    return voxels(name, (*SHAPE, 4))


def task(root: Path, *, affine: np.ndarray = RAS, **changes: Any) -> Path:
    """Five training cases and a test case; `changes` are entries of dataset.json."""
    for name in NAMES:
        save(root / f"imagesTr/{name}.nii.gz", four(name), affine)
        save(root / f"labelsTr/{name}.nii.gz", lesion(name), affine)
        (root / f"imagesTr/._{name}.nii.gz").write_bytes(b"\0\5\26\7")
    save(root / "imagesTs/BRATS_485.nii.gz", four("test"), affine)
    content = {
        "name": "BRATS",
        "tensorImageSize": "4D",
        "modality": MODALITY,
        "labels": LABELS,
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in NAMES],
        "test": ["./imagesTs/BRATS_485.nii.gz"],
        **changes,
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def found(finding_of: Scan) -> list[tuple[str, str]]:
    return [(finding.code, finding.case) for finding in finding_of.findings]


def refused(source: Path, **options: Any) -> ConversionError:
    with pytest.raises(ConversionError) as caught:
        convert(source, "decathlon", **options)
    return caught.value


def test_cases_and_channels_are_those_of_dataset_json(tmp_path: Path) -> None:
    scan = find(task(tmp_path / "Task01"))
    assert not scan.findings
    assert [case.case for case in scan.cases] == [*NAMES, "BRATS_485"]
    first, *_, last = scan.cases
    assert first.images == {name: f"imagesTr/BRATS_001.nii.gz#{k}" for k, name in enumerate(CHANNELS)}
    assert (first.subject, first.split, first.masks) == ("BRATS_001", "train", ("labelsTr/BRATS_001.nii.gz",))
    assert (last.split, last.masks) == ("test", ())


@pytest.mark.parametrize(
    ("entry", "channels"),
    [
        ({"modality": {"0": "CT"}}, ["CT"]),
        ({"modality": {"1": "ADC", "0": "T2"}}, ["T2w", "ADC"]),
        ({"modality": None, "channel_names": {"0": "late contrast-enhanced MRI"}}, ["late_contrast-enhanced_MRI"]),
        ({"modality": ["T1", "t1w", "mask", "7T"]}, ["T1w", "image_1", "image_2", "image_3"]),
    ],
)
def test_channels_have_the_names_of_images_or_what_a_column_can_be_called(
    tmp_path: Path, entry: dict[str, Any], channels: list[str]
) -> None:
    (case, *_) = find(task(tmp_path, **entry)).cases
    assert list(case.images) == channels
    one = "imagesTr/BRATS_001.nii.gz"
    assert list(case.images.values()) == ([one] if len(channels) == 1 else [f"{one}#{k}" for k in range(len(channels))])


def test_what_is_listed_but_not_there_and_there_but_not_listed_is_said(tmp_path: Path) -> None:
    source = task(tmp_path)
    (source / "imagesTr/BRATS_001.nii.gz").unlink()
    (source / "labelsTr/BRATS_002.nii.gz").unlink()
    (source / "imagesTs/BRATS_485.nii.gz").rename(source / "imagesTs/BRATS_486.nii.gz")
    scan = find(source)
    assert found(scan) == [
        ("MISSING_IMAGE", "BRATS_001"),
        ("MISSING_MASK", "BRATS_002"),
        ("MISSING_IMAGE", "BRATS_485"),
        ("UNMATCHED_FILES", ""),
    ]
    assert scan.findings[-1].files == (("not used", "imagesTs/BRATS_486.nii.gz"),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "named entries"),
        ("{}", "what the images show"),
        ('{"modality": {"0": "CT", "2": "PET"}}', "not from 0 on"),
        ('{"modality": {"0": "CT"}}', "lists no case"),
        ('{"modality": {"0": "CT"}, "training": {"image": "a"}}', "something else than a list"),
        ('{"modality": {"0": "CT"}, "training": [{"label": "a"}]}', "not the path"),
        ('{"modality": {"0": "CT"}, "training": [{"image": "a", "label": 3}]}', "not the path"),
    ],
)
def test_a_dataset_json_that_says_too_little_is_an_error(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(ConversionError, match="DATASET_JSON") as caught:
        find(tmp_path)
    assert words in caught.value.findings[0].problem


def test_a_folder_of_tasks_is_no_task(tmp_path: Path) -> None:
    task(tmp_path / "Task01")
    with pytest.raises(ConversionError, match="folder of one task") as caught:
        find(tmp_path)
    assert caught.value.findings[0].code == "NO_CASES"


@pytest.mark.parametrize("affine", [RAS, turned(0.2, -0.1, 0.3, flip=-1)], ids=["RAS", "oblique, flipped"])
@pytest.mark.parametrize("how", [{}, {"quick": True}, {"link": "reference"}], ids=str)
def test_each_volume_becomes_a_channel_on_the_grid_of_its_file(
    tmp_path: Path, raw: Path, affine: np.ndarray, how: dict[str, Any]
) -> None:
    source = task(tmp_path / "Task01", affine=affine)
    assert not convert(source, "decathlon", dry_run=True).written
    folder = convert(source, "decathlon", **how).folder
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["channel_names"] == {str(k): name for k, name in enumerate(CHANNELS)}
    flip = slice(None, None, int(np.sign(affine[0, 0])))
    for k in range(4):
        image = nib.load(folder / f"imagesTr/BRATS_001_{k:04d}.nii.gz")
        assert "".join(nib.aff2axcodes(image.affine)) == "RAS"
        np.testing.assert_array_equal(image.get_fdata(), four("BRATS_001")[flip, ..., k])
        corner = [0 if flip.step == 1 else SHAPE[0] - 1, 0, 0, 1]
        np.testing.assert_allclose(image.affine[:, 3], affine @ corner, atol=1e-4)
        label = nib.load(folder / "labelsTr/BRATS_001.nii.gz")
        np.testing.assert_array_equal(label.affine, image.affine)
        np.testing.assert_array_equal(label.get_fdata(), lesion("BRATS_001")[flip])
    report = json.loads((folder / "conversion_report.json").read_text())
    turned_axes = [] if affine is RAS else ["orientation LAS"]
    assert report["cases"][0]["files"][2]["reasons"] == ["volume 2 of 4", *turned_axes]
    assert report["cases"][0]["files"][2]["sources"][0]["path"] == "imagesTr/BRATS_001.nii.gz#2"
    cases = case_table.read(folder / "cases.tsv")
    assert cases[0].images["t1gd"] == "imagesTr/BRATS_001.nii.gz#2"


def test_a_file_is_inflated_once_for_all_its_channels(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = task(tmp_path / "Task01")
    inflated: list[bytes] = []
    monkeypatch.setattr(nifti, "inflate", lambda stored: inflated.append(stored) or gzip.decompress(stored))
    convert(source, "decathlon")
    assert [inflated.count(path.read_bytes()) for path in sorted(source.glob("images*/B*"))] == [1] * 6


def test_channels_can_be_chosen_and_a_table_can_name_volumes(tmp_path: Path, raw: Path) -> None:
    source = task(tmp_path / "Task01")
    folder = convert(source, "decathlon", names=("T2w", "FLAIR")).folder
    image = nib.load(folder / "imagesTr/BRATS_002_0000.nii.gz")
    np.testing.assert_array_equal(image.get_fdata(), four("BRATS_002")[..., 3])
    table = tmp_path / "cases.tsv"
    rows = [f"{n}\timagesTr\\{n}.nii.gz#1\tlabelsTr/{n}.nii.gz" for n in NAMES]  # as on Windows
    table.write_text("\n".join(["subject\tT1w\tmask", *rows]))
    folder = convert(source, table_layout(table), dataset_id=202).folder
    image = nib.load(folder / "imagesTr/BRATS_002_0000.nii.gz")
    np.testing.assert_array_equal(image.get_fdata(), four("BRATS_002")[..., 1])


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        ("imagesTr/{}.nii.gz#4", "NO_VOLUME"),
        ("imagesTr/{}.nii.gz", "NOT_3D"),
        ("imagesTr/{0}.nii.gz#1\timagesTr/{0}.nii.gz#1", "SAME_FILE"),
        ("imagesTr/{0}.nii.gz#1\timagesTr/../imagesTr/{0}.nii.gz#01", "SAME_FILE"),
    ],
)
def test_a_volume_that_is_not_there_or_twice_in_a_case_is_an_error(
    tmp_path: Path, raw: Path, cells: str, code: str
) -> None:
    source, table = task(tmp_path / "Task01"), tmp_path / "cases.tsv"
    columns = "\t".join(["subject", *["T1w", "FLAIR"][: cells.count("\t") + 1], "mask"])
    rows = [f"{n}\t{cells.format(n)}\tlabelsTr/{n}.nii.gz" for n in NAMES]
    table.write_text("\n".join([columns, *rows]))
    with pytest.raises(ConversionError) as caught:
        convert(source, table_layout(table))
    assert code in {finding.code for finding in caught.value.findings}


def test_a_volume_behind_the_mask_column_is_no_channel(tmp_path: Path, raw: Path) -> None:
    source, table = task(tmp_path / "Task01"), tmp_path / "cases.tsv"
    rows = [f"{n}\timagesTr/{n}.nii.gz#0\tlabelsTr/{n}.nii.gz\timagesTr/{n}.nii.gz#1" for n in NAMES]
    table.write_text("\n".join(["subject\tT1w\tmask\tFLAIR", *rows]))
    with pytest.raises(ConversionError, match="TABLE_COLUMNS"):
        convert(source, table_layout(table))


def test_one_scan_under_two_names_is_found_in_4d_files_too(tmp_path: Path, raw: Path) -> None:
    source = task(tmp_path / "Task01")
    data = four("BRATS_002")
    data[..., 3] = four("BRATS_001")[..., 3]
    save(source / "imagesTr/BRATS_002.nii.gz", data)
    (finding,) = refused(source).findings
    assert finding.code == "DUPLICATE_VOXELS"
    assert [path for _, path in finding.files] == [f"imagesTr/BRATS_00{n}.nii.gz#3" for n in (1, 2)]


def test_a_file_that_is_cut_off_is_refused_for_each_of_its_volumes(tmp_path: Path, raw: Path) -> None:
    source = task(tmp_path / "Task01")
    path = source / "imagesTr/BRATS_001.nii.gz"
    path.write_bytes(path.read_bytes()[:-5])
    assert [(each.code, each.case) for each in refused(source).findings] == [("TRUNCATED", "BRATS_001")] * 4


def test_several_labels_are_named_and_chosen(tmp_path: Path, raw: Path) -> None:
    source = task(tmp_path / "Task01")
    for name in NAMES:
        label = lesion(name)
        label[2:7, 3:6, 7:9] *= 3
        save(source / f"labelsTr/{name}.nii.gz", label)
    error = refused(source)
    assert {finding.code for finding in error.findings} == {"MASK_VALUES"}
    assert "(1 = edema, 3 = enhancing tumour)" in error.findings[0].problem
    folder = convert(source, "decathlon", labels=("3",)).folder
    expected = lesion("BRATS_001")
    expected[:, :, 9:] = 0
    np.testing.assert_array_equal(nib.load(folder / "labelsTr/BRATS_001.nii.gz").get_fdata(), expected)


def test_an_interrupted_conversion_goes_on(tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataset_conversion.job as job

    source = task(tmp_path / "Task01")
    done: list[str] = []
    original = job.check_case

    def check(case: Any, *rest: Any) -> Any:
        done.append(case.case)
        if len(done) == 4:
            raise KeyboardInterrupt
        return original(case, *rest)

    monkeypatch.setattr(job, "check_case", check)
    with pytest.raises(KeyboardInterrupt):
        convert(source, "decathlon", jobs=1)
    save(source / "imagesTr/BRATS_002.nii.gz", four("scanned again"))
    folder = convert(source, "decathlon", jobs=1).folder
    assert "BRATS_001" not in done[4:]
    assert "BRATS_002" in done[4:]
    again = nib.load(folder / "imagesTr/BRATS_002_0001.nii.gz").get_fdata()
    np.testing.assert_array_equal(again, four("scanned again")[..., 1])


def test_pseudonyms_leave_no_path_of_a_volume(tmp_path: Path, raw: Path) -> None:
    result: Conversion = convert(task(tmp_path / "Task01"), "decathlon", pseudonyms=tmp_path / "keys.json")
    texts = [path.read_text() for path in result.folder.glob("*.[jt]s*")]
    assert texts
    assert not any("BRATS" in text for text in texts)


def test_the_commands_take_a_task(tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = task(tmp_path / "Task01")
    assert main(["scan", "decathlon", str(source)]) == 0
    assert "imagesTr/BRATS_001.nii.gz#3" in capsys.readouterr().out
    assert main(["convert", "decathlon", str(source), "--dataset-id", "204", "--channels", "FLAIR"]) == 0
    assert (raw / "Dataset204_Decathlon/imagesTs/BRATS_485_0000.nii.gz").is_file()
    (source / "dataset.json").write_text("{")
    assert main(["scan", "decathlon", str(source)]) == 2
