"""Pictures of a case: slices through its lesion with the outlines of reference and predictions."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from nnunet_transformers.comparison.metrics.images import fullest_slices, largest_lesion

# Okabe and Ito's colours that stand out on grey, each with its own line, for print without colour.
_REFERENCE = "#F0E442"
_PREDICTIONS: tuple[tuple[str, Any], ...] = (
    ("#56B4E9", (0, (5, 2))),
    ("#D55E00", (0, (1.5, 1))),
    ("#CC79A7", (0, (6, 1.5, 1.5, 1.5))),
)
MOST_PREDICTIONS = len(_PREDICTIONS)
_SMALLEST_ZOOM_MM = 40.0


@dataclass(frozen=True)
class Overlay:
    """A case to draw. Arrays are (z, y, x) in LPS on one grid, spacing in mm in the same order.

    Attributes:
        predictions: by the name of the model, at most three.
    """

    image: np.ndarray
    reference: np.ndarray | None
    predictions: Mapping[str, np.ndarray]
    spacing: Sequence[float]


def overlay(case: Overlay) -> bytes:
    """A JPEG file: axial, coronal and sagittal slice, and below them the same enlarged around the lesion.

    The slices go through the largest lesion of the reference; if that is empty, of the first prediction with one.
    """
    masks = [mask for mask in (case.reference, *case.predictions.values()) if mask is not None]
    target = largest_lesion(next((mask for mask in masks if mask.any()), masks[0]))
    centre = fullest_slices(target)
    low, high = np.percentile(case.image, [1, 99.5])
    # (title, axis cut through, does the row axis run upwards)
    planes = (("axial", 0, False), ("coronal", 1, True), ("sagittal", 2, True))
    with mpl.rc_context({"font.size": 10}):
        figure = Figure(figsize=(8.4, 6.4), layout="constrained", facecolor="black")
        panels = figure.subplots(2, 3)
        for column, (title, axis, upwards) in enumerate(planes):
            rows, columns = (other for other in range(3) if other != axis)
            cut: list[Any] = [slice(None)] * 3
            cut[axis] = centre[axis]
            for enlarged, axes in enumerate(panels[:, column]):
                axes.imshow(
                    case.image[tuple(cut)], cmap="gray", vmin=low, vmax=high, interpolation="bilinear",
                    aspect=case.spacing[rows] / case.spacing[columns], origin="lower" if upwards else "upper",
                )  # fmt: skip
                _outlines(axes, case, tuple(cut), enlarged=bool(enlarged))
                axes.set_axis_off()
                if enlarged:
                    _zoom(axes, target, centre, (rows, columns), case.spacing, upwards)
                else:
                    axes.set_title(title, color="white", fontsize=10)
                    _sides(axes, ("R", "L") if title != "sagittal" else ("front", "back"))
        figure.legend(
            handles=_legend(case), loc="outside lower center", ncols=2, frameon=False, labelcolor="white", fontsize=9
        )
        return _jpeg(figure)


def _outlines(axes: Axes, case: Overlay, cut: tuple[Any, ...], *, enlarged: bool) -> None:
    width = 1.8 if enlarged else 1.0
    if case.reference is not None and case.reference[cut].any():
        axes.contour(case.reference[cut], levels=[0.5], colors=_REFERENCE, linewidths=width + 0.6)
    for (colour, line), mask in zip(_PREDICTIONS, case.predictions.values(), strict=False):
        if mask[cut].any():
            axes.contour(mask[cut], levels=[0.5], colors=colour, linewidths=width, linestyles=[line])


def _legend(case: Overlay) -> list[Line2D]:
    handles = []
    if case.reference is not None:
        label = "reference" if case.reference.any() else "reference (empty)"
        handles.append(Line2D([], [], color=_REFERENCE, linewidth=2.4, label=label))
    for (colour, line), (name, mask) in zip(_PREDICTIONS, case.predictions.items(), strict=False):
        label = name if mask.any() else f"{name} (empty prediction)"
        handles.append(Line2D([], [], color=colour, linestyle=line, linewidth=1.8, label=label.replace("$", r"\$")))
    return handles


def _zoom(
    axes: Axes,
    mask: np.ndarray,
    centre: Sequence[int],
    plane: tuple[int, int],
    spacing: Sequence[float],
    upwards: bool,
) -> None:
    """Show a square of the lesion's size and a margin."""
    rows, columns = plane
    inside = np.argwhere(np.take(mask, centre[3 - rows - columns], axis=3 - rows - columns))
    first, last = (inside.min(0), inside.max(0)) if len(inside) else (np.array([centre[rows], centre[columns]]),) * 2
    middle = (first + last) / 2
    extent = (last - first + 1) * (spacing[rows], spacing[columns])
    half = max(_SMALLEST_ZOOM_MM, float(extent.max()) * 1.6) / 2 / np.array([spacing[rows], spacing[columns]])
    axes.set_xlim(middle[1] - half[1], middle[1] + half[1])
    bottom, top = middle[0] - half[0], middle[0] + half[0]
    axes.set_ylim((bottom, top) if upwards else (top, bottom))


def _sides(axes: Axes, sides: tuple[str, str]) -> None:
    for text, x, align in ((sides[0], 0.01, "left"), (sides[1], 0.99, "right")):
        axes.text(x, 0.5, text, color="white", fontsize=8, ha=align, va="center", transform=axes.transAxes)


def _jpeg(figure: Figure) -> bytes:
    """A fifth of a PNG file's size; colours at full resolution, which thin outlines need."""
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(110)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88, subsampling=0)
    return file.getvalue()
