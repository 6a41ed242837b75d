"""Skull, scalp and neck around the brain, and the face that defacing cut away.

Smooth shells by their distance to the brain's hull, a soft-tissue neck below. Not an anatomical model: it puts air,
bone, fat and muscle where a whole, defaced head has them, so that cropping and intensities behave as with ATLAS.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_transformers.phantom.fields import Array, Grid, ramp, random_field, resample
from nnunet_transformers.phantom.template import LATTICE, TEMPLATE_CSF

# T1 intensities on the template's scale.
_BONE, _MARROW, _FAT, _SKIN, _MUSCLE = 0.08, 0.45, 0.9, 0.5, 0.42

_NECK_CENTRE = (0.0, -32.0, -78.0)
_NECK_RADII = (60.0, 66.0, 52.0)


@dataclass(frozen=True)
class Head:
    """T1 intensity 0-1 and removed face (True) on the subject's grid; brain voxels hold CSF."""

    t1: Array
    defaced: NDArray[np.bool_]


def draw_head(rng: np.random.Generator, hull_distance: Array, grid: Grid) -> Head:
    """A head around a brain whose hull is `hull_distance` mm away on `grid`."""
    axes = LATTICE.axes()
    thickness_wave = resample(random_field(rng, axes, 50.0), LATTICE, grid)
    texture = random_field(rng, grid.axes(), 5.0)
    csf, bone, scalp = rng.uniform(1.5, 4.0), rng.uniform(5.0, 7.5), rng.uniform(5.0, 8.5)
    fat = _FAT * rng.uniform(0.8, 1.15)
    face_cut = rng.uniform(57, 66)
    x, y, z = np.meshgrid(*grid.axes(), indexing="ij", sparse=True)

    scalp_outside = hull_distance - np.float32(csf + bone + scalp) - np.float32(0.8) * thickness_wave
    radii = ((p - np.float32(c)) / np.float32(r) for p, c, r in zip((x, y, z), _NECK_CENTRE, _NECK_RADII, strict=True))
    neck_outside = (np.sqrt(sum(np.square(r) for r in radii)) - 1) * np.float32(min(_NECK_RADII))
    outside = np.minimum(scalp_outside, neck_outside)
    defaced = (np.float32(0.6) * y - np.float32(0.8) * z > face_cut) & (hull_distance > csf + 1)

    t1 = np.zeros(grid.shape, dtype=np.float32)
    shell = np.flatnonzero((hull_distance > -1) & (outside < 0.5) & ~defaced)
    t1.flat[shell] = _layers(hull_distance.flat[shell], outside.flat[shell], texture.flat[shell], csf, bone, fat)
    return Head(t1=t1, defaced=defaced)


def _layers(hull_distance: Array, outside: Array, texture: Array, csf: float, bone: float, fat: float) -> Array:
    """T1 intensity (n,) of voxels between brain and skin, from their distances in mm to the hull and to the skin."""
    # From the skin inwards: skin, fat, then muscle where the shell is thicker than a scalp.
    soft_depth = -outside + np.float32(0.6) * texture
    soft = np.interp(soft_depth, (0, 1.5, 2.5, 5, 7), (_SKIN, _SKIN, fat, fat, _MUSCLE)).astype(np.float32)
    soft += np.float32(0.07) * texture * (soft_depth > 5)
    # From the brain outwards: CSF, inner table, marrow, outer table.
    marrow = _BONE + (_MARROW - _BONE) * np.clip(np.float32(0.7) + np.float32(0.4) * texture, 0, 1)
    into_bone = hull_distance - np.float32(csf)
    in_marrow = ramp(into_bone, 0.2 * bone, 0.4 * bone) * (1 - ramp(into_bone, 0.6 * bone, 0.8 * bone))
    t1 = np.float32(_BONE) + (marrow - np.float32(_BONE)) * in_marrow
    t1 += (soft - t1) * ramp(into_bone, bone - 0.7, bone + 0.7)
    t1 += (np.float32(0.9 * TEMPLATE_CSF) - t1) * (1 - ramp(into_bone, -0.7, 0.7))
    return t1 * (1 - ramp(outside, -0.5, 0.5))
