"""One subject: anatomy, lesions, head and scanner put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnunet_transformers.phantom.acquisition import Scanner, acquire
from nnunet_transformers.phantom.anatomy import Anatomy, add_white_matter_hyperintensities, deform, draw_displacement
from nnunet_transformers.phantom.fields import Array, Grid, random_field
from nnunet_transformers.phantom.head import draw_head
from nnunet_transformers.phantom.lesions import MIN_TISSUE, VOLUMES_ML, draw_infarct, lesion_depth, scars
from nnunet_transformers.phantom.mask_shapes import load_mask, mask_depth
from nnunet_transformers.phantom.template import LATTICE, TEMPLATE_CSF, Template


@dataclass(frozen=True)
class Subject:
    """A finished subject on the grid.

    Attributes:
        image: T1-weighted grey values.
        mask: uint8, 1 in the lesion.
        shape_source: file name of the mask that gave the lesion its shape, or "generated".
    """

    image: NDArray[np.int16]
    mask: NDArray[np.uint8]
    shape_source: str


def make_subject(
    template: Template,
    grid: Grid,
    scanner: Scanner,
    seed: np.random.SeedSequence,
    masks: Sequence[Path],
    volumes_ml: Sequence[float] = VOLUMES_ML,
) -> Subject:
    """Draw and image one subject.

    Args:
        seed: everything random comes from it; the anatomy and the lesion do not depend on the grid.
        masks: files to take the lesion's shape from; none for generated lesions.
        volumes_ml: the smallest and the largest volume of generated lesions.

    Raises:
        PhantomError: the drawn mask cannot be used.
    """
    anatomy_rng, lesion_rng, head_rng, scan_rng = (np.random.default_rng(s) for s in seed.spawn(4))
    if masks:
        shape = load_mask(masks[int(lesion_rng.integers(len(masks)))])
        anatomy = deform(template, draw_displacement(anatomy_rng, template, [shape.scar]), grid)
        depth, source = mask_depth(shape, anatomy, grid.spacing), shape.path.name
    else:
        foci = draw_infarct(lesion_rng, template, volumes_ml)
        anatomy = deform(template, draw_displacement(anatomy_rng, template, scars(foci)), grid)
        depth, source = lesion_depth(foci, anatomy, grid.voxel_ml), "generated"

    mask = np.zeros(grid.shape, dtype=np.uint8)
    mask.flat[anatomy.brain] = (depth > 0) & (anatomy.tissue > MIN_TISSUE)
    healthy = add_white_matter_hyperintensities(anatomy_rng, template, anatomy)
    head = draw_head(head_rng, anatomy.hull_distance, grid)
    t1 = head.t1
    t1.flat[anatomy.brain] = _blend_into_head(
        t1, anatomy, scarred(lesion_rng, healthy, depth, anatomy.points, grid.spacing)
    )
    return Subject(acquire(scan_rng, scanner, t1, head.defaced, grid), mask, source)


def scarred(rng: np.random.Generator, t1: Array, depth: Array, points: Array, spacing: float) -> Array:
    """Tissue intensities (n,) with a chronic infarct: CSF in the cavity, a rim of gliosis fading into healthy tissue.

    Args:
        t1: healthy intensities on the template's scale.
        depth: mm inside the lesion, negative outside, -inf far away.
        points: (3, n) positions in mm, for the unevenness of the scar.
        spacing: voxel edge in mm; borders are at least half of it wide.
    """
    soft = max(0.8, spacing / 2)
    deepest = max(float(depth.max()), 0.2)
    # A lacune is too small for a full rim, but has a cavity all the same.
    rim = min(rng.uniform(1.2, 3.5), 0.4 * deepest)
    gliosis, cavity = rng.uniform(0.3, 0.45), rng.uniform(0.85, 1.0)
    unevenness = random_field(rng, LATTICE.axes(), 8.0)
    near = np.flatnonzero(depth > -2 * soft)
    wave = LATTICE.sample(unevenness, points[:, near])
    knots = (-soft, min(0.5 * soft, 0.5 * rim), rim, rim + soft)
    weight = np.interp(depth[near], knots, (0, gliosis, gliosis + 0.12, cavity)).astype(np.float32)
    weight *= 1 - np.float32(0.06) * np.abs(wave)
    result = t1.copy()
    result[near] += (np.float32(0.9 * TEMPLATE_CSF) - t1[near]) * weight
    return result


def _blend_into_head(head_t1: Array, anatomy: Anatomy, brain_t1: Array) -> Array:
    """The brain voxels' intensities: brain inside the hull, the head's CSF beyond it."""
    share = np.clip(0.5 - anatomy.hull_distance.flat[anatomy.brain], 0, 1)
    return share * brain_t1 + (1 - share) * head_t1.flat[anatomy.brain]
