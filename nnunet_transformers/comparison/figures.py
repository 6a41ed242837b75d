"""The report's figures as data URIs: line art as SVG, images as PNG, so that the report needs no other file.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; each also has its own marker and line style, for
print without colour.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from nnunet_transformers.comparison.images import fullest_slices, largest_lesion

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LINE_STYLES: tuple[Any, ...] = ("-", "--", "-.", ":")
_REFERENCE_COLOUR = "#F0E442"
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "nnunet-transformers",  # the same figure, the same bytes
}


class _Style(NamedTuple):
    colour: str
    marker: str
    line: Any


@dataclass(frozen=True)
class Overlay:
    """A case to draw. Arrays are (z, y, x) in LPS on one grid; spacing in mm in the same order.

    `first_style` is the place of the first prediction's model among all models: one colour per model in all figures.
    """

    image: np.ndarray
    reference: np.ndarray | None
    predictions: Mapping[str, np.ndarray]
    spacing: Sequence[float]
    first_style: int = 0


def dice_per_case(dice: pd.DataFrame) -> str:
    """Dice of every case per model, a line through each case.

    Args:
        dice: a row per case, a column per model; NaN where undefined.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        places = np.arange(dice.shape[1])
        axes.plot(places, dice.to_numpy().T, color="0.75", linewidth=0.8, zorder=1)
        for place, name in enumerate(dice.columns):
            style = _style(place)
            values = dice[name].dropna()
            axes.plot(np.full(len(values), place), values, style.marker, color=style.colour, alpha=0.75, ms=6)
            axes.hlines(values.mean(), place - 0.18, place + 0.18, color="black", linewidth=2, zorder=3)
        axes.set_xticks(places, [_wrap(name) for name in dice.columns])
        axes.set_xlim(-0.5, len(places) - 0.5)
        _dice_axis(axes)
        handles = [
            Line2D([], [], color="black", linewidth=2, label="mean"),
            Line2D([], [], color="0.75", label="one case"),
        ]
        axes.legend(handles=handles, frameon=False, loc="upper right", bbox_to_anchor=(1, 1.12), ncols=2)
        return _svg(figure)


def dice_by_volume(dice: pd.DataFrame, volumes: pd.Series) -> str:
    """Dice against the volume of the reference lesion.

    Args:
        dice: as for `dice_per_case`.
        volumes: ml per case; cases without a lesion have 0 and are not drawn.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        drawn = volumes[volumes > 0]
        for place, name in enumerate(dice.columns):
            style = _style(place)
            axes.plot(drawn, dice.loc[drawn.index, name], style.marker, color=style.colour, alpha=0.75, label=name)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("volume of the reference lesion (ml, logarithmic)")
        _dice_axis(axes)
        figure.legend(loc="outside upper left", frameon=False, fontsize=9)
        return _svg(figure)


def overlay(case: Overlay) -> str:
    """Three slices through the largest lesion, and below them the same enlarged, with outlines.

    Without a reference lesion the slices go through the largest predicted one.
    """
    masks = [m for m in (case.reference, *case.predictions.values()) if m is not None]
    target = largest_lesion(next((mask for mask in masks if mask.any()), masks[0]))
    centre = fullest_slices(target)
    low, high = np.percentile(case.image, [1, 99.5])
    # (title, axis cut through, does the row axis run upwards)
    planes = (("axial", 0, False), ("coronal", 1, True), ("sagittal", 2, True))
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.4, 6.4), layout="constrained", facecolor="black")
        panels = figure.subplots(2, 3)
        for column, (title, axis, upwards) in enumerate(planes):
            rows, columns = (other for other in range(3) if other != axis)
            aspect = case.spacing[rows] / case.spacing[columns]
            for row in range(2):
                axes = panels[row, column]
                cut: list[Any] = [slice(None)] * 3
                cut[axis] = centre[axis]
                axes.imshow(
                    case.image[tuple(cut)], cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="bilinear",
                    origin="lower" if upwards else "upper",
                )  # fmt: skip
                _outlines(axes, case, tuple(cut), enlarged=row == 1)
                axes.set_axis_off()
                if row == 1:
                    _zoom(axes, target, centre, rows, columns, case.spacing, upwards)
                else:
                    axes.set_title(title, color="white", fontsize=10)
                    _sides(axes, ("R", "L") if title != "sagittal" else ("front", "back"))
        figure.legend(
            handles=_legend(case), loc="outside lower center", ncols=2, frameon=False, labelcolor="white", fontsize=9
        )
        return _png(figure)


def _outlines(axes: Axes, case: Overlay, cut: tuple, *, enlarged: bool) -> None:
    width = 1.8 if enlarged else 1.0
    if case.reference is not None and case.reference[cut].any():
        axes.contour(case.reference[cut], levels=[0.5], colors=_REFERENCE_COLOUR, linewidths=width + 0.6)
    for place, mask in enumerate(case.predictions.values(), start=case.first_style):
        if mask[cut].any():
            style = _style(place)
            axes.contour(mask[cut], levels=[0.5], colors=style.colour, linewidths=width, linestyles=style.line)


def _legend(case: Overlay) -> list[Line2D]:
    handles = []
    if case.reference is not None:
        handles.append(Line2D([], [], color=_REFERENCE_COLOUR, linewidth=2.4, label="reference"))
    for place, (name, mask) in enumerate(case.predictions.items(), start=case.first_style):
        style = _style(place)
        label = name if mask.any() else f"{name} (empty prediction)"
        handles.append(Line2D([], [], color=style.colour, linestyle=style.line, linewidth=1.8, label=label))
    return handles


def _zoom(
    axes: Axes,
    mask: np.ndarray,
    centre: Sequence[int],
    rows: int,
    columns: int,
    spacing: Sequence[float],
    upwards: bool,
) -> None:
    """Show a square of the lesion's size and a margin, at least 40 mm wide."""
    axis = 3 - rows - columns
    inside = np.argwhere(np.take(mask, centre[axis], axis=axis))
    first, last = (inside.min(0), inside.max(0)) if len(inside) else (np.array([centre[rows], centre[columns]]),) * 2
    middle = (first + last) / 2
    extent = (last - first + 1) * (spacing[rows], spacing[columns])
    half = max(40.0, float(extent.max()) * 1.6) / 2 / np.array([spacing[rows], spacing[columns]])
    axes.set_xlim(middle[1] - half[1], middle[1] + half[1])
    bottom, top = middle[0] - half[0], middle[0] + half[0]
    axes.set_ylim((bottom, top) if upwards else (top, bottom))


def _sides(axes: Axes, sides: tuple[str, str]) -> None:
    for text, x, align in ((sides[0], 0.01, "left"), (sides[1], 0.99, "right")):
        axes.text(x, 0.5, text, color="white", fontsize=8, ha=align, va="center", transform=axes.transAxes)


def _dice_axis(axes: Axes) -> None:
    axes.set_ylabel("Dice")
    axes.set_ylim(-0.03, 1.03)
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)


def _style(place: int) -> _Style:
    return _Style(
        _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)], _LINE_STYLES[place % len(_LINE_STYLES)]
    )


def _wrap(name: str) -> str:
    return name.replace(" + ", "\n+ ").replace("ensemble of ", "ensemble of\n").replace(" · ", "\n")


def _svg(figure: Figure) -> str:
    return _data_uri(figure, "svg", "image/svg+xml", metadata={"Date": None, "Creator": None})


def _png(figure: Figure) -> str:
    return _data_uri(figure, "png", "image/png", metadata={"Software": None})


def _data_uri(figure: Figure, kind: str, mime: str, metadata: dict) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=metadata, dpi=110)
    return f"data:{mime};base64,{base64.b64encode(buffer.getvalue()).decode()}"
