"""Chronic infarcts from a generator: how large, how many, where, and which shape.

Volumes follow the training set of ATLAS R2.0 (Liew et al., Scientific Data 9:320, 2022): from 0.01 to about 500 ml,
median 5.3 ml, mean 33 ml, which is a log-normal of shape 2. A large infarct is part of a cortical artery's territory: a
wedge with its base on the cortex. A small one mostly lies in white matter, basal ganglia, thalamus, pons or cerebellum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_transformers.phantom.anatomy import Anatomy, Scar
from nnunet_transformers.phantom.fields import Array
from nnunet_transformers.phantom.template import LATTICE, Template

MEDIAN_ML, SHAPE = 5.3, 2.0
VOLUMES_ML = (0.013, 400.0)

# Centres in the right hemisphere, their spread, in mm, and how often: corona radiata, putamen and internal capsule,
# thalamus, centrum semiovale, pons, cerebellum.
_DEEP_SITES = (
    ((26, -14, 28), (3, 12, 5), 0.25),
    ((26, -2, 4), (3, 8, 4), 0.30),
    ((13, -18, 8), (3, 4, 3), 0.13),
    ((27, -20, 40), (4, 14, 4), 0.10),
    ((6, -26, -34), (1.5, 3, 5), 0.12),
    ((26, -62, -38), (8, 7, 5), 0.10),
)

# Middle, anterior and posterior cerebral artery: how often a cortical infarct is theirs.
_ARTERIES = ("middle", "anterior", "posterior")
_ARTERY_SHARES = (0.78, 0.08, 0.14)

# Lesions stay in voxels with at least this much grey and white matter.
MIN_TISSUE = 0.4

_NOISE_KNOTS = 24


@dataclass(frozen=True)
class Focus:
    """One infarct: the set of points whose `distance` is below what its volume asks for.

    Attributes:
        centre: (3,) template mm.
        volume_ml: its volume in the subject.
        metric: (3, 3) turns an offset from the centre into one whose length is the distance; determinant 1.
        side: +1 right, -1 left; an infarct does not cross the midline.
        noise: (2, k, k, k) spline coefficients of the coarse and the fine irregularity of its outline.
    """

    centre: Array
    volume_ml: float
    metric: Array
    side: int
    noise: Array

    @property
    def radius(self) -> float:
        """mm of the ball of this volume."""
        return float((self.volume_ml * 1000 * 3 / (4 * np.pi)) ** (1 / 3))

    def distance(self, points: Array) -> Array:
        """(n,) mm from points (3, n) in template mm, stretched by metric and noise, long across the midline."""
        offset = points - self.centre[:, None]
        distance = np.sqrt(np.square(np.einsum("ij,jn->in", self.metric, offset, optimize=False)).sum(axis=0))
        for coefficients, size, strength in zip(self.noise, (1.1, 0.4), (0.28, 0.12), strict=True):
            index = offset / np.float32(max(1.5, size * self.radius)) + np.float32(_NOISE_KNOTS / 2)
            wave = ndimage.map_coordinates(coefficients, index, order=3, mode="grid-wrap", prefilter=False)
            distance *= np.exp(np.float32(strength) * wave)
        beyond_midline = np.maximum(2 - self.side * points[0], 0)
        return distance + np.float32(1 + self.radius / 4) * beyond_midline


def draw_volume(rng: np.random.Generator, volumes_ml: Sequence[float] = VOLUMES_ML) -> float:
    """Total lesion volume of one subject in ml, between the smallest and the largest."""
    smallest, largest = volumes_ml
    while True:
        volume = float(rng.lognormal(np.log(MEDIAN_ML), SHAPE))
        if smallest <= volume <= largest:
            return volume


def draw_infarct(
    rng: np.random.Generator, template: Template, volumes_ml: Sequence[float] = VOLUMES_ML
) -> tuple[Focus, ...]:
    """One subject's foci, largest first: one in half of the subjects, up to six in others, sometimes on both sides."""
    volume = draw_volume(rng, volumes_ml)
    extra = int(rng.choice(6, p=(0.5, 0.22, 0.13, 0.08, 0.05, 0.02)))
    main_share = rng.uniform(0.6, 0.95) if extra else 1.0
    shares = (1 - main_share) * rng.dirichlet(np.ones(extra)) if extra else np.empty(0)
    side = int(rng.choice((-1, 1)))
    main = _draw_focus(rng, template, volume * main_share, side)
    foci = [main]
    for share in sorted(shares, reverse=True):
        far = rng.random() < 0.25
        focus_side = side * int(rng.choice((-1, 1))) if far else side
        near = None if far else main
        focus = _draw_focus(rng, template, volume * share, focus_side, near)
        if focus.volume_ml >= VOLUMES_ML[0]:
            foci.append(focus)
    return tuple(foci)


def _draw_focus(
    rng: np.random.Generator, template: Template, volume_ml: float, side: int, near: Focus | None = None
) -> Focus:
    """A focus of this volume: in a cortical territory the likelier the larger it is, or close to another one."""
    cortical = rng.random() < np.interp(np.log10(volume_ml), (-1, 0.5, 1.2, 1.7), (0.15, 0.3, 0.65, 1.0))
    if near is not None:
        away = np.linalg.norm(template.tissue_points - near.centre[:, None], axis=0) - near.radius
        weight = (template.tissue_points[0] * side > 2) * np.exp(-np.square((away - 8) / 8))
        centre = _pick(rng, template, weight)
    elif cortical:
        centre = _pick(rng, template, _cortical_weight(template, side, str(rng.choice(_ARTERIES, p=_ARTERY_SHARES))))
    else:
        sites = [site[2] for site in _DEEP_SITES]
        position, spread, _ = _DEEP_SITES[int(rng.choice(len(sites), p=sites))]
        centre = _nearest_tissue(template, rng.normal(position, spread) * (side, 1, 1))
    if cortical and near is None:
        # A wedge: as deep as it is wide, or deeper, with its axis on the inward normal of the brain's surface.
        axis = _inward_normal(template, centre)
        elongation = rng.uniform(0.9, 1.5)
    else:
        # Deep infarcts follow perforating arteries and tracts: upwards, a little tilted.
        axis = rng.normal((0, 0, 1), 0.4).astype(np.float32)
        elongation = rng.uniform(1.0, 1.9)
    return Focus(
        centre=centre,
        volume_ml=float(volume_ml),
        metric=_elongated_metric(axis, elongation),
        side=side,
        noise=rng.standard_normal((2, *[_NOISE_KNOTS] * 3), dtype=np.float32) / np.float32(0.33),
    )


def _cortical_weight(template: Template, side: int, artery: str) -> Array:
    """Where in the cortex a territory's infarct is centred: (n,) weight of each of the template's tissue points."""
    x, y, z = template.tissue_points * np.array([[side], [1], [1]], dtype=np.float32)
    cortex = (x > 4) & (template.tissue_depth < 14) & (z > -32)
    posterior = (y < -60) & (z < 35)
    anterior = (x < 20) & ((z > 30) | (y > 35)) & ~posterior
    territory = {"posterior": posterior, "anterior": anterior, "middle": (x > 24) & ~posterior}[artery]
    return (cortex & territory).astype(np.float32)


def _pick(rng: np.random.Generator, template: Template, weight: Array) -> Array:
    """One of the template's tissue points, drawn by weight, moved within its lattice voxel."""
    total = weight.sum(dtype=np.float64)
    chosen = int(rng.choice(weight.size, p=weight.astype(np.float64) / total))
    return template.tissue_points[:, chosen] + rng.uniform(-2, 2, 3).astype(np.float32)


def _nearest_tissue(template: Template, position: NDArray[np.float64]) -> Array:
    squared = np.square(template.tissue_points - position[:, None]).sum(axis=0)
    return template.tissue_points[:, int(squared.argmin())]


def _inward_normal(template: Template, centre: Array) -> Array:
    step = 3.0
    around = centre[:, None] + np.concatenate([np.eye(3), -np.eye(3)], axis=1).astype(np.float32) * np.float32(step)
    values = LATTICE.sample(template.hull_distance, around)
    return values[3:] - values[:3]


def _elongated_metric(axis: Array, elongation: float) -> Array:
    """Metric whose unit ball is `elongation` times longer along `axis` than across it, with the unit ball's volume."""
    direction = axis / np.maximum(np.linalg.norm(axis), 1e-6)
    along = np.outer(direction, direction)
    across = elongation ** (1 / 3)
    return (across * (np.eye(3) - along) + across / elongation * along).astype(np.float32)


def lesion_depth(foci: Sequence[Focus], anatomy: Anatomy, voxel_ml: float) -> Array:
    """How deep inside a lesion each brain voxel is.

    Args:
        foci: as drawn; where two meet, the second grows elsewhere, so that volumes add up.
        voxel_ml: volume of the subject's voxel. The first focus has at least one; others below half a voxel vanish.

    Returns:
        (n,) about mm from the lesion's border: positive in a lesion, negative outside.
    """
    free = anatomy.tissue > MIN_TISSUE
    depth = np.full(free.shape, -np.inf, dtype=np.float32)
    for number, focus in enumerate(foci):
        voxels = round(focus.volume_ml / voxel_ml) or int(number == 0)
        if not voxels:
            continue
        reach = 3.5 * focus.radius + 4 + 10 * (voxel_ml * 1000) ** (1 / 3)
        near = np.abs(anatomy.points - focus.centre[:, None]).max(axis=0) < reach
        near = np.flatnonzero(near & (focus.side * anatomy.points[0] > -4))
        distance = focus.distance(anatomy.points[:, near])
        candidates = distance[free[near]]
        if candidates.size < 2:
            continue
        voxels = min(voxels, candidates.size - 1)
        inner, outer = np.partition(candidates, (voxels - 1, voxels))[[voxels - 1, voxels]]
        # A border half-way between the last voxel inside and the first one outside.
        focus_depth = (inner + outer) / 2 - distance
        inside = near[(focus_depth > 0) & free[near]]
        depth[near] = np.maximum(depth[near], focus_depth)
        free[inside] = False
    return depth


def scars(foci: Sequence[Focus]) -> list[Scar]:
    return [Scar(focus.centre, focus.volume_ml) for focus in foci]
