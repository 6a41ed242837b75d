"""One subject's healthy anatomy: the template under a random smooth deformation, with larger or smaller ventricles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_transformers.phantom.fields import ICBM_GRID, Array, Grid, ramp, random_field, resample
from nnunet_transformers.phantom.template import LATTICE, TEMPLATE_CSF, TEMPLATE_GM, TEMPLATE_WM, Template

# Non-linear deformation: detail size in mm and standard deviation of each displacement component in mm. The product of
# slope and amplitude stays far from folding (|du/dx| around 0.1).
_WARPS = ((45.0, 2.2), (18.0, 1.3), (9.0, 0.7))

_VENTRICLE_REACH_MM = 12.0


@dataclass(frozen=True)
class Scar:
    """Where tissue is lost, in template mm, and how much: the ventricle beside it widens."""

    centre: Array
    volume_ml: float


@dataclass(frozen=True)
class Anatomy:
    """A subject before lesions and before the scanner.

    Attributes:
        hull_distance: mm to the hull of the brain on the subject's grid, negative inside.
        brain: flat indices of the voxels inside the hull.
        points: (3, n) where these voxels come from, in template mm.
        t1: (n,) intensity on the template's scale (TEMPLATE_CSF, TEMPLATE_GM, TEMPLATE_WM).
        tissue: (n,) grey plus white matter, 0-1.
        white: (n,) white matter, 0-1.
        ventricle_distance: (n,) mm to the ventricles before they were widened, negative inside.
    """

    hull_distance: Array
    brain: NDArray[np.intp]
    points: Array
    t1: Array
    tissue: Array
    white: Array
    ventricle_distance: Array


def _affine_displacement(rng: np.random.Generator, points: Array) -> Array:
    """What is left of size, tilt and place after a registration to the template that was not perfect."""
    matrix = np.diag(rng.normal(0, 0.03, 3))
    a, b, c = np.deg2rad(rng.normal(0, 1.5, 3))
    matrix += np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
    moved = np.einsum("ij,j...->i...", matrix.astype(np.float32), points, optimize=False)
    return moved + rng.normal(0, 1.2, (3, 1, 1, 1)).astype(np.float32)


def draw_displacement(rng: np.random.Generator, template: Template, scars: Iterable[Scar]) -> Array:
    """Displacement (3, *LATTICE.shape) in mm from a subject's position to the template's."""
    axes = LATTICE.axes()
    points = np.stack(np.meshgrid(*axes, indexing="ij"))
    displacement = _affine_displacement(rng, points)
    for scale, amplitude in _WARPS:
        displacement += np.stack([random_field(rng, axes, scale) for _ in range(3)]) * np.float32(amplitude)

    # Ventricles widen by looking up the template closer to them: everywhere with age, more beside a scar.
    widening = np.full(LATTICE.shape, max(-1.0, rng.normal(1.2, 1.5)), dtype=np.float32)
    for scar in scars:
        radius = (scar.volume_ml * 1000 * 3 / (4 * np.pi)) ** (1 / 3)
        squared = ((points - scar.centre[:, None, None, None]) ** 2).sum(axis=0)
        widening += np.float32(0.12 * radius) * np.exp(-squared / np.float32(2 * (8 + radius) ** 2))
    reach = np.maximum(template.ventricle_distance, 0) / np.float32(_VENTRICLE_REACH_MM)
    return displacement - template.ventricle_direction * np.minimum(widening, 6) * np.exp(-(reach**2))


def deform(template: Template, displacement: Array, grid: Grid) -> Anatomy:
    """The template seen through a displacement, on the subject's grid."""
    hull = _warped(template.hull_distance, displacement)
    hull_distance = resample(hull, LATTICE, grid)
    brain = np.flatnonzero(hull_distance < 1)
    index = np.unravel_index(brain, grid.shape)
    points = np.stack([axis[i] for axis, i in zip(grid.axes(), index, strict=True)])
    points = points + np.stack([LATTICE.sample(component, points) for component in displacement])

    t1 = ICBM_GRID.sample(template.t1, points)
    return Anatomy(
        hull_distance=hull_distance,
        brain=brain,
        points=points,
        # Around the stripped brain there is no air but the CSF below the skull.
        t1=np.maximum(t1, np.float32(0.9 * TEMPLATE_CSF)),
        tissue=ICBM_GRID.sample(template.tissue, points),
        white=ICBM_GRID.sample(template.white, points),
        ventricle_distance=LATTICE.sample(template.ventricle_distance, points),
    )


def _warped(volume: Array, displacement: Array) -> Array:
    points = np.stack(np.meshgrid(*LATTICE.axes(), indexing="ij")) + displacement
    return LATTICE.sample(volume, points.reshape(3, -1)).reshape(LATTICE.shape)


def add_white_matter_hyperintensities(rng: np.random.Generator, template: Template, anatomy: Anatomy) -> Array:
    """The subject's T1 (n,) with caps around the ventricles and dots in deep white matter, as dark as grey matter.

    They are not lesions of interest: they stay out of the mask, as in ATLAS, for a network to learn to leave alone.
    """
    burden = rng.beta(1.2, 3)
    darkening = np.exp(-np.maximum(anatomy.ventricle_distance - 1, 0) / np.float32(1 + 5 * burden)) * np.float32(burden)
    deep = template.tissue_points[:, (template.tissue_white > 0.9) & (template.tissue_depth > 12)]
    for _ in range(rng.poisson(8 * burden)):
        centre = deep[:, rng.integers(deep.shape[1])] + rng.uniform(-2, 2, 3).astype(np.float32)
        radius = rng.uniform(0.8, 2.5)
        near = np.flatnonzero(np.abs(anatomy.points - centre[:, None]).max(axis=0) < radius + 1)
        distance = np.linalg.norm(anatomy.points[:, near] - centre[:, None], axis=0)
        darkening[near] = np.maximum(darkening[near], 0.8 * (1 - ramp(distance, radius - 0.8, radius + 0.8)))
    weight = np.minimum(darkening, np.float32(0.8)) * anatomy.white
    return anatomy.t1 - weight * np.float32(TEMPLATE_WM - TEMPLATE_GM)
