from __future__ import annotations

import gzip
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from helpers.atlas_tree import RAS, SHAPE, AtlasTree, lesion, save, voxels
from helpers.conversion import options

from dataset_conversion.checks.across import across_cases
from dataset_conversion.checks.case import CheckedCase, check_case
from dataset_conversion.convert import scan

SUBJECT = "r001s001"


def check(tree: AtlasTree, empty_masks: Any = "error") -> CheckedCase:
    (case,) = scan(tree.root).cases
    return check_case(case, tree.root, options(empty_masks=empty_masks))[0]


def codes(checked: CheckedCase, severity: str) -> list[str]:
    return [finding.code for finding in checked.findings if finding.severity == severity]


def moved(shift_mm: float = 0.0, **elements: float) -> np.ndarray:
    affine = RAS.copy()
    affine[0, 3] += shift_mm
    for element, change in elements.items():
        affine[int(element[1]), int(element[2])] += change
    return affine


def test_a_sound_case_has_no_finding_and_nothing_to_change(tree: AtlasTree) -> None:
    checked = check(tree.add(SUBJECT))
    assert checked.findings == ()
    assert checked.content is not None
    assert checked.content.mask is not None
    assert checked.content.lesion is not None
    assert [file.changes for file in (*checked.content.images, checked.content.mask)] == [(), ()]
    expected = int(lesion(SUBJECT + "1").sum())
    assert (checked.content.lesion.voxels, checked.content.lesion.ml) == (expected, expected / 1000)
    assert (checked.content.shape, checked.content.spacing) == (SHAPE, (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (255, np.uint8),
        (255, np.float64),
        (0.9999999776, np.float64),
        (0.01, np.float32),
        (1, np.float64),
        (7, np.int16),
    ],
)
def test_one_non_zero_value_is_the_lesion_whatever_it_is(tree: AtlasTree, value: float, dtype: Any) -> None:
    tree.add_image(SUBJECT)
    tree.add_mask(SUBJECT, data=(lesion(SUBJECT) * value).astype(dtype))
    checked = check(tree)
    assert codes(checked, "error") == []
    assert codes(checked, "warning") == (["MASK_VALUE"] if value != 1 else [])
    assert checked.content is not None
    assert checked.content.lesion is not None
    assert checked.content.lesion.value == pytest.approx(value, rel=1e-6)
    assert checked.content.lesion.voxels == lesion(SUBJECT).sum()


def test_several_values_in_a_mask_are_an_error_that_lists_them(tree: AtlasTree) -> None:
    mask = lesion(SUBJECT).astype(np.float32) * 2
    mask[2, 3, 7] = 0.25
    tree.add_image(SUBJECT)
    tree.add_mask(SUBJECT, data=mask)
    checked = check(tree)
    assert codes(checked, "error") == ["MASK_VALUES"]
    assert "(0.25, 2)" in checked.findings[0].problem
    assert checked.content is None


BAD_MASKS = {
    "NaN": (lambda mask: np.where(mask, np.nan, 0.0), "NOT_FINITE"),
    "infinite": (lambda mask: np.where(mask, np.inf, 0.0), "NOT_FINITE"),
    "negative": (lambda mask: -mask.astype(np.int16), "MASK_NEGATIVE"),
    "255 in a signed byte": (lambda mask: (mask * 255).astype(np.int8), "MASK_NEGATIVE"),
    "empty": (np.zeros_like, "EMPTY_MASK"),
    "without background": (np.ones_like, "MASK_FULL"),
    "4D": (lambda mask: np.stack([mask, mask], -1), "NOT_3D"),
    "another size": (lambda mask: mask[:, :, :-1].copy(), "SHAPE_MISMATCH"),
}


@pytest.mark.parametrize("fault", BAD_MASKS)
def test_a_mask_that_cannot_be_trusted_is_an_error(tree: AtlasTree, fault: str) -> None:
    change, code = BAD_MASKS[fault]
    tree.add_image(SUBJECT)
    path = tree.add_mask(SUBJECT, data=change(lesion(SUBJECT)))
    checked = check(tree)
    assert codes(checked, "error") == [code]
    assert str(path.relative_to(tree.root)) in str(checked.findings[0])
    assert "--exclude sub-r001s001_ses-1" in str(checked.findings[0])


@pytest.mark.parametrize("policy", ["keep", "skip"])
def test_an_empty_mask_passes_with_a_warning_when_asked_for(tree: AtlasTree, policy: str) -> None:
    tree.add_image(SUBJECT)
    tree.add_mask(SUBJECT, data=np.zeros(SHAPE, np.uint8))
    checked = check(tree, policy)
    assert codes(checked, "error") == []
    assert codes(checked, "warning") == ["EMPTY_MASK"]


@pytest.mark.parametrize(("bad", "dtype"), [(np.nan, np.float32), (-np.inf, np.float32), (1e200, np.float64)])
def test_an_image_voxel_that_is_not_finite_to_nnunet_is_an_error(tree: AtlasTree, bad: float, dtype: Any) -> None:
    data = voxels(SUBJECT).astype(dtype)
    data[0, 0, 0] = bad
    tree.add_image(SUBJECT, data=data)
    tree.add_mask(SUBJECT)
    checked = check(tree)
    assert codes(checked, "error") == ["NOT_FINITE"]
    assert "1 of 2184 voxels" in checked.findings[0].problem


def test_a_blank_image_is_an_error(tree: AtlasTree) -> None:
    tree.add_image(SUBJECT, data=np.zeros(SHAPE, np.int16))
    tree.add_mask(SUBJECT)
    assert codes(check(tree), "error") == ["BLANK_IMAGE"]


def test_a_shifted_mask_is_an_error_that_says_how_far(tree: AtlasTree) -> None:
    tree.add_image(SUBJECT)
    tree.add_mask(SUBJECT, affine=moved(7.0))
    checked = check(tree)
    assert codes(checked, "error") == ["GRID_MISMATCH"]
    assert "the mask's corner lies 7 mm from the image's" in checked.findings[0].problem


@pytest.mark.parametrize(
    ("affine", "errors", "warnings"),
    [
        (moved(1e-4), [], []),
        (moved(a01=1e-6, a12=-1e-6), [], []),
        (moved(0.01), [], ["GRID_ROUNDED"]),
        (moved(0.1), ["GRID_MISMATCH"], []),
        (moved(a00=0.02), ["GRID_MISMATCH"], []),
        (np.diag([1.0, 1.0, 2.0, 1.0]) @ RAS, ["GRID_MISMATCH"], []),
    ],
)
def test_grids_are_compared_by_where_their_corners_lie(
    tree: AtlasTree, affine: np.ndarray, errors: list[str], warnings: list[str]
) -> None:
    tree.add_image(SUBJECT)
    tree.add_mask(SUBJECT, affine=affine)
    checked = check(tree)
    assert (codes(checked, "error"), codes(checked, "warning")) == (errors, warnings)


def test_header_codes_do_not_matter_only_the_grid_does(tree: AtlasTree) -> None:
    tree.add_image(SUBJECT)
    mask = nib.Nifti1Image(lesion(SUBJECT), None)
    mask.set_qform(RAS, 1)
    mask.set_sform(None, 0)
    tree.mask_path(SUBJECT).parent.mkdir(parents=True, exist_ok=True)
    nib.save(mask, tree.mask_path(SUBJECT))
    assert check(tree).findings == ()


def test_image_and_mask_stored_along_different_axes_are_on_one_grid(tree: AtlasTree) -> None:
    flipped = RAS.copy()
    flipped[0, 0], flipped[0, 3] = -1, RAS[0, 3] + SHAPE[0] - 1
    tree.add_image(SUBJECT)
    tree.add_mask(SUBJECT, data=lesion(SUBJECT)[::-1].copy(), affine=flipped)
    checked = check(tree)
    assert checked.findings == ()
    assert checked.content is not None
    assert checked.content.mask is not None
    assert checked.content.mask.changes[0] == "orientation LAS"


def test_a_mask_is_rewritten_with_its_image(tree: AtlasTree) -> None:
    tree.add_image(SUBJECT, data=voxels(SUBJECT)[..., None])
    tree.add_mask(SUBJECT)
    checked = check(tree)
    assert checked.content is not None
    assert checked.content.mask is not None
    assert checked.content.mask.changes == ("its image is rewritten",)


def test_axes_off_by_rounding_are_mended_and_sheared_ones_refused(tree: AtlasTree) -> None:
    rounded = moved(a01=3e-4)
    tree.add_image(SUBJECT, affine=rounded)
    tree.add_mask(SUBJECT, affine=rounded)
    checked = check(tree)
    assert codes(checked, "error") == []
    assert codes(checked, "warning") == ["AXES_ROUNDED", "AXES_ROUNDED"]
    assert checked.content is not None
    assert checked.content.images[0].changes == ("SimpleITK refuses its header",)
    tree.add_image(SUBJECT, affine=moved(a01=0.1))
    assert codes(check(tree), "error")[0] == "NOT_ORTHONORMAL"


def test_two_positions_in_one_header_are_warned_about_and_the_file_rewritten(tree: AtlasTree) -> None:
    tree.add_mask(SUBJECT)
    image = nib.Nifti1Image(voxels(SUBJECT), RAS)
    image.set_qform(moved(5.0), 1)
    image.set_sform(RAS, 2)
    nib.save(image, tree.image_path(SUBJECT))
    checked = check(tree)
    assert codes(checked, "error") == []
    assert codes(checked, "warning") == ["FORMS_DISAGREE"]
    assert checked.content is not None
    assert checked.content.images[0].changes == ("SimpleITK takes another grid from its header",)


MIRRORED = np.diag([-1.0, 1, 1, 1])
MIRRORED[:3, 3] = (RAS[0, 3] + SHAPE[0] - 1, *RAS[1:3, 3])


@pytest.mark.parametrize(
    ("qform", "qform_code", "warnings"),
    [
        (moved(40.0), 1, ["FORMS_DISAGREE"]),
        (moved(40.0), 4, ["FORMS_DISAGREE"]),
        (MIRRORED, 1, ["FORMS_DISAGREE"]),
        (MIRRORED, 2, ["FORMS_DISAGREE"]),
        (MIRRORED, 0, []),
        (moved(0.4), 1, []),
    ],
)
def test_two_positions_in_one_header_are_warned_about_whichever_simpleitk_takes(
    tree: AtlasTree, qform: np.ndarray, qform_code: int, warnings: list[str]
) -> None:
    tree.add_mask(SUBJECT)
    image = nib.Nifti1Image(voxels(SUBJECT), RAS)
    image.set_qform(qform, qform_code)
    image.set_sform(RAS, 1)
    nib.save(image, tree.image_path(SUBJECT))
    assert codes(check(tree), "warning") == warnings


@pytest.mark.parametrize("angle", [1e-5, 3e-4, 1e-3, 0.02, 1])
def test_a_quaternion_rounded_to_float32_is_no_second_position(tree: AtlasTree, angle: float) -> None:
    turned, almost_half = RAS.copy(), np.pi - angle
    turned[:2, :2] = [[np.cos(almost_half), -np.sin(almost_half)], [np.sin(almost_half), np.cos(almost_half)]]
    shape = (256, 256, 2)
    tree.add_image(SUBJECT, data=voxels(SUBJECT, shape), affine=turned, qform_code=1)
    mask = np.zeros(shape, np.uint8)
    mask[2:9, 3:6] = 1
    tree.add_mask(SUBJECT, data=mask, affine=turned, qform_code=1)
    assert check(tree).findings == ()


def test_a_negative_mask_that_is_allowed_is_a_lesion(tree: AtlasTree) -> None:
    tree.add_image(SUBJECT)
    tree.add_mask(SUBJECT, data=-lesion(SUBJECT).astype(np.int16))
    (case,) = scan(tree.root).cases
    checked, _ = check_case(case, tree.root, options(allow=("MASK_NEGATIVE",)))
    assert codes(checked, "error") == []
    assert codes(checked, "warning") == ["MASK_NEGATIVE", "MASK_VALUE"]
    assert checked.content is not None
    assert checked.content.lesion is not None
    assert checked.content.lesion.voxels == lesion(SUBJECT).sum()


def test_a_swapped_or_misplaced_lesion_is_warned_about(tree: AtlasTree) -> None:
    tree.add_image(SUBJECT)
    tree.add_mask(SUBJECT, data=1 - lesion(SUBJECT))
    assert codes(check(tree), "warning") == ["LESION_TOO_LARGE"]
    tree.add_image(SUBJECT, data=voxels(SUBJECT) * (1 - lesion(SUBJECT)))
    tree.add_mask(SUBJECT, data=lesion(SUBJECT))
    assert codes(check(tree), "warning") == ["LESION_OUTSIDE_IMAGE"]


def test_every_bad_file_of_a_case_is_named(tree: AtlasTree) -> None:
    tree.add(SUBJECT)
    tree.image_path(SUBJECT).write_bytes(tree.image_path(SUBJECT).read_bytes()[:500])
    tree.mask_path(SUBJECT).write_bytes(b"")
    checked = check(tree)
    assert codes(checked, "error") == ["TRUNCATED", "UNREADABLE"]
    assert ["the T1w image:" in str(checked.findings[0]), "the mask:" in str(checked.findings[1])] == [True, True]


def test_the_same_voxels_under_two_names_are_warned_about_whatever_their_storage(tree: AtlasTree) -> None:
    tree.add("r001s001", "r001s002", "r001s003")
    flipped = RAS.copy()
    flipped[1, 1], flipped[1, 3] = -1, RAS[1, 3] + SHAPE[1] - 1
    same = voxels("r001s0011")[:, ::-1].astype(np.float64)
    save(tree.image_path("r001s003"), same, flipped)
    checked = [check_case(case, tree.root)[0] for case in scan(tree.root).cases]
    (warning,) = [finding for finding in across_cases(checked, tree.root) if "T1w" in finding.problem]
    assert warning.code == "DUPLICATE_VOXELS"
    assert "sub-r001s001_ses-1, sub-r001s003_ses-1" in warning.problem


def test_a_subject_in_training_and_test_is_warned_about(tree: AtlasTree) -> None:
    tree.add("r001s001")
    tree.add_image("r001s001", "2", test=True)
    checked = [check_case(case, tree.root)[0] for case in scan(tree.root).cases]
    assert [warning.code for warning in across_cases(checked, tree.root)] == ["SUBJECT_IN_BOTH_PARTS"]


def test_a_mask_in_the_place_of_an_image_is_warned_about_however_small_it_is(tree: AtlasTree) -> None:
    tree.add_image(SUBJECT, data=(voxels("other") > 500).astype(np.float32))
    tree.add_mask(SUBJECT)
    assert any("is it a mask" in each.problem for each in check(tree).findings)


def test_bytes_behind_the_voxels_are_a_warning(tree: AtlasTree) -> None:
    image = tree.add(SUBJECT).image_path(SUBJECT)
    image.write_bytes(gzip.compress(gzip.decompress(image.read_bytes()) + bytes(4)))
    assert [(each.code, each.severity) for each in check(tree).findings] == [("BYTES_BEHIND", "warning")]
    assert "4 bytes follow" in check(tree).findings[0].problem
