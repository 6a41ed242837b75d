from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_transformers.common.volumes.geometry import corner_distance, orientation, orthonormal, to_ras

ORIENTATIONS = [
    "".join(axes[i] for i in order)
    for axes in itertools.product("RL", "AP", "SI")
    for order in itertools.permutations(range(3))
]


def axis_affine(axes: str, spacing: tuple[float, float, float], origin: tuple[float, float, float]) -> np.ndarray:
    affine = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(axes), (1, 1, 1))
    affine[:3, :3] *= np.array(spacing)
    affine[:3, 3] = origin
    return affine


@given(st.sampled_from(ORIENTATIONS), st.tuples(*[st.floats(0.4, 5)] * 3), st.tuples(*[st.floats(-200, 200)] * 3))
def test_every_voxel_keeps_its_place_in_space_on_ras_axes(axes, spacing, origin) -> None:
    affine = axis_affine(axes, spacing, origin)
    data = np.arange(3 * 4 * 5).reshape(3, 4, 5)
    moved, moved_affine = to_ras(data, affine)
    assert orientation(moved_affine) == "RAS"
    for index in ((0, 0, 0), (2, 1, 3), (2, 3, 4)):
        place = affine @ (*index, 1)
        target = np.rint(np.linalg.solve(moved_affine, place)[:3]).astype(int)
        assert moved[tuple(target)] == data[index]


def test_corner_distance_of_a_shift_is_its_length_in_mm() -> None:
    shifted = np.eye(4)
    shifted[:3, 3] = (2, 3, 6)
    assert corner_distance(np.eye(4), shifted, (5, 6, 7)) == pytest.approx(7)


def test_corner_distance_of_a_rotation_is_that_of_the_farthest_corner() -> None:
    angle = 0.01
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    radius = np.hypot(100, 50)
    assert corner_distance(np.eye(4), turned, (101, 51, 3)) == pytest.approx(2 * radius * np.sin(angle / 2))


@given(st.lists(st.floats(-1e-3, 1e-3), min_size=9, max_size=9), st.tuples(*[st.floats(0.4, 5)] * 3))
def test_orthonormal_axes_keep_spacing_and_first_voxel(noise, spacing) -> None:
    affine = axis_affine("LPS", spacing, (10, -20, 30))
    affine[:3, :3] += np.reshape(noise, (3, 3))
    result = orthonormal(affine)
    np.testing.assert_allclose(result[:3, 3], (10, -20, 30))
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    np.testing.assert_allclose(result[:3, :3].T @ result[:3, :3], np.diag(sizes**2), atol=1e-9)
    assert corner_distance(affine, result, (10, 10, 10)) < 0.1
