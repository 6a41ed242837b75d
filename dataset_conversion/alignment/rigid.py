"""Where one image lies relative to another of the same head: rigid registration by mutual information.

Mattes et al., "PET-CT image registration in the chest using free-form deformations", IEEE TMI 22, 2003, for the metric;
regular-step gradient descent from coarse to fine, with ITK.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK

from dataset_conversion.alignment.grids import Grid, check_overlap
from dataset_conversion.alignment.itk import ONE_THREAD, RAS_LPS, to_sitk
from dataset_conversion.errors import stop
from nnunet_transformers.common.problems import Finding
from nnunet_transformers.common.volumes.geometry import Affine, corner_distance

LARGE_MM = 20.0
"""Between two images of one session a head moves less; beyond, a registration deserves a look."""
LARGE_DEGREES = 15.0

_LEVELS_MM = (8.0, 4.0, 2.0)
_SAMPLES = 100_000  # voxels compared at each level: all of the coarse ones, a fifth of a head at 2 mm
_BINS = 32
_MAX_STEPS, _MAX_ROUNDS = 100, 10
_LEAST_GAIN = 1e-4  # nats; a round that brings less is the last
_LEAST_VOXELS = 4  # along an axis, however coarse the level
_CLIPPED_PERCENT = 0.1  # on either side: a few bright vessels would leave two bins for the brain


@dataclass(frozen=True)
class Registration:
    """A rigid registration, and how far to trust it.

    Attributes:
        transform: from points of the fixed image to points of the moving one, in LPS mm, about the centre of the fixed
            image.
        rotation: degrees, about whatever axis.
        translation: towards right, anterior, superior in mm: from the centre of the fixed image to where it is in the
            moving one.
        largest_displacement: in mm, of the corner voxels of the fixed image.
        information_before: in nats, at about 2 mm, with the images where their headers place them.
    """

    transform: SimpleITK.Euler3DTransform
    rotation: float
    translation: tuple[float, float, float]
    largest_displacement: float
    information_before: float
    information_after: float
    converged: bool

    @property
    def quality(self) -> tuple[Finding, ...]:
        """Warnings for a result that deserves a look."""
        problems = []
        shift = float(np.linalg.norm(self.translation))
        if shift > LARGE_MM or self.rotation > LARGE_DEGREES:
            problem = f"the registration moves the image by {shift:.1f} mm and {self.rotation:.1f}°"
            problems.append(("REGISTRATION_LARGE", problem))
        if self.information_after <= self.information_before:
            problem = (
                "the registration found no better match than the headers', so the image stays where these place it"
            )
            problems.append(("REGISTRATION_WORSE", problem))
        elif not self.converged:
            problems.append(("REGISTRATION_WORSE", "the registration was still improving when it was stopped"))
        match = f"mutual information {self.information_before:.4f} before, {self.information_after:.4f} after"
        remedy = "Check the overlay of the two images; if it is off, register them with another tool."
        return tuple(Finding(code, f"{problem} ({match})", remedy, severity="warning") for code, problem in problems)


def register_rigid(
    moving: np.ndarray, moving_affine: Affine, fixed: np.ndarray, fixed_affine: Affine, *, seed: int
) -> Registration:
    """Find the rotation and translation that lay one image over another of the same head, of any contrast.

    The search starts where the headers place the images: in one session heads move by millimetres, while the centres
    of mass of a head with a neck and of a brain without are centimetres apart. If it finds nothing better, they stay
    there. Equal arguments give the same transform to the last bit on one machine. It runs on one thread; several can
    run side by side.

    Args:
        moving: (i, j, k), the image to be moved.
        moving_affine: its grid, to RAS mm.
        fixed: (i, j, k), the image that stays.
        fixed_affine: its grid, to RAS mm.
        seed: chooses the voxels that are compared.

    Raises:
        ConversionError: the fields of view do not overlap, or there is nothing in one of the images to match.
    """
    check_overlap(Grid(moving.shape, moving_affine), Grid(fixed.shape, fixed_affine))
    fixed_image = _clipped(fixed, fixed_affine, "fixed")
    moving_image = _clipped(moving, moving_affine, "moving")
    identity = SimpleITK.Euler3DTransform()
    centre = (np.array(fixed.shape) - 1) / 2
    identity.SetCenter((RAS_LPS @ fixed_affine @ (*centre, 1))[:3].tolist())
    transform = SimpleITK.Euler3DTransform(identity)
    try:
        with ONE_THREAD:
            for level_mm in _LEVELS_MM:
                level = _Level(fixed_image, moving_image, level_mm, seed)
                # A coarse level can be led astray, by a thin slab for example; then the headers know better.
                start = max(transform, identity, key=level.information)
                transform, converged = level.optimise(start)
            before, after = level.information(identity), level.information(transform)
    except RuntimeError as error:
        reason = str(error).strip().rsplit("): ", 1)[-1].split(". ", 1)[0].rstrip(".")  # without ITK's addresses
        raise stop(
            "REGISTRATION_FAILED",
            f"the images cannot be registered ({reason})",
            "Look at both images; register them with another tool, or leave one out.",
        ) from None
    return Registration(
        transform,
        *_movement(transform, Grid(fixed.shape, fixed_affine)),
        information_before=before,
        information_after=after,
        converged=converged,
    )


def transform_text(registration: Registration) -> str:
    """The transform as a text file (.tfm) that ITK, ANTs, 3D Slicer and `SimpleITK.ReadTransform` read.

    Numbers are written so that they are read back to the last bit.
    """
    transform = registration.transform
    parameters, fixed = (
        " ".join(map(repr, numbers)) for numbers in (transform.GetParameters(), transform.GetFixedParameters())
    )
    return (
        "#Insight Transform File V1.0\n"
        "#Transform 0\n"
        "Transform: Euler3DTransform_double_3_3\n"
        f"Parameters: {parameters}\n"
        f"FixedParameters: {fixed}\n"
    )


class _Level:
    """Two images at one resolution, with the voxels at which they are compared."""

    def __init__(self, fixed: SimpleITK.Image, moving: SimpleITK.Image, spacing_mm: float, seed: int) -> None:
        self.fixed, self.moving = _coarsened(fixed, spacing_mm), _coarsened(moving, spacing_mm)
        self.method = method = SimpleITK.ImageRegistrationMethod()
        # Gradients of smoothed images, ITK's default, lead up to half a millimetre off the best match.
        method.SetMetricUseFixedImageGradientFilter(False)
        method.SetMetricUseMovingImageGradientFilter(False)
        method.SetInterpolator(SimpleITK.sitkLinear)
        method.SetMetricAsMattesMutualInformation(_BINS)
        method.SetMetricSamplingStrategy(method.RANDOM)
        share = min(1.0, _SAMPLES / self.fixed.GetNumberOfPixels())
        # SimpleITK takes 0 to mean the time of day, and no more than 32 bits.
        method.SetMetricSamplingPercentage(share, seed % (2**32 - 1) + 1)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=spacing_mm / 4,
            minStep=spacing_mm / 200,
            numberOfIterations=_MAX_STEPS,
            relaxationFactor=0.8,
            gradientMagnitudeTolerance=1e-8,
        )
        # Rotations count by how far they move voxels, so that a step is a distance in mm.
        method.SetOptimizerScalesFromPhysicalShift()

    def information(self, transform: SimpleITK.Euler3DTransform) -> float:
        """Mutual information in nats."""
        self.method.SetInitialTransform(transform)
        return -float(self.method.MetricEvaluate(self.fixed, self.moving))

    def optimise(self, start: SimpleITK.Euler3DTransform) -> tuple[SimpleITK.Euler3DTransform, bool]:
        """The best transform near another, never a worse one, and whether the search came to rest.

        Steps shrink whenever the gradient turns, which in a narrow valley it does long before the lowest point. So the
        search starts again with full steps for as long as that brings something.
        """
        best = start
        for _ in range(_MAX_ROUNDS):
            transform = SimpleITK.Euler3DTransform(best)
            self.method.SetInitialTransform(transform, inPlace=True)
            self.method.Execute(self.fixed, self.moving)
            gain = self.information(transform) - self.information(best)
            if gain > 0:
                best = transform
            if gain < _LEAST_GAIN:
                return best, True
        return best, False


def _clipped(data: np.ndarray, affine: Affine, name: str) -> SimpleITK.Image:
    values = data.astype(np.float32, copy=False)
    low, high = map(float, np.percentile(values, (_CLIPPED_PERCENT, 100 - _CLIPPED_PERCENT)))
    if not low < high:
        raise stop(
            "REGISTRATION_FAILED",
            f"the {name} image is blank, all but a few of its voxels have the value {low:g}",
            "Export the image again, or leave it out.",
        )
    return to_sitk(np.clip(values, low, high), affine)


def _coarsened(image: SimpleITK.Image, spacing_mm: float) -> SimpleITK.Image:
    """Blocks of voxels averaged to about this spacing; axes that are as coarse or have few voxels stay as they are."""
    factors = [
        max(1, min(round(spacing_mm / size), n // _LEAST_VOXELS))
        for size, n in zip(image.GetSpacing(), image.GetSize(), strict=True)
    ]
    return SimpleITK.BinShrink(image, factors)


def _movement(transform: SimpleITK.Euler3DTransform, fixed: Grid) -> tuple[float, tuple[float, float, float], float]:
    """Rotation in degrees, translation in mm (RAS), largest displacement in mm of a corner voxel."""
    matrix, centre = np.reshape(transform.GetMatrix(), (3, 3)), np.array(transform.GetCenter())
    translation = np.array(transform.GetTranslation())
    lps = np.eye(4)
    lps[:3, :3] = matrix
    lps[:3, 3] = centre + translation - matrix @ centre
    # |R - I| is accurate for small angles, where the trace is not.
    half_sine = np.linalg.norm(matrix - np.eye(3)) / np.sqrt(8)
    rotation = float(np.rad2deg(2 * np.arcsin(min(1.0, half_sine))))
    right, anterior, superior = (RAS_LPS[:3, :3] @ translation).tolist()
    displacement = corner_distance(RAS_LPS @ lps @ RAS_LPS @ fixed.affine, fixed.affine, fixed.shape)
    return rotation, (right, anterior, superior), displacement
