from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_conversion.alignment import (
    Grid,
    Registration,
    drawn_on,
    from_sitk,
    register_rigid,
    resample,
    same_space_distance,
    to_sitk,
    transform_text,
)
from dataset_conversion.errors import ConversionError
from nnunet_transformers.common.volumes.geometry import to_ras

# (centre, radii) in RAS mm of what makes up a small head, each drawn over the one before: scalp, skull, CSF, grey and
# white matter, a cerebellum, a nose, an ear, two ventricles of different size, a lesion.
HEAD = [
    ((0, 0, 0), (40, 46, 38)),
    ((0, 0, 0), (37, 43, 35)),
    ((0, 0, 1), (34, 40, 32)),
    ((1, 0, 2), (32, 38, 30)),
    ((2, 2, 2), (26, 30, 22)),
    ((-3, -24, -21), (19, 11, 7)),
    ((2, 44, -10), (6, 7, 8)),
    ((-40, -2, -8), (4, 7, 10)),
    ((16, 14, -11), (6, 13, 6)),
    ((-7, 3, 5), (4, 14, 6)),
    ((9, 2, 4), (6, 16, 8)),
    ((19, -11, 8), (9, 7, 8)),
]
LESION = len(HEAD)
T1 = np.array([0, 300, 30, 60, 180, 260, 230, 280, 260, 150, 60, 60, 70], dtype=np.float32)
FLAIR = np.array([0, 150, 20, 10, 210, 160, 190, 140, 170, 230, 10, 10, 330], dtype=np.float32)


def rotation(x: float, y: float, z: float) -> np.ndarray:
    """3 × 3, degrees about each axis."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.deg2rad((x, y, z))), np.sin(np.deg2rad((x, y, z)))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def rigid(turn: np.ndarray, shift: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = shift
    return matrix


def grid_around(centre, shape, spacing, turn=None) -> Grid:
    """A grid of this shape whose middle lies at a point."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) * np.array(spacing)
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(tuple(shape), affine)


def places(grid: Grid) -> np.ndarray:
    """(3, *shape) RAS mm of each voxel."""
    index = np.indices(grid.shape).reshape(3, -1)
    return (grid.affine[:3, :3] @ index + grid.affine[:3, 3:]).reshape(3, *grid.shape)


def tissue(grid: Grid, head_at: np.ndarray) -> np.ndarray:
    """Which part of the head fills each voxel, for a head moved by a 4 × 4 matrix from the middle of space."""
    back = np.linalg.inv(head_at)
    points = np.tensordot(back[:3, :3], places(grid), axes=1) + back[:3, 3].reshape(3, 1, 1, 1)
    parts = np.zeros(grid.shape, dtype=np.uint8)
    for number, (centre, radii) in enumerate(HEAD, start=1):
        scaled = (points - np.reshape(centre, (3, 1, 1, 1))) / np.reshape(radii, (3, 1, 1, 1))
        parts[np.square(scaled).sum(axis=0) < 1] = number
    return parts


def imaged(parts: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 12, parts.shape)
    return np.abs(contrast[parts] + noise).astype(np.float32)


def moved_by(angle: float, distance: float) -> np.ndarray:
    """A head turned about a skew axis by so many degrees, and shifted in a skew direction by so many mm."""
    about = SimpleITK.VersorTransform((0.48, -0.6, 0.64), float(np.deg2rad(angle)))
    return rigid(np.reshape(about.GetMatrix(), (3, 3)), tuple(distance * np.array((0.6, 0.48, -0.64))))


T1_GRID = grid_around((0, 0, 0), (92, 104, 84), (1, 1, 1))
FLAIR_GRID = grid_around((2, -4, 3), (136, 156, 32), (-0.7, 0.7, 3), rotation(7, -4, 3))
AT_REST = np.eye(4)
MOVED = moved_by(5, 8)


@pytest.fixture(scope="module")
def t1() -> np.ndarray:
    return imaged(tissue(T1_GRID, AT_REST), T1)


@pytest.fixture(scope="module")
def moved_flair() -> np.ndarray:
    return imaged(tissue(FLAIR_GRID, MOVED), FLAIR)


@pytest.fixture(scope="module")
def t1_on_flair(t1, moved_flair) -> Registration:
    return register_rigid(t1, T1_GRID.affine, moved_flair, FLAIR_GRID.affine, seed=0)


def error_mm(
    registration: Registration, fixed_at: np.ndarray, moving_at: np.ndarray, heights: Sequence[float] = (-30, 30)
) -> float:
    """The largest error of a registration over the head, given where the head lies in each image."""
    errors = []
    for point in np.array([(x, y, z, 1) for x in (-32, 32) for y in (-38, 38) for z in heights]):
        fixed, moving = ((at @ point)[:3] * (-1, -1, 1) for at in (fixed_at, moving_at))
        errors.append(np.linalg.norm(registration.transform.TransformPoint(fixed.tolist()) - moving))
    return max(errors)


def test_the_movement_of_a_head_between_t1_and_flair_is_found(t1_on_flair) -> None:
    assert error_mm(t1_on_flair, fixed_at=MOVED, moving_at=AT_REST) < 1
    assert t1_on_flair.rotation == pytest.approx(5, abs=1)
    assert t1_on_flair.converged
    assert t1_on_flair.information_after > 1.2 * t1_on_flair.information_before
    assert t1_on_flair.quality == ()


def test_the_movement_is_found_in_the_other_direction_too(t1, moved_flair) -> None:
    coarse = T1_GRID.affine @ np.diag((3, 3, 3, 1))
    flair_on_t1 = register_rigid(moved_flair, FLAIR_GRID.affine, t1[::3, ::3, ::3], coarse, seed=3)
    assert error_mm(flair_on_t1, fixed_at=AT_REST, moving_at=MOVED) < 1
    assert flair_on_t1.rotation == pytest.approx(5, abs=1)


def test_translation_leads_from_the_fixed_centre_to_its_place_in_the_moving_image(t1_on_flair) -> None:
    centre = np.array((2, -4, 3, 1))  # of the FLAIR's field of view
    there = np.linalg.inv(MOVED) @ centre
    np.testing.assert_allclose(t1_on_flair.translation, (there - centre)[:3], atol=0.4)


def test_largest_displacement_is_that_of_a_corner_of_the_fixed_image(t1_on_flair) -> None:
    ends = np.array([(i, j, k, 1) for i in (0, 135) for j in (0, 155) for k in (0, 31)])
    corners = (ends @ FLAIR_GRID.affine.T)[:, :3] * (-1, -1, 1)
    distances = [np.linalg.norm(t1_on_flair.transform.TransformPoint(c.tolist()) - c) for c in corners]
    assert t1_on_flair.largest_displacement == pytest.approx(max(distances))


def test_equal_arguments_give_the_same_transform_to_the_last_bit_in_any_thread(t1, moved_flair) -> None:
    t1, t1_affine = t1[::3, ::3, ::3], T1_GRID.affine @ np.diag((3, 3, 3, 1))
    flair, flair_affine = moved_flair[::6, ::6, ::2], FLAIR_GRID.affine @ np.diag((6, 6, 2, 1))

    def transform(_: int) -> str:
        return transform_text(register_rigid(t1, t1_affine, flair, flair_affine, seed=0))

    threads_before = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    with ThreadPoolExecutor(2) as threads:
        assert len({transform(0), *threads.map(transform, range(2))}) == 1
    assert SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads() == threads_before


def test_transform_text_is_read_back_by_itk_to_the_last_bit(t1_on_flair, tmp_path: Path) -> None:
    path = tmp_path / "t1 to flair.tfm"
    path.write_text(transform_text(t1_on_flair), encoding="ascii")
    read = SimpleITK.Euler3DTransform(SimpleITK.ReadTransform(str(path)))
    assert read.GetParameters() == t1_on_flair.transform.GetParameters()
    assert read.GetFixedParameters() == t1_on_flair.transform.GetFixedParameters()


def test_a_mask_follows_its_image_and_gets_no_new_values(t1_on_flair) -> None:
    mask = np.where(tissue(T1_GRID, AT_REST) == LESION, np.int16(255), np.int16(0))
    moved = resample(mask, T1_GRID.affine, FLAIR_GRID, t1_on_flair.transform, nearest=True)
    expected = tissue(FLAIR_GRID, MOVED) == LESION
    assert moved.dtype == np.int16
    assert set(np.unique(moved)) == {0, 255}
    overlap = 2 * np.count_nonzero((moved == 255) & expected) / (np.count_nonzero(moved) + expected.sum())
    assert overlap > 0.93
    unregistered = resample(mask, T1_GRID.affine, FLAIR_GRID, nearest=True)
    assert np.count_nonzero((unregistered == 255) & expected) < 0.7 * expected.sum()


def test_images_that_match_stay_exactly_where_they_are_and_a_warning_says_so(t1) -> None:
    small, affine = t1[::3, ::3, ::3], T1_GRID.affine @ np.diag((3, 3, 3, 1))
    registration = register_rigid(small, affine, 500 - small, affine, seed=0)
    assert registration.largest_displacement == 0
    assert registration.rotation == 0
    assert [finding.code for finding in registration.quality] == ["REGISTRATION_WORSE"]


def test_a_large_movement_is_found_and_warned_about(t1) -> None:
    far = moved_by(16, 22)
    coarse = Grid((34, 39, 32), FLAIR_GRID.affine @ np.diag((4, 4, 1, 1)))
    flair = imaged(tissue(coarse, far), FLAIR)
    registration = register_rigid(t1, T1_GRID.affine, flair, coarse.affine, seed=0)
    assert error_mm(registration, fixed_at=far, moving_at=AT_REST) < 1.5
    (finding,) = registration.quality
    assert (finding.code, finding.severity) == ("REGISTRATION_LARGE", "warning")
    assert "mm and 1" in finding.problem


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({}, []),
        ({"rotation": 15.1}, ["REGISTRATION_LARGE"]),
        ({"translation": (12.0, -12.0, 12.0)}, ["REGISTRATION_LARGE"]),
        ({"information_after": 0.4}, ["REGISTRATION_WORSE"]),
        ({"converged": False}, ["REGISTRATION_WORSE"]),
        ({"rotation": 90.0, "information_after": 0.3}, ["REGISTRATION_LARGE", "REGISTRATION_WORSE"]),
    ],
)
def test_quality_warns_of_what_deserves_a_look(change, codes) -> None:
    good = Registration(SimpleITK.Euler3DTransform(), 15.0, (0.0, 20.0, 0.0), 60.0, 0.4, 0.5, converged=True)
    findings = replace(good, **change).quality
    assert [finding.code for finding in findings] == codes
    assert all(finding.severity == "warning" for finding in findings)


def test_images_that_lie_apart_are_refused_with_the_share_that_overlaps(t1) -> None:
    apart = T1_GRID.affine.copy()
    apart[0, 3] += 82
    with pytest.raises(ConversionError) as caught:
        register_rigid(t1, apart, t1, T1_GRID.affine, seed=0)
    (finding,) = caught.value.findings
    assert finding.code == "NO_OVERLAP"
    assert "10 %" in finding.problem  # 10 of 92 mm


def test_a_slab_within_the_other_field_of_view_overlaps_fully(t1, moved_flair) -> None:
    slab = FLAIR_GRID.affine.copy()
    slab[:3, 3] += 11 * slab[:3, 2]
    registration = register_rigid(t1, T1_GRID.affine, moved_flair[:, :, 11:21], slab, seed=0)
    assert error_mm(registration, fixed_at=MOVED, moving_at=AT_REST, heights=(-6, 6)) < 1.5


@pytest.mark.parametrize("which", ["moving", "fixed"])
def test_a_blank_image_is_refused_by_its_role(t1, which) -> None:
    blank = np.zeros(T1_GRID.shape, dtype=np.int16)
    moving, fixed = (blank, t1) if which == "moving" else (t1, blank)
    with pytest.raises(ConversionError, match=f"the {which} image is blank") as caught:
        register_rigid(moving, T1_GRID.affine, fixed, T1_GRID.affine, seed=0)
    assert caught.value.findings[0].code == "REGISTRATION_FAILED"


angles = st.floats(-180, 180)
spacings = st.floats(0.4, 6).flatmap(lambda size: st.sampled_from((size, -size)))
shapes = st.tuples(*[st.integers(2, 6)] * 3)
grids = st.builds(
    lambda centre, shape, spacing, turn: grid_around(centre, shape, spacing, rotation(*turn)),
    st.tuples(*[st.floats(-100, 100)] * 3),
    shapes,
    st.tuples(spacings, spacings, spacings),
    st.tuples(angles, angles, angles),
)


@given(grids, st.sampled_from(("u1", "i2", ">i2", "f4", ">f4", "f8", "i8")))
def test_an_image_of_simpleitk_has_its_voxels_where_the_affine_puts_them(grid, dtype) -> None:
    data = np.arange(np.prod(grid.shape)).reshape(grid.shape).astype(dtype)
    image = to_sitk(data, grid.affine)
    index = tuple(size - 1 for size in grid.shape)
    right, anterior, superior = (grid.affine @ (*index, 1))[:3]
    np.testing.assert_allclose(
        image.TransformIndexToPhysicalPoint(index), (-right, -anterior, superior), atol=1e-9, rtol=1e-9
    )
    assert image[index] == data[index]


@given(grids)
def test_to_simpleitk_and_back_is_the_same_image(grid) -> None:
    data = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    back, affine = from_sitk(to_sitk(data, grid.affine))
    np.testing.assert_array_equal(back, data)
    np.testing.assert_allclose(affine, grid.affine, atol=1e-9)


@given(grids)
def test_resampling_onto_its_own_grid_changes_nothing(grid) -> None:
    data = np.random.default_rng(0).normal(100, 30, size=grid.shape).astype(np.float32)
    np.testing.assert_allclose(resample(data, grid.affine, grid, nearest=False), data, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(resample(data, grid.affine, grid, nearest=True), data)


@given(grids, grids)
@settings(max_examples=50)
def test_linear_resampling_reproduces_a_linear_image_wherever_the_grids_lie(grid, onto) -> None:
    def linear(on: Grid) -> np.ndarray:
        return np.tensordot((1.5, -0.7, 0.4), places(on), axes=1) + 500

    # Onto a shrunken copy of the other grid that lies within the first.
    middle = grid.affine @ (*((np.array(grid.shape) - 1) / 2), 1)
    reach = 0.5 * np.abs(np.linalg.norm(grid.affine[:3, :3], axis=0)).min()
    corner = np.linalg.norm(np.abs(onto.affine[:3, :3]) @ np.array(onto.shape))
    small = grid_around(middle[:3], onto.shape, (reach / corner,) * 3, onto.affine[:3, :3])
    result = resample(linear(grid), grid.affine, small, nearest=False)
    np.testing.assert_allclose(result, linear(small), atol=2e-3)


def test_flipped_and_permuted_axes_make_no_difference_to_resampling(t1) -> None:
    flipped, affine = t1.transpose(2, 0, 1)[:, ::-1], T1_GRID.affine.copy()
    affine[:, :3] = T1_GRID.affine[:, [2, 0, 1]]
    affine[:3, 3] += affine[:3, 1] * (T1_GRID.shape[0] - 1)
    affine[:3, 1] *= -1
    np.testing.assert_array_equal(to_ras(flipped, affine)[0], t1)
    small = Grid((20, 20, 10), FLAIR_GRID.affine)
    of_flipped, of_plain = (resample(d, a, small, nearest=False) for d, a in ((flipped, affine), (t1, T1_GRID.affine)))
    np.testing.assert_allclose(of_flipped, of_plain, atol=1e-2)


WIDER = grid_around((0, 0, 0), (24, 24, 24), (1, 1, 1))
BALL = np.square(places(grid_around((0, 0, 0), (12, 12, 12), (1, 1, 1)))).sum(axis=0) < 16


@pytest.mark.parametrize(
    ("data", "nearest", "expected"),
    [
        (np.where(BALL, 300, 0), False, 0),  # a brain that was extracted
        (np.where(BALL, 300, 7), False, 0),  # air with noise
        (np.where(BALL, -3, 0), False, 0),  # ripples of an earlier interpolation
        (np.where(BALL, 40, -1000), False, -1000),  # CT
        (np.where(BALL, 1.5, -0.25), False, -0.25),  # scaled to mean 0
        (np.where(BALL, 1, -1000), True, 0),
        (BALL, True, 0),
    ],
)
def test_beyond_the_image_its_background_goes_on(data, nearest, expected) -> None:
    result = resample(data, grid_around((0, 0, 0), (12, 12, 12), (1, 1, 1)).affine, WIDER, nearest=nearest)
    assert result[0, 0, 0] == expected
    assert result[12, 12, 12] == data[6, 6, 6]
    assert result.dtype == (data.dtype if nearest else np.float32)


def test_extracted_brains_keep_their_zeros_and_their_range(t1) -> None:
    brain = np.where(tissue(T1_GRID, AT_REST) >= 3, t1, np.float32(0))
    result = resample(brain, T1_GRID.affine, FLAIR_GRID, nearest=False)
    assert result.min() == 0
    assert result.max() <= brain.max()
    assert result[0, 0, 0] == 0


def test_a_mask_was_drawn_on_the_image_whose_grid_it_has() -> None:
    images = {"T1w": T1_GRID, "FLAIR": FLAIR_GRID}
    assert drawn_on(FLAIR_GRID, images, 1e-3) == ("FLAIR",)
    assert drawn_on(T1_GRID, images, 1e-3) == ("T1w",)
    assert drawn_on(T1_GRID, {"T1w": T1_GRID, "T2w": T1_GRID}, 1e-3) == ("T1w", "T2w")
    assert drawn_on(Grid((92, 104, 83), T1_GRID.affine), images, 1e-3) == ()


def test_a_mask_with_flipped_axes_was_drawn_on_the_same_image() -> None:
    flipped = FLAIR_GRID.affine.copy()
    flipped[:3, 3] += 135 * flipped[:3, 0]
    flipped[:3, 0] *= -1
    assert drawn_on(Grid(FLAIR_GRID.shape, flipped), {"T1w": T1_GRID, "FLAIR": FLAIR_GRID}, 1e-3) == ("FLAIR",)


def test_rounding_in_a_header_counts_as_the_same_grid_up_to_the_tolerance() -> None:
    rounded = FLAIR_GRID.affine.copy()
    rounded[0, 3] += 0.02
    mask = Grid(FLAIR_GRID.shape, rounded)
    assert drawn_on(mask, {"FLAIR": FLAIR_GRID}, 0.05) == ("FLAIR",)
    assert drawn_on(mask, {"FLAIR": FLAIR_GRID}, 0.01) == ()


def test_two_samplings_of_one_field_of_view_are_not_apart() -> None:
    turn = rotation(7, -4, 3)
    fine = grid_around((1, 2, 3), (60, 40, 30), (-1, 1, 1), turn)
    coarse = grid_around((1, 2, 3), (30, 20, 10), (2, -2, 3), turn)
    assert same_space_distance(fine, coarse) == pytest.approx(0, abs=1e-9)


def test_fields_of_view_are_as_far_apart_as_their_farthest_corners() -> None:
    box = grid_around((0, 0, 0), (60, 40, 30), (1, 1, 1))
    assert same_space_distance(box, grid_around((2, 3, 6), (30, 40, 10), (2, 1, 3))) == pytest.approx(7)
    longer_by_9 = grid_around((0, 0, 4.5), (60, 40, 39), (1, 1, 1))
    assert same_space_distance(box, longer_by_9) == pytest.approx(9)
