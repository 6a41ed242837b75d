"""The cases that lack an image, as a dataset of their own: both datasets appear, or none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.atlas_tree import lesion, save, voxels
from helpers.conversion import convert
from helpers.full_disk import full_at

import dataset_conversion.job as job
from dataset_conversion.dataset.target import refuse_taken
from dataset_conversion.errors import ConversionError
from dataset_conversion.job import Conversion
from dataset_conversion.layouts import table
from dataset_conversion.merge import merge
from dataset_conversion.options import Target
from dataset_conversion.tables import case_table
from dataset_conversion.tables.case_table import Case
from nnunet_transformers.common.problems import UserError
from nnunet_transformers.common.staging import new_folders

SUBJECTS = ("P1", "P2", "P3", "P4", "P5", "P6")
BOTH = ["Dataset301_Lab", "Dataset302_Lab_T1w"]
Run = Callable[..., Conversion]


@pytest.fixture
def run(tmp_path: Path, raw: Path) -> Run:
    """Converts an export of which some subjects lack the FLAIR; these have no mask either if `unlabelled`."""
    root = tmp_path / "export"
    for subject in SUBJECTS:
        for role in ("T1w", "FLAIR"):
            save(root / subject / f"{role}.nii.gz", voxels(subject + role))
        save(root / subject / "mask.nii.gz", lesion(subject))

    def run(lacking: tuple[str, ...] = SUBJECTS[3:], *, unlabelled: bool = False, **options: Any) -> Conversion:
        rows = []
        for subject in SUBJECTS:
            images = {"T1w": f"{subject}/T1w.nii.gz", "FLAIR": "" if subject in lacking else f"{subject}/FLAIR.nii.gz"}
            masks = () if unlabelled and subject in lacking else (f"{subject}/mask.nii.gz",)
            rows.append(Case(subject, subject, "train" if masks else "test", images, masks))
        case_table.write(rows, root / "cases.tsv")
        layout = table.layout(root / "cases.tsv")
        ids = {"dataset_id": 301, "incomplete_dataset_id": 302}
        return convert(root, layout=layout, name="Lab", **{**ids, "jobs": 1, **options})

    return run


def test_an_error_in_the_second_dataset_keeps_the_first_from_appearing(run: Run, tmp_path: Path, raw: Path) -> None:
    image = tmp_path / "export" / "P5" / "T1w.nii.gz"
    image.write_bytes(image.read_bytes()[:-8])
    with pytest.raises(ConversionError) as caught:
        run()
    assert [finding.case for finding in caught.value.findings] == ["P5"]
    assert "Nothing was written." in str(caught.value)
    assert os.listdir(raw) == []
    result = run(skip_bad=True)
    assert sorted(os.listdir(raw)) == ["Dataset301_Lab", "Dataset302_Lab_T1w"]
    assert result.incomplete is not None
    assert [case.case for case in result.incomplete.cases] == ["P4", "P6"]


def test_after_an_interruption_in_the_second_dataset_the_first_is_not_done_again(
    run: Run, raw: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real_write, real_check = job.write_case, job.check_case
    checked: list[str] = []

    def interrupted(*arguments: Any) -> None:
        if arguments[0].case.case == "P5":
            raise KeyboardInterrupt
        real_write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(job, "write_case", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run()
    partial = [".Dataset301_Lab.partial", ".Dataset302_Lab_T1w.partial"]
    assert sorted(os.listdir(raw)) == partial
    told = capsys.readouterr().err
    assert all(name in told for name in partial)
    monkeypatch.setattr(job, "check_case", lambda case, *rest: checked.append(case.case) or real_check(case, *rest))
    run()
    assert "P5" in checked
    assert set(checked) <= {"P5", "P6"}
    assert sorted(os.listdir(raw)) == ["Dataset301_Lab", "Dataset302_Lab_T1w"]


@pytest.mark.parametrize("name", ["dataset.json", "qc.html"])
def test_where_the_second_dataset_finds_no_room_what_is_finished_of_both_is_kept(
    run: Run, raw: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(raw_folder=tmp_path / "whole")
    with monkeypatch.context() as patch:
        full_at(patch, raw, lambda _, path: path.name == name and "Dataset302" in str(path))
        with pytest.raises(ConversionError, match="CANNOT_WRITE") as caught:
            run()
    assert all(str(raw / f".{dataset}.partial") in str(caught.value) for dataset in BOTH)
    monkeypatch.setattr(job, "check_case", lambda case, *_: pytest.fail(f"{case.case} is done again"))
    run()
    assert content(raw) == content(tmp_path / "whole")


@pytest.mark.parametrize(("lacking", "why"), [(("P5", "P6"), "all 2 cases"), ((), "no case lacks")])
def test_a_second_dataset_that_cannot_be_is_not_passed_over_in_silence(
    run: Run, raw: Path, lacking: tuple[str, ...], why: str
) -> None:
    result = run(lacking, unlabelled=True)
    assert result.incomplete is None
    assert os.listdir(raw) == ["Dataset301_Lab"]
    assert why in str(result)
    assert "NO_SECOND_DATASET" in (result.folder / "conversion_report.json").read_text()


def test_of_two_datasets_with_one_id_only_the_first_appears(raw: Path) -> None:
    with (
        pytest.raises(UserError, match="ID_TAKEN"),
        new_folders([raw / "Dataset040_A"], check=refuse_taken),
        new_folders([raw / "Dataset040_B"], check=refuse_taken),
    ):
        pass
    assert os.listdir(raw) == ["Dataset040_B"]


KILLED = """
import os, signal, sys
from pathlib import Path
from dataset_conversion.convert import convert
from dataset_conversion.layouts import table
from dataset_conversion.options import Channels, ConvertOptions, Target, Work

root, moment = Path(sys.argv[1]), sys.argv[2]
rename, write_text, unlink = Path.rename, Path.write_text, Path.unlink
renamed = []

def kill_at(this):
    if moment == this:
        os.kill(os.getpid(), signal.SIGKILL)

def writing(path, text):
    if moment == "half of the journal":
        write_text(path, text[: len(text) // 2])
    kill_at("half of the journal")
    write_text(path, text)

def renaming(path, target):
    renamed.append(path)
    kill_at("first rename" if len(renamed) == 1 else "second rename")
    rename(path, target)

def unlinking(path, missing_ok=False):
    kill_at("end of the journal" if path.name.endswith(".appearing") else "")
    unlink(path, missing_ok)

Path.rename, Path.write_text, Path.unlink = renaming, writing, unlinking
options = ConvertOptions(channels=Channels(incomplete_dataset_id=302), work=Work(jobs=1))
convert(root, table.layout(root / "cases.tsv"), Target(301, "Lab"), options)
"""
kills = pytest.mark.skipif(sys.platform == "win32", reason="nothing kills a process so on Windows")


def content(raw: Path) -> dict[str, bytes]:
    return {str(path.relative_to(raw)): path.read_bytes() for path in sorted(raw.rglob("*")) if path.is_file()}


@pytest.fixture
def killed(run: Run, tmp_path: Path, raw: Path) -> Callable[[str], dict[str, bytes]]:
    """Kills a run at a moment; gives what the datasets of a run that nobody disturbs hold."""

    def killed(moment: str) -> dict[str, bytes]:
        run(raw_folder=tmp_path / "whole")
        command = [sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path / "export"), moment]
        child = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert child.returncode == -signal.SIGKILL, child.stderr
        return content(tmp_path / "whole")

    return killed


@kills
@pytest.mark.parametrize("moment", ["first rename", "second rename", "end of the journal"])
def test_two_datasets_that_were_complete_appear_though_their_run_was_killed(
    run: Run, killed: Callable[[str], dict[str, bytes]], raw: Path, moment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = killed(moment)
    with pytest.raises(ConversionError, match="TARGET_EXISTS") as caught:
        run()
    assert content(raw) == whole
    assert sorted(os.listdir(raw)) == BOTH
    told = capsys.readouterr().err
    if moment != "end of the journal":  # then both were there before
        assert all(str(raw / name) in told for name in BOTH)
        assert "was complete when an earlier run was killed" in str(caught.value)
        assert "Nothing is left to do" in str(caught.value)


@kills
def test_a_run_that_was_killed_before_it_had_announced_its_datasets_is_done_again(
    run: Run, killed: Callable[[str], dict[str, bytes]], raw: Path
) -> None:
    whole = killed("half of the journal")
    run()
    assert content(raw) == whole
    assert sorted(os.listdir(raw)) == BOTH


@kills
@pytest.mark.parametrize("moment", ["first rename", "second rename"])
def test_complete_datasets_of_a_killed_run_are_put_in_place_whatever_comes_next(
    run: Run, killed: Callable[[str], dict[str, bytes]], tmp_path: Path, raw: Path, moment: str
) -> None:
    whole = killed(moment)
    run(dry_run=True, dataset_id=311, incomplete_dataset_id=312)
    assert sorted(os.listdir(raw)) != BOTH, "a dry run writes nothing"
    run(dataset_id=311, incomplete_dataset_id=312, seed=7)
    run(raw_folder=tmp_path / "other", dataset_id=311, incomplete_dataset_id=312, seed=7)
    assert content(raw) == whole | content(tmp_path / "other")
    with pytest.raises(ConversionError, match="TARGET_EXISTS"):
        run(seed=7)
    assert content(raw) == whole | content(tmp_path / "other")


@kills
def test_a_dataset_that_waits_for_its_place_can_be_merged(killed: Callable[[str], dict[str, bytes]], raw: Path) -> None:
    killed("second rename")
    with pytest.raises(ConversionError, match="CHANNELS_DIFFER"):
        merge("301", "302", Target(310))
    assert sorted(os.listdir(raw)) == BOTH
