"""The report's charts: numbers in, a drawing out. Nothing is computed here that a table does not have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnunet_transformers.comparison.reporting.drawing import (
    Area,
    Drawing,
    Line,
    Marker,
    Shape,
    Style,
    Text,
    text_width,
    wrapped,
)
from nnunet_transformers.comparison.reporting.scales import Scale, covering

_GREY = "#767676"
_PALE = "#d9d9d9"
_BAND = "#cfcfcf"
_WIDTH = 800.0


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval; NaN where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ForestRow:
    """A row of the forest plot: a model, its difference to the baseline, and the text at the right of the row."""

    name: str
    style: Style
    difference: Interval
    note: str


@dataclass(frozen=True)
class Points:
    """Values of one model over cases, with a line through them.

    Attributes:
        x, y, hints: one entry per case.
        line: (x, y) of a summary such as the running median.
    """

    name: str
    style: Style
    x: Sequence[float]
    y: Sequence[float]
    hints: Sequence[str]
    line: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Curve:
    """A line over epochs; `faint` for a training loss beside its validation loss."""

    name: str
    style: Style
    points: Sequence[tuple[float, float]]
    faint: bool = False


def forest(rows: Sequence[ForestRow], *, quantity: str, margin: float | None, favours: tuple[str, str]) -> Drawing:
    """Differences to the baseline with intervals, around a line at zero.

    Args:
        rows: from top to bottom.
        quantity: what the horizontal axis shows.
        margin: half the width of the band of equivalence, if one was stated.
        favours: what a difference to the left and to the right speaks for.
    """
    left = 16 + max(text_width(line) for row in rows for line in wrapped(row.name))
    right = 16 + max(text_width(row.note) for row in rows)
    top, step = 34.0, 40.0
    bottom = top + step * len(rows)
    width = max(_WIDTH, left + right + 260)
    low, high = covering(
        [bound for row in rows for bound in (row.difference.value, row.difference.low, row.difference.high)],
        include=[0.0, *((-margin, margin) if margin else ())],
    )
    x = Scale(low, high, left, width - right)
    shapes: list[Shape] = []
    if margin:
        shapes.append(Area(_box(x(-margin), top - 10, x(margin), bottom), _BAND, 0.55))
    shapes += _bottom_axis(x, top - 10, bottom, quantity)
    shapes.append(Line([(x(0), top - 10), (x(0), bottom)], width=1.4))
    shapes.append(Text(x(0) - 10, 14, f"← {favours[0]}", "end", colour=_GREY))
    shapes.append(Text(x(0) + 10, 14, f"{favours[1]} →", colour=_GREY))
    for place, row in enumerate(rows):
        y = top + step * (place + 0.5) - 5
        shapes += _name(row.name, left - 12, y)
        interval = row.difference
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            shapes += _whisker(x, interval, y, row.style)
        if math.isfinite(interval.value):
            shapes.append(Marker(x(interval.value), y, row.style.marker, row.style.colour, 10, hint=row.note))
        shapes.append(Text(width - right + 12, y + 4, row.note))
    described = "; ".join(f"{row.name}: {row.note}" for row in rows)
    return Drawing(width, bottom + 46, tuple(shapes), f"Forest plot. {quantity}. {described}.")


def scatter(panels: Sequence[Points], *, baseline: str, quantity: str) -> Drawing:
    """One square panel per model: its value of each case against the baseline's, and the line where both are equal."""
    size, columns = 220.0, min(3, len(panels))
    pitch = size + 76
    rows = math.ceil(len(panels) / columns)
    low, high = covering([value for panel in panels for value in (*panel.x, *panel.y)], margin=0.03)
    shapes: list[Shape] = []
    for place, panel in enumerate(panels):
        x0, y0 = 66 + place % columns * pitch, 46 + place // columns * (pitch + 24)
        x, y = Scale(low, high, x0, x0 + size), Scale(low, high, y0 + size, y0)
        shapes += _bottom_axis(x, y0, y0 + size, f"baseline: {_shortened(baseline, 24)}", most=6)
        shapes += _left_axis(y, x0, x0 + size, quantity)
        shapes.append(Line([(x0, y0 + size), (x0 + size, y0)], _GREY, 1.2, (5, 4)))
        shapes += _cloud(panel, x, y, 0.65)
        lines = wrapped(panel.name, 32)[:2]
        shapes += [
            Text(x0 + size / 2, y0 - 10 - 14 * (len(lines) - 1 - n), line, "middle", bold=True)
            for n, line in enumerate(lines)
        ]
    names = ", ".join(panel.name for panel in panels)
    return Drawing(
        66 + columns * pitch - 30, 46 + rows * (pitch + 24) - 26, tuple(shapes),
        f"{quantity} per case of {names} against the baseline {baseline}. Points above the diagonal are cases where "
        "the model's value is higher.",
    )  # fmt: skip


def against_cost(models: Sequence[tuple[str, Style, float, Interval]], *, quantity: str, cost: str) -> Drawing:
    """A value with its interval per model against what the model cost, on a logarithmic axis.

    Args:
        models: name, style, cost above 0, value.
    """
    legend = [(name, style) for name, style, _, _ in models]
    left, top = 66.0, 20.0 + 18 * len(_legend_places(legend))
    bottom = top + 260
    costs = [cost for _, _, cost, _ in models]
    x = Scale(min(costs) / 1.5, max(costs) * 1.5, left, _WIDTH - 20, logarithmic=True)
    bounds = [bound for *_, value in models for bound in (value.value, value.low, value.high)]
    y = Scale(*covering(bounds), bottom, top)
    shapes: list[Shape] = [
        *_bottom_axis(x, top, bottom, f"{cost} (logarithmic)"),
        *_left_axis(y, left, _WIDTH - 20, quantity),
    ]
    for name, style, at, value in models:
        if math.isfinite(value.low) and math.isfinite(value.high):
            shapes.append(Line([(x(at), y(value.low)), (x(at), y(value.high))], style.colour, 1.6))
        hint = f"{name}: {at:.3g} {cost}, {value.value:.3g}"
        shapes.append(Marker(x(at), y(value.value), style.marker, style.colour, 10, hint=hint))
    shapes += _legend(legend, left)
    described = "; ".join(f"{name} {value.value:.3g} for {at:.3g}" for name, _, at, value in models)
    return Drawing(_WIDTH, bottom + 46, tuple(shapes), f"{quantity} against {cost}: {described}.")


def by_volume(models: Sequence[Points], *, quantity: str, cuts: Sequence[float], show_points: bool) -> Drawing:
    """A metric against the lesion's volume on a logarithmic axis, with a line per model.

    Args:
        models: x is the volume in ml, above 0.
        cuts: volumes that separate the quarters.
        show_points: draw each case too; unreadable for many models.
    """
    legend = [(model.name, model.style) for model in models]
    left, top = 66.0, 20.0 + 18 * len(_legend_places(legend))
    bottom = top + 330
    volumes = [value for model in models for value in model.x]
    low, high = min(volumes) / 1.2, max(volumes) * 1.2
    x = Scale(low, high, left, _WIDTH - 20, logarithmic=True)
    values = [value for model in models for value in (*model.y, *(v for _, v in model.line))]
    y = Scale(*covering(values, margin=0.04), bottom, top)
    shapes = [
        *_bottom_axis(x, top, bottom, "volume of the reference lesion (ml, logarithmic)"),
        *_left_axis(y, left, _WIDTH - 20, quantity),
    ]
    for cut in cuts:
        shapes.append(Line([(x(cut), top), (x(cut), bottom)], _GREY, 1, (2, 4)))
    if show_points:
        for model in models:
            shapes += _cloud(model, x, y, 0.5)
    for model in models:
        if len(model.line) > 1:
            path = [(x(a), y(b)) for a, b in model.line]
            shapes.append(Line(path, model.style.colour, 2.4, model.style.dash))
        shapes += [Marker(x(a), y(b), model.style.marker, model.style.colour, 8) for a, b in model.line]
    shapes += _legend(legend, left)
    names = ", ".join(model.name for model in models)
    return Drawing(
        _WIDTH, bottom + 46, tuple(shapes), f"{quantity} by the volume of the lesion, with the median line of {names}."
    )


def strata(
    groups: Sequence[str], models: Mapping[str, tuple[Style, Sequence[Interval]]], *, quantity: str, zero: bool
) -> Drawing:
    """Values with intervals per stratum: a block of rows for each, in it a row per model.

    Args:
        groups: names of the strata, from top to bottom.
        models: by name, their style and one interval per stratum.
        zero: mark zero, for differences.
    """
    lines = 15.0
    left = 20 + max(text_width(line) for group in groups for line in wrapped(group, 40))
    legend = [(name, style) for name, (style, _) in models.items()]
    top = 20.0 + 18 * len(_legend_places(legend))
    block = max(26.0, lines * len(models) + 10)
    bottom = top + block * len(groups)
    bounds = [v for _, intervals in models.values() for i in intervals for v in (i.value, i.low, i.high)]
    x = Scale(*covering(bounds, include=[0.0] if zero else []), left, _WIDTH - 24)
    shapes: list[Shape] = list(_bottom_axis(x, top, bottom, quantity))
    if zero:
        shapes.append(Line([(x(0), top), (x(0), bottom)], width=1.4))
    for place, group in enumerate(groups):
        y0 = top + block * place
        if place:
            shapes.append(Line([(8, y0), (_WIDTH - 24, y0)], _PALE))
        names = wrapped(group, 40)
        shapes += [
            Text(left - 12, y0 + block / 2 + 4 + 14 * (number - (len(names) - 1) / 2), line, "end")
            for number, line in enumerate(names)
        ]
        for number, (name, (style, intervals)) in enumerate(models.items()):
            y = y0 + block / 2 + lines * (number - (len(models) - 1) / 2)
            interval = intervals[place]
            if math.isfinite(interval.low) and math.isfinite(interval.high):
                shapes += _whisker(x, interval, y, style)
            if math.isfinite(interval.value):
                hint = f"{name}, {group}: {interval.value:.3g}"
                shapes.append(Marker(x(interval.value), y, style.marker, style.colour, 9, hint=hint))
    shapes += _legend(legend, 16)
    described = f"{quantity} of {', '.join(models)} in {len(groups)} groups of cases: {'; '.join(groups)}."
    return Drawing(_WIDTH, bottom + 46, tuple(shapes), described)


def critical_difference(
    ranks: Mapping[str, float],
    groups: Sequence[Sequence[str]],
    *,
    difference: float | None,
    styles: Mapping[str, Style],
) -> Drawing:
    """Demšar's diagram: models at their average rank (1 is best, left), bars join those not told apart.

    Args:
        ranks: average rank per model.
        groups: models not told apart; a group need not be consecutive in rank, so each member has a dot on its bar.
        difference: Nemenyi's critical difference, drawn as a scale bar.
    """
    ordered = sorted(ranks, key=lambda name: (ranks[name], name))
    half = math.ceil(len(ordered) / 2)
    labels = {name: wrapped(f"{name} {ranks[name]:.2f}") for name in ordered}
    side = 16 + max(text_width(line) for lines in labels.values() for line in lines)
    step = 10.0 + 14 * max(len(lines) for lines in labels.values())
    width = max(_WIDTH, 2 * side + 260)
    low, high = 1.0, max(2.0, float(len(ordered)))
    x = Scale(low, high, side, width - side)
    drawn = [group for group in groups if len(group) > 1]
    axis = 62.0
    first_row = axis + 26 + 13 * len(drawn)
    shapes: list[Shape] = [Line([(x(low), axis), (x(high), axis)], width=1.4)]
    for rank in range(1, int(high) + 1):
        shapes.append(Line([(x(rank), axis - 6), (x(rank), axis)]))
        shapes.append(Text(x(rank), axis - 11, str(rank), "middle"))
    if difference is not None and difference <= high - low:
        shapes.append(Line([(x(low), 22), (x(low + difference), 22)], width=2))
        shapes += [Line([(x(end), 18), (x(end), 26)], width=2) for end in (low, low + difference)]
        shapes.append(Text(x(low + difference) + 8, 26, f"critical difference {difference:.2f}"))
    for place, name in enumerate(ordered):
        is_left = place < half
        y = first_row + step * (place if is_left else len(ordered) - 1 - place)
        end = side - 8 if is_left else width - side + 8
        at = x(ranks[name])
        shapes.append(Line([(at, axis), (at, y), (end, y)], styles[name].colour, 1.4))
        shapes.append(Marker(at, axis, styles[name].marker, styles[name].colour, 8))
        shapes += [
            Text(end + (-6 if is_left else 6), y + 4 + 14 * row, line, "end" if is_left else "start")
            for row, line in enumerate(labels[name])
        ]
    for number, group in enumerate(drawn):
        y = axis + 16 + 13 * number
        ends = [ranks[name] for name in group]
        shapes.append(Line([(x(min(ends)) - 5, y), (x(max(ends)) + 5, y)], width=3))
        shapes += [Marker(x(rank), y, "o", "#1a1a1a", 8) for rank in ends]
    described = ", ".join(f"{name} {ranks[name]:.2f}" for name in ordered)
    joined = "; ".join(" and ".join(group) for group in drawn) or "none"
    return Drawing(
        width,
        first_row + step * half + 6,
        tuple(shapes),
        f"Average ranks, 1 is best: {described}. Not told apart: {joined}.",
    )


def curves(panels: Sequence[tuple[str, Sequence[Curve]]]) -> Drawing:
    """Panels side by side with lines over epochs; the title of a panel is its vertical axis."""
    every = {curve.name: curve for _, lines in panels for curve in lines}
    legend = [(name, curve.style) for name, curve in every.items()]
    top = 26.0 + 18 * len(_legend_places(legend))
    height, width = 260.0, (_WIDTH - 70 * len(panels) - 20) / len(panels)
    shapes = _legend(legend, 62)
    for place, (quantity, lines) in enumerate(panels):
        x0 = 66 + place * (width + 70)
        points = [point for curve in lines for point in curve.points]
        x = Scale(*covering([epoch for epoch, _ in points], margin=0.02), x0, x0 + width)
        y = Scale(*covering([value for _, value in points]), top + height, top)
        shapes += _bottom_axis(x, top, top + height, "epoch", most=5)
        shapes += _left_axis(y, x0, x0 + width, quantity)
        for curve in lines:
            path = [(x(a), y(b)) for a, b in curve.points]
            style = curve.style
            shapes.append(Line(path, style.colour, 1.0 if curve.faint else 2.0, style.dash, 0.6 if curve.faint else 1))
    titles = " and ".join(quantity for quantity, _ in panels)
    return Drawing(
        _WIDTH, top + height + 46, tuple(shapes), f"Learning curves: {titles} over epochs of {', '.join(every)}."
    )


def _cloud(points: Points, x: Scale, y: Scale, opacity: float) -> list[Shape]:
    return [
        Marker(x(a), y(b), points.style.marker, points.style.colour, 6, opacity, hint)
        for a, b, hint in zip(points.x, points.y, points.hints, strict=True)
        if math.isfinite(a) and math.isfinite(b)
    ]


def _whisker(x: Scale, interval: Interval, y: float, style: Style) -> list[Shape]:
    low, high = x(interval.low), x(interval.high)
    ends = [Line([(end, y - 4), (end, y + 4)], style.colour, 2) for end in (low, high)]
    return [Line([(low, y), (high, y)], style.colour, 2), *ends]


def _name(name: str, x: float, y: float) -> list[Shape]:
    lines = wrapped(name)
    return [Text(x, y + 4 + 14 * (n - (len(lines) - 1) / 2), line, "end") for n, line in enumerate(lines)]


def _bottom_axis(x: Scale, top: float, bottom: float, quantity: str, most: int = 8) -> list[Shape]:
    shapes: list[Shape] = [Line([(x.start, bottom), (x.end, bottom)])]
    for tick in x.ticks(most):
        shapes.append(Line([(x(tick), top), (x(tick), bottom)], _PALE))
        shapes.append(Text(x(tick), bottom + 16, _tick(tick), "middle", 11))
    return [*shapes, Text((x.start + x.end) / 2, bottom + 34, quantity, "middle")]


def _left_axis(y: Scale, left: float, right: float, quantity: str, most: int = 6) -> list[Shape]:
    shapes: list[Shape] = [Line([(left, y.start), (left, y.end)])]
    for tick in y.ticks(most):
        shapes.append(Line([(left, y(tick)), (right, y(tick))], _PALE))
        shapes.append(Text(left - 6, y(tick) + 4, _tick(tick), "end", 11))
    return [*shapes, Text(left - 50, (y.start + y.end) / 2, quantity, "middle", upwards=True)]


def _legend_places(entries: Sequence[tuple[str, Style]]) -> list[list[tuple[str, Style, float]]]:
    """Rows of entries with their distance from the left, filled from left to right."""
    rows: list[list[tuple[str, Style, float]]] = [[]]
    used = 0.0
    for name, style in entries:
        width = 46 + text_width(name)
        if rows[-1] and used + width > _WIDTH - 90:
            rows.append([])
            used = 0.0
        rows[-1].append((name, style, used))
        used += width
    return rows


def _legend(entries: Sequence[tuple[str, Style]], left: float) -> list[Shape]:
    shapes: list[Shape] = []
    for row, places in enumerate(_legend_places(entries)):
        y = 14.0 + 18 * row
        for name, style, used in places:
            x = left + used
            shapes.append(Line([(x, y), (x + 28, y)], style.colour, 2, style.dash))
            shapes.append(Marker(x + 14, y, style.marker, style.colour, 8))
            shapes.append(Text(x + 34, y + 4, name))
    return shapes


def _box(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _shortened(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _tick(value: float) -> str:
    return f"{value:g}".replace("-", "−")
