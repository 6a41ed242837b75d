"""The cases that lack an image, as a dataset of their own: both datasets appear, or none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.atlas_tree import lesion, save, voxels
from helpers.conversion import convert

import dataset_conversion.job as job
from dataset_conversion.dataset.target import refuse_taken
from dataset_conversion.errors import ConversionError
from dataset_conversion.job import Conversion
from dataset_conversion.layouts import table
from dataset_conversion.tables import case_table
from dataset_conversion.tables.case_table import Case
from nnunet_transformers.common.problems import UserError
from nnunet_transformers.common.staging import new_folders

SUBJECTS = ("P1", "P2", "P3", "P4", "P5", "P6")
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
        return convert(
            root, layout=layout, dataset_id=301, incomplete_dataset_id=302, name="Lab", **{"jobs": 1, **options}
        )

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
