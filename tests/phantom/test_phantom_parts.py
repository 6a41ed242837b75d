"""What the phantom is drawn from: volumes, shapes, scars, random fields."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("nilearn")

from nnunet_transformers.phantom.acquisition import Scanner, acquire
from nnunet_transformers.phantom.anatomy import Scar, deform, draw_displacement
from nnunet_transformers.phantom.fields import ICBM_GRID, Grid, grid_at, random_field, resample
from nnunet_transformers.phantom.lesions import MIN_TISSUE, Focus, draw_infarct, draw_volume, lesion_depth, scars
from nnunet_transformers.phantom.mask_shapes import load_mask, mask_depth
from nnunet_transformers.phantom.subject import scarred
from nnunet_transformers.phantom.template import LATTICE, TEMPLATE_CSF, TEMPLATE_WM, Template, load_template

GRID = grid_at(4.0)


@pytest.fixture(scope="module")
def template() -> Template:
    return load_template(GRID)


def test_lesion_volumes_are_spread_as_in_atlas() -> None:
    rng = np.random.default_rng(0)
    volumes = np.array([draw_volume(rng) for _ in range(4000)])
    assert 4 < np.median(volumes) < 6.5
    assert 0.1 < np.mean(volumes < 1) < 0.3
    assert 0.05 < np.mean(volumes > 50) < 0.2
    assert volumes.min() >= 0.013
    assert 200 < volumes.max() <= 400
    assert 20 < volumes.mean() < 45


def test_lesion_volumes_stay_within_the_limits_that_are_given() -> None:
    rng = np.random.default_rng(0)
    assert all(60 <= draw_volume(rng, (60, 200)) <= 200 for _ in range(50))


def test_half_of_the_infarcts_have_more_than_one_focus(template: Template) -> None:
    rng = np.random.default_rng(1)
    infarcts = [draw_infarct(rng, template) for _ in range(200)]
    assert 0.3 < np.mean([len(foci) > 1 for foci in infarcts]) < 0.6
    main_sides = [foci[0].side for foci in infarcts]
    assert 0.35 < np.mean(np.array(main_sides) == 1) < 0.65
    one_sided = [len({focus.side for focus in foci}) == 1 for foci in infarcts]
    assert np.mean(one_sided) > 0.75


@pytest.mark.parametrize("seed", range(6))
def test_a_lesion_has_the_volume_drawn_for_it_and_stays_in_tissue_on_its_side(seed: int, template: Template) -> None:
    rng = np.random.default_rng(seed)
    foci = draw_infarct(rng, template)
    anatomy = deform(template, draw_displacement(rng, template, scars(foci)), GRID)
    depth = lesion_depth(foci, anatomy, GRID.voxel_ml)
    inside = (depth > 0) & (anatomy.tissue > MIN_TISSUE)
    drawn = [focus.volume_ml for focus in foci]
    # Each focus is rounded to whole voxels.
    tolerance = len(foci) * GRID.voxel_ml
    assert np.count_nonzero(inside) * GRID.voxel_ml == pytest.approx(sum(drawn), abs=tolerance)
    if len({focus.side for focus in foci}) == 1:
        assert (foci[0].side * anatomy.points[0, inside] > -4).all()


def test_a_focus_is_smaller_in_its_own_metric_the_nearer_a_point_is() -> None:
    flat = np.zeros((2, 24, 24, 24), dtype=np.float32)
    focus = Focus(np.float32([30, -20, 20]), 4.0, np.eye(3, dtype=np.float32), 1, flat)
    points = np.float32([[30, 33, 30], [-20, -20, -16], [20, 20, 20]])
    np.testing.assert_allclose(focus.distance(points), [0, 3, 4], atol=1e-5)


def test_the_cavity_is_darker_than_the_rim_and_the_rim_than_the_tissue() -> None:
    depth = np.linspace(-6, 12, 400, dtype=np.float32)
    healthy = np.full(400, TEMPLATE_WM, dtype=np.float32)
    points = np.stack([depth, depth, depth])
    for seed in range(20):
        scar = scarred(np.random.default_rng(seed), healthy, depth, points, 1.0)
        rim, cavity = scar[(depth > 0.4) & (depth < 1.2)], scar[depth > 5]
        assert cavity.max() < rim.min()
        assert rim.max() < TEMPLATE_WM - 0.1
        assert cavity.mean() < TEMPLATE_CSF + 0.15
        np.testing.assert_array_equal(scar[depth < -2], healthy[depth < -2])


def test_a_shallow_lesion_has_a_cavity_too() -> None:
    depth = np.float32([-3, -1, 0.1, 0.9])
    scar = scarred(np.random.default_rng(0), np.full(4, TEMPLATE_WM, dtype=np.float32), depth, np.zeros((3, 4)), 1.0)
    assert scar[3] < 0.75 * scar[0]


def test_without_deformation_a_given_lesion_is_where_its_file_says(template: Template, tmp_path: Path) -> None:
    """A file with swapped and flipped axes and 1.5 × 2 × 3 mm voxels, so that only its affine can place it."""
    affine = np.array([[0, -1.5, 0, 60], [2.0, 0, 0, -70], [0, 0, 3.0, -20], [0, 0, 0, 1.0]])
    stored = np.zeros((50, 30, 25), dtype=np.uint8)
    stored[20:32, 14:24, 12:20] = 3
    nibabel.save(nibabel.Nifti1Image(stored, affine), tmp_path / "block.nii.gz")
    grid = grid_at(2.0)
    anatomy = deform(template, np.zeros((3, *LATTICE.shape), dtype=np.float32), grid)
    inside = mask_depth(load_mask(tmp_path / "block.nii.gz"), anatomy, grid.spacing) > 0
    index = np.rint(nibabel.affines.apply_affine(np.linalg.inv(affine), anatomy.points.T)).astype(int)
    within = ((index >= 0) & (index < stored.shape)).all(axis=1)
    expected = np.zeros_like(inside)
    expected[within] = stored[tuple(index[within].T)] > 0
    assert expected.sum() > 400
    assert 2 * (inside & expected).sum() / (inside.sum() + expected.sum()) > 0.93


def test_where_two_foci_meet_their_volumes_add_up(template: Template) -> None:
    anatomy = deform(template, np.zeros((3, *LATTICE.shape), dtype=np.float32), GRID)
    flat = np.zeros((2, 24, 24, 24), dtype=np.float32)
    foci = [Focus(np.float32([28.3, y, 26.7]), 20.0, np.eye(3, dtype=np.float32), 1, flat) for y in (-20.4, -12.9)]
    inside = (lesion_depth(foci, anatomy, GRID.voxel_ml) > 0) & (anatomy.tissue > MIN_TISSUE)
    assert np.count_nonzero(inside) * GRID.voxel_ml == pytest.approx(40, abs=2 * GRID.voxel_ml)


def test_the_ventricle_beside_a_scar_is_wider(template: Template) -> None:
    def ventricle_ml(scar: list[Scar]) -> float:
        displacement = draw_displacement(np.random.default_rng(3), template, scar)
        anatomy = deform(template, displacement, GRID)
        right = GRID.axes()[0][np.unravel_index(anatomy.brain, GRID.shape)[0]] > 0
        return np.count_nonzero((anatomy.ventricle_distance < 0) & right) * GRID.voxel_ml

    assert ventricle_ml([Scar(np.float32([30, -10, 20]), 60.0)]) > 1.15 * ventricle_ml([])


def test_deformations_do_not_fold(template: Template) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        displacement = draw_displacement(rng, template, scars(draw_infarct(rng, template)))
        gradient = np.stack([np.stack(np.gradient(component, LATTICE.spacing)) for component in displacement])
        jacobian = np.linalg.det(np.moveaxis(gradient, (0, 1), (-2, -1)) + np.eye(3))
        assert np.mean(jacobian <= 0) < 0.002
        assert np.abs(displacement).max() < 25


@settings(max_examples=20, deadline=None)
@given(spacing=st.floats(0.8, 10), seed=st.integers(0, 2**32 - 1))
def test_a_random_field_is_the_same_function_of_mm_on_every_grid(spacing: float, seed: int) -> None:
    coarse = grid_at(spacing)
    position = [axis[[1, len(axis) // 2]] for axis in coarse.axes()]
    whole = random_field(np.random.default_rng(seed), coarse.axes(), 30.0)
    part = random_field(np.random.default_rng(seed), position, 30.0)
    index = np.ix_(*([1, size // 2] for size in coarse.shape))
    np.testing.assert_allclose(whole[index], part, atol=1e-5)


def test_random_fields_have_unit_variance() -> None:
    values = [random_field(np.random.default_rng(seed), GRID.axes(), 20.0) for seed in range(10)]
    assert np.std(values) == pytest.approx(1, abs=0.1)
    assert np.mean(values) == pytest.approx(0, abs=0.1)


@given(st.tuples(*[st.floats(-2, 2)] * 4))
@settings(max_examples=20, deadline=None)
def test_interpolation_between_grids_is_exact_for_linear_functions(slope: tuple[float, float, float, float]) -> None:
    def linear(grid: Grid) -> np.ndarray:
        x, y, z = np.meshgrid(*grid.axes(), indexing="ij")
        return slope[0] * x + slope[1] * y + slope[2] * z + slope[3]

    source, target = Grid((12, 9, 10), 3.0, (-15.0, -12.0, 0.0)), Grid((7, 6, 8), 2.0, (-9.0, -5.0, 4.0))
    np.testing.assert_allclose(resample(linear(source), source, target), linear(target), atol=1e-3)


def test_masked_air_and_the_removed_face_are_exactly_zero_and_other_air_is_noise() -> None:
    grid = Grid((20, 20, 20), 2.0, (-20.0, -20.0, -20.0))
    t1 = np.zeros(grid.shape, dtype=np.float32)
    t1[:10] = TEMPLATE_WM
    face = np.zeros(grid.shape, dtype=bool)
    face[:3] = True
    for masked_air in (False, True):
        scanner = Scanner(0.2, 0.7, 0.5, 0.0, 0.05, 0.05, 500, masked_air)
        image = acquire(np.random.default_rng(0), scanner, t1, face, grid)
        assert not image[:3].any()
        assert bool(image[14:].any()) is not masked_air
        assert image[4:8].mean() == pytest.approx(500, rel=0.4)
        assert (image >= 0).all()


def test_the_template_is_prepared_on_the_grid_the_brain_lies_on(template: Template) -> None:
    assert template.t1.shape == ICBM_GRID.shape
    depth_ml = np.count_nonzero(template.hull_distance < 0) * 4**3 / 1000
    assert 1700 < depth_ml < 2300
    ventricles_ml = np.count_nonzero(template.ventricle_distance < 0) * 4**3 / 1000
    assert 5 < ventricles_ml < 40
