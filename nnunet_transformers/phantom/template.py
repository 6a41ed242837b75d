"""The ICBM 2009a symmetric template of nilearn's wheel, and the distances the phantom derives from it.

Fonov et al., "Unbiased average age-appropriate atlases for pediatric studies", NeuroImage 54, 2011. The T1 map is
skull-stripped; `head.py` puts a head around it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_transformers.phantom.errors import refusal
from nnunet_transformers.phantom.fields import ICBM_GRID, Array, Grid, grid_at, ramp, resample

# Smooth quantities (deformation, distances) live on this grid and are interpolated from it.
LATTICE = grid_at(4.0)
_WORK = grid_at(2.0)

# Intensities of the template's T1 (scaled to 0-1) in pure CSF, grey and white matter: medians where the maps say so.
TEMPLATE_CSF, TEMPLATE_GM, TEMPLATE_WM = 0.27, 0.66, 0.87


@dataclass(frozen=True)
class Template:
    """What every subject is deformed from.

    Attributes:
        t1: T1 intensity 0-1 on the 1 mm ICBM grid, zero outside the brain, smoothed for the target spacing.
        tissue: grey plus white matter, 0-1, likewise.
        white: white matter, 0-1, likewise.
        hull_distance: mm to the smooth hull of the brain on LATTICE, negative inside.
        ventricle_distance: mm to the lateral and third ventricles on LATTICE, negative inside.
        ventricle_direction: (3, *LATTICE.shape) unit gradient of ventricle_distance.
        tissue_points: (3, n) centres in mm of the LATTICE voxels that are brain tissue.
        tissue_depth: (n,) their depth in mm below the hull.
        tissue_white: (n,) their white matter fraction.
    """

    t1: Array
    tissue: Array
    white: Array
    hull_distance: Array
    ventricle_distance: Array
    ventricle_direction: Array
    tissue_points: Array
    tissue_depth: Array
    tissue_white: Array


def _icbm_maps() -> tuple[Array, Array, Array]:
    """T1, GM and WM maps, 0-1, on the ICBM grid, read from the installed nilearn."""
    try:
        from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template
    except ImportError as error:
        raise refusal(
            "NILEARN_MISSING",
            f"the phantom is made from the brain template in nilearn's wheel, which cannot be imported ({error})",
            'Install the extra: pip install "nnunet-transformers[phantom]"',
        ) from error
    maps = []
    for load in (load_mni152_template, load_mni152_gm_template, load_mni152_wm_template):
        image = load(resolution=1)
        if image.shape != ICBM_GRID.shape or not np.allclose(image.affine, ICBM_GRID.affine):
            raise refusal(
                "TEMPLATE_GRID",
                f"{load.__name__} of this nilearn gives a template of {image.shape}, not the ICBM 2009a grid",
                "Install nilearn 0.14.1, with which the phantom was made",
            )
        maps.append(np.asarray(image.dataobj, dtype=np.float32))
    return maps[0], maps[1], maps[2]


def _signed_distance(mask: NDArray[np.bool_], spacing: float) -> Array:
    """mm to the border of a mask, negative inside."""
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing)
    inside = ndimage.distance_transform_edt(mask, sampling=spacing)
    return (outside - inside).astype(np.float32)


def _hull_distance(brain: NDArray[np.bool_]) -> Array:
    """mm to the brain closed by a 12 mm ball (sulci and fissures filled), on _WORK; smoother farther outside."""
    dilated = ndimage.distance_transform_edt(~brain, sampling=_WORK.spacing) <= 12
    hull = ndimage.distance_transform_edt(dilated, sampling=_WORK.spacing) > 12
    near = ndimage.gaussian_filter(_signed_distance(hull, _WORK.spacing), 3 / _WORK.spacing)
    far = ndimage.gaussian_filter(near, 8 / _WORK.spacing)
    return near + (far - near) * ramp(near, 0, 10)


def _ventricles(brain: NDArray[np.bool_], tissue: Array, hull_distance: Array) -> NDArray[np.bool_]:
    """The largest connected CSF space deep inside the brain."""
    csf = brain & (tissue < 0.4) & (hull_distance < -22)
    labels, _ = ndimage.label(csf)
    return labels == np.bincount(labels.ravel())[1:].argmax() + 1


def load_template(grid: Grid) -> Template:
    """Read the template and prepare it for images on `grid`.

    Raises:
        PhantomError: nilearn is missing or carries another template.
    """
    t1, grey, white = _icbm_maps()
    tissue = np.minimum(grey + white, 1)

    work_brain = resample((t1 > 0).astype(np.float32), ICBM_GRID, _WORK) > 0.5
    work_tissue = resample(tissue, ICBM_GRID, _WORK)
    work_hull = _hull_distance(work_brain)
    work_ventricles = _signed_distance(_ventricles(work_brain, work_tissue, work_hull), _WORK.spacing)
    work_ventricles = ndimage.gaussian_filter(work_ventricles, 1.0)

    hull_distance = resample(work_hull, _WORK, LATTICE)
    ventricle_distance = resample(work_ventricles, _WORK, LATTICE)
    gradient = np.asarray(np.gradient(ventricle_distance, LATTICE.spacing))
    gradient /= np.maximum(np.linalg.norm(gradient, axis=0), 1e-3)

    lattice_tissue = resample(work_tissue, _WORK, LATTICE)
    inside = (lattice_tissue > 0.8) & (hull_distance < -2)
    points = np.stack(np.meshgrid(*LATTICE.axes(), indexing="ij"))[:, inside]

    # A voxel averages over its edge: the Gaussian that turns 1 mm into `spacing`, nothing at 1 mm and finer.
    sigma = 0.4 * float(np.sqrt(max(grid.spacing**2 - 1, 0)))
    t1, tissue, white_smooth = (ndimage.gaussian_filter(m, sigma) if sigma else m for m in (t1, tissue, white))
    return Template(
        t1=t1,
        tissue=tissue,
        white=white_smooth,
        hull_distance=hull_distance,
        ventricle_distance=ventricle_distance,
        ventricle_direction=gradient.astype(np.float32),
        tissue_points=points,
        tissue_depth=-hull_distance[inside],
        tissue_white=resample(white, ICBM_GRID, LATTICE)[inside],
    )
