from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from helpers.atlas_tree import RAS, SHAPE, AtlasTree, lesion, save, voxels
from helpers.conversion import convert

import dataset_conversion.job as job
from dataset_conversion.job import Conversion
from dataset_conversion.tables import case_table
from nnunet_transformers.common.problems import UserError

SUBJECTS = ("r001s001", "r001s002", "r002s001", "r009s003", "r048s012", "r048s013")


def run(tree: AtlasTree, **options: Any) -> Conversion:
    return convert(tree.root, **{"dataset_id": 201, "jobs": 2, **options})


def refused(tree: AtlasTree, **options: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        run(tree, **options)
    return caught.value


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_dataset_has_what_nnunet_reads(tree: AtlasTree, raw: Path) -> None:
    tree.add(*SUBJECTS)
    tree.add_image("r003s002", test=True)
    result = run(tree)
    folder = raw / "Dataset201_ATLAS"
    assert result.folder == folder
    cases = [f"sub-{subject}_ses-1" for subject in SUBJECTS]
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {
        *(f"imagesTr/{case}_0000.nii.gz" for case in cases),
        *(f"labelsTr/{case}.nii.gz" for case in cases),
        "imagesTs/sub-r003s002_ses-1_0000.nii.gz",
        "dataset.json",
        "splits_final.json",
        "cases.tsv",
        "conversion_report.json",
        "qc.html",
    }
    dataset = read_json(folder / "dataset.json")
    assert dataset["channel_names"] == {"0": "T1w"}
    assert dataset["labels"] == {"background": 0, "lesion": 1}
    assert (dataset["numTraining"], dataset["file_ending"]) == (6, ".nii.gz")
    splits = read_json(folder / "splits_final.json")
    assert [len(split["val"]) for split in splits].count(1) == 4
    assert sorted(case for split in splits for case in split["val"]) == cases
    assert len(case_table.read(folder / "cases.tsv")) == 7
    assert os.listdir(raw) == ["Dataset201_ATLAS"]
    assert "6 training and 1 test cases of 7 subjects, 5 folds" in str(result)
    assert str(result).endswith(str(folder))


def test_sound_files_are_hard_links_or_copies_as_asked(tree: AtlasTree, raw: Path) -> None:
    tree.add(*SUBJECTS)
    linked = run(tree).folder
    copied = run(tree, dataset_id=202, link="copy").folder
    image, mask = "imagesTr/sub-r001s001_ses-1_0000.nii.gz", "labelsTr/sub-r001s001_ses-1.nii.gz"
    for name, source in ((image, tree.image_path("r001s001")), (mask, tree.mask_path("r001s001"))):
        assert (linked / name).samefile(source)
        assert not (copied / name).samefile(source)
        assert (copied / name).read_bytes() == source.read_bytes()


def test_the_same_source_gives_the_same_bytes_however_it_is_stored_and_read(tmp_path: Path, raw: Path) -> None:
    tree = AtlasTree(tmp_path / "one").add(*SUBJECTS)
    tree.add_mask("r001s001", data=lesion("r001s001").astype(np.float64) * 255)
    save(tree.image_path("r001s002"), voxels("r001s002"), np.diag([-1.0, -1, 1, 1]) @ RAS)
    save(tree.mask_path("r001s002"), lesion("r001s002"), np.diag([-1.0, -1, 1, 1]) @ RAS)
    shutil.copytree(tree.root, tmp_path / "another place")
    first = content(run(tree).folder)
    shutil.rmtree(raw / "Dataset201_ATLAS")
    second = content(run(AtlasTree(tmp_path / "another place"), link="copy", jobs=1).folder)
    assert first == second


def test_voxels_keep_their_place_and_value_when_axes_are_turned(tree: AtlasTree, raw: Path) -> None:
    psr = np.array([[0, 0, 1.5, -60], [-1.0, 0, 0, 70], [0, 1.2, 0, -50], [0, 0, 0, 1]])
    data = (voxels("r001s001") * 10).astype(np.int16)
    tree.add_image("r001s001", data=data, affine=psr)
    tree.add_mask("r001s001", data=lesion("r001s001"), affine=psr)
    folder = run(tree.add(*SUBJECTS[1:])).folder
    image = nib.load(folder / "imagesTr/sub-r001s001_ses-1_0000.nii.gz")
    label = nib.load(folder / "labelsTr/sub-r001s001_ses-1.nii.gz")
    assert "".join(nib.aff2axcodes(image.affine)) == "RAS"
    assert image.get_data_dtype() == np.int16
    assert label.get_data_dtype() == np.uint8
    for stored, expected in ((image, data), (label, lesion("r001s001"))):
        for index in ((0, 0, 0), (3, 4, 8), (11, 13, 12)):
            place = psr @ (*index, 1)
            i, j, k = np.rint(np.linalg.solve(stored.affine, place)[:3]).astype(int)
            assert np.asarray(stored.dataobj)[i, j, k] == expected[index]


def test_a_mask_stored_along_other_axes_than_its_image_lands_on_the_same_voxels(tree: AtlasTree, raw: Path) -> None:
    las = RAS.copy()
    las[0, 0], las[0, 3] = -1, RAS[0, 3] + SHAPE[0] - 1
    tree.add(*SUBJECTS).add_mask("r001s001", data=lesion("r001s001")[::-1].copy(), affine=las)
    folder = run(tree).folder
    label = SimpleITK.ReadImage(str(folder / "labelsTr/sub-r001s001_ses-1.nii.gz"))
    image = SimpleITK.ReadImage(str(folder / "imagesTr/sub-r001s001_ses-1_0000.nii.gz"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(label).T, lesion("r001s001"))
    assert (label.GetOrigin(), label.GetDirection()) == (image.GetOrigin(), image.GetDirection())


STORED: dict[str, tuple[dict[str, Any], Any]] = {
    "4D with one volume": ({"data": voxels("x")[..., None]}, np.float32),
    "float64": ({"data": voxels("x").astype(np.float64)}, np.float64),
    "float64, turned": ({"data": voxels("x").astype(np.float64), "affine": np.diag([-1.0, -1, 1, 1])}, np.float32),
    "uint16, turned": ({"data": voxels("x").astype(np.uint16), "affine": np.diag([-1.0, -1, 1, 1])}, np.uint16),
    "big-endian, turned": ({"data": voxels("x").astype(">i2"), "affine": np.diag([-1.0, -1, 1, 1])}, np.int16),
}


@pytest.mark.parametrize("kind", STORED)
def test_images_keep_their_values_and_where_possible_their_type(tree: AtlasTree, raw: Path, kind: str) -> None:
    options, dtype = STORED[kind]
    affine = options.get("affine", RAS)
    tree.add_image("r001s001", **options)
    tree.add_mask("r001s001", data=lesion("x"), affine=affine)
    image = nib.load(run(tree).folder / "imagesTr/sub-r001s001_ses-1_0000.nii.gz")
    assert image.get_data_dtype().newbyteorder("=") == dtype
    flip = slice(None, None, int(affine[0, 0]))
    np.testing.assert_allclose(image.get_fdata(), options["data"].reshape(SHAPE)[flip, flip], rtol=1e-6)


def test_scaled_and_uncompressed_images_are_written_as_the_values_they_mean(tree: AtlasTree, raw: Path) -> None:
    data = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    image = nib.Nifti1Image(data, RAS)
    image.header.set_slope_inter(0.5, 10)
    tree.add_mask("r001s001")
    path = tree.image_path("r001s001").with_suffix("")
    nib.save(image, path)
    folder = run(tree).folder
    written = nib.load(folder / "imagesTr/sub-r001s001_ses-1_0000.nii.gz")
    assert written.get_data_dtype() == np.float32
    np.testing.assert_array_equal(written.get_fdata(), nib.load(path).get_fdata())


@pytest.mark.parametrize(("value", "dtype"), [(255, np.uint8), (0.9999999776, np.float64), (0.01, np.float32)])
def test_labels_are_uint8_zero_and_one_whatever_the_mask_held(
    tree: AtlasTree, raw: Path, value: float, dtype: Any
) -> None:
    tree.add(*SUBJECTS).add_mask("r001s001", data=(lesion("r001s001") * value).astype(dtype))
    result = run(tree)
    label = nib.load(result.folder / "labelsTr/sub-r001s001_ses-1.nii.gz")
    assert label.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(label.dataobj), lesion("r001s001"))
    report = read_json(result.folder / "conversion_report.json")
    (case,) = [case for case in report["cases"] if case["case"] == "sub-r001s001_ses-1"]
    assert case["lesion"]["value"] == pytest.approx(value)
    assert [(file["role"], file["action"]) for file in case["files"]] == [("T1w", "unchanged"), ("mask", "rewritten")]
    assert ("MASK_VALUE", case["case"]) in {(warning["code"], warning["case"]) for warning in report["warnings"]}


def test_a_masked_test_case_is_kept_out_of_training(tree: AtlasTree, raw: Path) -> None:
    tree.add(*SUBJECTS)
    tree.add_image("r003s002", test=True)
    tree.add_mask("r003s002", test=True, data=lesion("r003s002") * np.uint8(255))
    folder = run(tree).folder
    assert np.unique(nib.load(folder / "labelsTs/sub-r003s002_ses-1.nii.gz").dataobj).tolist() == [0, 1]
    assert read_json(folder / "dataset.json")["numTraining"] == len(SUBJECTS)
    assert "r003s002" not in (folder / "splits_final.json").read_text()


def test_sessions_of_a_subject_stay_on_one_side_of_every_fold(tree: AtlasTree, raw: Path) -> None:
    tree.add(*SUBJECTS)
    for subject in SUBJECTS[:3]:
        tree.add_image(subject, "2")
        tree.add_mask(subject, "2")
    for split in read_json(run(tree).folder / "splits_final.json"):
        train, val = ({case.split("_")[0] for case in split[part]} for part in ("train", "val"))
        assert not train & val


def test_all_bad_cases_are_named_in_one_run_and_nothing_is_written(tree: AtlasTree, raw: Path) -> None:
    tree.add(*SUBJECTS)
    tree.mask_path("r048s012").unlink()
    tree.image_path("r001s002").write_bytes(tree.image_path("r001s002").read_bytes()[:300])
    tree.add_mask("r002s001", affine=np.diag([1.0, 1, 1, 1]))
    error = refused(tree)
    assert [(finding.case, finding.code) for finding in error.findings] == [
        ("sub-r001s002_ses-1", "TRUNCATED"),
        ("sub-r002s001_ses-1", "GRID_MISMATCH"),
        ("sub-r048s012_ses-1", "MISSING_MASK"),
    ]
    for path in (tree.image_path("r048s012"), tree.image_path("r001s002"), tree.mask_path("r002s001")):
        assert str(path.relative_to(tree.root)) in str(error)
    assert str(error).endswith("3 of 6 cases cannot be converted (--skip-bad leaves them out). Nothing was written.")
    assert os.listdir(raw) == []


def test_a_long_list_of_errors_is_cut_and_counted(tree: AtlasTree, raw: Path) -> None:
    for number in range(25):
        tree.add_image(f"r001s{number:03d}")
    error = refused(tree)
    assert len(error.findings) == 25
    assert str(error).count("[MISSING_MASK]") == 20
    assert "and 5 more" in str(error)


def test_bad_cases_are_left_out_only_when_asked_and_with_the_reason(tree: AtlasTree, raw: Path) -> None:
    tree.add(*SUBJECTS)
    tree.mask_path("r001s001").unlink()
    tree.image_path("r001s002").write_bytes(b"")
    tree.mask_path("r001s002").write_bytes(b"")
    result = run(tree, skip_bad=True, exclude=["sub-r048s013"])
    report = read_json(result.folder / "conversion_report.json")
    assert [(one["case"], one["code"]) for one in report["excluded"]] == [
        ("sub-r048s013_ses-1", "EXCLUDED"),
        ("sub-r001s001_ses-1", "MISSING_MASK"),
        ("sub-r001s002_ses-1", "UNREADABLE, UNREADABLE"),
    ]
    assert result.n_training == 3
    assert "3 cases left out" in str(result)
    assert not list(result.folder.rglob("*r001s00*"))


def test_a_bad_case_may_be_excluded_by_name_but_a_typo_is_an_error(tree: AtlasTree, raw: Path) -> None:
    tree.add(*SUBJECTS)
    tree.mask_path("r001s001").unlink()
    assert refused(tree, exclude=["sub-r001s01"]).findings[0].code == "UNKNOWN_EXCLUDE"
    assert run(tree, exclude=["sub-r001s001_ses-1"]).n_training == 5


@pytest.mark.parametrize(("policy", "n_training"), [("keep", 6), ("skip", 5)])
def test_empty_masks_are_kept_or_left_out_when_asked(tree: AtlasTree, raw: Path, policy: Any, n_training: int) -> None:
    tree.add(*SUBJECTS).add_mask("r001s001", data=np.zeros(SHAPE, np.uint8))
    assert refused(tree).findings[0].code == "EMPTY_MASK"
    result = run(tree, empty_masks=policy)
    assert result.n_training == n_training
    assert [one.code for one in result.excluded] == ["EMPTY_MASK"] * (6 - n_training)


def test_known_issues_of_the_release_are_warned_about(tree: AtlasTree, raw: Path) -> None:
    result = run(tree.add(*SUBJECTS))
    assert [(one.code, one.case) for one in result.warnings] == [("KNOWN_ISSUE", "sub-r009s003_ses-1")]
    assert "npnl/ATLAS#21" in str(result)


def test_fewer_subjects_than_folds_give_fewer_folds_and_a_warning(tree: AtlasTree, raw: Path) -> None:
    result = run(tree.add(*SUBJECTS[:3]))
    assert [one.code for one in result.warnings] == ["FEWER_FOLDS"]
    assert len(read_json(result.folder / "splits_final.json")) == result.folds == 3
    tree.root.rename(tree.root.parent / "three")
    alone = run(tree.add("r001s001"), dataset_id=202)
    assert [one.code for one in alone.warnings] == ["NO_FOLDS"]
    assert not (alone.folder / "splits_final.json").exists()


def test_test_cases_alone_are_no_dataset(tree: AtlasTree, raw: Path) -> None:
    tree.add_image("r003s002", test=True)
    assert refused(tree).findings[0].code == "NO_TRAINING_CASES"


def test_cases_with_masks_that_are_all_for_testing_are_named(tree: AtlasTree, raw: Path) -> None:
    tree.add(SUBJECTS[0])
    (tree.root / "Training").rename(tree.root / "Testing")
    error = refused(tree)
    assert error.code == "NO_TRAINING_CASES"
    assert [role for role, _ in error.findings[0].files] == ["for testing"]


def test_an_existing_dataset_is_never_touched(tree: AtlasTree, raw: Path) -> None:
    run(tree.add(*SUBJECTS))
    before = content(raw)
    error = refused(tree)
    assert error.findings[0].code == "TARGET_EXISTS"
    assert "Dataset201_ATLAS" in str(error)
    assert refused(tree, name="Other").findings[0].code == "ID_TAKEN"
    assert content(raw) == before


def test_an_id_used_by_preprocessed_data_of_another_name_is_refused(
    tree: AtlasTree, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocessed = raw.parent / "nnUNet_preprocessed"
    (preprocessed / "Dataset201_Heart").mkdir(parents=True)
    monkeypatch.setenv("nnUNet_preprocessed", str(preprocessed))
    assert refused(tree.add(*SUBJECTS)).findings[0].code == "ID_TAKEN"


@pytest.mark.parametrize(
    "options",
    [
        *({"dataset_id": number} for number in (0, 1000, -1)),
        *({"name": name} for name in ("", "A__B", "a/b", "with space", "_A", "é")),
        {"number": 1},
        {"jobs": 0},
        {"link": "move"},
        {"empty_masks": "drop"},
    ],
)
def test_options_nnunet_cannot_live_with_are_refused(tree: AtlasTree, raw: Path, options: dict[str, Any]) -> None:
    assert refused(tree.add(*SUBJECTS), **options).findings[0].code == "BAD_OPTION"


def test_an_unset_raw_folder_is_an_error_that_says_how_to_set_it(
    tree: AtlasTree, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("nnUNet_raw")
    assert "export nnUNet_raw=" in str(refused(tree.add(*SUBJECTS)))
    assert run(tree, raw_folder=raw.parent / "new" / "raw").folder.is_dir()


def test_a_raw_folder_that_cannot_be_written_is_an_error(tree: AtlasTree, raw: Path) -> None:
    in_the_way = raw / "file"
    in_the_way.touch()
    error = refused(tree.add(*SUBJECTS), raw_folder=in_the_way)
    assert error.findings[0].code == "CANNOT_WRITE"


def test_a_raw_folder_that_cannot_be_looked_into_is_an_error(tree: AtlasTree, raw: Path) -> None:
    tree.add(SUBJECTS[0])
    assert refused(tree, raw_folder=raw / ("x" * 300)).code == "CANNOT_WRITE"


def test_a_dry_run_checks_all_and_writes_nothing(tree: AtlasTree, raw: Path) -> None:
    result = run(tree.add(*SUBJECTS), dry_run=True)
    assert (result.written, result.n_training, result.folds) == (False, 6, 5)
    assert "nothing was written" in str(result)
    tree.mask_path("r001s001").write_bytes(b"")
    assert refused(tree, dry_run=True).findings[0].code == "UNREADABLE"
    assert os.listdir(raw) == []


def fails_at(monkeypatch: pytest.MonkeyPatch, part_of_case: str, failure: BaseException) -> None:
    """Stands in for what cannot be had on demand at one moment."""
    real = job.write_case

    def failing(checked: Any, *rest: Any) -> None:
        real(checked, *rest)
        if part_of_case in checked.case.case:
            raise failure

    monkeypatch.setattr(job, "write_case", failing)


def test_after_ctrl_c_the_same_call_goes_on_where_it_was(
    tree: AtlasTree, raw: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.add(*SUBJECTS)
    whole = content(run(tree, raw_folder=raw.parent / "elsewhere").folder)
    with monkeypatch.context() as patch:
        fails_at(patch, "r009s003", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run(tree, jobs=1)
    assert os.listdir(raw) == [".Dataset201_ATLAS.partial"]
    assert ".Dataset201_ATLAS.partial" in capsys.readouterr().err
    checked = []
    real = job.check_case
    monkeypatch.setattr(job, "check_case", lambda case, *rest: checked.append(case.subject) or real(case, *rest))
    assert content(run(tree).folder) == whole
    assert set(checked) <= {f"sub-{subject}" for subject in SUBJECTS[3:]}
    assert "sub-r009s003" in checked


def test_files_that_were_cut_off_after_an_interruption_are_written_again(
    tree: AtlasTree, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for subject in SUBJECTS:
        tree.add_image(subject)
        tree.add_mask(subject, data=lesion(subject) * np.uint8(255))
    whole = content(run(tree, raw_folder=raw.parent / "elsewhere").folder)
    with monkeypatch.context() as patch:
        fails_at(patch, SUBJECTS[-1], KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run(tree, jobs=1)
    label = raw / ".Dataset201_ATLAS.partial" / "labelsTr" / f"sub-{SUBJECTS[0]}_ses-1.nii.gz"
    label.write_bytes(label.read_bytes()[:50])
    assert content(run(tree).folder) == whole


def test_files_of_an_interrupted_run_that_the_dataset_does_not_have_are_removed(
    tree: AtlasTree, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.add(*SUBJECTS)
    whole = content(run(tree, raw_folder=raw.parent / "elsewhere").folder)
    with monkeypatch.context() as patch:
        fails_at(patch, SUBJECTS[0], KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run(tree, jobs=1)
    transforms = raw / ".Dataset201_ATLAS.partial" / "transforms"
    transforms.mkdir()
    (transforms / "of_a_run_that_registered.tfm").touch()
    folder = run(tree).folder
    assert content(folder) == whole
    assert not (folder / "transforms").exists()


def test_what_an_interrupted_run_did_with_other_options_or_files_does_not_count(
    tree: AtlasTree, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.add(*SUBJECTS)
    with monkeypatch.context() as patch:
        fails_at(patch, SUBJECTS[-1], KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run(tree, jobs=1)
    tree.add_mask(SUBJECTS[0], data=lesion("redrawn") * np.uint8(255))
    whole = content(run(tree, raw_folder=raw.parent / "elsewhere", exclude=["sub-r001s002"], link="copy").folder)
    result = run(tree, exclude=["sub-r001s002"], link="copy")
    assert content(result.folder) == whole
    assert not (result.folder / "imagesTr/sub-r001s001_ses-1_0000.nii.gz").samefile(tree.image_path("r001s001"))


KILLED_WHILE_WRITING = """
import sys, time
from pathlib import Path
import dataset_conversion.job as job
from dataset_conversion.convert import convert
from dataset_conversion.options import ConvertOptions, Target, Work
real = job.write_case
def slow(checked, *rest):
    real(checked, *rest)
    print("one case written", flush=True)
    time.sleep(60)
job.write_case = slow
convert(Path(sys.argv[1]), "atlas", Target(201, "ATLAS"), ConvertOptions(work=Work(jobs=1)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="folders are not locked on Windows")
def test_a_run_in_progress_is_respected_and_the_remains_of_a_killed_one_are_cleared(tree: AtlasTree, raw: Path) -> None:
    tree.add(*SUBJECTS)
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(tree.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"one case written\n"
            assert refused(tree).findings[0].code == "IN_PROGRESS"
            assert not (raw / "Dataset201_ATLAS").exists()
        finally:
            process.send_signal(signal.SIGKILL)
    assert len(os.listdir(raw)) == 1
    run(tree)
    assert os.listdir(raw) == ["Dataset201_ATLAS"]
    assert len(list((raw / "Dataset201_ATLAS" / "imagesTr").iterdir())) == len(SUBJECTS)


def test_the_report_names_no_place_outside_the_source(tree: AtlasTree, raw: Path) -> None:
    tree.add(*SUBJECTS)
    tree.add_mask("r001s001", affine=RAS + np.array([[0, 0, 0, 0.01], *[[0] * 4] * 3]))
    folder = run(tree).folder
    for name in ("conversion_report.json", "cases.tsv", "dataset.json", "splits_final.json"):
        assert str(tree.root.parent) not in (folder / name).read_text()


def test_progress_goes_to_stderr_and_stdout_stays_free(
    tree: AtlasTree, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tree.add(*SUBJECTS))
    out, err = capsys.readouterr()
    assert out == ""
    assert "converting" in err
    assert "6/6" in err
