"""T1 and FLAIR: channels by name, one grid, and what happens where there is none."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from helpers.atlas_tree import RAS, SHAPE, lesion, save, voxels
from helpers.conversion import convert

from dataset_conversion.errors import ConversionError
from dataset_conversion.job import Conversion
from dataset_conversion.layouts import table
from dataset_conversion.tables import case_table
from dataset_conversion.tables.case_table import Case

SUBJECTS = tuple(f"sub-{number:02d}" for number in range(1, 7))
THICK = np.array([[0.8, 0, 0, -98], [0, 0.8, 0, -134], [0, 0, 2.5, -72], [0, 0, 0, 1]])
"""A FLAIR of thick slices."""
THICK_SHAPE = (15, 17, 6)


def shifted(mm: float) -> np.ndarray:
    """The usual grid, farther to the right."""
    affine = RAS.copy()
    affine[0, 3] += mm
    return affine


class Hospital:
    """T1w, FLAIR and a mask per subject, and the table that lists them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: dict[str, Case] = {}

    def path(self, subject: str, role: str) -> Path:
        return self.root / "irm é" / subject / f"{role}.nii.gz"

    def add(self, subject: str, *, flair: bool = True, thick: bool = False, mask_on_flair: bool = False) -> Hospital:
        images = {"T1w": self.save(subject, "T1w")}
        flair_grid = (THICK, THICK_SHAPE) if thick else (RAS, None)
        images["FLAIR"] = self.save(subject, "FLAIR", *flair_grid) if flair else ""
        mask_grid = flair_grid if mask_on_flair else (RAS, None)
        self.rows[subject] = Case(subject, subject, "train", images, (self.save(subject, "mask", *mask_grid),))
        return self

    def save(self, subject: str, role: str, affine: np.ndarray = RAS, shape: Any = None) -> str:
        data: np.ndarray = voxels(subject + role, shape or SHAPE)
        if role == "mask" and shape:
            data = np.zeros(shape, np.uint8)
            data[4:7, 5:8, 1:3] = 1
            data[3, 5:8, 1] = np.unravel_index(int(subject[-1]), (2, 2, 2))  # nobody has another's mask
        elif role == "mask":
            data = lesion(subject)
        return str(save(self.path(subject, role), data, affine).relative_to(self.root))

    def convert(self, **options: Any) -> Conversion:
        listed = self.root / "cases.tsv"
        case_table.write(list(self.rows.values()), listed)
        return convert(
            self.root, **{"layout": table.layout(listed), "dataset_id": 301, "name": "Lab", "jobs": 2, **options}
        )

    def refused(self, **options: Any) -> ConversionError:
        with pytest.raises(ConversionError) as caught:
            self.convert(**options)
        return caught.value


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path / "export")


def image(result: Conversion, subject: str, channel: int) -> nib.Nifti1Image:
    return nib.load(result.folder / f"imagesTr/{subject}_{channel:04d}.nii.gz")


def label(result: Conversion, subject: str) -> nib.Nifti1Image:
    return nib.load(result.folder / f"labelsTr/{subject}.nii.gz")


def channel_names(result: Conversion) -> list[str]:
    return list(json.loads((result.folder / "dataset.json").read_text())["channel_names"].values())


@pytest.mark.parametrize("order", [["T1w", "FLAIR"], ["FLAIR", "T1w"], ["flair", "t1W"]])
def test_a_channel_is_what_it_is_called_whatever_the_order(hospital: Hospital, raw: Path, order: list[str]) -> None:
    for subject in SUBJECTS:
        hospital.add(subject)
    result = hospital.convert(names=order)
    names = [{"t1w": "T1w", "flair": "FLAIR"}[name.lower()] for name in order]
    assert channel_names(result) == names
    for channel, name in enumerate(names):
        np.testing.assert_array_equal(image(result, "sub-03", channel).get_fdata(), voxels("sub-03" + name))


def test_cases_without_flair_are_left_out_with_the_reason_and_never_shift_channels(
    hospital: Hospital, raw: Path
) -> None:
    for subject in SUBJECTS:
        hospital.add(subject, flair=subject != "sub-02")
    result = hospital.convert()
    assert [(one.case.case, one.code, one.reason) for one in result.excluded] == [("sub-02", "INCOMPLETE", "no FLAIR")]
    assert not list(result.folder.rglob("sub-02*"))
    np.testing.assert_array_equal(image(result, "sub-01", 1).get_fdata(), voxels("sub-01FLAIR"))


def test_cases_without_flair_make_a_t1_dataset_when_asked(hospital: Hospital, raw: Path) -> None:
    for subject in SUBJECTS:
        hospital.add(subject, flair=subject not in ("sub-02", "sub-05"))
    result = hospital.convert(incomplete_dataset_id=302)
    assert result.incomplete is not None
    assert result.incomplete.folder.name == "Dataset302_Lab_T1w"
    assert channel_names(result.incomplete) == ["T1w"]
    assert sorted(case.case for case in result.incomplete.cases) == ["sub-02", "sub-05"]
    assert "Dataset302_Lab_T1w" in str(result)


def test_t1_alone_can_be_converted_of_cases_with_flair(hospital: Hospital, raw: Path) -> None:
    for subject in SUBJECTS:
        hospital.add(subject, flair=subject != "sub-02", thick=True)
    result = hospital.convert(names=["T1w"])
    assert (channel_names(result), result.n_training, result.excluded) == (["T1w"], 6, ())


def test_an_unknown_channel_is_an_error_that_names_those_there_are(hospital: Hospital, raw: Path) -> None:
    assert "found T1w, FLAIR" in str(hospital.add("sub-01").refused(names=["T2w"]))


def test_unequal_grids_are_refused_with_the_distance_and_both_ways_out(hospital: Hospital, raw: Path) -> None:
    for subject in SUBJECTS:
        hospital.add(subject)
    moved = RAS.copy()
    moved[:3, 3] += (3, 0, 4)
    hospital.save("sub-04", "FLAIR", moved)
    error = hospital.refused()
    assert [(finding.case, finding.code) for finding in error.findings] == [("sub-04", "GRID_MISMATCH")]
    for words in ("5 mm", "--resample", "--register rigid", "irm é/sub-04/FLAIR.nii.gz"):
        assert words in str(error)


def test_the_case_gets_the_grid_the_masks_were_drawn_on_and_the_mask_is_not_interpolated(
    hospital: Hospital, raw: Path
) -> None:
    for subject in SUBJECTS:
        hospital.add(subject, thick=True, mask_on_flair=True)
    assert {finding.code for finding in hospital.refused().findings} == {"SHAPE_MISMATCH"}
    result = hospital.convert(align="resample")
    assert image(result, "sub-01", 1).shape == image(result, "sub-01", 0).shape == THICK_SHAPE
    np.testing.assert_allclose(image(result, "sub-01", 0).affine, THICK, atol=1e-5)
    assert (result.folder / "imagesTr/sub-01_0001.nii.gz").samefile(hospital.path("sub-01", "FLAIR"))
    assert (result.folder / "labelsTr/sub-01.nii.gz").samefile(hospital.path("sub-01", "mask"))
    # A voxel of the result holds what the T1 has at the same place in the scanner.
    i, j, k = 5, 5, 2
    place = np.linalg.solve(RAS, THICK @ (i, j, k, 1))[:3]
    low, part = np.floor(place).astype(int), place - np.floor(place)
    corner = voxels("sub-01T1w")[tuple(slice(n, n + 2) for n in low)]
    for share in part:
        corner = corner[0] * (1 - share) + corner[1] * share
    assert image(result, "sub-01", 0).get_fdata()[i, j, k] == pytest.approx(float(corner), rel=1e-4)


def test_a_mask_on_another_grid_than_the_reference_moves_only_when_asked(hospital: Hospital, raw: Path) -> None:
    for subject in SUBJECTS:
        hospital.add(subject, thick=True, mask_on_flair=True)
    error = hospital.refused(reference="T1w", align="resample")
    assert "--reference FLAIR" in str(error)
    assert "--resample-mask" in str(error)
    result = hospital.convert(reference="T1w", align="resample", resample_mask=True)
    moved = label(result, "sub-01")
    assert moved.shape == image(result, "sub-01", 0).shape == voxels("x").shape
    assert set(np.unique(np.asarray(moved.dataobj))) == {0, 1}
    centre = np.linalg.solve(RAS, THICK @ (5, 6, 2, 1))[:3].round().astype(int)
    assert np.asarray(moved.dataobj)[tuple(centre)] == 1


@pytest.mark.parametrize("align", ["resample", "rigid"])
def test_an_image_that_lies_elsewhere_is_refused_and_not_written_blank(
    hospital: Hospital, raw: Path, align: str
) -> None:
    hospital.add("sub-01").add("sub-02")
    hospital.save("sub-02", "FLAIR", shifted(500))
    error = hospital.refused(align=align)
    assert [(finding.case, finding.code) for finding in error.findings] == [("sub-02", "NO_OVERLAP")]
    assert "0 % of the smaller field of view" in str(error)


def test_an_image_that_covers_little_of_the_reference_is_warned_about(hospital: Hospital, raw: Path) -> None:
    hospital.add("sub-01").add("sub-02").add("sub-03")
    hospital.save("sub-02", "FLAIR", shifted(8))  # of 12 mm
    hospital.save("sub-03", "FLAIR", shifted(3))
    warnings = [each for each in hospital.convert(align="resample").warnings if each.code == "SMALL_OVERLAP"]
    assert [each.case for each in warnings] == ["sub-02"]
    assert "65 % of the T1w image's grid lies outside the FLAIR image" in warnings[0].problem


@pytest.fixture
def cut(hospital: Hospital) -> Hospital:
    """Masks on thick FLAIRs: the T1w holds all of the first lesion, half of the second, nothing of the third."""
    for subject, slices in {"sub-01": slice(1, 3), "sub-02": slice(4, 6), "sub-03": slice(5, 6)}.items():
        hospital.add(subject, thick=True, mask_on_flair=True)
        mask = np.zeros(THICK_SHAPE, np.uint8)
        mask[4:14, 4:14, slices] = 1
        save(hospital.path(subject, "mask"), mask, THICK)
        save(hospital.path(subject, "T1w"), voxels(subject)[:, :, :12], RAS)
    return hospital


FOLLOW = {"reference": "T1w", "align": "resample", "resample_mask": True}


def test_a_lesion_lost_on_the_way_to_the_reference_follows_the_policy_of_empty_masks(cut: Hospital, raw: Path) -> None:
    error = cut.refused(**FOLLOW)
    assert [(finding.case, finding.code) for finding in error.findings] == [("sub-03", "EMPTY_MASK")]
    assert "nothing is left of its lesion of 0.16 ml" in str(error)
    skipped = cut.convert(**FOLLOW, empty_masks="skip")
    assert [(one.case.case, one.code) for one in skipped.excluded] == [("sub-03", "EMPTY_MASK")]
    kept = cut.convert(**FOLLOW, empty_masks="keep", dataset_id=302)
    assert [each.case for each in kept.warnings if each.code == "EMPTY_MASK"] == ["sub-03"]
    assert [each.case for each in kept.warnings if each.code == "LESION_LOST"] == ["sub-02"]


def test_nnunet_reads_a_case_of_two_registered_images_without_a_word(hospital: Hospital, raw: Path) -> None:
    for subject in SUBJECTS:
        hospital.add(subject, thick=subject < "sub-04")
    result = hospital.convert(align="resample")
    code = (
        "import sys; from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity\n"
        "if __name__ == '__main__': verify_dataset_integrity(sys.argv[1], num_processes=1)"
    )
    script = raw / "verify.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, str(script), str(result.folder)], capture_output=True, text=True)
    printed = (done.stdout + done.stderr).lower()
    assert done.returncode == 0, printed
    assert "verify_dataset_integrity done" in printed
    # nnU-Net's own, not what Python warns of when a process imports PyTorch.
    assert not [line for line in printed.splitlines() if re.match(r"\W*(warning|error)", line)]


def test_registration_keeps_its_transform_and_says_how_far_it_moved(hospital: Hospital, raw: Path) -> None:
    shape = (40, 44, 36)
    i, j, k = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    head = ((i - 20) ** 2 / 16**2 + (j - 22) ** 2 / 19**2 + (k - 18) ** 2 / 15**2 < 1).astype(np.float32)
    ear = ((i - 31) ** 2 + (j - 26) ** 2 + (k - 20) ** 2 < 16).astype(np.float32)
    t1 = 200 * head + 300 * ear + 20 * np.sin(i / 3) * head
    affine = np.diag([4.0, 4, 4, 1])
    moved = affine.copy()
    moved[:3, 3] += (6, -4, 0)
    for subject in SUBJECTS[:2]:
        hospital.add(subject)
        noise = voxels(subject, shape) / 100
        save(hospital.path(subject, "T1w"), t1 + noise, affine)
        save(hospital.path(subject, "FLAIR"), 500 * head - 200 * ear + noise, moved)
        save(hospital.path(subject, "mask"), np.roll((ear > 0).astype(np.uint8), int(subject[-1]), 0), affine)
    result = hospital.convert(align="rigid")
    transform = SimpleITK.ReadTransform(str(result.folder / "transforms/sub-01_FLAIR.tfm"))
    shift = np.array(transform.TransformPoint((80.0, 88.0, 72.0))) - (80, 88, 72)
    np.testing.assert_allclose(np.abs(shift), (6, 4, 0), atol=1.0)
    report = json.loads((result.folder / "conversion_report.json").read_text())
    assert "mutual information" in report["cases"][0]["transforms"][0]["summary"]
    assert (result.folder / "imagesTr/sub-01_0000.nii.gz").samefile(hospital.path("sub-01", "T1w"))


def test_an_image_on_the_reference_s_grid_is_registered_too_unless_it_is_in_its_place(
    hospital: Hospital, raw: Path
) -> None:
    shape, affine = (40, 44, 36), np.diag([4.0, 4, 4, 1])
    i, j, k = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    head = ((i - 20) ** 2 / 16**2 + (j - 22) ** 2 / 19**2 + (k - 18) ** 2 / 15**2 < 1).astype(np.float32)
    ear = ((i - 31) ** 2 + (j - 26) ** 2 + (k - 20) ** 2 < 16).astype(np.float32)
    for subject, voxels_off in (("sub-01", 3), ("sub-02", 0)):
        hospital.add(subject)
        noise = voxels(subject, shape) / 100
        save(hospital.path(subject, "T1w"), 200 * head + 300 * ear + 20 * np.sin(i / 3) * head + noise, affine)
        flair = np.roll(500 * head - 200 * ear, voxels_off, 1)
        save(hospital.path(subject, "FLAIR"), flair + noise[::-1], affine)
        save(hospital.path(subject, "mask"), np.roll((ear > 0).astype(np.uint8), int(subject[-1]), 0), affine)
    result = hospital.convert(align="rigid")
    said = {each.case: each.problem for each in result.warnings if each.code == "SAME_GRID"}
    assert "not in its place: the registration moves it by up to 1" in said["sub-01"]  # 12 mm
    assert "it stays as it is" in said["sub-02"]
    assert [path.name for path in (result.folder / "transforms").iterdir()] == ["sub-01_FLAIR.tfm"]
    kept = nib.load(result.folder / "imagesTr/sub-02_0001.nii.gz").get_fdata()
    assert np.array_equal(kept, nib.load(hospital.path("sub-02", "FLAIR")).get_fdata())
