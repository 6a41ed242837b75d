"""Which grids are the same, and how far apart two fields of view are."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from dataset_conversion.errors import stop
from nnunet_transformers.common.volumes.geometry import Affine, corner_distance, ras_grid

LEAST_OVERLAP = 0.25
"""Of the smaller field of view; with less, mutual information has too little to go by, and a channel little to show."""


class Grid(NamedTuple):
    """Where voxels lie: their number along (i, j, k), and the affine from (i, j, k) to RAS mm."""

    shape: tuple[int, ...]
    affine: Affine


def drawn_on(mask_grid: Grid, image_grids: Mapping[str, Grid], tolerance_mm: float) -> tuple[str, ...]:
    """The names of the images that have the mask's grid: on one of them the mask was drawn.

    Flipped or permuted axes make no difference. Several images can share the grid, and there may be none.

    Args:
        mask_grid: the mask's.
        image_grids: the grid of each image, by name.
        tolerance_mm: how far corner voxels may be apart.
    """
    mask = _on_ras_axes(mask_grid)
    same = []
    for name, grid in image_grids.items():
        image = _on_ras_axes(grid)
        if image.shape == mask.shape and corner_distance(image.affine, mask.affine, mask.shape) <= tolerance_mm:
            same.append(name)
    return tuple(same)


def same_space_distance(a: Grid, b: Grid) -> float:
    """Largest distance in mm between corresponding corners of two fields of view.

    A field of view is the box that the voxels fill, up to their outer faces. Corners correspond that are the same on
    RAS axes, such as the left, posterior, inferior one of each; so neither the number of voxels nor flipped or permuted
    axes matter, and the distance is 0 for two samplings of one box.
    """
    difference = _box_corners(_on_ras_axes(a)) - _box_corners(_on_ras_axes(b))
    return float(np.linalg.norm(difference, axis=1).max())


def share_inside(inner: Grid, outer: Grid) -> float:
    """The share of one field of view that lies in another, from a lattice of points."""
    lattice = np.stack(np.meshgrid(*((np.arange(20) + 0.5) / 20 * n - 0.5 for n in inner.shape), indexing="ij"))
    points = np.concatenate([lattice.reshape(3, -1), np.ones((1, 20**3))])
    index = (np.linalg.solve(outer.affine, inner.affine) @ points)[:3]
    size = np.array(outer.shape)[:, None]
    return float(((index >= -0.5) & (index <= size - 0.5)).all(axis=0).mean())


def check_overlap(moving: Grid, fixed: Grid) -> None:
    """Refuse images of which the smaller field of view lies mostly outside the other.

    Raises:
        ConversionError: with the share that overlaps.
    """
    share = max(share_inside(moving, fixed), share_inside(fixed, moving))
    if share < LEAST_OVERLAP:
        raise stop(
            "NO_OVERLAP",
            f"their headers place the images apart: {100 * share:.0f} % of the smaller field of view is in the other",
            "Check that both are of one subject and session, and correct the headers, or register with another tool.",
        )


def _on_ras_axes(grid: Grid) -> Grid:
    return Grid(*ras_grid(grid.shape, grid.affine))


def _box_corners(grid: Grid) -> Affine:
    """(8, 3) RAS mm, first axis slowest."""
    ends = itertools.product(*((-0.5, size - 0.5) for size in grid.shape))
    return np.array([(*end, 1.0) for end in ends]) @ grid.affine[:3].T
