"""Line drawings made of a few shapes, as SVG text for a page and as PDF for a paper: one geometry for both.

Coordinates are CSS pixels (1/96 inch) from the upper left corner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon

_FONT = "Helvetica, Arial, sans-serif"
_POINTS_PER_PIXEL = 0.75

Point = tuple[float, float]


class Style(NamedTuple):
    """How a model is drawn in every figure: told apart by colour, by marker and by line."""

    colour: str
    marker: str
    dash: tuple[float, ...]


# Okabe and Ito's colours, which colour-blind readers can tell apart, without the yellow that is too pale on white; then
# those that lie farthest from them and from each other in CIELAB, for comparisons of many models.
_COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
    "#0000BB", "#00BB00", "#330055", "#555500", "#BB33BB", "#550000", "#777777",
)  # fmt: skip
_MARKERS = ("o", "s", "^", "D", "v")
_DASHES: tuple[tuple[float, ...], ...] = ((), (7, 3), (2, 2), (7, 2, 2, 2))


def model_style(place: int) -> Style:
    """Style of the model at this place; the first 140 differ from each other."""
    return Style(_COLOURS[place % len(_COLOURS)], _MARKERS[place % 5], _DASHES[place % 4])


@dataclass(frozen=True)
class Line:
    points: Sequence[Point]
    colour: str = "#1a1a1a"
    width: float = 1.0
    dash: tuple[float, ...] = ()
    opacity: float = 1.0


@dataclass(frozen=True)
class Area:
    """A filled polygon."""

    points: Sequence[Point]
    colour: str
    opacity: float = 1.0


@dataclass(frozen=True)
class Marker:
    """A point; `hint` is shown when the pointer rests on it."""

    x: float
    y: float
    shape: str
    colour: str
    size: float = 7.0
    opacity: float = 1.0
    hint: str = ""


@dataclass(frozen=True)
class Text:
    """One line of text around its baseline; `anchor` is start, middle or end; `upwards` turns it by 90 degrees."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    size: float = 12.0
    colour: str = "#1a1a1a"
    bold: bool = False
    upwards: bool = False


Shape = Line | Area | Marker | Text


@dataclass(frozen=True)
class Drawing:
    """Shapes in the order they are painted; `description` says in a sentence or two what they show."""

    width: float
    height: float
    shapes: tuple[Shape, ...]
    description: str


def svg(drawing: Drawing) -> str:
    """An <svg> element that stands alone as a file and inside a page; equal drawings give equal text."""
    inside = "\n".join(_svg_shape(shape) for shape in drawing.shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(drawing.width)} {_n(drawing.height)}" '
        f'width="{_n(drawing.width)}" height="{_n(drawing.height)}" role="img" font-family="{_FONT}">\n'
        f"<title>{escape(drawing.description)}</title>\n{inside}\n</svg>"
    )


def save_pdf(drawing: Drawing, path: Path) -> None:
    """Write a drawing as a PDF page of its size, with text as text."""
    with mpl.rc_context({"pdf.fonttype": 42, "font.family": "sans-serif"}):
        figure = Figure(figsize=(drawing.width / 96, drawing.height / 96))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, drawing.width)
        axes.set_ylim(drawing.height, 0)
        axes.set_axis_off()
        for shape in _with_clouds(drawing.shapes):
            if isinstance(shape, Line):
                dashes: Any = (0, tuple(length / shape.width for length in shape.dash)) if shape.dash else "-"
                axes.add_line(
                    Line2D(
                        [x for x, _ in shape.points], [y for _, y in shape.points], color=shape.colour,
                        linewidth=shape.width * _POINTS_PER_PIXEL, linestyle=dashes, alpha=shape.opacity,
                    )
                )  # fmt: skip
            elif isinstance(shape, Area):
                axes.add_patch(Polygon(list(shape.points), color=shape.colour, alpha=shape.opacity, linewidth=0))
            elif isinstance(shape, _Cloud):
                xs, ys = zip(*shape.points, strict=True)
                axes.plot(xs, ys, linestyle="none", **_marker_look(shape.marker))
            elif isinstance(shape, Text):
                axes.text(
                    shape.x, shape.y, shape.text.replace("$", r"\$"), color=shape.colour,
                    fontsize=shape.size * _POINTS_PER_PIXEL, va="baseline", rotation=90 if shape.upwards else 0,
                    ha={"start": "left", "middle": "center", "end": "right"}[shape.anchor], rotation_mode="anchor",
                    fontweight="bold" if shape.bold else "normal",
                )  # fmt: skip
        figure.savefig(path, format="pdf", metadata={"CreationDate": None, "Title": drawing.description})


@dataclass(frozen=True)
class _Cloud:
    """Markers that look alike, one after the other, as one object of a PDF."""

    marker: Marker
    points: Sequence[Point]


def _with_clouds(shapes: Sequence[Shape]) -> Iterator[Shape | _Cloud]:
    def look(shape: Shape) -> object:
        return replace(shape, x=0.0, y=0.0, hint="") if isinstance(shape, Marker) else None

    for marker, group in groupby(shapes, look):
        if isinstance(marker, Marker):
            yield _Cloud(marker, [(shape.x, shape.y) for shape in group if isinstance(shape, Marker)])
        else:
            yield from group


def _marker_look(marker: Marker) -> dict[str, Any]:
    return {
        "marker": marker.shape,
        "color": marker.colour,
        "alpha": marker.opacity,
        "markersize": marker.size * _POINTS_PER_PIXEL,
        "markeredgewidth": 0,
    }


def text_width(text: str, size: float = 12.0) -> float:
    """About how wide a line of text is, in pixels."""
    return 0.6 * size * len(text)


def wrapped(name: str, most: int = 34) -> list[str]:
    """The lines of a model's name: long ones are broken before a joining sign, or where the line is full."""
    lines = [""]
    for word in name.replace(" + ", " +\u00a0").replace(" · ", " ·\u00a0").split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > most:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    cut = [line[start : start + most] for line in lines for start in range(0, max(1, len(line)), most)]
    return [line.replace("\u00a0", " ") for line in cut]


def _svg_shape(shape: Shape) -> str:
    if isinstance(shape, Line):
        points = " ".join(f"{_n(x)},{_n(y)}" for x, y in shape.points)
        dash = f' stroke-dasharray="{",".join(map(_n, shape.dash))}"' if shape.dash else ""
        return (
            f'<polyline points="{points}" fill="none" stroke="{shape.colour}" stroke-width="{_n(shape.width)}"'
            f"{dash}{_opacity(shape.opacity)}/>"
        )
    if isinstance(shape, Area):
        return f'<polygon points="{_points(shape.points)}" fill="{shape.colour}"{_opacity(shape.opacity)}/>'
    if isinstance(shape, Marker):
        return _svg_marker(shape)
    turn = f' transform="rotate(-90 {_n(shape.x)} {_n(shape.y)})"' if shape.upwards else ""
    bold = ' font-weight="bold"' if shape.bold else ""
    return (
        f'<text x="{_n(shape.x)}" y="{_n(shape.y)}" font-size="{_n(shape.size)}" text-anchor="{shape.anchor}" '
        f'fill="{shape.colour}"{bold}{turn}>{escape(shape.text)}</text>'
    )


_POLYGONS: dict[str, Callable[[float, float, float], list[Point]]] = {
    "s": lambda x, y, r: [(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)],
    "^": lambda x, y, r: [(x, y - r), (x + r, y + r), (x - r, y + r)],
    "v": lambda x, y, r: [(x - r, y - r), (x + r, y - r), (x, y + r)],
    "D": lambda x, y, r: [(x, y - 1.2 * r), (x + 1.2 * r, y), (x, y + 1.2 * r), (x - 1.2 * r, y)],
}


def _svg_marker(marker: Marker) -> str:
    look = f'fill="{marker.colour}"{_opacity(marker.opacity)}'
    radius = marker.size / 2
    if marker.shape == "o":
        start = f'<circle cx="{_n(marker.x)}" cy="{_n(marker.y)}" r="{_n(radius)}" {look}'
        end = "</circle>"
    else:
        start = f'<polygon points="{_points(_POLYGONS[marker.shape](marker.x, marker.y, radius))}" {look}'
        end = "</polygon>"
    return f"{start}><title>{escape(marker.hint)}</title>{end}" if marker.hint else f"{start}/>"


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in points)


def _opacity(value: float) -> str:
    return "" if value == 1 else f' opacity="{_n(value)}"'


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
