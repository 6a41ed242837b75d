"""The scanner: contrast, blur, bias field, noise and grey-value scale, which differ from site to site.

A site's values are drawn once; its subjects scatter around them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_transformers.phantom.fields import Array, Grid, random_field, resample
from nnunet_transformers.phantom.template import LATTICE, TEMPLATE_CSF, TEMPLATE_GM, TEMPLATE_WM


@dataclass(frozen=True)
class Scanner:
    """One site's T1 protocol.

    Attributes:
        csf, grey: intensities relative to white matter.
        blur_mm: standard deviation of the point spread.
        slice_blur_mm: what thicker slices add to it along z.
        bias: standard deviation of the log bias field.
        noise: standard deviation relative to white matter at 1 mm, before the blur.
        white_level: grey value of white matter in the file.
        masked_air: the scanner sets air to zero.
    """

    csf: float
    grey: float
    blur_mm: float
    slice_blur_mm: float
    bias: float
    noise: float
    white_level: float
    masked_air: bool


def draw_scanner(rng: np.random.Generator) -> Scanner:
    return Scanner(
        csf=rng.uniform(0.18, 0.32),
        grey=rng.uniform(0.64, 0.80),
        blur_mm=rng.uniform(0.45, 0.75),
        slice_blur_mm=float(rng.choice((0.0, 0.0, 0.6, 1.0))),
        bias=rng.uniform(0.03, 0.12),
        noise=rng.uniform(0.03, 0.09),
        white_level=rng.uniform(150, 900),
        masked_air=bool(rng.random() < 0.35),
    )


def acquire(
    rng: np.random.Generator, scanner: Scanner, t1: Array, removed: NDArray[np.bool_], grid: Grid
) -> NDArray[np.int16]:
    """The image a scanner makes of a T1 map.

    Args:
        t1: intensities on the template's scale, zero in air.
        removed: voxels set to zero afterwards, as by defacing.

    Returns:
        Non-negative grey values on the same grid.
    """
    csf = scanner.csf * rng.normal(1, 0.05)
    grey = scanner.grey * rng.normal(1, 0.02)
    level = scanner.white_level * rng.normal(1, 0.08)
    bias = random_field(rng, LATTICE.axes(), 90.0) + 0.3 * random_field(rng, LATTICE.axes(), 45.0)
    bias *= np.float32(scanner.bias * rng.uniform(0.7, 1.3))
    noise = scanner.noise * rng.uniform(0.8, 1.25)

    knots = (0, TEMPLATE_CSF, TEMPLATE_GM, TEMPLATE_WM, 1.3)
    image = np.zeros(grid.shape, dtype=np.float32)
    body = np.flatnonzero(t1)
    image.flat[body] = np.interp(t1.flat[body], knots, (0, csf, grey, 1, 1.35))
    image *= resample(np.exp(bias), LATTICE, grid)
    # Rician: the magnitude of a complex signal with Gaussian noise. A larger voxel averages more of it.
    sigma = np.float32(noise / max(grid.spacing, 1))
    image += sigma * rng.standard_normal(grid.shape, dtype=np.float32)
    np.hypot(image, sigma * rng.standard_normal(grid.shape, dtype=np.float32), out=image)
    # Blurring the noise as well makes neighbours correlate, as after resampling to the standard grid.
    blur = np.array([scanner.blur_mm, scanner.blur_mm, np.hypot(scanner.blur_mm, scanner.slice_blur_mm)]) / grid.spacing
    if blur.max() > 0.3:
        image = ndimage.gaussian_filter(image, blur, truncate=3)
    if scanner.masked_air:
        image[t1 < 0.02] = 0
    image[removed] = 0
    return np.rint(image * np.float32(level)).astype(np.int16)
